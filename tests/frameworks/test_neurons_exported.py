"""Neurons of frameworks as one node of an export, or refused by the setting that keeps them from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exact import on_grid
from needed import needed
from torch import Tensor, nn

import snn_energy
from snn_energy.errors import UnsupportedOp
from snn_energy.graph.graph import Graph

needed("snntorch", "norse", "sinabs", "onnxruntime", "nir")

T, B, IN, N, OUT = 6, 4, 7, 9, 5
DT = 2.0**-10
X = on_grid(2 * torch.rand(T, B, IN, generator=torch.Generator().manual_seed(1)), 2.0**-3)


class Step(nn.Module):
    """linear - neuron - linear, one step per call; `wrap` makes what it returns."""

    def __init__(self, neuron: nn.Module, wrap: Callable[[Tensor], Any] = lambda y: y) -> None:
        super().__init__()
        self.a, self.n, self.b, self.wrap = nn.Linear(IN, N), neuron, nn.Linear(N, OUT), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.b(self.n(self.a(x))))


def leaky(**given: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import snntorch

        return Step(snntorch.Leaky(**({"beta": 0.5} | given), init_hidden=True))

    return make


def norse_cells(synapse: float | None = None) -> nn.Module:
    """Norse's cells, whose state the network takes and returns."""
    import norse.torch as norse

    half: dict[str, Any] = {"tau_mem_inv": torch.tensor(512.0), "v_th": torch.tensor(0.5)}
    cell: nn.Module = norse.LIFBoxCell(norse.LIFBoxParameters(**half), dt=DT)
    if synapse is not None:
        p = norse.LIFParameters(tau_syn_inv=torch.tensor(synapse), **half)
        cell = norse.LIFCell(p, dt=DT)

    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = norse.SequentialState(nn.Linear(IN, N), cell, nn.Linear(N, OUT))

        def forward(self, x: Tensor, state: Any = None) -> Any:
            return self.net(x, state)

    return Passing()


def norse_all(**given: float) -> Callable[[], nn.Module]:
    """Norse's LIF over (T, B, …), layers lifted over time."""

    def make() -> nn.Module:
        import norse.torch as norse

        numbers = {"tau_mem_inv": 512.0, "tau_syn_inv": 256.0, "v_th": 0.5} | given
        p = norse.LIFParameters(**{name: torch.tensor(value) for name, value in numbers.items()})
        layers = norse.Lift(nn.Linear(IN, N)), norse.LIF(p, dt=DT), norse.Lift(nn.Linear(N, OUT))
        return norse.SequentialState(*layers)

    return make


def sinabs_lif(keep: float = 0.5, synapse: float | None = None, **given: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from sinabs.activation import SingleSpike
        from sinabs.layers import LIF

        told: dict[str, Any] = {"spike_fn": SingleSpike, "spike_threshold": torch.tensor(0.5)} | given
        lif = LIF(tau_mem=2.0, tau_syn=None if synapse is None else 2.0, train_alphas=True, **told)
        lif.alpha_mem.data.fill_(keep)
        if synapse is not None:
            lif.alpha_syn.data.fill_(synapse)
        return Step(lif)

    return make


def spikingjelly(kind: str, wrap: Callable[[Tensor], Any] = lambda y: y) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from spikingjelly.activation_based import neuron

        return Step(getattr(neuron, kind)(), wrap)

    return make


def filled(make: Callable[[], nn.Module]) -> nn.Module:
    """The network, its weights on a coarse grid."""
    torch.manual_seed(0)
    net = make()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(on_grid(torch.randn_like(layer.weight), 2.0**-5))
                layer.bias.copy_(on_grid(0.3 * torch.randn_like(layer.bias), 2.0**-5))
    return net.eval()


def by_hand(net: nn.Module, decays: bool, keep: float, theta: float, reset: str, synapse: Any = None) -> int:
    """Spikes over X of a neuron by a loop in float64: reset "zero", or what is taken, before the next leak or
    ("late") after it."""
    first = next(layer for layer in net.modules() if isinstance(layer, nn.Linear)).double()
    v, i, late, count = torch.zeros(B, N).double(), torch.zeros(B, N).double(), torch.zeros(B, N).double(), 0
    for x in X.double():
        current = first(x).detach()
        if synapse is not None:
            i = synapse[0] * i + synapse[1] * current
            current = i
        v = keep * v + (1 - keep if decays else 1.0) * current - late
        s = (v > theta).double() if reset.startswith("late") or reset == "zero" else (v >= theta).double()
        late = theta * s if reset == "late" else torch.zeros_like(s)
        v = v if reset == "late" else v * (1 - s) if reset == "zero" else v - float(reset) * s
        count += int(s.sum())
    first.float()
    return count


# name -> (network, how it is run, its spikes by hand: input decays, keep, threshold, reset, synaptic current)
ONE: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], tuple[Any, ...]]] = {
    "snnTorch": (leaky(), {"layout": "TB"}, (False, 0.5, 1.0, "late")),
    "snnTorch, beta .75": (leaky(beta=0.75), {"layout": "TB"}, (False, 0.75, 1.0, "late")),
    "snnTorch, zero, learned": (
        leaky(reset_mechanism="zero", learn_beta=True, threshold=1.25),
        {"layout": "TB"},
        (False, 0.5, 1.25, "zero"),
    ),
    "Norse, cell": (norse_cells, {"layout": "TB"}, (True, 0.5, 0.5, "zero")),
    "Norse, cell with a current": (
        lambda: norse_cells(256.0),
        {"layout": "TB"},
        (True, 0.5, 0.5, "zero", (0.75, 1.0)),
    ),
    "Norse, LIF": (norse_all(), {}, (True, 0.5, 0.5, "zero", (0.75, 1.0))),
    "sinabs, soft": (sinabs_lif(), {"layout": "BT"}, (True, 0.5, 0.5, "0.5")),
    "sinabs, a current": (sinabs_lif(0.75, 0.5), {"layout": "BT"}, (True, 0.75, 0.5, "0.5", (0.5, 0.5))),
    "sinabs, undecayed": (sinabs_lif(norm_input=False), {"layout": "BT"}, (False, 0.5, 0.5, "0.5")),
}


