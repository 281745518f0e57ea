"""Calls that are counted without their rule count what their rule would have counted."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from test_registry_profiles import small
from torch import nn

from snn_energy.profiling import Profile, profile
from snn_energy.profiling.recorder import Recorder


class Loop(nn.Module):
    """Steps that differ: factors, branches, shapes and operands change at one place of the code."""

    T = 5

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Linear(6, 4), nn.Linear(6, 4)
        self.norm, self.fire, self.last = nn.LayerNorm(4), neuron.IFNode(), nn.Linear(4, 3)
        self.bias = nn.Parameter(torch.rand(5, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        v: torch.Tensor | float = 0.0
        out: torch.Tensor | float = 0.0
        for t in range(self.T):
            current = self.first(x[:, t]) * (1 + t % 2) + self.bias[t]
            if t == 3:
                current = self.gate(x[:, t])  # another layer drives the same line below
            v = torch.sigmoid(self.norm(current)) * v + current
            s = (v > 0.3).to(v.dtype)
            v = v - v * s
            mixed = torch.cat([current, s], 0) if t > 2 else current * s
            out = out + self.last(self.fire(mixed.relu()[: len(x)]))
        return out / self.T


def rows(measured: Profile) -> list[dict[str, object]]:
    return [dataclasses.asdict(row) for row in measured.rows]


def events(*shape: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


@pytest.mark.parametrize("name", ["loop", "staa-resnet20", "staa-vgg13"])
def test_settled_calls_count_what_their_rules_count(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, x = (Loop(), events(3, 5, 6)) if name == "loop" else small(name)
    other = events(2, 5, 6, seed=1) * 0.7 if name == "loop" else torch.rand_like(x[:1])
    batches = [x, other, x]
    taken = 0
    again = Recorder.again

    def counted(self: Recorder, *given: object) -> object:
        nonlocal taken
        found = again(self, *given)  # type: ignore[arg-type]
        taken += found is not None
        return found

    monkeypatch.setattr(Recorder, "again", counted)
    quick = profile(model, batches)
    assert taken > 20
    monkeypatch.setattr(Recorder, "again", lambda *given: None)
    asked = profile(model, batches)
    assert rows(quick) == rows(asked)
    assert rows(Profile.merge([profile(model, [batch]) for batch in batches])) == rows(asked)
