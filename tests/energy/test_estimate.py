"""Properties of the evaluator: sums, linearity, monotony, standard error."""

from __future__ import annotations

import dataclasses
import math
import statistics

import pytest
from energy_builders import SAMPLES, profile
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_energy.energy import CostTable, conventions, cost_tables, estimate
from snn_energy.errors import DataError
from snn_energy.profiling.profile import OpRow, Profile

NAMES = st.sampled_from(sorted(conventions()))
COUNTS = st.integers(0, 10**12)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Consistent rows: events ≤ elements, ac ≤ valid ≤ dense."""
    rows = []
    for i in range(draw(st.integers(1, 5))):
        elements = draw(st.integers(1, 10**6))
        nonzero = draw(st.integers(0, elements))
        dense = draw(st.integers(1, 10**9))
        valid = draw(st.integers(0, dense))
        events = draw(st.integers(0, valid))
        event = draw(st.booleans())
        op = draw(st.sampled_from(["conv2d", "linear", "matmul", "add", "max_pool"]))
        right = draw(st.sampled_from(["binary", "real"])) if event else "real"
        rows.append(
            OpRow(
                f"l{i}",
                op,
                role=draw(st.sampled_from(["encoder", "hidden", "attention", "head"])),
                block=draw(st.sampled_from(["a", "b"])),
                input_kind="binary" if event else "real",
                two_valued_input=event,
                right_kind=right if op == "matmul" else None,
                input_elements=elements,
                input_nonzero=nonzero,
                dense_macs=dense,
                valid_macs=valid,
                ac=events if event else 0,
                ac_executed=events if event else 0,
                mac=0 if event else valid,
                mac_executed=0 if event else valid,
                mac_nonzero=0 if event else events,
                ac_square_sum=events**2 if event else 0,
                mac_square_sum=0 if event else valid**2,
            )
        )
    return Profile(tuple(rows), samples=draw(st.integers(1, 9)), time_steps=4)


@given(profiles(), NAMES, st.sampled_from(sorted(cost_tables())))
@settings(max_examples=60, deadline=None)
def test_the_total_is_the_sum_of_rows_blocks_and_kinds(measured: Profile, name: str, costs: str) -> None:
    energy = estimate(measured, name, costs)
    assert len(energy.rows) == len(measured.rows)
    close = pytest.approx(energy.total_pj, rel=1e-9)
    assert math.fsum(r.pj for r in energy.rows) == close
    assert math.fsum(energy.by_block().values()) == close
    chip = sum(r.chip_pj for r in energy.rows)
    assert energy.arithmetic_pj + energy.memory_pj + chip == close
    assert energy.mj == pytest.approx(energy.total_pj * 1e-9)
    assert energy.total_pj >= 0


@given(profiles(), NAMES, st.floats(0.01, 100), st.floats(0.01, 100))
@settings(max_examples=60, deadline=None)
def test_linear_in_the_prices(measured: Profile, name: str, ac: float, mac: float) -> None:
    energy = estimate(measured, name, CostTable("t", ac=ac, mac=mac, mul=0, cmp=0))
    assert energy.total_pj == pytest.approx(ac * energy.ac + mac * energy.mac, rel=1e-9)
    doubled = estimate(measured, name, CostTable("t", ac=2 * ac, mac=2 * mac, mul=0, cmp=0))
    assert doubled.total_pj == pytest.approx(2 * energy.total_pj, rel=1e-9)


@given(profiles())
@settings(max_examples=60, deadline=None)
def test_exact_is_what_was_counted(measured: Profile) -> None:
    expected = sum(r.ac * 0.9 + r.mac * 4.6 for r in measured.rows) / measured.samples
    assert estimate(measured).total_pj == pytest.approx(expected, rel=1e-9)


@given(profiles(), NAMES, st.sampled_from(["45nm-fp32", "45nm-memory", "loihi"]))
@settings(max_examples=60, deadline=None)
def test_more_events_never_cost_less(measured: Profile, name: str, costs: str) -> None:
    more = tuple(
        dataclasses.replace(
            r,
            input_nonzero=min(r.input_elements, r.input_nonzero + 7),
            ac=r.ac and min(r.valid_macs, r.ac + 11),
            ac_executed=r.ac_executed and min(r.valid_macs, r.ac_executed + 11),
        )
        for r in measured.rows
    )
    before = estimate(measured, name, costs).total_pj
    assert estimate(dataclasses.replace(measured, rows=more), name, costs).total_pj >= before * (1 - 1e-12)


@given(profiles(), NAMES)
@settings(max_examples=40, deadline=None)
def test_twice_the_same_samples_cost_the_same_each(measured: Profile, name: str) -> None:
    summed = [f.name for f in dataclasses.fields(OpRow) if f.name in
              {"input_elements", "input_nonzero", "dense_macs", "valid_macs", "ac", "ac_executed", "mac",
               "mac_executed", "mac_nonzero"}]  # fmt: skip
    rows = tuple(dataclasses.replace(r, **{k: 2 * getattr(r, k) for k in summed}) for r in measured.rows)
    twice = dataclasses.replace(measured, rows=rows, samples=2 * measured.samples)
    assert estimate(twice, name).total_pj == pytest.approx(estimate(measured, name).total_pj, rel=1e-12)


def test_an_empty_profile_costs_nothing() -> None:
    energy = estimate(Profile((), samples=1, time_steps=4))
    assert (energy.total_pj, energy.ac, energy.mac, energy.standard_error_pj) == (0, 0, 0, 0)


def test_a_profile_without_samples_is_refused() -> None:
    with pytest.raises(DataError, match="0 samples"):
        estimate(Profile((), samples=0, time_steps=4))


def test_standard_error_of_known_samples() -> None:
    """ACs of 5 samples in two layers that rise together: the error of the sum is the sum of the errors."""
    first, second = [3, 9, 4, 8, 6], [30, 90, 40, 80, 60]
    rows = tuple(
        OpRow(
            n,
            "linear",
            input_kind="binary",
            ac=sum(v),
            ac_executed=sum(v),
            ac_square_sum=sum(x * x for x in v),
        )
        for n, v in (("a", first), ("b", second))
    )
    energy = estimate(Profile(rows, samples=5, time_steps=1))
    totals = [0.9 * (a + b) for a, b in zip(first, second, strict=True)]
    assert energy.total_pj == pytest.approx(statistics.mean(totals))
    assert energy.standard_error_pj == pytest.approx(statistics.stdev(totals) / math.sqrt(5))


def test_standard_error_is_none_where_it_was_not_measured() -> None:
    measured = profile()  # its head and products carry no spread
    energy = estimate(measured)
    by_name = {(r.name, r.site): r.standard_error_pj for r in energy.rows}
    assert by_name["hid", 0] == pytest.approx(0.9 * statistics.stdev([800, 900]) / math.sqrt(2))
    assert by_name["enc", 0] == 0 and by_name["bn", 0] == 0 and by_name["pool", 0] == 0
    assert by_name["attn", 0] is None and energy.standard_error_pj is None
    assert estimate(measured, "spikformer").standard_error_pj is None


def test_frame() -> None:
    energy = estimate(profile(), "exact", "45nm-memory")
    frame = energy.to_frame()
    assert list(frame["name"]) == [r.name for r in energy.rows]
    assert frame["pj"].sum() == pytest.approx(energy.total_pj)
    assert frame["share"].sum() == pytest.approx(1)
    assert (frame["arithmetic_pj"] + frame["memory_pj"] + frame["chip_pj"] - frame["pj"]).abs().max() < 1e-9


def test_special_functions_are_listed_not_priced() -> None:
    energy = estimate(Profile((OpRow("s", "softmax", special_evals=30),), samples=2, time_steps=1))
    assert energy.unpriced == {"special": 15} and energy.total_pj == 0


def test_uncounted_operations_are_named() -> None:
    measured = Profile((OpRow("odd", "uncounted", calls=3), OpRow("fine", "linear", ac=SAMPLES)), SAMPLES, 1)
    assert estimate(measured).uncounted == ("odd",)
