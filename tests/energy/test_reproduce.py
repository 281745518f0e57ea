"""Published energies, recomputed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from snn_energy.energy.reproduce import reproduce, tables
from snn_energy.energy.yaml_records import shipped
from snn_energy.errors import ConfigError


def by_model(table: str) -> dict:
    return {row.model: row for row in reproduce(table)}


@pytest.mark.parametrize("table", ["spikformer", "sew-resnet", "spikingformer"])
def test_within_a_hundredth_of_a_millijoule(table: str) -> None:
    rows = reproduce(table)
    assert len(rows) == {"spikformer": 5, "sew-resnet": 4, "spikingformer": 3}[table]
    for row in rows:
        assert row.status == "reproduced"
        assert abs(row.difference) <= 0.01


def test_spikingformers_logs_to_all_printed_digits() -> None:
    for row in reproduce("spikingformer-logs"):
        assert f"{row.computed_mj:.9f}" == f"{row.published_mj:.9f}"
        for published, computed in row.checks.values():
            assert published == computed
    assert set(row.checks) == {"macs_g", "parameters"}


def test_spikformers_rows_all_carry_the_first_convolution_of_width_512() -> None:
    rows = by_model("spikformer")
    assert {row.terms["macs_g"] for row in rows.values()} == {4 * 224 * 224 * 27 * 64 / 1e9}
    assert abs(rows["Spikformer-8-768"].terms["own_width_mj"] - rows["Spikformer-8-768"].published_mj) > 0.7


def test_syops_and_staa_as_printed() -> None:
    digits = {"spiking_resnet18": 3, "sew_resnet18": 2, "DSNN18": 2, "resnet18 (ANN)": 3, "STAA-ResNet-20": 3}
    for row in (*reproduce("syops"), *reproduce("staa")):
        assert row.status == "reproduced"
        assert round(row.computed_mj, digits[row.model]) == pytest.approx(row.published_mj)
        published, computed = row.checks["macs_g"]
        assert round(computed, 2) == published  # our MACs round to the printed ones


def test_staas_dense_operations() -> None:
    published, computed = by_model("staa")["STAA-ResNet-20"].checks["dense_g"]
    assert round(computed, 2) == published


def test_staas_energy_takes_the_papers_accumulates_and_says_what_ours_is_unrounded() -> None:
    row = by_model("staa")["STAA-ResNet-20"]
    assert row.terms["sops_g"] == 0.10
    assert round(row.terms["unrounded_mj"], 3) == 0.376 != row.computed_mj
    assert "AC as the paper prints it" in row.reason and ".376 mJ" in row.reason


def test_published_sops_imply_rates_that_can_be() -> None:
    rates = {r.model: r.terms["mean_firing_rate"] for r in reproduce() if "mean_firing_rate" in r.terms}
    assert len(rates) > 15 and all(0 < rate < 0.5 for rate in rates.values()), rates


def test_the_version_of_syops_explains_the_spiking_resnet() -> None:
    from snn_energy.energy import estimate
    from snn_energy.energy.architectures import build

    profile = build({"build": "resnet", "depth": 18, "kind": "spiking"}).profile()
    assert round(estimate(profile, "syops").mac / 1e9, 2) == 0.13
    assert round(by_model("syops")["spiking_resnet18"].terms["macs_g"], 2) == 0.14


def test_sdt_is_a_spread_with_a_reason_and_no_verdict() -> None:
    rows = by_model("sdt")
    assert len(rows) == 6
    for row in rows.values():
        assert (row.status, row.computed_mj, row.difference) == ("spread", None, None)
        assert "rate" in row.reason and len(row.spread_mj) == 4
    readings = [round(mj, 2) for mj in rows["SDT-8-512"].spread_mj.values()]
    assert readings == [5.35, 4.16, 6.81, 5.61]


def test_errata_are_flagged_with_what_the_figure_should_be() -> None:
    rows = by_model("errata")
    assert all(row.status == "erratum" and row.reason for row in rows.values())
    sew = next(row for name, row in rows.items() if name.startswith("SEW"))
    assert sew.computed_mj == pytest.approx(by_model("sew-resnet")["SEW-ResNet-34"].computed_mj)
    large = next(row for name, row in rows.items() if name.startswith("ViT-L"))
    assert large.computed_mj > 3 * large.published_mj


def test_dense_transformers() -> None:
    rows = by_model("ann")
    for row in rows.values():
        if row.status == "reproduced":
            published, computed = row.checks["macs_g"]
            assert math.floor(computed * 10) / 10 == published
    low, high = sorted(rows["Transformer-8-512 (Spikformer's table)"].spread_mj.values())
    assert low < 38.34 < high


def test_every_row_has_what_a_reader_needs() -> None:
    rows = reproduce()
    assert {row.table for row in rows} == set(tables())
    for row in rows:
        assert row.source and row.convention
        if row.status != "reproduced":
            assert row.reason, row.model
        assert row.status != "differs", row.model


def test_no_mac_term_is_typed_in() -> None:
    """A computed row names an architecture, or its source prints MACs and SOPs and nothing else enters."""
    for name, table in shipped("published.yaml").items():
        for row in table["rows"]:
            if {"sops_g", "macs_g"} & set(row) and "architecture" not in row:
                assert {"sops_g", "macs_g"} <= set(row) or name == "without-macs", row


@pytest.mark.parametrize("table", ["spiking-point-transformer", "s2m-former"])
def test_rows_that_print_macs_and_sops_need_no_architecture(table: str) -> None:
    rows = reproduce(table)
    assert len(rows) == {"spiking-point-transformer": 3, "s2m-former": 5}[table]
    for row in rows:
        assert row.status == "reproduced"
        assert row.computed_mj == pytest.approx(4.6 * row.terms["macs_g"] + 0.9 * row.terms["sops_g"])
        assert abs(row.difference) <= {"spiking-point-transformer": 0.04, "s2m-former": 0.0002}[table]


def test_spikingresformer_leaves_its_first_convolution_out() -> None:
    rows = by_model("spikingresformer")
    assert {row.status for row in rows.values()} == {"reproduced"}
    stem = 112 * 112 * 64 * 3 * 7 * 7
    for row in rows.values():
        assert row.terms["macs_g"] == 0 and row.terms["macs_not_charged_g"] == 4 * stem / 1e9
        assert row.terms["with_them_mj"] == pytest.approx(0.9 * row.terms["sops_g"] + 4.6 * 4 * stem / 1e9)
        assert 0 < row.terms["mean_firing_rate"] < 0.25
        published, described = row.checks["params_m"]
        assert described == pytest.approx(published, rel=0.004) and described != published


def test_what_a_printed_energy_would_hold() -> None:
    rows = by_model("without-macs")
    implied = [round(row.terms["implied_macs_g"] * 1000, 1) for row in rows.values()]
    assert implied[:2] == [4.5, 5.2] and implied[2] == pytest.approx(3200.5, rel=1e-4)
    qkformer = by_model("without-sops")["QKFormer-10-512"]
    assert qkformer.computed_mj is None and qkformer.checks["params_m"][1] == pytest.approx(29.08, abs=0.005)
    terms = qkformer.terms
    assert terms["macs_g"] == 4 * 224 * 224 * 27 * 64 / 1e9
    assert terms["implied_sops_g"] * 0.9 + terms["macs_g"] * 4.6 == pytest.approx(21.99)


def test_fwformer_contradicts_itself() -> None:
    (row,) = [row for row in reproduce("errata") if row.model.startswith("FWformer")]
    assert row.published_mj / row.computed_mj == pytest.approx(0.485, abs=0.001)


def test_other_prices_change_the_figures() -> None:
    (row,) = reproduce("staa", costs="45nm-int8")
    assert row.computed_mj == pytest.approx(0.06 * 0.23 + 0.10 * 0.03)
    assert row.status == "differs"


def test_a_users_table(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "mine:\n  source: our paper\n  convention: spikformer\n  tolerance_mj: 0.01\n  rows:\n"
        "    - model: ours\n      architecture: {build: spikformer, depth: 1, dim: 128}\n"
        "      sops_g: 1\n      published_mj: 2\n",
        encoding="utf-8",
    )
    (row,) = reproduce(published=path)
    assert row.computed_mj == pytest.approx(0.9 + 4.6 * 4 * 224 * 224 * 27 * 16 / 1e9)
    assert row.status == "differs"
    path.write_text("mine: {rows: [{model: ours}]}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="source"):
        reproduce(published=path)


def test_unknown_table() -> None:
    with pytest.raises(ConfigError, match="did you mean 'spikformer'"):
        reproduce("spikeformer")


def test_a_row_that_is_not_met_always_has_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "mine:\n  source: our paper\n  tolerance_mj: 0.01\n  rows:\n"
        "    - {model: printed, macs_g: 0.5, sops_g: 1, published_mj: 2}\n"
        "    - {model: met, macs_g: 0.5, sops_g: 1, published_mj: 3.2}\n"
        "    - {model: nothing}\n"
        "    - {model: energy alone, published_mj: 2}\n"
        "    - {model: sops alone, sops_g: 1, published_mj: 2}\n"
        "    - {model: described, published_mj: 2, architecture: {build: statten, depth: 1, dim: 64}}\n"
        "    - {model: dense, published_mj: 2, architecture: {build: vit, depth: 1}}\n",
        encoding="utf-8",
    )
    rows = {row.model: row for row in reproduce(published=path)}
    assert [row.status for row in rows.values()] == [
        *("differs", "reproduced"),
        *["not computable"] * 4,
        "differs",
    ]
    assert all(row.reason for name, row in rows.items() if name != "met")
    assert rows["sops alone"].terms["implied_macs_g"] == pytest.approx((2 - 0.9) / 4.6)
    assert rows["described"].terms["implied_firing_rate"] > 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("macs_g: much, sops_g: 1, published_mj: 2, tolerance_mj: 1", "macs_g = 'much'"),
        ("macs_g: 1, sops_g: -1, published_mj: 2, tolerance_mj: 1", "sops_g = -1"),
        ("macs_g: 1, sops_g: 1, tolerance_mj: 1", "'published_mj' is missing"),
        ("macs_g: 1, sops_g: 1, published_mj: .nan, tolerance_mj: 1", "'.nan' is no finite number"),
        ("published_mj: 2, architecture: {build: vit, depth: 1}", "'tolerance_mj' is missing"),
        ("sops: 1", "unknown key 'sops'"),
    ],
)
def test_mistakes_in_a_users_table(row: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"mine: {{source: ours, rows: [{{model: m, {row}}}]}}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        reproduce(published=path)
    assert message in str(error.value) and "\n" not in str(error.value)
