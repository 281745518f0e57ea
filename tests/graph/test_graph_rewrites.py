"""Rewrites leave what a graph computes as it is; streaming knows which networks can stream."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from exact import exact
from spiking_nets import STATTEN, Convolutions, Unrolled, captured, gated, images, lively, statten
from torch import nn

from snn_energy.errors import UnsupportedOp
from snn_energy.graph import nodes as n
from snn_energy.graph.attention import direct_attention
from snn_energy.graph.capture import capture
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import run
from snn_energy.graph.simplify import fold_norms, hoist_static
from snn_energy.graph.streaming import steps_per_call, with_steps
from snn_energy.graph.tighten import tighten
from snn_energy.models.neurons import LIF, reset
from snn_energy.models.steps import to_sequence
from snn_energy.models.zoo import create_model


@pytest.fixture(scope="module")
def attention() -> Graph:
    return captured()[1]


@pytest.fixture(scope="module")
def convolutions() -> Graph:
    return capture(exact(lively(Convolutions(), images(batch=16))), images())


def random_norm(channels: int, rng: np.random.Generator, **fields: Any) -> n.Norm:
    draw = {k: rng.normal(size=channels).astype(np.float32) for k in ("weight", "bias", "mean")}
    return n.Norm(var=rng.uniform(0.1, 2, channels).astype(np.float32), eps=1e-3, **draw, **fields)


def test_norms_go_into_synapses(convolutions: Graph) -> None:
    """Conv, transposed conv with groups: the same currents in float64, with no norm left."""
    folded = fold_norms(convolutions)
    assert convolutions.of_type(n.Norm) and not folded.of_type(n.Norm)
    before = run(convolutions, images(), dtype=torch.float64)
    after = run(
        folded, images(), dtype=torch.float64, forced={k.name: before[k.name] for k in folded.neurons}
    )
    for norm, synapse in (("bn1", "conv1"), ("bn2", "conv2"), ("bn3", "up")):
        torch.testing.assert_close(after[synapse], before[norm], rtol=1e-5, atol=1e-5)


def test_a_norm_after_a_linear_layer_folds_and_others_stay() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 7)).astype(np.float32)
    x = n.Input(name="x", shape=("B", 7))
    linear = n.Linear(name="fc", inputs=("x",), shape=("B", 3), weight=weight)
    norm = random_norm(3, rng, name="bn", inputs=("fc",), shape=("B", 3), axis=1)
    graph = Graph((x, linear, norm), ("bn",), 1)
    folded = fold_norms(graph)
    values = rng.normal(size=(5, 7)).astype(np.float32)
    assert [node.op for node in folded] == ["Input", "Linear"] and folded.outputs == ("fc",)
    torch.testing.assert_close(run(folded, values)["fc"], run(graph, values)["bn"], rtol=1e-5, atol=1e-5)
    shared = Graph((*graph.nodes, n.Add(name="sum", inputs=("fc", "bn"), shape=("B", 3))), ("sum",), 1)
    assert fold_norms(shared) == shared
    alone = Graph((x, random_norm(7, rng, name="bn", inputs=("x",), shape=("B", 7), axis=1)), ("bn",), 1)
    assert fold_norms(alone) == alone


def test_a_static_image_is_convolved_once(attention: Graph, convolutions: Graph) -> None:
    for graph, last in ((attention, "patch_embed.proj_bn"), (convolutions, "bn1")):
        hoisted = hoist_static(graph)
        assert hoisted["patch_embed.proj_conv" if graph is attention else "conv1"].shape[0] == "B"
        assert hoisted[f"{last}.every_step"].shape == graph[last].shape
        assert torch.equal(run(hoisted, images())[hoisted.outputs[0]], run(graph, images())[graph.outputs[0]])


def test_frames_are_not_hoisted() -> None:
    graph = captured("frames", dvs_mode=True)[1]
    assert hoist_static(graph) == graph


def test_direct_attention_permutes_nothing_and_changes_nothing(attention: Graph) -> None:
    direct = direct_attention(attention)
    moved = [node for node in direct.of_type(n.Permute) if node.order[-1] == len(node.order) - 1]
    assert not moved and len(direct.of_type(n.Permute)) == 2
    x = images(batch=3)
    before, after = run(attention, x), run(direct, x)
    for neuron in attention.neurons:
        assert torch.equal(before[neuron.name], after[neuron.name]), neuron.name
    assert torch.equal(before[attention.outputs[0]], after[direct.outputs[0]])


def test_direct_attention_needs_spikes(attention: Graph) -> None:
    """With real q, k, v the order of additions matters, so the graph stays."""
    nodes = [
        n.Activation(name=node.name, inputs=node.inputs, shape=node.shape, kind="sigmoid")
        if node.name == "block.0.attn.k_lif"
        else node
        for node in attention
    ]
    real = Graph(tuple(nodes), attention.outputs, attention.time_steps)
    assert direct_attention(real) == real


def test_the_number_of_steps_is_free(attention: Graph) -> None:
    """Captured at T = 6 and run at T = 4, it computes what the same weights compute at T = 4."""
    model = exact(create_model("statten", **{**STATTEN, "T": 4}))
    model.load_state_dict(statten().state_dict())
    with torch.no_grad():
        logits = model(images())
    assert torch.equal(run(with_steps(attention, 4), images())[attention.outputs[0]], logits)


def test_chunks_and_single_steps() -> None:
    assert steps_per_call(captured()[1]) == 2
    assert steps_per_call(captured(dvs_mode=True, chunk_size=3, TET=True)[1]) == 3
    assert steps_per_call(captured(attention_mode="SDT", dvs_mode=True)[1]) == 1
    assert steps_per_call(capture(lively(Unrolled(), images()), images())) == 1


@pytest.mark.parametrize(
    "fields", [{}, {"pe": "off"}, {"gc": False, "alpha": 3.0}, {"pe_at": "state"}], ids=str
)
def test_a_tightened_neuron_computes_the_same_bits(fields: dict[str, Any]) -> None:
    node = capture(gated(**fields), images())["lif"]
    x = torch.randn(3, 7, 8, 16, 10, generator=torch.Generator().manual_seed(2))
    row = () if node.table is None else (torch.from_numpy(node.table[1:2]),)
    for before, inputs in ((node.body, (x,)), (node.step, (x[0], x[1], *row))):
        after = tighten(before)
        assert len(after) < len(before) and len(after.of_type(n.Heaviside)) == 1
        assert bool(after.of_type(n.Scale)) == ("alpha" in fields), "3 is no power of two, 2 is"
        expected, found = run(before, *inputs), run(after, *inputs)
        for name in before.outputs:
            assert torch.equal(found[name], expected[name]) and expected[name].count_nonzero() > 0


def test_tightening_leaves_what_only_looks_alike() -> None:
    shape = ("B", 3, 4)
    nodes = (
        n.Input(name="x", shape=shape),
        n.Permute(name="turned", inputs=("x",), shape=("B", 4, 3), order=(0, 2, 1)),
        n.Heaviside(name="above", inputs=("x",), shape=shape, threshold=0.5, strict=True),
        n.Mul(name="gated", inputs=("x", "above"), shape=shape),
        n.Scale(name="twice", inputs=("x",), shape=shape, factor=2.0, offset=0.5),
        n.Heaviside(name="fires", inputs=("twice",), shape=shape),
        n.Reshape(name="flat", inputs=("x",), shape=("B", 12)),
        n.Activation(name="soft", inputs=("flat",), shape=("B", 12), kind="softmax"),
    )
    graph = Graph(nodes, ("turned", "gated", "fires", "soft"), 1)
    assert tighten(graph) == graph


class OverTime(nn.Module):
    """A convolution whose window spans steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lif = LIF()
        self.conv = nn.Conv1d(3, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reset(self)
        spikes = self.lif(to_sequence(x, 5)).mean((3, 4))
        return self.conv(spikes.permute(1, 2, 0)).mean(2)


def test_what_cannot_stream_is_named() -> None:
    with pytest.raises(UnsupportedOp, match=r"block\.0\.attn\.matmul"):
        steps_per_call(captured(T=3, chunk_size=3, mlp_ratios=1)[1])
    with pytest.raises(UnsupportedOp, match=r"conv: .*several steps"):
        steps_per_call(capture(OverTime().eval(), images()))
    graph = capture(gated(), images())
    assert steps_per_call(graph) == 1
    nodes = [dataclasses.replace(k, step=None) if isinstance(k, n.Neuron) else k for k in graph]
    with pytest.raises(UnsupportedOp, match=r"lif: .*STAALIF"):
        steps_per_call(dataclasses.replace(graph, nodes=tuple(nodes)))
