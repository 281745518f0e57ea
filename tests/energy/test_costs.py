"""Cost tables: prices by hand, citations, a user's own YAML, and constants that stand in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from energy_builders import SAMPLES, profile

import snn_energy.energy
from snn_energy.energy import CostTable, cost_tables, estimate, load_costs
from snn_energy.energy.costs import constants
from snn_energy.energy.yaml_records import shipped
from snn_energy.errors import ConfigError

HERE = Path(snn_energy.energy.__file__).parent


@pytest.mark.parametrize(
    ("name", "ac", "mac"),
    [
        ("45nm-fp32", 0.9, 4.6),
        ("45nm-fp16", 0.4, 1.5),
        ("45nm-int8", 0.03, 0.23),
        ("45nm-int32", 0.1, 3.2),
        ("45nm-memory", 0.1, 3.2),
        ("step-fp32", 0.9, 4.6),
        ("loihi", 23.6, None),
        ("loihi-sanafe", 35.5, None),
        ("truenorth", 2.5, None),
        ("tianjic", 1.54, None),
        ("spinnaker", 45, None),
        ("spinnaker2", 10, None),
        ("odin", 12.7, None),
        ("seneca", 2.8, None),
    ],
)
def test_prices_as_published(name: str, ac: float, mac: float | None) -> None:
    table = load_costs(name)
    assert (table.ac, table.mac) == (ac, mac)


def test_every_table_and_constant_is_cited_with_its_node() -> None:
    for table in cost_tables().values():
        assert table.citations and table.node and table.words, table.name
    for constant in constants().values():
        assert constant.source and constant.node, constant.name
    assert not any("loihi2" in name.replace(" ", "").lower() for name in (*constants(), *cost_tables()))
    assert "pre-silicon" in cost_tables()["loihi"].label


def test_constants_stand_once_and_only_in_the_data_file() -> None:
    data = shipped("costs.yaml")
    tables = re.findall(
        r"[\d.]+", str([{k: v for k, v in t.items() if k != "words"} for t in data["tables"].values()])
    )
    prices = {str(c["pj"]) for c in data["constants"].values()}
    assert not prices & set(tables) - {"8192", "32768", "1048576", "4", "1000", "0", "10", "45", "1"}
    for module in HERE.glob("*.py"):
        code = re.sub(r'""".*?"""|#.*', "", module.read_text(encoding="utf-8"), flags=re.DOTALL)
        numbers = set(re.findall(r"(?<![\w.])\d*\.\d+(?![\w.])", code)) - {
            "0.0",
            "1.0",
            "0.01",
            "1.959964",
            "0.2",
        }
        assert not numbers, f"{module.name}: {numbers}"


def test_loihi_charges_updates_and_spikes_and_lists_what_it_cannot() -> None:
    energy = estimate(profile(), "exact", "loihi")
    updates, spikes = 120 + 3 * 70, 24 + 35 + 21 + 14
    chip = (updates - spikes) * 52 + spikes * (81 + 1.7)
    assert sum(r.chip_pj for r in energy.rows) == pytest.approx(chip / SAMPLES)
    assert energy.unpriced == {"mac": (2000 + 90) / SAMPLES}
    assert energy.total_pj == pytest.approx((chip + 3054 * 23.6) / SAMPLES)


def test_a_users_table(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(
        "name: ours\nsource: our board\nac: 1.25\nmac: [int8_mul, int32_add, 2]\nneuron_update: 3\n",
        encoding="utf-8",
    )
    ours = load_costs(path)
    assert (ours.name, ours.ac, ours.mac, ours.mul) == ("ours", 1.25, 2.3, None)
    assert ours.citations[0] == "our board" and "Horowitz" in ours.citations[1]
    energy = estimate(profile(), "exact", path)
    assert energy.total_pj == pytest.approx((3054 * 1.25 + 2090 * 2.3 + 330 * 3) / SAMPLES)
    assert estimate(profile(), costs=CostTable("bare", ac=1)).arithmetic_pj == pytest.approx(3054 / SAMPLES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ac: 1\n", ["needs 'name'"]),
        ("name: x\n", ["needs 'ac'"]),
        ("name: x\nac: fp32_ad\n", ["ac", "'fp32_ad'", "did you mean 'fp32_add'"]),
        ("name: x\nac: -1\n", ["ac", "-1", "0 or more"]),
        ("name: x\nac: true\n", ["ac", "True"]),
        ("name: x\nac: .nan\n", ["line 2", "nan"]),
        ("name: x\nac: 1\nmca: 2\n", ["unknown key 'mca'", "did you mean 'mac'"]),
        ("name: x\nac: 1\nmemory: {model: dram}\n", ["memory: model", "'dram'"]),
        ("name: x\nac: 1\nmemory: fast\n", ["memory", "'fast'"]),
        ("name: x\nac: 1\nmemory: {model: per-byte}\n", ["pj_per_byte"]),
        ("name: x\nac: 1\nmemory: {model: sram, add: 1, mac: 1}\n", ["points"]),
        (
            "name: x\nac: 1\nmemory: {model: sram, add: 1, mac: 1, points: [[8, 1], [4, 2]]}\n",
            ["sizes must rise"],
        ),
        ("name: x\nac: 1\nmemory: {model: sram, points: [[0, 0], [8, 1]]}\n", ["also needs add, mac"]),
    ],
)
def test_errors_are_one_line_and_name_the_fault(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_costs(path)
    message = str(caught.value)
    assert "\n" not in message and "bad.yml" in message
    assert all(word in message for word in words), message


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean '45nm-fp32'"):
        load_costs("45nm-fp3")
