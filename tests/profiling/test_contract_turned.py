"""Networks that turn their input round, and state that only arrives at layers: seen, or an error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from snn_energy import record_spikes
from snn_energy.errors import ConfigError
from snn_energy.profiling import profile
from tests.profiling.observed import total
from tests.profiling.test_contract import spikes


class Multi(nn.Module):
    """Multi-step neurons between layers; `turn`: the network takes (B, T, …) and turns it round."""

    def __init__(self, dims: tuple[int, ...], turn: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        first: nn.Module = layer.Conv2d(2, 6, 3, padding=1) if len(dims) == 3 else layer.Linear(dims[0], 6)
        self.first, self.cell = first, neuron.LIFNode(step_mode="m")
        self.head = layer.Linear(6 * dims[1] * dims[2] if len(dims) == 3 else 6, 4, bias=False)
        functional.set_step_mode(self, "m")
        self.first.weight.data *= 4
        self.turn = turn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.cell(self.first(x.transpose(0, 1) if self.turn else x))
        return self.head(x.flatten(2)).mean(0)


def fired(net: Multi, x: torch.Tensor) -> int:
    """Spikes that arrive at the head, by a hook."""
    seen: list[int] = []
    handle = net.head.register_forward_hook(lambda m, a, out: seen.append(int(a[0].count_nonzero())))
    functional.reset_net(net)
    with torch.no_grad():
        net(x)
    functional.reset_net(net)
    handle.remove()
    return sum(seen)


@pytest.mark.parametrize("dims", [(2, 5, 6), (11,)])
@pytest.mark.parametrize(("samples", "steps"), [(3, 5), (5, 5), (1, 4), (2, 2)])
@pytest.mark.parametrize("turn", [False, True])
def test_an_input_that_the_network_turns_round(
    dims: tuple[int, ...], samples: int, steps: int, turn: bool
) -> None:
    net = Multi(dims, turn)
    lead = (samples, steps) if turn else (steps, samples)
    x = spikes(*lead, *dims)
    measured = profile(net, [x])
    assert (measured.samples, measured.time_steps) == (samples, steps)
    assert f"batch axis {0 if turn else 1}" in measured.contract
    assert total(measured, "head", "ac") == 4 * fired(net, x)


@pytest.mark.parametrize("turn", [False, True])
def test_a_layout_that_neurons_contradict(turn: bool) -> None:
    x = spikes(3, 5, 2, 5, 6)
    wrong = "TB" if turn else "BT"
    with pytest.raises(ConfigError, match=rf"layout {wrong}\) contradicts the network: 'cell' puts out"):
        profile(Multi((2, 5, 6), turn), [x], layout=wrong)


def test_batches_of_any_size_where_the_input_is_turned_round() -> None:
    batches = [spikes(3, 5, 2, 5, 6), spikes(1, 5, 2, 5, 6, seed=1)]
    assert profile(Multi((2, 5, 6), True), batches).samples == 4


def test_spikes_made_outside_of_modules_are_seen_where_they_arrive() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc, self.head = nn.Linear(11, 7), nn.Linear(7, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = torch.zeros(())
            for frame in x.unbind(1):
                v = 0.9 * held["v"] + self.fc(frame)
                s = (v > 1).float()
                held["v"] = v - s
                out = out + self.head(s)
            return out

    held: dict[str, Any] = {"v": 0.0}
    with pytest.raises(ConfigError, match="state survives the reset: 'head' takes in"):
        profile(Functional(), [spikes(3, 5, 11)])


class Steps(nn.Module):
    """v <- v/2 + x, a spike where v > 1, hard reset; all steps at once, along `axis`."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v, out = torch.zeros(()), []
        for now in x.unbind(self.axis):
            v = v / 2 + now
            s = (v > 1).float()
            v = v * (1 - s)
            out.append(s)
        return torch.stack(out, self.axis)


class Repeated(nn.Module):
    """An image, repeated inside by a number that no attribute of a common name says."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.cell, self.fc = nn.Conv2d(2, 6, 3, padding=1), Steps(0), nn.Linear(6 * 5 * 4, 3)
        self.conv.weight.data *= 4
        self.keep = keep

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x.unsqueeze(0).repeat(7, 1, 1, 1, 1).flatten(0, 1))
        x = self.cell(x.unflatten(0, (7, -1)))
        return self.fc(x.flatten(2)).mean(0) if self.keep else self.fc(x.flatten(0, 1).flatten(1))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("known", [False, True])
def test_steps_that_only_tensors_inside_hold(samples: int, known: bool) -> None:
    net, x = Repeated(True), torch.rand(samples, 2, 5, 4, generator=torch.Generator().manual_seed(1))
    named = {"Steps": "lif"} if known else {}
    measured = profile(net, [x], neurons=named)
    assert (measured.samples, measured.time_steps) == (samples, 7)
    assert "T = 7 (observed: what 'cell' puts out)" in measured.contract
    assert total(measured, "conv", "mac") * 7 == total(measured, "conv", "mac_executed") > 0


def test_an_axis_that_may_be_time_is_said() -> None:
    net = nn.Sequential(nn.Linear(11, 7), Steps(1), nn.Linear(7, 4))
    x, named = 4 * spikes(3, 5, 11), {"Steps": "lif"}
    measured = profile(net, [x], neurons=named)
    assert "T = 1 (assumed)" in measured.contract
    assert any("whether an axis of the input (3, 5, 11) is time" in note for note in measured.notes)
    assert profile(net, [x], neurons=named, layout="B").notes == ()
    assert profile(net, [x], neurons=named, layout="BT").time_steps == 5


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("samples", [3, 5])
def test_spikes_of_neurons_that_say_nothing_of_time(axis: int, turn: bool, samples: int) -> None:
    """(T, B, …), also where there are as many samples as steps, and where the network turns its input."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc, self.cell = nn.Linear(11, 7), Steps(1 - axis if turn else axis)
            self.fc.weight.data *= 4

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.fc(x)
            return self.cell(x.transpose(0, 1)).transpose(0, 1) if turn else self.cell(x)

    net, frames = Net(), spikes(5, samples, 11)
    x = frames if axis == 0 else frames.transpose(0, 1)
    with torch.no_grad():
        expected = Steps(0)(net.fc(frames)).bool()
    found = record_spikes(net, x, layout="TB" if axis == 0 else "BT", neurons={"Steps": "lif"})["cell"]
    assert torch.equal(found, expected)
