"""Several inputs of which not all have the axis of time, and what is no iterable of batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

from snn_energy.errors import DataError
from snn_energy.profiling import profile
from tests.profiling.observed import total
from tests.profiling.test_contract import spikes

IN, CONTEXT, WIDE = 11, 6, 7


class Beside(nn.Module):
    """Events and a context that is the same at every step; `loop`: all steps in one call."""

    def __init__(self, loop: bool, context: int = CONTEXT) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.beside = nn.Linear(IN, WIDE), nn.Linear(context, WIDE, bias=False)
        self.cell, self.head = neuron.LIFNode(), nn.Linear(WIDE, 3)
        self.fc.weight.data *= 4
        self.loop = loop

    def step(self, events: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(self.fc(events) + self.beside(context)))

    def forward(self, events: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        if not self.loop:
            return self.step(events, context)
        return torch.stack([self.step(now, context) for now in events])


def arrived(net: Beside, events: torch.Tensor, context: torch.Tensor) -> tuple[int, int]:
    """Events that arrive at `beside` and at `head` in all steps, by a plain loop."""
    functional.reset_net(net)
    fired = 0
    with torch.no_grad():
        for now in events:
            fired += int(net.cell(net.fc(now) + net.beside(context)).sum())
    functional.reset_net(net)
    return len(events) * int(context.sum()), fired


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(("steps", "samples"), [(5, 4), (5, 5), (4, 6)])
def test_a_context_beside_events(loop: bool, steps: int, samples: int) -> None:
    net, events, context = Beside(loop), spikes(steps, samples, IN), spikes(samples, CONTEXT, seed=1)
    if samples == CONTEXT:
        net, context = Beside(loop, samples), spikes(samples, samples, seed=1)
    measured = profile(net, [{"events": events, "context": context}], layout="TB")
    assert (measured.samples, measured.time_steps) == (samples, steps)
    beside, head = arrived(net, events, context)
    assert total(measured, "beside", "ac_executed") == WIDE * beside
    assert total(measured, "head", "ac") == 3 * head


def test_fewer_samples_of_inputs_that_lie_differently() -> None:
    events, context = spikes(5, 6, IN), spikes(6, 6, seed=1)
    net = Beside(True, 6)
    measured = profile(net, [{"events": events, "context": context}], layout="TB", max_samples=4)
    beside, head = arrived(net, events[:, :4], context[:4])
    assert measured.samples == 4
    assert total(measured, "beside", "ac_executed") == WIDE * beside
    assert total(measured, "head", "ac") == 3 * head


@pytest.mark.parametrize("batches", [spikes(5, 3, IN), 7, None])
def test_what_is_no_iterable_of_batches(batches: Any) -> None:
    with pytest.raises(DataError, match=r"must be an iterable of batches: \[x\]"):
        profile(nn.Linear(IN, 3), batches)
