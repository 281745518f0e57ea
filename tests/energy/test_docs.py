"""docs/energy.md names everything that is shipped, with the prices that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from snn_energy.energy import conventions, cost_tables
from snn_energy.energy.conventions import CHOICES, convention_from
from snn_energy.energy.costs import table_from

PAGE = (Path(__file__).parents[2] / "docs" / "energy.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*conventions(), *cost_tables(), *CHOICES])
def test_names(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("field", CHOICES)
def test_choices(field: str) -> None:
    (line,) = [
        line for line in PAGE.splitlines() if line.startswith("| `") and f"`{field}`" in line.split("|")[1]
    ]
    for choice in CHOICES[field]:
        assert f"`{choice}`" in line


def test_prices() -> None:
    lines = {line.split("`")[1]: line.split("|") for line in PAGE.splitlines() if line.startswith("| `")}
    for name, table in cost_tables().items():
        if name in lines and "," not in lines[name][2]:
            assert float(lines[name][2]) == table.ac
            assert lines[name][3].strip() == ("–" if table.mac is None else f"{table.mac:g}")


def test_examples_load() -> None:
    blocks = [part.split("```")[0] for part in PAGE.split("```yaml\n")[1:]]
    convention, table = (yaml.safe_load(block) for block in blocks)
    assert convention_from(convention, "docs").neuron == "full"
    assert table_from(table, "docs").mac == pytest.approx(0.3)
