"""The dense twin runs one pass: what is added over time steps vanishes, what is added over space stays."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from snn_energy.energy import estimate
from snn_energy.energy.passes import additions_in_one_pass, per_pass
from snn_energy.energy.twin import dense_twin
from snn_energy.profiling import OpRow, Profile, profile

STEPS, BATCH, TOKENS, FEATURES, CLASSES = 3, 4, 2, 7, 5


class Spelled(nn.Module):
    """A layer of spikes at every step and a mean over steps, spelled in the way of `kind`."""

    T = STEPS

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.lif = nn.Linear(6, FEATURES), neuron.LIFNode(step_mode="m", v_threshold=0.1)
        self.fc = nn.Linear(FEATURES, CLASSES, bias=False)
        self.pool, self.adaptive = nn.AvgPool1d(STEPS), nn.AdaptiveAvgPool1d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(self, self.kind)(self.lif(self.a(x.unsqueeze(0).repeat(STEPS, 1, 1))))

    def mean(self, s: torch.Tensor) -> torch.Tensor:
        return self.fc(s).mean(0)

    def mean_of_spikes(self, s: torch.Tensor) -> torch.Tensor:
        return self.fc(s.mean(0))

    def mean_of_a_view(self, s: torch.Tensor) -> torch.Tensor:
        return self.fc(s.flatten(0, 1)).view(STEPS, -1, CLASSES).mean(dim=0)

    def total(self, s: torch.Tensor) -> torch.Tensor:
        return torch.sum(self.fc(s), 0) / STEPS

    def stacked(self, s: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.fc(t) for t in s]).mean(0)

    def loop(self, s: torch.Tensor) -> torch.Tensor:
        out = 0
        for t in s:
            out = out + self.fc(t)
        return out / STEPS

    def in_place(self, s: torch.Tensor) -> torch.Tensor:
        out = self.fc(s[0]).clone()
        for t in s[1:]:
            out += self.fc(t)
        return out / STEPS

    def builtin(self, s: torch.Tensor) -> torch.Tensor:
        return sum(self.fc(t) for t in s) / STEPS

    def pooled(self, s: torch.Tensor) -> torch.Tensor:
        return self.pool(self.fc(s).permute(1, 2, 0)).squeeze(-1)

    def pooled_to_one(self, s: torch.Tensor) -> torch.Tensor:
        return self.adaptive(self.fc(s).permute(1, 2, 0)).squeeze(-1)

    def tokens(self, s: torch.Tensor) -> torch.Tensor:
        y = self.fc(s)
        return torch.stack([y, -y], 2).mean(2)

    def tokens_and_time(self, s: torch.Tensor) -> torch.Tensor:
        y = self.fc(s)
        return torch.stack([y, -y], 2).mean((0, 2))

    def residual(self, s: torch.Tensor) -> torch.Tensor:
        y = self.fc(s)
        return (y + y.flip(-1)).mean(0)

    def behind_the_mean(self, s: torch.Tensor) -> torch.Tensor:
        y = self.fc(s).mean(0)
        return y + y.flip(-1)


MACS = 6 * FEATURES + FEATURES * CLASSES


@pytest.mark.parametrize(
    ("kind", "adds"),
    [
        ("mean", 0),
        ("mean_of_spikes", 0),
        ("mean_of_a_view", 0),
        ("total", 0),
        ("stacked", 0),
        ("loop", 0),
        ("in_place", 0),
        ("builtin", 0),
        ("pooled", 0),
        ("pooled_to_one", 0),
        ("tokens", TOKENS * CLASSES),
        ("tokens_and_time", TOKENS * CLASSES),
        ("residual", CLASSES),
        ("behind_the_mean", CLASSES),
    ],
)
def test_the_twin_has_no_time_to_average(kind: str, adds: int) -> None:
    torch.manual_seed(0)
    twin = estimate(dense_twin(profile(Spelled(kind).eval(), [torch.rand(BATCH, 6)])))
    assert (twin.mac, twin.ac) == (MACS, adds)


SAMPLES = 2


def row(op: str, elements: int, shape: tuple[int, ...], out: int, out_shape: tuple[int, ...]) -> OpRow:
    """Totals over both samples."""
    return OpRow(
        "m", op, input_elements=elements, input_shape=shape, output_elements=out, output_shape=out_shape
    )


@pytest.mark.parametrize(
    ("given", "adds"),
    [
        (row("sum", SAMPLES * 3 * 10, (2, 5), SAMPLES * 3 * 5, (5,)), 10),
        (row("sum", SAMPLES * 3 * 5, (5,), SAMPLES * 5, (5,)), 0),
        (row("mean", SAMPLES * 10, (2, 5), SAMPLES * 5, (5,)), 10),  # behind the mean over time
        (row("avg_pool", SAMPLES * 3 * 60, (5, 4, 3), SAMPLES * 3 * 10, (5, 2, 1)), 60),
        (row("avg_pool", SAMPLES * 3 * 5, (5, 3), SAMPLES * 5, (5, 1)), 0),  # 3 steps in its last axis
        (row("avg_pool", SAMPLES * 3 * 6, (6, 3), SAMPLES * 6, (6, 1)), 18),  # no layer ran on (6,): 3 places
        (row("add", SAMPLES * 3 * 5, (5,), SAMPLES * 3 * 5, (5,)), 5),
        (row("add", SAMPLES * 2 * 5, (5,), SAMPLES * 2 * 5, (5,)), 0),  # once less than there are steps
        (row("add", SAMPLES * 5, (5,), SAMPLES * 5, (5,)), 5),
        (row("add", SAMPLES * 6 * 5, (5,), SAMPLES * 6 * 5, (5,)), 10),  # twice at every step
    ],
)
def test_additions_in_one_pass_by_hand(given: OpRow, adds: int) -> None:
    layer = row("linear", SAMPLES * 3 * 7, (7,), SAMPLES * 3 * 5, (5,))
    assert additions_in_one_pass(given, (layer,), Profile((layer, given), SAMPLES, 3)) == adds


def test_the_profile_may_say_which_addition_adds_up_over_steps() -> None:
    given = row("add", SAMPLES * 3 * 5, (5,), SAMPLES * 3 * 5, (5,))
    for told, adds in ((True, 0), (False, 5)):
        said = dataclasses.replace(given, details={"accumulates": told})
        assert additions_in_one_pass(said, (), Profile((said,), SAMPLES, 3)) == adds
    chain = dataclasses.replace(said, details={"accumulates": True})
    assert additions_in_one_pass(chain, (), Profile((chain,), SAMPLES, 1)) == 15
    blocks = row("add", SAMPLES * 6 * 5, (5,), SAMPLES * 6 * 5, (5,))  # of two blocks
    blocks = dataclasses.replace(blocks, details={"accumulates": True})
    assert additions_in_one_pass(blocks, (), Profile((blocks,), SAMPLES, 3)) == 10


@pytest.mark.parametrize(("ran", "passes"), [(1, 1), (3, 3), (6, 3), (2, 2)])
def test_per_pass(ran: int, passes: int) -> None:
    """Behind the mean; at every step; twice at every step; in chunks."""
    given = row("norm", SAMPLES * ran * 8, (4, 2), SAMPLES * ran * 8, (4, 2))
    assert per_pass(given, Profile((given,), SAMPLES, 3)) == SAMPLES * passes


def test_a_norm_behind_the_mean_over_time_costs_the_twin_all_of_itself() -> None:
    class Net(nn.Module):
        T = STEPS

        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.fc(x.unsqueeze(0).repeat(STEPS, 1, 1)).mean(0))

    twin = dense_twin(profile(Net().eval(), [torch.rand(BATCH, 6)]))
    assert next(r for r in twin.rows if r.op == "norm").norm_macs == 8
