"""Registered neurons as equations: what is told is held against the neuron, and stands as one node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from exact import on_grid
from torch import Tensor, nn

import snn_energy
from snn_energy import register_neuron
from snn_energy.errors import ConfigError, UnsupportedOp, VerificationError
from snn_energy.frameworks.records import one_number
from snn_energy.graph.graph import Graph
from snn_energy.profiling import Equation, neurons

T, B, IN, N, OUT = 5, 3, 4, 6, 2
X = on_grid(4 * torch.rand(B, T, IN, generator=torch.Generator().manual_seed(3)), 2.0**-3)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing that a test registers outlives it."""
    yield
    neurons._REGISTERED.clear()
    neurons._NEAREST.clear()


class Quarter(nn.Module):
    """v <- 3/4 v + x, a spike where v > 1, then v <- v - 1/2; (B, T, N), in a way that cannot be traced."""

    def __init__(self, also: bool = False) -> None:
        super().__init__()
        self.also = also

    def forward(self, x: Tensor) -> Any:
        v, out = torch.zeros_like(x[:, 0]), []
        for now in x.unbind(1):
            v = 0.75 * v + now
            out.append((v > 1).float())
            v = v - out[-1] / 2
        spikes = torch.stack(out, 1)
        if self.also:
            return v, spikes
        assert float(spikes.sum()) >= 0  # a number out of a tensor: no torch.export
        return spikes


class Net(nn.Module):
    def __init__(self, also: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.a, self.n, self.b, self.twice = nn.Linear(IN, N), Quarter(also), nn.Linear(N, OUT), twice

    def forward(self, x: Tensor) -> Tensor:  # (B, T, IN)
        y = self.n(self.a(x))
        y = y[1] if isinstance(y, tuple) else y
        return self.b(self.n(y) if self.twice else y).mean(1)


RIGHT = Equation(keep=0.75, threshold=1.0, strict=True, taken=0.5)


def network(**given: bool) -> nn.Module:
    torch.manual_seed(0)
    net = Net(**given)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(on_grid(2 * parameter, 2.0**-5))
    return net.eval()


def told(equation: Callable[[Any], Any], **given: Any) -> None:
    register_neuron(Quarter, op="lif", time_axis=1, to_node=equation, **given)


@pytest.mark.parametrize("target", ["onnx", "nir"])
@pytest.mark.parametrize("also", [False, True])
def test_it_is_one_node(target: str, also: bool, tmp_path: Path) -> None:
    told(lambda module: RIGHT, spikes=int(also))
    net = network(also=also)
    with torch.no_grad():
        out = net.n(net.a(X))
        expected = int((out[1] if also else out).sum())
    verdict = snn_energy.export(net, target, tmp_path, x=X.numpy())
    (check,) = verdict.neurons
    assert verdict.verdict == "identical" and check.name == "n"
    assert (check.compared, check.spikes) == (B * T * N, expected) and 0 < expected < B * T * N
    (lif,) = (node for node in Graph.load(tmp_path / "graph.json") if node.op == "Lif")
    assert (lif.tau, lif.taken, lif.v_reset, lif.decay_input) == (4.0, 0.5, None, False)
    assert snn_energy.verify(tmp_path, x=X[:2].numpy()).samples == 2


WRONG: dict[str, dict[str, Any]] = {
    "leak": {"keep": 0.7},
    "threshold": {"threshold": 1.05},
    "reset": {"taken": None},
    "gain": {"gain": 0.9},
    "a current": {"current_keep": 0.1},
}


@pytest.mark.parametrize("name", WRONG)
def test_an_equation_that_is_not_its_own_is_found(name: str, tmp_path: Path) -> None:
    given = {"keep": 0.75, "threshold": 1.0, "strict": True, "taken": 0.5} | WRONG[name]
    told(lambda module: Equation(**given))
    with pytest.raises(
        VerificationError, match=r"^n: Quarter does not compute the equation told of it: step"
    ):
        snn_energy.export(network(), "onnx", tmp_path / "out", x=X.numpy())
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_a_membrane_that_goes_on_is_no_equation(tmp_path: Path) -> None:
    told(lambda module: RIGHT)
    with pytest.raises(UnsupportedOp, match=r"n: cannot lower .* twice in a pass"):
        snn_energy.export(network(twice=True), "onnx", tmp_path, x=X.numpy())


def test_what_cannot_be_told() -> None:
    with pytest.raises(ConfigError, match="to_node needs time_axis=0 or 1"):
        register_neuron(Quarter, op="lif", to_node=lambda module: RIGHT)
    with pytest.raises(ConfigError, match="to_node = 3: must be a function"):
        register_neuron(Quarter, op="lif", time_axis=1, to_node=3)  # type: ignore[arg-type]
    told(lambda module: "lif")
    with pytest.raises(ConfigError, match="to_node returned 'lif', must return an Equation"):
        snn_energy.export(network(), "onnx", "nowhere", x=X.numpy())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keep": 1.5}, "keep = 1.5: must be from 0 to 1"),
        ({"gain": 0.0}, "gain = 0: must be above 0"),
        ({"threshold": 0.0}, "threshold = 0: must be above rest = 0"),
        ({"threshold": 2.0, "rest": 1.0, "taken": 1.0}, "rest = 1: must be 0 with a soft reset"),
        ({"taken": -1.0}, "taken = -1: must be above 0, or None"),
        ({"current_keep": 1.0}, "current_keep = 1: must be from 0 to below 1"),
        ({"threshold": float("nan")}, "threshold = nan: must be a number"),
        ({"threshold": torch.ones(3)}, "must be a number"),
    ],
)
def test_numbers_that_make_no_equation(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Equation(**given)


def test_one_number_of_a_setting() -> None:
    assert one_number(torch.full((3, 2), 0.25)) == 0.25 and one_number(2) == 2.0
    assert one_number(torch.tensor([1.0, 2.0])) is None and one_number(None) is None
    assert one_number(float("inf")) is None and one_number(torch.zeros(0)) is None
