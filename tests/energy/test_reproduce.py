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
    """Every computed row names an architecture; its MACs appear only as a figure to be checked."""
    for table in shipped("published.yaml").values():
        for row in table["rows"]:
            if "sops_g" in row or "macs_g" in row:
                assert "architecture" in row


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
