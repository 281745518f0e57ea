"""Audits of published tables: facts known from the papers, and tables made by a plain formula."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_energy.energy import Audit, audit
from snn_energy.energy.architectures import BUILDERS
from snn_energy.errors import ConfigError, DataError
from snn_energy.reports.audits import render_audit

SPIKFORMER = [
    ("6.82", "7.734"),
    ("8.69", "9.41"),
    ("11.09", "11.577"),
    ("13.67", "13.899"),
    ("22.09", "21.477"),
]
SEW = [("3.88", "4.04"), ("4.83", "4.89"), ("9.30", "8.91"), ("13.72", "12.89")]
S2M = [
    ("QKFormer", ".0015", ".0160", ".0212"), ("SDT", ".0015", ".0227", ".0272"),
    ("Spikformer", ".0015", ".0065", ".0126"), ("DBPNet", ".0984", "", ".4526"),
    ("DARNet", ".0054", "", ".0247"),
]  # fmt: skip
POINTS = [
    ("ANN", "", "18.42", "", "84.7"),
    ("SPT", "1", ".044", "3.10", "3.0"),
    ("SPT", "4", ".179", "13.85", "13.3"),
]


def table(headings: str, rows: list[tuple[str, ...]]) -> list[dict[str, str]]:
    return [dict(zip(headings.split(), row, strict=True)) for row in rows]


def verdicts(found: Audit) -> list[str]:
    return [row.verdict for row in found.rows]


def test_spikformers_constant_is_the_first_convolution_of_width_512_at_four_steps() -> None:
    found = audit(table("sops_g mj", SPIKFORMER))
    assert found.supported and verdicts(found) == ["fits"] * 5
    assert (found.finding.ac_pj, found.finding.mac_pj) == (0.9, None)
    assert found.finding.constant_mj == pytest.approx(1.596)
    low, high = found.finding.constant_macs_interval
    assert low < 4 * 224 * 224 * 27 * 64 < high and high - low < 0.01 * low
    assert found.finding.degrees_of_freedom == 4
    assert any("width 512" in remark and "four steps" in remark for remark in found.finding.remarks)


def test_sew_resnets_constant_is_its_first_convolution_once() -> None:
    found = audit(table("sops_g mj", SEW))
    assert found.supported and verdicts(found) == ["fits"] * 4
    low, high = found.finding.constant_macs_interval
    assert low < 112 * 112 * 64 * 3 * 49 < high
    assert any("ResNet" in remark and "once" in remark for remark in found.finding.remarks)


@pytest.mark.parametrize("decimals", [2, 3, 4])
def test_em_snns_constant(decimals: int) -> None:
    """Ten rows of .9·SOPs + 14.722 mJ, scattered by what the paper's rows are (.0006 mJ)."""
    scatter = random.Random(3)
    sops = [scatter.uniform(0.5, 9) for _ in range(10)]
    rows = [
        (
            f"{g:.{decimals}f}",
            f"{0.9 * float(f'{g:.{decimals}f}') + 14.722 + scatter.uniform(-6e-4, 6e-4):.3f}",
        )
        for g in sops
    ]
    found = audit(table("sops_g mj", rows))
    assert found.supported and verdicts(found) == ["fits"] * 10
    assert found.finding.constant_macs == pytest.approx(3.2005e9, rel=2e-4)
    assert found.finding.degrees_of_freedom == 9


def test_s2m_former_hides_nothing() -> None:
    found = audit(table("model macs_g sops_g mj", S2M))
    assert found.supported and verdicts(found) == ["fits"] * 5
    assert (found.finding.mac_pj, found.finding.ac_pj, found.finding.constant_mj) == (4.6, 0.9, None)
    assert all(abs(row.difference_mj) <= 0.0002 for row in found.rows)


def test_a_table_with_an_ann_and_two_time_steps() -> None:
    found = audit(table("model T macs_g sops_g mj", POINTS))
    assert found.supported and verdicts(found) == ["fits"] * 3
    assert found.finding.times_T == () and found.finding.degrees_of_freedom == 3
    assert [row.name for row in found.rows] == ["ANN", "SPT", "SPT (row 3)"]


