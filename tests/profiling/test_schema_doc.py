"""docs/profile-schema.md names every field that the file holds, and no other."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from snn_energy.profiling.profile import SCHEMA, Count, OpRow, Profile

PAGE = (Path(__file__).parents[2] / "docs" / "profile-schema.md").read_text(encoding="utf-8")


def documented(section: str) -> set[str]:
    cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def names(record: type) -> set[str]:
    return {f.name for f in dataclasses.fields(record)}


def test_every_field_is_documented() -> None:
    profile, row = PAGE.split("## A row")
    assert documented(profile) == names(Profile) | {"schema"}
    assert documented(row) == names(OpRow)
    assert all(f"`{name}`" in row for name in names(Count))
    assert PAGE.startswith(f"# `profile.json`, schema {SCHEMA}\n")
