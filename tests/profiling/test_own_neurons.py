"""Neurons that a user registers: what they cost, and that their insides are not counted besides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from snn_energy import register_neuron
from snn_energy.errors import ConfigError
from snn_energy.profiling import Update, neurons, profile, record_spikes

T, B, IN, N = 3, 4, 5, 7


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing that a test registers outlives it."""
    yield
    neurons._REGISTERED.clear()
    neurons._NEAREST.clear()


class Resonator(nn.Module):
    """v <- .7 v + x, spikes of either sign; (T, B, ...) at once or a step per call."""

    def __init__(self, sequence: bool, graded: bool = False) -> None:
        super().__init__()
        self.sequence, self.graded = sequence, graded
        self.reset()

    def reset(self) -> None:
        self.v: Any = 0.0

    def step(self, x: torch.Tensor) -> torch.Tensor:
        self.v = 0.7 * self.v + x
        spikes = (self.v / 2).trunc().clamp(-2, 2) if self.graded else (self.v >= 1).to(x)
        self.v = self.v - 2 * spikes
        return spikes

    def forward(self, x: torch.Tensor) -> Any:
        out = torch.stack([self.step(now) for now in x]) if self.sequence else self.step(x)
        return out, self.v


class Net(nn.Module):
    T = T

    def __init__(self, cell: nn.Module, sequence: bool) -> None:
        super().__init__()
        self.fc1, self.cell, self.fc2 = nn.Linear(IN, N), cell, nn.Linear(N, 6)
        self.sequence = sequence

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.sequence:
            drive = self.fc1(x)
            return self.fc2(self.cell(drive.expand(T, *drive.shape))[0]).mean(0)
        return sum(self.fc2(self.cell(self.fc1(x))[0]) for _ in range(T))  # type: ignore[return-value]


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(1)
    return 6 * torch.rand(B, IN)


def run_alone(net: Net, x: torch.Tensor) -> torch.Tensor:
    """Spikes (T, B, N) of the equations, step by step."""
    alone = Resonator(False, net.cell.graded)  # type: ignore[arg-type]
    with torch.no_grad():
        return torch.stack([alone.step(net.fc1(x)) for _ in range(T)])


@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("graded", [True, False])
def test_an_update_is_priced_and_its_insides_are_not(x: torch.Tensor, sequence: bool, graded: bool) -> None:
    register_neuron(Resonator, Update("resonator", multiplies=2, adds=1, compares=3, graded=graded))
    net = Net(Resonator(sequence, graded), sequence)
    measured = profile(net, [x], strict=True)
    spikes = run_alone(net, x)
    assert {row.name for row in measured.rows} <= {"fc1", "cell", "fc2", ""}
    (cell,) = [row for row in measured.rows if row.name == "cell"]
    elements = T * B * N
    assert (cell.op, cell.neuron_mul, cell.neuron_add) == ("resonator", 2 * elements, elements)
    assert (cell.neuron_cmp, cell.input_elements) == (3 * elements, elements)
    assert cell.output_nonzero == int((spikes != 0).sum()) > 0
    assert cell.output_nonzero_by_step == tuple(int((s != 0).sum()) for s in spikes)
    (fc2,) = [row for row in measured.rows if row.name == "fc2"]
    assert fc2.ac == 6 * int(spikes.abs().sum()) and fc2.mac == 0 and fc2.sources == ("cell",)
    assert [row.feeds for row in measured.rows if row.name == "fc1"] == [("cell",)]
    recorded = record_spikes(net, x)
    assert recorded.keys() == {"cell"} and torch.equal(recorded["cell"], spikes != 0)


def test_the_nearest_known_class_decides(x: torch.Tensor) -> None:
    class Heavier(neuron.LIFNode):
        pass

    class Heaviest(Heavier):
        pass

    register_neuron(neuron.LIFNode, Update("mine", 5, 5))
    register_neuron(Heavier, Update("heavier", 6, 6))
    found = {
        cls.__name__: neurons.facts_of(cls()).update_for(4).op
        for cls in (neuron.LIFNode, Heaviest, neuron.ParametricLIFNode)
    }
    assert found == {"LIFNode": "mine", "Heaviest": "heavier", "ParametricLIFNode": "plif"}
    register_neuron(Heavier, Update("again", 6, 6))
    assert neurons.facts_of(Heaviest()).update_for(4).op == "again"


def test_unregistered_it_is_counted_by_what_it_calls(x: torch.Tensor) -> None:
    measured = profile(Net(Resonator(False), False), [x])
    assert not measured.neurons and {row.op for row in measured.rows if row.name == "cell"} >= {
        "scale",
        "add",
        "compare",
    }


@pytest.mark.parametrize(
    ("cls", "update", "message"),
    [
        (3, Update("mine", 1, 1), "3 is no class of torch.nn.Module"),
        (dict, Update("mine", 1, 1), "no class of torch.nn.Module"),
        (Resonator, (1, 1), r"\(1, 1\) is no snn_energy.profiling.Update"),
        (Resonator, Update("linear", 1, 1), "op = 'linear': must be a name that no other row has"),
        (Resonator, Update("", 1, 1), "op = ''"),
        (Resonator, Update("mine", -1, 1), "multiplies = -1: must be a whole number"),
        (Resonator, Update("mine", 1, 0.5), "adds = 0.5"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused(cls: Any, update: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        register_neuron(cls, update)


def test_a_neuron_without_a_tensor_to_give_is_named(x: torch.Tensor) -> None:
    class Odd(Resonator):
        def forward(self, x: torch.Tensor) -> Any:
            return ["spikes"]

    register_neuron(Odd, Update("odd", 1, 1))
    with pytest.raises(ConfigError, match="neuron 'cell': Odd returned list; must return its spikes"):
        profile(Net(Odd(False), False), [x])
