"""Neurons that a forward writes out become nodes: which equation, which numbers, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_energy.graph import nodes as n
from snn_energy.graph.capture import capture
from snn_energy.graph.interpret import run

T = 4


class Step(torch.autograd.Function):
    """A step with a surrogate gradient, as everybody writes it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.gt(0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


Update = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def gated(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    """The reset is kept for the next charge: v·τ·(1 - s) + x."""
    h = v * 0.25 * (1 - (0.0 if s is None else s)) + x
    return (h > 0.5).to(x.dtype), h


def multiplied(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    h = v + (x - v) / 2
    s = Step.apply(h - 0.75)
    return s, (1 - s) * h


def subtracted(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    h = 0.75 * v + x
    s = (h >= 1.0).to(x.dtype)
    return s, h - s * h


def soft(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    h = v * 0.5 + x
    s = (h >= 1.25).to(x.dtype)
    return s, h - 1.25 * s


def late(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    """snnTorch's: what a spike takes is subtracted after the next decay."""
    h = 0.5 * v + x - (0.0 if s is None else s)
    return (h > 1).to(x.dtype), h


def partly(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    """A soft reset by something else than the threshold, of an input with a gain."""
    h = 0.75 * v + 0.5 * x
    s = (h >= 1).to(x.dtype)
    return s, h - 0.25 * s


def selected(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    h = v + x
    fire = h >= 1.0
    return fire.to(x.dtype), torch.where(fire, torch.zeros_like(h), h)


def filled(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    h = v.mul(0.5).add(x, alpha=0.5)
    fire = (h >= 0.5).to(x.dtype)
    return fire, h * (1.0 - fire)


UPDATES: dict[str, tuple[Update, type[n.Node], dict[str, Any]]] = {
    "reset in the charge": (gated, n.Lif, {"tau": 4 / 3, "v_reset": 0.0, "decay_input": False}),
    "1 - s": (multiplied, n.Lif, {"tau": 2.0, "v_threshold": 0.75, "v_reset": 0.0, "decay_input": True}),
    "v - s v": (subtracted, n.Lif, {"tau": 4.0, "v_threshold": 1.0, "v_reset": 0.0, "decay_input": False}),
    "soft": (soft, n.Lif, {"tau": 2.0, "v_threshold": 1.25, "v_reset": None, "decay_input": False}),
    "soft, late": (late, n.Lif, {"tau": 2.0, "taken": 2.0, "v_reset": None, "decay_input": False}),
    "soft, in part": (partly, n.Lif, {"tau": 4.0, "v_threshold": 2.0, "taken": 0.5, "v_reset": None}),
    "where": (selected, n.If, {"v_threshold": 1.0, "v_reset": 0.0}),
    "gain of a half": (filled, n.Lif, {"tau": 2.0, "v_threshold": 0.5, "v_reset": 0.0, "decay_input": True}),
}


class Layers(nn.Module):
    """Two layers in a loop over steps of frames (B, T, 7); `reduce` makes the answer of what is put out."""

    def __init__(self, update: Update, reduce: Callable[[list[Tensor]], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 9), nn.Linear(9, 6), nn.Linear(6, 5)
        self.update, self.reduce = update, reduce

    def forward(self, x: Tensor) -> Tensor:
        v, w = x.new_zeros(x.shape[0], 9), x.new_zeros(x.shape[0], 6)
        s = r = None
        out = []
        for t in range(T):
            s, v = self.update(self.a(x[:, t]), v, s)
            r, w = self.update(self.b(s), w, r)
            out.append(self.c(r))
        return self.reduce(out)


class Own(nn.Module):
    """A neuron of one's own on (T, B, …)."""

    def __init__(self, update: Update) -> None:
        super().__init__()
        self.update = update

    def forward(self, x: Tensor) -> Tensor:
        v, s, out = torch.zeros_like(x[0]), None, []
        for t in range(x.shape[0]):
            s, v = self.update(x[t], v, s)
            out.append(s)
        return torch.stack(out)


class Images(nn.Module):
    """Own neurons between convolutions with norms on a still image, in SpikingJelly's layout."""

    def __init__(self, update: Update) -> None:
        super().__init__()
        self.conv, self.norm, self.lif = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), Own(update)
        self.conv2, self.lif2, self.head = nn.Conv2d(6, 4, (2, 3)), Own(update), nn.Linear(4 * 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x.unsqueeze(0).repeat(T, 1, 1, 1, 1).flatten(0, 1)))
        x = self.lif(x.reshape(T, -1, *x.shape[1:]))
        x = self.conv2(x.flatten(0, 1))
        return self.head(self.lif2(x.reshape(T, -1, *x.shape[1:])).flatten(2)).mean(0)


REDUCTIONS: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "mean": lambda out: sum(out[1:], out[0]) / T,
    "sum": lambda out: sum(out[1:], out[0]),
    "stacked": lambda out: torch.stack(out),
    "stacked, batch first": lambda out: torch.stack(out, 1),
    "stacked mean": lambda out: torch.stack(out).mean(0),
}


def alive(model: nn.Module, gain: float = 3.0) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=gain / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.2)
    return model.double().float().eval()


def agrees(model: nn.Module, x: Tensor) -> n.Node:
    """The first neuron; the graph in float64 computes what the model does."""
    graph = capture(model, x)
    with torch.no_grad():
        wanted = model.double()(x.double())
    held = run(graph, x, dtype=torch.float64)
    torch.testing.assert_close(held[graph.outputs[0]], wanted, atol=1e-9, rtol=1e-9)
    for neuron in graph.neurons:
        assert 0 < held[neuron.name].mean() < 1, f"{neuron.name} is not alive"
    assert graph.time_steps == T and not graph.of_type(n.Heaviside)
    return graph.neurons[0]


@pytest.mark.parametrize("name", UPDATES)
def test_every_spelling_is_its_equation(name: str) -> None:
    update, kind, fields = UPDATES[name]
    node = agrees(alive(Layers(update, REDUCTIONS["mean"])), torch.randn(3, T, 7))
    assert type(node) is kind
    for field, value in fields.items():
        got = getattr(node, field)
        assert got == (pytest.approx(value) if isinstance(value, float) else value), field


@pytest.mark.parametrize("name", REDUCTIONS)
def test_every_way_to_end_a_loop(name: str) -> None:
    agrees(alive(Layers(multiplied, REDUCTIONS[name])), torch.randn(3, T, 7))


@pytest.mark.parametrize("name", UPDATES)
def test_own_neuron_modules_keep_their_names(name: str) -> None:
    model, x = alive(Images(UPDATES[name][0])), torch.rand(2, 2, 5, 7) * 2
    assert agrees(model, x).name == "lif"
    assert [node.name for node in capture(model.float(), x).neurons] == ["lif", "lif2"]


def adaptive(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    """The threshold rises with the last spike."""
    h = 0.5 * v + x
    s = (h - (1.0 if s is None else 1 + 0.5 * s) >= 0).to(x.dtype)
    return s, h * (1 - s)


def halved(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    """A reset to half of the membrane."""
    h = 0.5 * v + x
    s = (h >= 1).to(x.dtype)
    return s, h * (1 - 0.5 * s)


def raised(x: Tensor, v: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    """A spike adds to the membrane."""
    h = 0.5 * v + x
    s = (h >= 1).to(x.dtype)
    return s, h + 0.25 * s


@pytest.mark.parametrize("update", [adaptive, halved, raised])
def test_what_is_no_lif_stays_as_it_is_written(update: Update) -> None:
    model, x = alive(Layers(update, REDUCTIONS["mean"])), torch.randn(3, T, 7)
    graph = capture(model, x)
    assert not graph.neurons and len(graph.of_type(n.Heaviside)) >= 2 * T
    with torch.no_grad():
        wanted = model.double()(x.double())
    found = run(graph, x, dtype=torch.float64)[graph.outputs[0]]
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)


class Fading(nn.Module):
    """A neuron with a synaptic current over (T, B, N), `keep` of the membrane and `fades` of the current."""

    def __init__(self, keep: float, fades: float, gain: float) -> None:
        super().__init__()
        self.keep, self.fades, self.gain = keep, fades, gain

    def forward(self, x: Tensor) -> Tensor:
        v, i, out = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
        for now in x:
            i = self.fades * i + now
            v = self.keep * v + self.gain * i
            out.append((v >= 0.75).to(x.dtype))
            v = v * (1 - out[-1])
        return torch.stack(out)


@pytest.mark.parametrize(("keep", "fades", "gain"), [(0.75, 0.5, 0.25), (0.5, 0.25, 1.0), (1.0, 0.75, 0.5)])
def test_a_synaptic_current_is_a_node_of_its_own(keep: float, fades: float, gain: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 9), Fading(keep, fades, gain), nn.Linear(9, 5)).eval()
    x = 3 * torch.rand(T, 4, 7)
    graph = capture(model, x, batch_axis=1)
    (current,), (neuron,) = graph.of_type(n.Filter), graph.neurons
    assert (current.keep, current.gain, neuron.inputs) == (fades, 1.0, (current.name,))
    assert isinstance(neuron, n.If if keep == 1 else n.Lif)
    held = run(graph, x, dtype=torch.float64)
    with torch.no_grad():
        wanted = model.double()(x.double())
        spikes = model[:2](x.double())
    torch.testing.assert_close(held[graph.outputs[0]], wanted, atol=1e-6, rtol=1e-6)
    assert torch.equal(held[neuron.name], spikes) and 0 < spikes.mean() < 1


class Odd(Layers):
    """One step's spikes are looked at by themselves, or steps come in another order, or weights differ."""

    def __init__(self, how: str) -> None:
        super().__init__(multiplied, REDUCTIONS["mean"])
        self.how, self.more = how, nn.Linear(7, 9)

    def forward(self, x: Tensor) -> Tensor:
        v, out, s = x.new_zeros(x.shape[0], 9), [], None
        for t in range(T):
            layer = self.more if self.how == "other weights" and t == 2 else self.a
            step = {"other order": (1, 0, 2, 3)[t]}.get(self.how, t)
            s, v = self.update(layer(x[:, step]), v, s)
            out.append(self.c(self.b(s)))
        return out[-1] if self.how == "last step only" else sum(out[1:], out[0])


@pytest.mark.parametrize("how", ["last step only", "other order", "other weights"])
def test_loops_that_are_none_stay_as_they_are_written(how: str) -> None:
    model, x = alive(Odd(how)), torch.randn(3, T, 7)
    graph = capture(model, x)
    assert not graph.neurons
    with torch.no_grad():
        torch.testing.assert_close(run(graph, x)[graph.outputs[0]], model(x), atol=1e-4, rtol=1e-4)