def test_spikingresformer_charges_no_first_convolution() -> None:
    found = audit(table("params_m sops_g mj", [("11.14", "2.73", "2.46"), ("35.52", "6.07", "5.46")]))
    assert found.supported and found.finding.constant_mj is None
    assert any("no MACs are charged" in remark for remark in found.finding.remarks)
    room = [row.unstated_macs + row.unstated_macs_half for row in found.rows]
    assert max(room) < 4 * 112 * 112 * 64 * 3 * 49 / 50  # its first convolution, at each step, would not fit


def test_two_rows_that_no_formula_explains_say_how_many_macs_each_would_hold() -> None:
    found = audit(table("sops_g mj", [(".008", ".028"), (".020", ".042")]))  # SpikCommander
    assert found.finding is None and verdicts(found) == ["undecided"] * 2
    assert [round(row.unstated_macs / 1e6, 1) for row in found.rows] == [4.5, 5.2]
    assert "unknowns" in " ".join(found.notes)


def test_a_row_that_prints_less_than_its_own_accumulates_cost() -> None:
    (row,) = audit(table("ops_g mj", [(".951", ".415")])).rows  # FWformer
    assert row.verdict == "undecided" and row.unstated_macs < 0
    assert "0.485 of the 0.8559 mJ" in row.reason


def test_a_row_that_carries_anothers_figure_is_named() -> None:
    """SEW-ResNet-34 as QKFormer's table prints it."""
    rows = [("SEW-34", "3.88", "4.89"), *(("SEW", *row) for row in SEW[1:])]
    found = audit(table("model sops_g mj", rows))
    assert found.supported and [row.name for row in found.contradictions] == ["SEW-34"]
    assert "same figure as SEW" in found.contradictions[0].reason
    assert found.finding.degrees_of_freedom == 2


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("factor", [0.25, 1.07, 1000])
def test_one_outlier_spoils_nothing(place: int, factor: float) -> None:
    rows = [(s, f"{float(mj) * factor:.3f}" if i == place else mj) for i, (s, mj) in enumerate(SPIKFORMER)]
    found = audit(table("sops_g mj", rows))
    assert found.supported
    assert [i for i, row in enumerate(found.rows) if row.verdict == "contradicts"] == [place]
    assert found.finding.constant_mj == pytest.approx(1.596, abs=0.006)
    assert found.rows[place].reason


def test_two_formulas_in_one_table_are_both_found() -> None:
    found = audit(table("sops_g mj", SPIKFORMER + SEW))
    assert verdicts(found) == ["fits"] * 5 + ["contradicts"] * 4
    (other,) = found.further
    assert other.constant_macs == pytest.approx(118e6, rel=0.02)
    assert all(other.words in row.reason for row in found.contradictions)


@pytest.mark.parametrize("mac", [None, 3.7])
def test_prices_that_nobody_published_are_found(mac: float | None) -> None:
    counts = [(1.21, 3.4), (2.23, 5.1), (0.31, 9.1), (4.12, 0.33), (3.35, 2.2), (1.94, 1.1), (0.74, 7.7)]
    ac, price = 0.53, mac or 2.3
    rows = [(f"{m}", f"{s}", f"{ac * s + price * m + 0.7:.3f}") for m, s in counts]
    found = audit(table("macs_g sops_g mj", rows))
    assert found.supported and verdicts(found) == ["fits"] * 7
    assert found.finding.ac_pj == pytest.approx(ac, abs=0.005)
    assert found.finding.mac_pj == pytest.approx(price, abs=0.005)
    assert found.finding.constant_mj == pytest.approx(0.7, abs=0.03)
    assert found.finding.degrees_of_freedom == 4
    assert found.finding.constant_macs == pytest.approx(
        found.finding.constant_mj / found.finding.mac_pj * 1e9
    )


