"""The dense twin, break-even rates, sensitivity, precision and the spread, against plain arithmetic."""

from __future__ import annotations

import dataclasses
import math
import statistics

import pytest
from energy_builders import neuron, profile

from snn_energy.energy import estimate
from snn_energy.energy.analysis import (
    break_even,
    compare_with_twin,
    dead_and_saturated,
    precision,
    sensitivity,
    spread,
)
from snn_energy.energy.architectures import build
from snn_energy.energy.shapes import Net
from snn_energy.energy.twin import dense_twin
from snn_energy.profiling.profile import OpRow, Profile

DIM, DEPTH, SIZE, HEADS, STEPS, CLASSES = 24, 2, 12, 3, 5, 7
TOKENS = 3 * 3


def small(**given: object) -> Net:
    return build(
        {
            "build": "spike-driven", "depth": DEPTH, "dim": DIM, "size": SIZE, "heads": HEADS,
            "time_steps": STEPS, "classes": CLASSES, "pools": "0011", **given,
        }
    )  # fmt: skip


def twin_macs() -> int:
    """The ANN's MACs, padding excluded, written out: convolutions of 12×12, pooled to 6×6 and 3×3."""

    def conv(cin: int, cout: int, side: int) -> int:
        return cin * cout * (3 * side - 2) ** 2

    patches = conv(3, 3, 12) + conv(3, 6, 12) + conv(6, 12, 12) + conv(12, 24, 6) + conv(24, 24, 3)
    block = TOKENS * DIM * DIM * (4 + 8) + 2 * TOKENS * TOKENS * DIM
    return patches + DEPTH * block + DIM * CLASSES


def test_the_twin_of_a_linear_attention_has_quadratic_attention() -> None:
    twin = dense_twin(small(mask=False).profile(0.2))
    assert sum(r.mac for r in twin.rows) == twin_macs()
    products = [r for r in twin.rows if r.op == "matmul"]
    assert [r.mac for r in products] == [TOKENS**2 * DIM] * 2 * DEPTH
    assert [r.special_evals for r in products] == [HEADS * TOKENS**2, 0] * DEPTH
    assert twin.samples == twin.time_steps == 1
    assert not any(r.neuron_cmp for r in twin.rows)


