"""Class scores per step, wherever time and samples lie in them, beside a plain mean over time."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

from snn_energy import evaluate
from snn_energy.profiling import profile

T, IN, OUT = 5, 11, 4


class PerStep(nn.Module):
    """An image shown T times, or frames (B, T, F) or (B, F, T); scores stacked along `stack`."""

    def __init__(self, stack: int, frames: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.fc, self.cell, self.head = nn.Linear(IN, 13), neuron.LIFNode(), nn.Linear(13, OUT)
        self.fc.weight.data *= 6
        self.stack, self.frames = stack, frames

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = [x] * T if self.frames is None else x.unbind(self.frames)
        return torch.stack([self.head(self.cell(self.fc(step))) for step in steps], self.stack)


@pytest.mark.parametrize("samples", [2, 3, T, 8])
@pytest.mark.parametrize("stack", [0, 1, -1])
@pytest.mark.parametrize("frames", [None, 1, -1])
def test_scores_per_step(samples: int, stack: int, frames: int | None) -> None:
    net = PerStep(stack, frames)
    shape = {None: (samples, IN), 1: (samples, T, IN), -1: (samples, IN, T)}[frames]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(samples))
    with torch.no_grad():
        labels = net(x).mean(stack).argmax(1)
    functional.reset_net(net)
    labels[0] = (labels[0] + 1) % OUT
    assert len(labels.unique()) > 1 or samples == 2
    layout = {None: None, 1: "BT", -1: "BT-last"}[frames]
    assert profile(net, [(x, labels)], layout=layout).correct == samples - 1
    assert evaluate(net, [(x, labels)], layout=layout).correct == samples - 1


def test_a_list_of_scores_per_step() -> None:
    class Listed(PerStep):
        def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
            return {"scores": list(super().forward(x))}

    net = Listed(0)
    x = torch.rand(6, IN, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        labels = torch.stack(net(x)["scores"]).mean(0).argmax(1)
        functional.reset_net(net)
        first = net(x)["scores"][0].argmax(1)
    functional.reset_net(net)
    assert not torch.equal(first, labels)
    assert profile(net, [(x, labels)]).correct == evaluate(net, [(x, labels)]).correct == 6