def test_integer_prices_are_recognised_by_their_table() -> None:
    rows = [(f"{m}", f"{s}", f"{0.1 * s + 3.2 * m:.3f}") for m, s in ((1.21, 3.4), (0.31, 9.1), (4.12, 0.33))]
    found = audit(table("macs_g sops_g mj", rows))
    assert (found.finding.ac_pj, found.finding.mac_pj) == (0.1, 3.2)
    assert found.finding.prices_from == "45nm-int32" and found.finding.numbers_found == ()


def test_femtojoules_printed_as_picojoules() -> None:
    rows = [(s, f"{float(s) * 0.077:.4f}") for s, _ in SPIKFORMER]
    found = audit(table("sops_g mj", rows))
    assert found.supported and found.finding.ac_pj == pytest.approx(0.077)
    assert "77 fJ" in found.finding.prices_from


def test_operations_per_step_and_mixed_time_steps() -> None:
    rows = [
        (f"{s}", f"{t}", f"{(0.9 * s + 1.596) * t:.3f}")
        for s, t in ((1.23, 4), (2.25, 1), (0.31, 6), (3.31, 2))
    ]
    found = audit(table("sops_g T mj", rows))
    assert found.supported and verdicts(found) == ["fits"] * 4
    assert set(found.finding.times_T) == {"sops", "constant"}
    assert "each time step" in " ".join(found.finding.remarks)


def test_macs_times_rate_times_steps() -> None:
    rows = [
        (f"{m}", f"{r}", f"{t}", f"{0.9 * m * r * t:.3f}")
        for m, r, t in ((1.2, 0.134, 4), (2.25, 0.251, 1), (4.31, 0.191, 6))
    ]
    found = audit(table("macs_g rate T mj", rows))
    assert found.supported and verdicts(found) == ["fits"] * 3
    assert "MACs × rate × T" in found.finding.words
    percent = [(m, f"{float(r) * 100:.1f}%", t, mj) for m, r, t, mj in rows]
    assert audit(table("macs_g rate T mj", percent)).finding.words == found.finding.words


def test_as_many_unknowns_as_rows_are_no_evidence() -> None:
    found = audit(
        table("macs_g sops_g mj", [("1.7", "2.31", "9.9"), ("3.31", "9.77", "11.1"), ("5.1", "1.13", "47.3")])
    )
    assert not found.supported and set(verdicts(found)) == {"undecided"}
    assert all(row.reason for row in found.rows)


def test_noise_is_not_explained() -> None:
    scatter = random.Random(11)
    supported = 0
    for _ in range(60):
        rows = [tuple(f"{scatter.uniform(1, 20):.2f}" for _ in range(3)) for _ in range(5)]
        supported += audit(table("macs_g sops_g mj", rows)).supported
    assert supported <= 3  # the chance allowed is 5 %


def test_a_repeated_row_is_no_second_witness() -> None:
    once = audit(table("sops_g mj", SPIKFORMER[:1]))
    twice = audit(table("sops_g mj", [SPIKFORMER[0]] * 3))
    assert once.finding is None and not twice.supported


def test_rows_that_state_too_little_say_so() -> None:
    found = audit(
        table(
            "model sops_g mj",
            [(f"S{i}", *row) for i, row in enumerate(SPIKFORMER)]
            + [("SDT", "", "4.50"), ("none", "3.1", "-")],
        )
    )
    assert found.supported and verdicts(found)[5:] == ["not testable"] * 2
    assert "neither MACs nor SOPs" in found.rows[5].reason and "no energy" in found.rows[6].reason
    alone = audit(table("T mj", [("1", "7.8"), ("4", "32.8")]))
    assert alone.finding is None and all(row.reason for row in alone.rows)


def test_other_prices_turn_the_constant_into_other_macs() -> None:
    rows = [(s, f"{float(s) * 0.03 + 0.23 * 0.5:.4f}") for s, _ in SPIKFORMER]
    found = audit(table("sops_g mj", rows), costs="45nm-int8")
    assert found.finding.constant_macs == pytest.approx(0.5e9, rel=0.01)