@pytest.mark.parametrize("target", ["onnx", "nir"])
@pytest.mark.parametrize("name", ONE)
def test_one_node_that_fires_as_the_framework(name: str, target: str, tmp_path: Path) -> None:
    make, how, equation = ONE[name]
    net = filled(make)
    x = X.transpose(0, 1).contiguous() if how.get("layout") == "BT" else X
    expected = by_hand(net, *equation)
    verdict = snn_energy.export(net, target, tmp_path, x=x.numpy(), **how)
    assert verdict.verdict == "identical"
    (check,) = verdict.neurons
    assert (check.compared, check.spikes) == (T * B * N, expected) and 0 < expected < T * B * N
    assert snn_energy.verify(tmp_path).verdict == "identical"
    kinds = [node.op for node in Graph.load(tmp_path / "graph.json") if node.op in ("Lif", "Filter")]
    assert kinds == (["Filter", "Lif"] if len(equation) == 5 else ["Lif"])


def test_a_current_of_norse_is_a_cuba_lif_in_nir_and_comes_back(tmp_path: Path) -> None:
    """Out and in again: the file's own network fires as the first one did."""
    import nir

    verdict = snn_energy.export(filled(norse_all()), "nir", tmp_path, x=X.numpy())
    (check,) = verdict.neurons
    kinds = sorted(type(node).__name__ for node in nir.read(str(tmp_path / "model.nir")).nodes.values())
    assert kinds == ["Affine", "Affine", "CubaLIF", "Input", "Output"]
    back: Any = snn_energy.load(tmp_path / "model.nir")
    spikes = snn_energy.record_spikes(back, X)
    assert [int(steps.sum()) for steps in spikes.values()] == [check.spikes]
    for runtime in ("norse",):  # r = τ/dt and w_in = 1: what Norse's importer takes
        assert snn_energy.verify(tmp_path, runtime=runtime).verdict == "identical"


SINGLE: dict[str, tuple[str, Callable[[Tensor], Any], dict[str, Any]]] = {
    "LIF, a tuple": ("LIFNode", lambda y: (y, None), {"layout": "TB"}),
    "PLIF, a dict": ("ParametricLIFNode", lambda y: {"aux": 2 * y, "logits": y}, {"layout": "BT"}),
    "IF, a still image": ("IFNode", lambda y: [y], {"layout": "B", "time_steps": 3}),
}


@pytest.mark.parametrize("target", ["onnx", "nir", "netlist"])
@pytest.mark.parametrize("name", SINGLE)
def test_the_callers_loop_over_single_steps(name: str, target: str, tmp_path: Path) -> None:
    kind, wrap, how = SINGLE[name]
    net = filled(spikingjelly(kind, wrap))
    x = {"TB": X, "BT": X.transpose(0, 1).contiguous(), "B": X[0]}[how["layout"]]
    verdict = snn_energy.export(net, target, tmp_path, x=x.numpy(), **how)
    steps = how.get("time_steps", T)
    (check,) = verdict.neurons
    assert verdict.verdict == "identical" and check.compared == steps * B * N and check.spikes > 0
    assert "forward" not in vars(net)
    assert snn_energy.verify(tmp_path).verdict == "identical"


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "never reset": (leaky(reset_mechanism="none"), r"n: cannot lower Leaky with reset_mechanism = 'none'"),
    "reset at once": (leaky(reset_delay=False), r"n: cannot lower Leaky with reset_delay = False"),
    "beta by element": (
        leaky(beta=torch.linspace(0.25, 0.75, N), reset_mechanism="zero"),
        r"n: cannot lower Leaky with beta is not one number for all of the layer",
    ),
    "several spikes": (lambda: sinabs_lif(spike_fn=_multi())(), r"n: cannot lower LIF with spike_fn = Multi"),
    "a floor": (sinabs_lif(min_v_mem=-1.0), r"n: cannot lower LIF with min_v_mem"),
    "another reset": (
        norse_all(v_reset=0.125),
        r"1: cannot lower LIF with v_reset = 0.125 is not v_leak = 0",
    ),
}


def _multi() -> Any:
    from sinabs.activation import MultiSpike

    return MultiSpike


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_neuron_is_refused_by_the_setting(name: str, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    layout = "BT" if "n: cannot lower LIF" in words else "TB"
    x = X.transpose(0, 1).contiguous() if layout == "BT" else X
    with pytest.raises(UnsupportedOp, match=words):
        snn_energy.export(filled(make), "nir", tmp_path / "out", x=x.numpy(), layout=layout)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
