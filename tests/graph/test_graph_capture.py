"""Capture holds the model: every neuron's spikes and the logits, bit for bit, at any batch size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exact import exact
from spiking_nets import (
    NEURONS,
    Convolutions,
    OneNeuron,
    Unrolled,
    captured,
    frames,
    gated,
    images,
    lively,
    statten,
)
from spikingjelly.activation_based import functional, neuron
from torch import nn

from snn_energy.errors import DataError, UnsupportedOp
from snn_energy.graph import nodes as n
from snn_energy.graph.capture import capture
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import run
from snn_energy.models.neurons import LIF
from snn_energy.models.steps import to_sequence


def assert_holds(graph: Graph, model: nn.Module, x: torch.Tensor) -> None:
    """The interpreter on the graph gives the model's spikes and logits exactly, and the neurons are alive."""
    fired: dict[str, torch.Tensor] = {}
    hooks = [
        model.get_submodule(node.module).register_forward_hook(
            lambda module, args, out, name=node.name: fired.__setitem__(name, out.clone())
        )
        for node in graph.neurons
    ]
    functional.reset_net(model)
    with torch.no_grad():
        logits = model(x)
    for hook in hooks:
        hook.remove()
    held = run(graph, x)
    assert graph.neurons
    for node in graph.neurons:
        assert torch.equal(held[node.name], fired[node.name]), node.name
        assert 0.005 < fired[node.name].mean() < 0.99, f"{node.name} sleeps or never stops"
        assert node.shape[:2] == ("T", "B")
    assert torch.equal(held[graph.outputs[0]], logits)


STATTENS: dict[str, dict[str, Any]] = {
    "STAtten": {},
    "SDT, PLIF": {"attention_mode": "SDT", "spike_mode": "plif"},
    "STAtten DVS": {"dvs_mode": True, "chunk_size": 3, "TET": True},
    "SDT DVS": {"dvs_mode": True, "attention_mode": "SDT"},
    "one chunk": {"T": 3, "chunk_size": 3, "mlp_ratios": 1},
}


@pytest.mark.parametrize("name", STATTENS)
def test_statten(name: str) -> None:
    model, graph = captured(**STATTENS[name])
    assert graph.inputs[0].shape == ("B", 3, 32, 20)
    assert_holds(graph, model, images(batch=5))
    names = [node.name for node in graph.neurons]
    assert names[:2] == ["patch_embed.proj_lif", "patch_embed.proj_lif1"]
    assert "block.0.attn.q_lif" in names and names[-1] == "head_lif"
    assert graph["block.0.attn.q_conv"].shape == ("T", "B", 48, 8, 5)


def test_frames() -> None:
    model, graph = captured("frames", dvs_mode=True)
    assert graph.inputs[0].shape == ("B", "T", 3, 32, 20)
    assert_holds(graph, model, frames(batch=2))


def test_attention_keeps_its_form() -> None:
    _, graph = captured()
    products = graph.of_type(n.MatMul)
    assert [node.shape for node in products] == [("T/2", "B", 3, 16, 16), ("T/2", "B", 3, 80, 16)]
    scale = graph[products[1].inputs[1]]
    assert isinstance(scale, n.Scale) and scale.factor == 1 / 8


def test_convolutions_of_every_kind() -> None:
    model = exact(lively(Convolutions(), images(batch=16)))
    graph = capture(model, images())
    assert_holds(graph, model, images(batch=6))
    conv = graph["conv2"]
    assert isinstance(conv, n.Conv) and (conv.groups, conv.dilation, conv.padding) == (4, (2, 2), (2, 2))
    lif = graph["lif3"]
    assert isinstance(lif, n.Lif) and (lif.tau, lif.v_threshold, lif.learned) == (3.0, 0.75, False)


@pytest.mark.parametrize("name", NEURONS)
def test_neurons(name: str) -> None:
    model = OneNeuron(NEURONS[name]()).eval()
    x = torch.randn(33, 5, 7, generator=torch.Generator().manual_seed(5))
    graph = capture(model, x)
    assert_holds(graph, model, x)
    kind = n.If if name.startswith("if") else n.Lif
    assert isinstance(graph["neuron"], kind)


def test_spikingjelly_step_mode_layers() -> None:
    model = exact(lively(Unrolled(), images(batch=16)))
    graph = capture(model, images())
    assert_holds(graph, model, images(batch=2))
    assert [node.op for node in graph][:4] == ["Input", "Expand", "Conv", "Norm"]


def test_staa_neurons_are_single_nodes() -> None:
    model = gated()
    graph = capture(model, images())
    assert [node.op for node in graph][:5] == ["Input", "Expand", "Conv", "Norm", "Neuron"]
    assert graph["lif"].attributes()["kind"] == "STAALIF"
    assert_holds(graph, model, images(batch=2))


class Sorted(nn.Module):
    """A forward that no node stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = nn.ModuleDict({"one": Sorter()})
        self.lif = LIF()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lif(self.odd["one"](to_sequence(x, 2))).mean((0, 2, 3, 4))


class Sorter(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort(-1).values


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_unsupported_operations_are_named_with_their_module() -> None:
    with pytest.raises(UnsupportedOp, match=r"odd\.one: cannot lower aten\.sort"):
        capture(Sorted(), images())
    with pytest.raises(UnsupportedOp, match="Branching"):
        capture(Branching(), images())
    clif = OneNeuron(neuron.EIFNode(step_mode="m")).eval()
    with pytest.raises(UnsupportedOp, match="neuron: cannot lower"):
        capture(clif, torch.rand(2, 5, 7))


def test_an_example_must_have_a_batch() -> None:
    with pytest.raises(DataError, match="batch"):
        capture(Branching(), torch.rand(3))


def test_the_model_is_as_before() -> None:
    model = statten()
    model.train()
    model.block[0].eval()
    model.patch_embed.proj_lif.v = torch.ones(2)
    modes = [m.training for m in model.modules()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    capture(model, images())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(model.patch_embed.proj_lif.v, torch.ones(2))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_interpreter_checks_its_inputs() -> None:
    graph = capture(OneNeuron(LIF()).eval(), torch.rand(2, 5, 7))
    with pytest.raises(DataError, match=r"\(2, 4, 7\).*\(B, T, 7\), T = 5"):
        run(graph, torch.rand(2, 4, 7))
    with pytest.raises(DataError, match="2 inputs"):
        run(graph, torch.rand(2, 5, 7), torch.rand(2, 5, 7))


class InPlace(nn.Module):
    """Adds into a tensor; `views` decides who else sees it."""

    def __init__(self, views: str) -> None:
        super().__init__()
        self.views, self.lif = views, LIF()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        y = self.lif(to_sequence(x * 3, 4)) * 2
        if self.views == "alone":
            z = y.flatten(2)
            z += 0.5
        elif self.views == "base":
            z = y.flatten(2)
            z += 0.5
            z = z + y.flatten(2)
        else:
            z = y.flatten(2)
            y += 0.5
            z = z + y.flatten(2)
        return z.mean((0, 2))


def test_writing_in_place_is_followed_or_refused() -> None:
    model = InPlace("alone").eval()
    assert_holds(capture(model, images()), model, images())
    for views in ("base", "view"):
        with pytest.raises(UnsupportedOp, match="in place"):
            capture(InPlace(views).eval(), images())
