"""A profile.json that was edited or damaged: refused in one line, never reported as if it were measured."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import snn_energy
from snn_energy.errors import DataError
from snn_energy.profiling import profile
from snn_energy.profiling.profile import Profile
from snn_energy.reports.tables import layer_table, render, step_table


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """The record of a small spiking network, as its file holds it."""
    from spikingjelly.activation_based import functional, layer, neuron

    torch.manual_seed(1)
    net = nn.Sequential(
        layer.Conv2d(2, 3, 3, padding=1),
        neuron.LIFNode(v_threshold=0.2),
        layer.Flatten(),
        layer.Linear(60, 7),
    )
    functional.set_step_mode(net, "m")
    measured = profile(net.eval(), [(torch.rand(3, 2, 2, 4, 5), torch.tensor([0, 1]))], layout="TB")
    return json.loads(json.dumps({"schema": 2, **dataclasses.asdict(measured)}))


def load(record: Any, folder: Path) -> Profile:
    path = folder / "profile.json"
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return Profile.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": 0}, "samples = 0: must be at least 1"),
        ({"samples": -2}, "samples = -2"),
        ({"samples": 2.0}, "a whole number"),
        ({"samples": True}, "a whole number"),
        ({"samples": "2"}, "a whole number"),
        ({"time_steps": 0}, "time_steps"),
        ({"time_steps": 10**9}, "must be at most 100,000"),
        ({"correct": 3}, "correct = 3: must be at most samples = 2"),
        ({"correct": -1}, "correct = -1"),
        ({"parameters": -5}, "parameters = -5"),
        ({"parameters": 10**70}, "digits"),
        ({"notes": "one"}, "notes"),
        ({"notes": [1]}, r"notes\[0\] = 1: must be a text"),
        ({"aliases": {"a": 1}}, "aliases"),
        ({"class_names": None}, "class_names"),
        ({"rows": {}}, "rows"),
        ({"rows": [3]}, "no OpRow"),
        ({"schema": 3}, "schema 3"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"model": 7}, "model = 7"),
    ],
)
def test_a_field_that_cannot_be(
    change: dict[str, Any], words: str, whole: dict[str, Any], tmp_path: Path
) -> None:
    assert load(whole, tmp_path).samples == 2
    with pytest.raises(DataError, match=words) as error:
        load({**whole, **change}, tmp_path)
    assert "\n" not in str(error.value) and "profile.json" in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ac": -1}, "ac = -1"),
        ({"mac": float("nan")}, "mac"),
        ({"fan_out": float("inf")}, "fan_out = inf"),
        ({"fan_out": -2.0}, "fan_out"),
        ({"input_nonzero": 10**9}, "must be at most input_elements"),
        ({"output_nonzero": 10**9}, "must be at most output_elements"),
        ({"valid_macs": 10**9}, "must be at most dense_macs"),
        ({"input_kind": "imaginary"}, "input_kind = 'imaginary'"),
        ({"input_values": [float("nan")]}, "input_values"),
        ({"input_values": "1"}, "input_values"),
        ({"output_shape": [3, -4]}, "output_shape"),
        ({"ac_by_step": [1, None, 1]}, "ac_by_step"),
        ({"input_nonzero_by_step": [1] * 9}, "input_nonzero_by_step"),
        ({"static_repeats": 0}, "static_repeats"),
        ({"counts": {"x": {"total": -3}}}, "total = -3"),
        ({"counts": {"x": {"all": 3}}}, "unknown key 'all'"),
        ({"details": []}, "details"),
        ({"site": -1}, "site"),
        ({"name": None}, "name"),
    ],
)
def test_a_row_that_cannot_be(
    change: dict[str, Any], words: str, whole: dict[str, Any], tmp_path: Path
) -> None:
    first, *others = whole["rows"]
    with pytest.raises(DataError, match=words) as error:
        load({**whole, "rows": [{**first, **change}, *others]}, tmp_path)
    assert "\n" not in str(error.value)


def test_a_row_that_stands_twice(whole: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="stands twice"):
        load({**whole, "rows": [*whole["rows"], whole["rows"][0]]}, tmp_path)


def test_what_is_saved_is_read_back(whole: dict[str, Any], tmp_path: Path) -> None:
    first = load(whole, tmp_path)
    first.save(tmp_path / "again.json")
    assert Profile.load(tmp_path / "again.json") == first


NONSENSE = (None, -1, 0, 1e308, 10**40, "", "$x\x1b", [], {}, True, [[]], {"a": []}, [1, 2], [10**30] * 3)


def test_any_damage_is_refused_or_reported(whole: dict[str, Any], tmp_path: Path) -> None:
    """Two hundred edits: our errors only, tables and report of what is left."""
    random.seed(5)
    for i in range(200):
        record = json.loads(json.dumps(whole))
        target = random.choice([record, *record["rows"], *(row["details"] for row in record["rows"])])
        if not target:
            continue
        target[random.choice(sorted(target))] = random.choice(NONSENSE)
        costs = ("45nm-fp32", "45nm-memory", "loihi")[i % 3]
        try:
            measured = load(record, tmp_path)
            energies = [measured.energy(name, costs) for name in ("exact", "sdt", "spikingjelly")]
            render(layer_table(measured, energies), "latex")
            render(step_table(measured, energies), "csv")
            if i % 20 == 0:
                snn_energy.report(measured, tmp_path / "report.html")
        except snn_energy.SnnEnergyError as error:
            assert "\n" not in str(error)


def test_the_published_schema_is_that_of_the_record(whole: dict[str, Any]) -> None:
    """Every key of a real file stands in docs/schemas, and nothing else; `scripts/write_schemas` makes it."""
    from snn_energy.profiling.profile import SIGNED
    from snn_energy.records import schema_of

    path = Path(__file__).parents[2] / "docs" / "schemas" / "profile.schema.json"
    published = json.loads(path.read_text())["properties"]
    assert set(published) == set(whole)
    row = published["rows"]["items"]
    assert set(row["properties"]) == set(whole["rows"][0]) and row["properties"]["ac"] == {
        "type": "integer", "minimum": 0,
    }  # fmt: skip
    expected = schema_of(Profile, bounds=SIGNED)["properties"]
    assert {key: value for key, value in published.items() if key != "schema"} == expected