@pytest.mark.parametrize("rows", [SPIKFORMER + SEW, [(".008", ".028"), (".020", ".042")], [("", "4.5")]])
def test_text_markdown_and_json(rows: list[tuple[str, str]]) -> None:
    found = audit(table("sops_g mj", rows))
    record = json.loads(render_audit(found, "json"))
    assert len(record["rows"]) == len(rows) and record["supported"] == found.supported
    assert all(row["verdict"] == "fits" or row["reason"] for row in record["rows"])
    for format in ("text", "markdown"):
        text = render_audit(found, format)
        assert (found.finding.words if found.finding else "no formula found") in text
        assert "nan" not in text and "None" not in text
    assert "\n| row | " in render_audit(found, "markdown")
    with pytest.raises(ConfigError, match="format"):
        render_audit(found, "latex")


def test_a_large_table_takes_seconds() -> None:
    scatter = random.Random(5)
    rows = [tuple(f"{scatter.uniform(1, 20):.2f}" for _ in range(3)) for _ in range(300)]
    audit(table("macs_g sops_g mj", rows))
    with pytest.raises(DataError, match="1,001 rows"):
        audit(table("macs_g sops_g mj", [rows[0]] * 1001))


def test_dense_rows_beside_rows_with_rates_follow_a_formula_of_their_own() -> None:
    rates = ((1.2, 0.134), (2.25, 0.251), (4.31, 0.191))
    snn = [("SNN", f"{m}", f"{r}", "4", f"{0.9 * m * r * 4:.3f}") for m, r in rates]
    ann = [("ANN", f"{m}", "", "", f"{4.6 * m:.3f}") for m in (3.21, 8.65)]
    found = audit(table("model macs_g rate T mj", snn + ann))
    assert found.supported and verdicts(found) == ["fits"] * 3 + ["not testable"] * 2
    assert [finding.words for finding in found.further] == ["mJ = 4.6 pJ × MACs"]
    assert all("rate" in row.reason and "follows mJ = 4.6 pJ" in row.reason for row in found.rows[3:])


def test_a_price_that_hides_the_time_steps_is_pointed_out() -> None:
    found = audit(table("sops_g mj", [(s, f"{float(s) * 3.6:.3f}") for s, _ in SPIKFORMER]))
    assert found.supported and any("4 × 0.9 pJ" in remark for remark in found.finding.remarks)


def test_names_of_several_columns_are_joined() -> None:
    rows = [
        {"Methods": "Spikformer", "Architecture": f"8-{d}", "SOPs (G)": s, "E (mJ)": mj}
        for d, (s, mj) in enumerate(SPIKFORMER)
    ]
    assert [row.name for row in audit(rows).rows] == [f"Spikformer 8-{d}" for d in range(5)]


def test_the_page_shows_what_is_printed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "energy.md").read_text(encoding="utf-8")
    shown = page.split("$ snn-energy audit spikformer.csv\n")[1].split("```")[0]
    assert render_audit(audit(table("sops_g mj", SPIKFORMER))).startswith(shown)
    assert all(f"`{name}`" in page for name in BUILDERS)


FIGURES = st.one_of(
    st.just(""), st.floats(0, 99).map("{:.2f}".format), st.sampled_from(["0", "1e3", "7G", "3k"])
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "macs": FIGURES,
                "sops": FIGURES,
                "rate": st.sampled_from(["", "0", "0.2", "30%"]),
                "T": st.sampled_from(["", "1", "4", "2x3"]),
                "mj": st.one_of(st.just("-"), st.floats(0, 99).map("{:.1f}".format), st.just("0")),
            }
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_table_gets_a_verdict_on_every_row(rows: list[dict[str, str]]) -> None:
    found = audit(rows)
    assert len(found.rows) == len(rows)
    assert all(row.verdict == "fits" or row.reason for row in found.rows)
    for format in ("text", "json", "markdown"):
        assert render_audit(found, format)
    assert "Infinity" not in render_audit(found, "json") and "NaN" not in render_audit(found, "json")
