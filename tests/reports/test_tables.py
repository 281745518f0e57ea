"""Tables: what they hold and how five formats write them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from energy_builders import SAMPLES, profile

from snn_energy.energy import estimate
from snn_energy.energy.analysis import spread
from snn_energy.energy.reproduce import reproduce
from snn_energy.errors import ConfigError
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.reports.tables import (
    FORMATS,
    Column,
    Table,
    block_table,
    convention_table,
    layer_table,
    render,
    reproduction_table,
    step_table,
)


def energies() -> list:
    return [estimate(profile(), name) for name in ("exact", "syops")]


def test_layers_sum_to_the_total() -> None:
    table = layer_table(profile(), energies())
    *rows, total = table.rows
    for name in ("pj_exact", "pj_syops"):
        assert sum(r[name] for r in rows) == pytest.approx(total[name])
    assert sum(r["ac"] for r in rows) == pytest.approx(total["ac"]) and total["name"] == "total"
    assert {r["name"] for r in rows} >= {"enc", "hid", "lif", "head"}
    assert next(r for r in rows if r["name"] == "hid")["input_rate"] == 0.22


def test_blocks_sum_to_the_total() -> None:
    *rows, total = block_table(energies()).rows
    assert [r["name"] for r in rows] == ["(model)", "block.0", "block.1", "head"]
    assert sum(r["pj_exact"] for r in rows) == pytest.approx(total["pj_exact"])


def test_steps_divide_what_was_measured_by_step() -> None:
    rows = (
        OpRow("a", "linear", input_kind="binary", ac=60, ac_executed=60, ac_by_step=(10, 20, 0, 30)),
        OpRow(
            "m", "matmul", input_kind="binary", right_kind="binary", ac=8, ac_executed=8, ac_by_step=(6, 2)
        ),
        OpRow("x", "linear", input_kind="binary", ac=5, ac_executed=5),
        OpRow(
            "n",
            "lif",
            neuron_cmp=40,
            output_elements=40,
            output_nonzero=10,
            output_nonzero_by_step=(1, 2, 3, 4),
        ),
    )
    measured = Profile(rows, samples=2, time_steps=4)
    *steps, rest, total = step_table(measured, [estimate(measured)]).rows
    assert [s["pj_exact"] for s in steps] == pytest.approx([0.9 * n / 2 for n in (13, 23, 1, 31)])
    assert [s["ac"] for s in steps] == [13 / 2, 23 / 2, 1 / 2, 31 / 2]
    assert [s["firing_rate"] for s in steps] == [0.1, 0.2, 0.3, 0.4]
    assert rest["name"] == "not divided" and rest["pj_exact"] == pytest.approx(0.9 * 5 / 2)
    assert total["pj_exact"] == pytest.approx(0.9 * 73 / 2)


def test_conventions_side_by_side() -> None:
    table = convention_table(spread(profile()))
    assert [r["convention"] for r in table.rows][:2] == ["exact", "spikformer"]
    assert table.rows[0]["ratio"] == 1
    assert all(r["differs"] and r["costs"] == "45nm-fp32" for r in table.rows)


def test_no_ratio_between_conventions_where_a_price_is_missing() -> None:
    """Loihi has no price for the MACs that either of them charges."""
    table = convention_table([estimate(profile(), name, "loihi") for name in ("exact", "syops")])
    assert [row["ratio"] for row in table.rows] == [None, None]
    assert "± at most" in render(table)


def test_what_is_not_in_the_total_is_said_below() -> None:
    measured = dataclasses.replace(profile(), rows=(*profile().rows, OpRow("odd", "uncounted", calls=2)))
    notes = "\n".join(layer_table(measured, [estimate(measured, "exact", "loihi")]).notes)
    assert "pre-silicon" in notes and "1,045 MAC" in notes and "UNCOUNTED operations in: odd" in notes
    memory = block_table([estimate(profile(), "exact", "45nm-memory")]).notes
    assert any("not modelled for: add" in n for n in memory) and "Lemaire" in memory[0]


def test_json_and_csv_hold_raw_values() -> None:
    table = layer_table(profile(), energies())
    records = json.loads(render(table, "json"))
    assert records[-1]["pj_exact"] == pytest.approx(estimate(profile()).total_pj)
    lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert len(lines) == len(records)
    assert float(lines[-1]["pj_syops"]) == pytest.approx(records[-1]["pj_syops"])


def test_reproduction_rows_as_json() -> None:
    rows = json.loads(render(reproduction_table(reproduce()), "json"))
    for row in rows:
        assert {"table", "model", "published_mj", "computed_mj", "convention"} <= set(row)
    sdt = next(r for r in rows if r["model"] == "SDT-8-512")
    assert sdt["computed_mj"] is None and len(sdt["spread_mj"]) == 4


AWKWARD = Table(
    (Column("name", "layer_1 & 2"), Column("pj", "µJ", 1e-6, 2), Column("note", "50 %")),
    ({"name": "a|b_c", "pj": 12345678.0, "note": "{x}\\"}, {"name": "d", "pj": float("nan"), "note": None}),
    ("a note",),
)


def test_text() -> None:
    assert render(AWKWARD) == (
        "layer_1 & 2     µJ  50 %\n-----------  -----  ----\na|b_c        12.35  {x}\\\nd\n\na note\n"
    )


def test_markdown_escapes_bars() -> None:
    assert render(AWKWARD, "markdown").splitlines()[:3] == [
        "| layer_1 & 2 | µJ | 50 % |", "| --- | ---: | --- |", "| a\\|b_c | 12.35 | {x}\\ |",
    ]  # fmt: skip


def test_latex_escapes_and_has_one_cell_per_column() -> None:
    lines = render(AWKWARD, "latex").splitlines()
    assert lines[0] == r"\begin{tabular}{lrl}"
    assert lines[2] == r"layer\_1 \& 2 & \textmu{}J & 50 \% \\"
    assert lines[4] == r"a|b\_c & 12.35 & \{x\}\textbackslash{} \\"
    assert lines[-1] == "% a note"


def test_json_has_no_nan() -> None:
    assert json.loads(render(AWKWARD, "json"))[1]["pj"] is None


@pytest.mark.parametrize("format", FORMATS)
def test_every_table_in_every_format(format: str) -> None:
    given = energies()
    tables = [
        layer_table(profile(), given),
        block_table(given),
        step_table(profile(), given),
        convention_table(given),
    ]
    for table in (*tables, reproduction_table(reproduce("sdt"))):
        text = render(table, format)
        assert text.strip() and "nan" not in text


def test_unknown_format() -> None:
    with pytest.raises(ConfigError, match="did you mean 'latex'"):
        render(AWKWARD, "latx")


def test_energies_that_share_a_name_keep_their_own_columns() -> None:
    given = [estimate(profile(), "exact", costs) for costs in ("45nm-fp32", "45nm-int8", "45nm-int8")]
    *_, total = block_table(given).rows
    assert total["pj_exact @ 45nm-fp32"] == given[0].total_pj
    assert total["pj_exact @ 45nm-int8"] == total["pj_exact @ 45nm-int8 (2)"] == given[1].total_pj


def test_per_sample() -> None:
    assert layer_table(profile(), energies()).rows[0]["mac"] == 2000 / SAMPLES
