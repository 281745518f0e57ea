"""The quantised twin: its formula by plain loops, the published break-even rates, and networks."""

from __future__ import annotations

import dataclasses
import math

import pytest
from energy_builders import neuron

from snn_energy.energy import quantised
from snn_energy.energy.architectures import build
from snn_energy.energy.quantised import (
    activation_bits,
    break_even_rate,
    compare_with_quantised,
    graded_levels,
    movement_prices,
    nonzero_share,
    unit_rate,
)
from snn_energy.errors import ConfigError
from snn_energy.profiling.profile import OpRow, Profile


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 8, 15, 16])
def test_bits_are_those_of_the_paper(steps: int) -> None:
    assert activation_bits(steps) == math.ceil(math.log2(steps + 1))
    assert activation_bits(steps, 4) == math.ceil(math.log2(4 * steps + 1))


@pytest.mark.parametrize(("steps", "levels"), [(0, 1), (3, 0)])
def test_no_bits_of_no_steps(steps: int, levels: int) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        activation_bits(steps, levels)


def test_the_published_break_even_rates() -> None:
    """Yan et al.: 5.7 % at T = 5, 5.4 % at a fan-in of 64; the price of memory comes from those at T = 2."""
    assert round(100 * break_even_rate(5), 1) == 5.7
    assert round(100 * break_even_rate(5, fan_in=64), 1) == 5.4
    assert round(100 * break_even_rate(2), 1) == 10.4
    assert round(100 * break_even_rate(2, weight_bits=8), 1) == 12.3
    assert break_even_rate(3, weight_bits=8) == pytest.approx(0.082, abs=0.001)


@pytest.mark.parametrize(
    ("prices", "low", "high"),
    [
        (("memory_bit",), 0.0539, 0.0608),
        (("sparse_hop", "dense_hop"), 0.0341, 0.1080),
        (("accumulate",), 0.0568, 0.0578),
    ],
)
def test_the_published_sensitivity(
    prices: tuple[str, ...], low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One price at a time halved, and raised by half; within .15 percentage points of the paper's range."""
    given, found = movement_prices(), []
    for name in prices:
        for factor in (0.5, 1.5):
            changed = dataclasses.replace(given, **{name: factor * getattr(given, name)})
            monkeypatch.setattr(quantised, "movement_prices", lambda changed=changed: changed)
            found.append(break_even_rate(5))
    if prices == ("accumulate",):
        assert low <= min(found) and max(found) <= high
    else:
        assert (min(found), max(found)) == (pytest.approx(low, abs=0.0015), pytest.approx(high, abs=0.0015))


def spelled_out(rate: float, steps: int, fan_in: int, bits: int, weight_bits: int) -> tuple[float, float]:
    """pJ of one neuron on both sides, synapse by synapse and step by step."""
    p, spiking, dense = movement_prices(), 0.0, 0.0
    for _ in range(steps):
        for _ in range(fan_in):
            spiking += rate * (p.accumulate + p.sparse_hop + weight_bits * p.memory_bit)
        spiking += p.accumulate + 2 * p.state_bits * p.memory_bit + rate * p.accumulate
    for _ in range(fan_in):
        dense += weight_bits * p.memory_bit + bits * p.dense_hop
        dense += bits * p.accumulate * nonzero_share(rate, steps)
    return spiking, dense + p.accumulate


@pytest.mark.parametrize(("steps", "fan_in", "weight_bits"), [(5, 48, 4), (2, 7, 8), (1, 30, 2), (9, 16, 4)])
def test_both_sides_cost_the_same_at_the_rate(steps: int, fan_in: int, weight_bits: int) -> None:
    rate = break_even_rate(steps, fan_in, weight_bits)
    spiking, dense = spelled_out(rate, steps, fan_in, activation_bits(steps), weight_bits)
    assert spiking == pytest.approx(dense)


STEPS, INPUTS, OUTPUTS, SAMPLES = 5, 4096, 6, 2


def layer(rate: float, value: int = 1) -> Profile:
    """Spikes into a linear layer and its neurons; graded ones all have the value `value`."""
    elements = SAMPLES * STEPS * INPUTS
    events = round(rate * elements)
    outputs = SAMPLES * STEPS * OUTPUTS
    fc = OpRow(
        "fc", "linear", input_kind="binary" if value == 1 else "integer",
        input_values=(1.0,) if value == 1 else (1.0, float(value)), dense_macs=elements * OUTPUTS,
        valid_macs=elements * OUTPUTS, input_elements=elements, input_nonzero=events,
        input_units=value * events, ac=value * events * OUTPUTS, ac_executed=value * events * OUTPUTS,
        output_elements=outputs, output_shape=(OUTPUTS,), input_shape=(INPUTS,), feeds=("lif",),
        weight_elements=INPUTS * OUTPUTS,
    )  # fmt: skip
    lif = OpRow("lif", "lif", output_shape=(OUTPUTS,), **neuron(outputs, round(rate * outputs)))
    return Profile((fc, lif), SAMPLES, STEPS)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_a_measured_layer_has_the_formulas_rate(rate: float) -> None:
    found = compare_with_quantised(layer(rate))
    assert found is not None and found.bits == 3 and found.levels == 1
    assert found.rate == pytest.approx(rate, rel=1e-3)
    assert found.break_even == pytest.approx(break_even_rate(5), rel=1e-3)
    spiking, dense = spelled_out(found.rate, STEPS, INPUTS, 3, 4)
    assert found.spiking_pj == pytest.approx(OUTPUTS * spiking, rel=1e-3)
    assert found.quantised_pj == pytest.approx(OUTPUTS * dense, rel=1e-3)
    assert (found.ratio > 1) == (rate < found.break_even)
    assert set(found.spiking) == set(found.quantised) == {"arithmetic", "movement", "weights", "state"}


def test_graded_spikes_are_more_steps() -> None:
    """Spikes of up to 4 over 5 steps say one of 21 things: 5 bits; the rate refers to the 20 steps."""
    found = compare_with_quantised(layer(0.2, value=4))
    assert found is not None and (found.levels, found.bits) == (4, 5)
    assert found.rate == pytest.approx(0.2, rel=1e-3)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ((1.0,), 1),
        ((-1.0, 1.0), 1),
        ((1.0, 2.0, 4.0), 4),
        ((2.0, 4.0, 6.0), 3),
        ((0.25, 0.5, 1.0), 4),
        (None, 1),
    ],
)
def test_levels(values: tuple[float, ...] | None, levels: int) -> None:
    assert graded_levels(OpRow("a", "linear", input_values=values)) == levels


