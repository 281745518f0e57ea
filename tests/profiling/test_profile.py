"""The record: table, file, merging."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_session import Net, events

from snn_energy.errors import DataError
from snn_energy.profiling import Count, OpRow, Profile, profile
from snn_energy.profiling.resolve import resolve


@pytest.fixture(scope="module")
def measured() -> Profile:
    return profile(
        Net(), [(events(4, 5), torch.zeros(5, dtype=torch.long))], data="made up", class_names="abc"
    )


def test_a_saved_profile_is_read_back_the_same(measured: Profile, tmp_path: Path) -> None:
    path = tmp_path / "sub" / "profile.json"
    measured.save(path)
    assert Profile.load(path) == measured
    assert json.loads(path.read_text())["schema"] == 2


def test_reading_a_profile_needs_no_torch(measured: Profile, tmp_path: Path) -> None:
    measured.save(tmp_path / "profile.json")
    code = (
        "import sys; from snn_energy.profiling import Profile;"
        "p = Profile.load(sys.argv[1]); p.ops; Profile.merge([p, p]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "profile.json")], check=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "cannot be read"),
        ("[]", "not a profile"),
        ('{"schema": 99, "rows": []}', "schema 99"),
        ('{"schema": 2, "rows": [], "samples": 1, "time_steps": 1, "surprise": 1}', "surprise"),
        ('{"schema": 2, "rows": [{"name": "a"}], "samples": 1, "time_steps": 1}', "op"),
    ],
)
def test_a_wrong_file_gives_one_clear_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        Profile.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_gives_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json"):
        Profile.load(tmp_path / "nowhere.json")


def test_the_table_has_means_per_sample_and_exact_totals(measured: Profile) -> None:
    ops = measured.ops
    assert len(ops) == len(measured.rows)
    asked = "name op input_kind input_rate output_rate dense_macs ac mac ac_coincident ac_one_sided calls"
    assert {*asked.split(), "ac_total", "mac_total", "samples", "ac_std"} <= set(ops.columns)
    head = ops[ops.name == "head"].iloc[0]
    row = next(r for r in measured.rows if r.name == "head")
    assert head.ac_total == row.ac and head.ac == row.ac / 5 and head.calls == 1
    singles = [profile(Net(), [events(4, 5)[:, [i]]], batch_dim=1) for i in range(5)]
    counts = [next(r for r in p.rows if r.name == "head").ac for p in singles]
    assert head.ac_std == pytest.approx(statistics.stdev(counts))
    assert (ops.name == "(model)").any()
    assert math.isnan(singles[0].ops.ac_std[0])


def test_merging_refuses_what_does_not_belong_together(measured: Profile) -> None:
    with pytest.raises(DataError, match="no profiles"):
        Profile.merge([])
    other = profile(Net(), [events(3, 5)], batch_dim=1)
    with pytest.raises(DataError, match="different time_steps: 4 and 3"):
        Profile.merge([measured, other])


def test_a_static_input_is_charged_once_whatever_its_kind() -> None:
    counts = {"events": Count(40, (10,) * 4, 800), "valid": Count(80, (20,) * 4, 3200)}
    row = OpRow("a", "conv2d", input_kind="binary", input_values=(1.0,), static_repeats=4, counts=counts)
    event, real = (
        resolve(row),
        resolve(OpRow("a", "conv2d", input_kind="real", static_repeats=4, counts=counts)),
    )
    assert (event.ac, event.ac_executed, event.ac_by_step, event.ac_square_sum) == (10, 40, (10, 0, 0, 0), 50)
    assert (real.mac, real.mac_executed, real.mac_square_sum, real.ac) == (20, 80, 200, 0)