def masked() -> Profile:
    """The Spike-driven Transformer's attention as the counter sees it: K and V, summed over tokens, and Q."""
    rows = []
    for row in small().profile(0.2).rows:
        block = row.block
        names = {part: f"{block}.attn.{part}_lif" for part in "qkv"}
        part = row.name.removesuffix("_conv")[-1]
        if row.role == "attention" and part in names and not row.name.endswith("proj_conv"):
            rows += [
                dataclasses.replace(row, feeds=(names[part],)),
                OpRow(names[part], "lif", block=block, **neuron(90, 9)),
            ]
        else:
            rows.append(row)
        if row.name.endswith("v_conv"):
            given = {"block": block, "input_kind": "binary", "input_elements": STEPS * TOKENS * DIM,
                     "input_shape": (HEADS, TOKENS, DIM // HEADS)}  # fmt: skip
            both = (names["k"], names["v"])
            rows += [
                OpRow(f"{block}.attn", "mul", 0, **given, right_kind="binary", sources=both),
                OpRow(f"{block}.attn", "sum", 0, **given, sources=both),
                OpRow(f"{block}.attn", "mul", 1, **given, right_kind="binary", sources=(names["q"],)),
            ]
    return Profile(tuple(rows), 1, STEPS)


def test_the_twin_of_masks_gets_the_products_they_replace() -> None:
    twin = dense_twin(masked())
    assert sum(r.mac for r in twin.rows) == twin_macs()
    assert [r.special_evals for r in twin.rows if r.op == "matmul"] == [HEADS * TOKENS**2, 0] * DEPTH


def test_sdt_charges_the_sum_of_a_masked_attention_at_the_rates_of_its_sources() -> None:
    charges = {(r.name, r.op, r.site): r for r in estimate(masked(), "sdt").rows}
    assert charges["block.0.attn", "sum", 0].ac == pytest.approx(STEPS * TOKENS * DIM * (0.1 + 0.1))
    assert charges["block.0.attn", "mul", 0].pj == charges["block.0.attn", "mul", 1].pj == 0


def test_the_twin_of_the_twin_is_itself() -> None:
    twin = dense_twin(small(mask=False).profile(0.2))
    again = dense_twin(twin)
    assert [(r.key, r.mac, r.ac) for r in again.rows] == [(r.key, r.mac, r.ac) for r in twin.rows]


def test_the_twin_does_not_depend_on_activity_samples_or_chunks() -> None:
    quiet, loud = (dense_twin(small(mask=False).profile(r)) for r in (0.01, 0.9))
    assert [r.mac for r in quiet.rows] == [r.mac for r in loud.rows]
    attention = {"role": "attention", "block": "b", "input_kind": "binary"}
    chunk, chunks, samples, width = 2, 3, 4, 5
    joined = chunk * TOKENS
    first = OpRow(
        "a", "matmul", 0, **attention, right_kind="binary",
        input_shape=(HEADS, width, joined), output_shape=(HEADS, width, width),
        output_elements=samples * chunks * HEADS * width * width,
        dense_macs=samples * chunks * HEADS * width * width * joined,
    )  # fmt: skip
    second = OpRow(
        "a", "matmul", 1, **attention, right_kind="real",
        input_shape=(HEADS, joined, width), output_shape=(HEADS, joined, width),
        output_elements=samples * chunks * HEADS * joined * width,
        dense_macs=samples * chunks * HEADS * width * width * joined,
    )  # fmt: skip
    twin = dense_twin(Profile((first, second), samples, chunk * chunks))
    assert [r.mac for r in twin.rows] == [TOKENS**2 * HEADS * width] * 2


def test_a_product_that_is_no_attention_is_one_pass_of_itself() -> None:
    row = OpRow("m", "matmul", right_kind="real", input_shape=(7, 5), output_shape=(7, 2), dense_macs=6 * 70,
                output_elements=6 * 14)  # fmt: skip
    assert dense_twin(Profile((row,), samples=2, time_steps=3)).rows[0].mac == 70


def test_ratio() -> None:
    measured = small(mask=False).profile(0.1)
    compared = compare_with_twin(measured)
    adds = sum(r.ac for r in dense_twin(measured).rows)
    assert compared.dense.total_pj == pytest.approx(4.6 * twin_macs() + 0.9 * adds)
    assert compared.ratio == pytest.approx(compared.dense.total_pj / estimate(measured).total_pj)


def layer(rate: float, **given: object) -> Profile:
    net = Net("two", STEPS)
    net.neuron("n0", (6, 4, 3))
    net.conv("c1", (6, 4, 3), 7, 1, norm=False)
    net.neuron("n1", (7, 4, 3))
    net.linear("c2", (84,), 5, bias=False)
    rows = net.profile(rate).rows
    link = {"c1": {"sources": ("n0",), "feeds": ("n1",)}, "c2": {"sources": ("n1",)}}
    return Profile(tuple(dataclasses.replace(r, **link.get(r.name, {})) for r in rows), 1, STEPS)


def test_break_even_without_memory_is_the_price_ratio_over_steps() -> None:
    for found in break_even(layer(0.25))[:-1]:
        assert found.break_even == pytest.approx(4.6 / 0.9 / STEPS, rel=1e-9)
        assert found.ratio == pytest.approx(4.6 / (0.9 * 0.25 * STEPS), rel=0.02)
    model = break_even(layer(0.25))[-1]
    assert model.name == "" and model.break_even == pytest.approx(4.6 / 0.9 / STEPS, rel=0.01)


def test_with_memory_the_spiking_network_must_be_far_sparser() -> None:
    dry, wet = (break_even(layer(0.25), costs=c) for c in ("45nm-int32", "45nm-memory"))
    for a, b in zip(dry, wet, strict=True):
        assert b.break_even < a.break_even / 2


@pytest.mark.parametrize("costs", ["45nm-fp32", "45nm-memory"])
def test_at_the_break_even_rate_both_cost_the_same(costs: str) -> None:
    rate = break_even(layer(0.125), costs=costs)[-1].break_even
    even = layer(rate)
    compared = compare_with_twin(even, costs=costs)
    assert compared.spiking.total_pj == pytest.approx(compared.dense.total_pj, rel=0.02)


def test_break_even_of_a_silent_network() -> None:
    """Nothing to scale: all layers at one rate, which for these two is the same answer."""
    for costs in ("45nm-fp32", "45nm-memory"):
        silent, active = (break_even(layer(r), costs=costs)[-1] for r in (0.0, 0.5))
        assert silent.rate == 0
        assert silent.break_even == pytest.approx(active.break_even, rel=1e-3)


def test_sensitivity_is_the_derivative() -> None:
    """A central difference of the whole evaluation, one neuron's rate at a time."""
    base = layer(0.5)
    found = {s.name: s for s in sensitivity(base)}

    def total(name: str, rate: float) -> float:
        target = {r.name: r for r in layer(rate).rows}
        moved = {"n0": ("n0", "c1"), "n1": ("n1", "c2")}[name]
        return estimate(
            Profile(tuple(target[r.name] if r.name in moved else r for r in base.rows), 1, STEPS)
        ).total_pj

    for name, s in found.items():
        assert s.pj_per_rate == pytest.approx((total(name, 0.75) - total(name, 0.25)) / 0.5, rel=0.01)
    assert [s.name for s in sensitivity(base)] == sorted(found, key=lambda n: -found[n].driven_pj)
    assert sum(s.share for s in found.values()) == pytest.approx(1)


def test_sensitivity_of_a_dead_layer_has_no_rate_to_divide_by() -> None:
    assert all(math.isnan(s.pj_per_rate) and s.driven_pj == 0 for s in sensitivity(layer(0.0)))


def test_precision_and_samples_needed() -> None:
    counts = [900, 1000, 1100, 1050, 950]
    squares = sum(c * c for c in counts)
    row = OpRow(
        "a", "linear", input_kind="binary", ac=sum(counts), ac_executed=sum(counts), ac_square_sum=squares
    )
    found = precision(Profile((row,), samples=5, time_steps=1), within=0.02)
    deviation = statistics.stdev(counts)
    assert found.mean_mj == pytest.approx(1000 * 0.9e-9)
    assert found.relative == pytest.approx(deviation / math.sqrt(5) / 1000)
    assert found.needed == math.ceil((1.959964 * deviation / (0.02 * 1000)) ** 2)
    assert precision(profile()).needed is None  # its products carry no spread


def test_spread_is_one_energy_per_convention() -> None:
    energies = spread(profile())
    assert energies[0].convention.name == "exact" and len(energies) == 10
    assert len({round(e.total_pj, 6) for e in energies}) == 8  # qkformer and staa are others' twins
    assert [e.convention.name for e in spread(profile(), ["sdt", "syops"])] == ["sdt", "syops"]


def test_dead_and_saturated_layers() -> None:
    rows = (
        OpRow("dead", "lif", **neuron(9, 0)),
        OpRow("fine", "lif", **neuron(9, 4)),
        OpRow("full", "lif", **neuron(8, 8)),
    )
    assert dead_and_saturated(Profile(rows, 1, 1)) == (("dead",), ("full",))
