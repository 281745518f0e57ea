"""Limits of chips, as data with their sources (`chips.yaml`), or a file of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from snn_energy.errors import ConfigError, suggest
from snn_energy.reading import read_yaml
from snn_energy.records import short


@dataclass(frozen=True)
class Chip:
    """Limits of a chip by name, and where each number comes from."""

    name: str
    title: str
    limits: Mapping[str, Any]
    sources: Mapping[str, str]

    def __getitem__(self, key: str) -> Any:
        return self.limits[key]


def _shipped() -> dict[str, Any]:
    known: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("chips.yaml").read_text(encoding="utf-8"))
    return known


def chip_names() -> tuple[str, ...]:
    """The chips that come with snn-energy."""
    return tuple(_shipped())


def load_chip(name: str) -> Chip:
    """A chip of `chips.yaml`, or `file.yaml:name` of a file of the same form; gaps are Loihi 2's."""
    file, _, chip = name.rpartition(":")
    known = _shipped()
    own: dict[str, Any] = {}
    if file:
        own = read_yaml(file, "table of chips")
    chips = known | own
    if chip not in chips:
        raise ConfigError(f"unknown chip {chip!r}; {suggest(chip, chips)}")
    try:
        entry = known["loihi2"] | chips[chip]
        title = str(entry.pop("title"))
    except TypeError as error:
        raise ConfigError(f"chip {chip!r}: must be a table of limits, is {short(chips[chip])}") from error
    unknown = sorted(map(str, set(entry) - set(known["loihi2"])))
    if unknown:
        raise ConfigError(f"chip {chip!r}: no limit {unknown[0]!r}; {suggest(unknown[0], known['loihi2'])}")
    try:
        limits = {key: limit["value"] for key, limit in entry.items()}
        sources = {key: str(limit["source"]) for key, limit in entry.items()}
    except (TypeError, KeyError) as error:
        raise ConfigError(f"chip {chip!r}: every limit needs a value and a source") from error
    for key, value in limits.items():
        usual = known["loihi2"][key]["value"]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(usual, int | float) and not isinstance(usual, bool) and not (number and value >= 0):
            raise ConfigError(f"chip {chip!r}: {key} = {short(value)}: must be a number, 0 or more")
    return Chip(name, title, limits, sources)
