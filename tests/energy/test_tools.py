"""Conventions that are a tool's own, beside that tool's totals on the same networks.

SpikingJelly runs here.  syops 0.0.5, NeuroBench 2.3.0 and Spikingformer's calculator (commit 4378623) cannot
be test dependencies: their figures were printed by `scripts/tool_totals.py` with torch 2.14.1 on these
networks, whose sums are exact on any processor.
"""

from __future__ import annotations

import pytest
import tool_networks
import torch
from spikingjelly.activation_based import functional, neuron, op_counter
from torch import nn

from snn_energy.energy import estimate
from snn_energy.profiling import Profile, profile

MADE = {
    "plain": tool_networks.plain,
    "pruned": lambda: tool_networks.plain(pruned=True),
    "former": tool_networks.former,
}


@pytest.fixture(scope="module")
def measured() -> dict[str, Profile]:
    return {name: profile(model, [x]) for name, (model, x) in ((n, make()) for n, make in MADE.items())}


@pytest.mark.parametrize(
    ("network", "ac", "mac", "head_bias"),
    [("plain", 3591.17578125, 30720.0, 0.0), ("former", 382293.25, 196690.5, 2.5)],
)
def test_syops(measured: dict, network: str, ac: float, mac: float, head_bias: float) -> None:
    """It adds the bias of a linear layer once per call, whatever the batch: of two images half of it each."""
    energy = estimate(measured[network], "syops")
    assert energy.ac == pytest.approx(ac, rel=1e-12)
    assert energy.mac - head_bias == pytest.approx(mac, rel=1e-12)
    assert estimate(measured[network], "staa").total_pj == energy.total_pj


@pytest.mark.parametrize(
    ("network", "ac", "mac"), [("plain", 1096, 19248), ("pruned", 791, 13440), ("former", 278661, 88649)]
)
def test_neurobench(measured: dict, network: str, ac: int, mac: int) -> None:
    energy = estimate(measured[network], "neurobench")
    assert (energy.ac, energy.mac) == (ac, mac)


def test_spikingformers_own_calculator(measured: dict) -> None:
    energy = estimate(measured["former"], "spikingformer")
    assert energy.mac / 1e9 == pytest.approx(0.000110677, rel=1e-8)
    assert energy.ac / 1e9 == pytest.approx(0.00034824625, rel=1e-8)
    assert energy.mj == pytest.approx(0.000822535825, rel=1e-8)


class Graded(nn.Module):
    """Integer spikes into a convolution, divided ones into a linear layer, and products of both with binary
    ones."""

    T = 3

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bn = nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.ilif, self.lif = neuron.ILIFNode(step_mode="m"), neuron.LIFNode(step_mode="m")
        self.conv, self.fc = nn.Conv2d(6, 5, (1, 2), padding=(1, 0)), nn.Linear(20, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        y = self.bn(self.first(x)).unsqueeze(0).repeat(3, 1, 1, 1, 1) * 4
        graded, spikes = self.ilif(y), self.lif(y)
        out = self.conv(graded.flatten(0, 1)).mean((2, 3))
        left = graded.flatten(3) @ spikes.flatten(3).mT  # (…, 6, 6)
        right = spikes.flatten(3).mT @ graded.flatten(3)  # (…, 20, 20)
        return out.sum() + left.sum() + self.fc(right / 4).sum((0, 2, 3))


class Norms(nn.Module):
    """Every norm behind a layer, and a batch norm that does not scale."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.norms = nn.ModuleList(
            [nn.LayerNorm(8), nn.RMSNorm(8), nn.BatchNorm1d(7), nn.GroupNorm(7, 7),
             nn.InstanceNorm1d(7, affine=True)]
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm in self.norms:
            x = norm(self.fc(x[..., :6]))
        return x


class StatePair(nn.Module):
    """Q (Kᵀ V) of spikes: the second product has a binary operand and one of whole numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = x.split((4, 4, 3), 2)
        return q @ (k.mT @ v)


def spikes(*shape: int, rate: float) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(3)) < rate).float()


def spikingjelly_nets() -> dict:
    torch.manual_seed(0)
    return {
        "plain": tool_networks.plain(),
        "former": tool_networks.former(),
        "graded": (Graded().eval(), torch.randn(2, 2, 6, 7)),
        "norms": (Norms().eval(), torch.randn(3, 7, 6)),
        "state": (StatePair(), spikes(2, 5, 11, rate=0.3)),
    }


@pytest.mark.parametrize("network", ["plain", "former", "graded", "norms", "state"])
def test_spikingjelly(network: str) -> None:
    model, x = spikingjelly_nets()[network]
    totals = []
    for counter in (op_counter.SynOpCounter(), op_counter.MACCounter()):
        functional.reset_net(model)
        with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
            model(x)
        totals.append(counter.get_total())
    functional.reset_net(model)
    found = profile(model, [x], batch_dim=0)
    energy = estimate(found, "spikingjelly")
    assert [energy.ac * found.samples, energy.mac * found.samples] == pytest.approx(totals, rel=1e-12)


def test_spikingjelly_takes_a_batch_norm_that_does_not_scale_for_free() -> None:
    """The profile says which norms scale (`affine`)."""
    model, x = nn.Sequential(nn.Conv1d(3, 4, 2), nn.BatchNorm1d(4, affine=False)).eval(), torch.randn(2, 3, 6)
    counter = op_counter.MACCounter()
    with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
        model(x)
    assert estimate(profile(model, [x], batch_dim=0), "spikingjelly").mac * 2 == counter.get_total()