def test_the_rate_of_a_product_is_that_of_its_event_operand() -> None:
    row = OpRow("m", "matmul", input_kind="real", right_kind="binary", input_elements=9, input_nonzero=9,
                right_elements=20, right_nonzero=5)  # fmt: skip
    assert unit_rate(row) == 0.25


def test_a_silent_network_has_no_rate_to_scale() -> None:
    found = compare_with_quantised(layer(0.0))
    assert found is not None and found.break_even is None and found.ratio > 1


def test_a_network_without_spikes_has_no_quantised_twin() -> None:
    real = OpRow("fc", "linear", input_kind="real", mac=9, mac_executed=9, valid_macs=9, dense_macs=9)
    assert compare_with_quantised(Profile((real,), 1, 1)) is None


def test_hops_and_weights_cost_both_sides() -> None:
    near, far, wide = (
        compare_with_quantised(layer(0.05), **g) for g in ({}, {"hops": 2.0}, {"weight_bits": 8})
    )
    assert near and far and wide
    for side in ("spiking", "quantised"):
        assert getattr(far, side)["movement"] == pytest.approx(2 * getattr(near, side)["movement"])
        assert getattr(wide, side)["weights"] == pytest.approx(2 * getattr(near, side)["weights"])


def test_a_whole_transformer() -> None:
    """The encoder costs the same on both sides; attention is N²·D in the twin, N·D·d here."""
    given = {"build": "spike-driven", "depth": 2, "dim": 24, "size": 12, "heads": 3, "time_steps": 5,
             "classes": 7, "pools": "0011", "mask": False}  # fmt: skip
    found = [compare_with_quantised(build(given).profile(rate)) for rate in (0.02, 0.4)]
    assert all(f is not None for f in found)
    quiet, loud = found
    assert quiet.ratio > 1 > loud.ratio
    assert loud.rate == pytest.approx(0.4, rel=0.01)
    assert 0.02 < quiet.break_even < 0.4
