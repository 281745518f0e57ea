"""What terminals and notebooks show of a Profile: the right rows, true sums, no wider than the screen."""

from __future__ import annotations

import dataclasses
import re

import pytest
from energy_builders import profile
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_energy.energy import estimate
from snn_energy.errors import ConfigError
from snn_energy.exporters.verification import Verification
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.reports.tables import convention_table, layer_table, render
from snn_energy.reports.terminal import SORTS, WIDTH, fit, layers

SUMMED = ("ac", "mac", "dense_macs", "pj_exact", "pj_syops")


def deep(count: int = 30) -> Profile:
    """Layers of paths of three parts whose ACs are all different: 7, 49, 343, … modulo a prime."""
    rows = tuple(
        OpRow(
            f"stage.{i % 4}.conv_of_this_layer_{i}",
            "conv2d",
            block=f"stage.{i % 4}",
            input_kind="binary",
            input_elements=100,
            input_nonzero=(i * 37) % 100,
            dense_macs=2000,
            valid_macs=1800,
            ac=pow(7, i + 1, 997),
            ac_executed=pow(7, i + 1, 997),
        )
        for i in range(count)
    )
    return Profile(rows, samples=1, time_steps=3, model="deep", data="none at all")


def energies(measured: Profile) -> list:
    return [estimate(measured, name) for name in ("exact", "syops")]


@pytest.mark.parametrize("top", [1, 5, 28, None])
@pytest.mark.parametrize("depth", [None, 1, 2, 3])
@pytest.mark.parametrize("sort", SORTS)
def test_rows_sum_to_the_total_however_they_are_chosen(top: int | None, depth: int | None, sort: str) -> None:
    measured = deep()
    *rows, total = layers(measured, energies(measured), top=top, depth=depth, sort=sort).rows
    for name in SUMMED:
        assert sum(row[name] for row in rows) == pytest.approx(total[name]), name
    groups = {None: 30, 1: 1, 2: 4, 3: 30}[depth]
    assert len(rows) == (groups if top is None or groups <= top + 1 else top + 1)


def test_the_largest_come_first_and_the_rest_is_counted() -> None:
    measured = deep()
    *rows, rest, total = layers(measured, energies(measured), top=6).rows
    wanted = sorted((pow(7, i + 1, 997) for i in range(30)), reverse=True)
    assert [row["ac"] for row in rows] == wanted[:6]
    assert rest["name"] == "24 more" and rest["ac"] == sum(wanted[6:]) and total["name"] == "total"


def test_the_order_of_the_network_and_of_names() -> None:
    measured = deep(12)
    names = [row.name for row in measured.rows]
    shown = {
        sort: [row["name"] for row in layers(measured, energies(measured), top=None, sort=sort).rows[:-1]]
        for sort in ("network", "name", "rate")
    }
    assert shown["network"] == names and shown["name"] == sorted(names)
    rates = {row.name: row.input_nonzero for row in measured.rows}
    assert [rates[name] for name in shown["rate"]] == sorted(rates.values(), reverse=True)


def test_a_choice_that_cannot_be_is_refused() -> None:
    measured = deep(2)
    for options, message in (
        ({"sort": "enrgy"}, "did you mean 'energy'"),
        ({"top": 0}, "top = 0: must be at least 1"),
        ({"depth": -1}, "depth = -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            layers(measured, energies(measured), **options)


@settings(deadline=None, max_examples=30)
@given(width=st.integers(44, 200), top=st.sampled_from([3, None]), conventions=st.integers(1, 4))
def test_a_fitted_table_is_no_wider_than_asked(width: int, top: int | None, conventions: int) -> None:
    measured = deep()
    priced = [estimate(measured, name) for name in ("exact", "syops", "sdt", "spikformer")[:conventions]]
    for table in (layers(measured, priced, top=top), convention_table(priced)):
        fitted = fit(table, width)
        lines = render(dataclasses.replace(fitted, notes=())).splitlines()
        assert max(map(len, lines)) <= width
        assert len(fitted.rows) == len(table.rows)


def test_eighty_columns_show_what_matters_and_whole_names_stay_whole() -> None:
    measured = deep()
    table = layers(measured, energies(measured))
    fitted = fit(table)
    assert [c.heading for c in fitted.columns] == [
        *("module", "operation", "rate", "AC (M)", "MAC (M)", "µJ, exact", "%"),
    ]
    assert WIDTH == 80 and fitted.rows[0]["name"].startswith("…")
    names = {row["name"] for row in table.rows}
    assert {row["name"] for row in fit(table, cut=False).rows} == names
    assert set(fit(table, 250).columns) == set(table.columns)


def test_the_summary_is_a_dozen_lines() -> None:
    measured = dataclasses.replace(profile(), notes=("one remark", "another"))
    text = str(measured)
    assert 6 <= len(text.splitlines()) <= 14
    assert f"{measured.energy().mj * 1e3:.4g}" in text and "2 notes in .notes" in text
    assert "OpRow(" not in repr(measured) + text and len(repr(measured)) < 200
    assert "OpRow(" not in str([measured])


def test_energy_and_verification_say_what_they_are() -> None:
    energy = estimate(profile(), "exact")
    assert f"{energy.mj:.6g}" in str(energy) and "Charge(" not in repr(energy) and len(repr(energy)) < 400
    verdict = Verification("onnx", "multi-step", 3, 0.0, 0)
    assert verdict.summary() in str(verdict) and repr(verdict).startswith("<Verification of onnx")


def test_a_notebook_shows_the_table_and_no_markup_of_the_networks() -> None:
    nasty = dataclasses.replace(deep(3), model="<script>alert(1)</script>")
    rows = (dataclasses.replace(nasty.rows[0], name="<img src=x onerror=alert(2)>"), *nasty.rows[1:])
    page = dataclasses.replace(nasty, rows=rows)._repr_html_()
    tags = set(re.findall(r"</?([a-z]+)", page))
    assert tags == {"p", "br", "table", "thead", "tbody", "tr", "th", "td"}
    assert "&lt;img" in page and page.count("<tr>") == 1 + 3 + 1


def test_the_whole_table_is_as_it_was() -> None:
    measured = deep()
    whole = layer_table(measured, energies(measured))
    chosen = layers(measured, energies(measured), top=None, sort="network")
    assert [row["name"] for row in whole.rows] == [row["name"] for row in chosen.rows]
    assert str(measured.table(("exact", "syops"), top=None, sort="network")) == str(chosen)
