"""Networks that turn their input round, and state that only arrives at layers: seen, or an error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

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
