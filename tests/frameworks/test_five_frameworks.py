"""One network, five frameworks, one number: the same spikes and integers, whoever runs the neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import five
import pytest
import torch
from five import FLAT, MAPS, B, C, H, K, T, W
from needed import needed
from torch import Tensor, nn

from snn_energy import register_neuron
from snn_energy.profiling import neurons, profile, record_spikes
from snn_energy.profiling.profile import OpRow, Profile

needed("snntorch", "norse", "sinabs")

POSITIONS = MAPS * (H - 2) * (W - 2)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing that a test registers outlives it."""
    yield
    neurons._REGISTERED.clear()
    neurons._NEAREST.clear()


def time_first(x: Tensor) -> Tensor:
    return x


def batch_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous()


def folded(x: Tensor) -> Tensor:
    return batch_first(x).flatten(0, 1)


def snntorch_step() -> nn.Module:
    return five.loaded(five.SnnTorchStep())


def snntorch_loop() -> nn.Module:
    return five.loaded(five.SnnTorchLoop())


def registered() -> nn.Module:
    register_neuron(five.PlainLIF, op="lif", time_axis=0)
    return five.plain()


# name -> (network, its input from (T, B, C, H, W), what the user has to declare)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor], dict[str, Any]]] = {
    "SpikingJelly": (five.spikingjelly, time_first, {}),
    "snnTorch, loop inside": (snntorch_loop, time_first, {}),
    "snnTorch, the caller loops": (snntorch_step, time_first, {"layout": "TB"}),
    "Norse, cells": (five.norse, time_first, {}),
    "Norse, LIF": (lambda: five.norse(current=True), time_first, {}),
    "sinabs": (five.SinabsBatchFirst, batch_first, {}),
    "sinabs, Squeeze": (five.sinabs_squeezed, folded, {}),
    "torch, registered": (registered, time_first, {}),
}


def measured(net: nn.Module, x: Tensor, declared: dict[str, Any]) -> tuple[Profile, list[OpRow]]:
    """The profile, and its rows of the convolution, LIF, linear layer and LIF."""
    found = profile(net, [x], strict=True, **declared)
    rows = [row for row in found.rows if row.op in ("conv2d", "linear") or row.neuron_cmp]
    assert [row.op for row in rows][::2] == ["conv2d", "linear"] and len(rows) == 4
    return found, rows


def steps(spikes: Tensor) -> tuple[int, ...]:
    return tuple(int(step.sum()) for step in spikes)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_integers(name: str) -> None:
    make, arranged, declared = NETWORKS[name]
    x = five.frames()
    first, second = five.by_hand(x)
    assert 0.2 < first.mean() < 0.6 and 0.2 < second.mean() < 0.6
    found, (conv, lif1, fc, lif2) = measured(make(), arranged(x), declared)

    assert (found.samples, found.time_steps) == (B, T)
    assert (conv.mac, conv.ac) == (T * B * POSITIONS * C * 9, 0)
    assert (fc.ac, fc.mac) == (K * int(first.sum()), 0)
    assert fc.ac_by_step == tuple(K * n for n in steps(first))
    assert fc.ac_square_sum == sum((K * int(first[:, b].sum())) ** 2 for b in range(B))
    for row, spikes in ((lif1, first), (lif2, second)):
        assert row.output_nonzero == row.neuron_reset == int(spikes.sum())
        assert row.output_elements == row.neuron_cmp == spikes.numel()
        assert row.output_rate == pytest.approx(float(spikes.mean()))
        assert row.output_nonzero_by_step == steps(spikes)
        assert row.output_shape == spikes.shape[2:]
    assert FLAT == POSITIONS


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_spikes(name: str) -> None:
    make, arranged, declared = NETWORKS[name]
    x = five.frames()
    recorded = list(record_spikes(make(), arranged(x), **declared).values())
    assert len(recorded) == 2
    for got, right in zip(recorded, five.by_hand(x), strict=True):
        assert got.shape == right.shape  # (T, B, …)
        assert torch.equal(got, right.bool())


@pytest.mark.parametrize("name", NETWORKS)
def test_two_batches_of_other_sizes_start_from_rest(name: str) -> None:
    """State of the first batch reaches neither the second nor the network's owner."""
    make, arranged, declared = NETWORKS[name]
    x = five.frames()
    batches = [arranged(x), arranged(x[:, :2])]
    net = make()
    found = profile(net, batches, **declared)
    assert found.samples == B + 2
    fc = next(row for row in found.rows if row.op == "linear")
    first = five.by_hand(x)[0]
    assert fc.ac == K * (int(first.sum()) + int(first[:, :2].sum()))


def test_declared_steps_do_without_registration() -> None:
    """Plain torch, nothing said of its neurons: the same synaptic operations, and no rates."""
    x = five.frames()
    found = profile(five.plain(), [x], layout="TB", time_steps=T)
    first, _ = five.by_hand(x)
    fc = next(row for row in found.rows if row.op == "linear")
    assert (found.samples, found.time_steps) == (B, T)
    assert (fc.ac, fc.mac) == (K * int(first.sum()), 0)
    assert fc.ac_by_step == tuple(K * n for n in steps(first))
    assert not any(row.neuron_cmp for row in found.rows)
