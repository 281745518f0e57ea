"""Conventions, cost tables and published figures are data: YAML read into frozen records, checked by name."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from snn_energy.errors import ConfigError, suggest
from snn_energy.reading import parse_yaml, read_yaml
from snn_energy.records import short


@functools.cache
def shipped(filename: str) -> dict[str, Any]:
    """The mapping in one of the YAML files that lie beside this module."""
    text = resources.files("snn_energy.energy").joinpath(filename).read_text(encoding="utf-8")
    return parse_yaml(text, filename)


def read_mapping(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """The mapping in a user's YAML file.  Raises `ConfigError` for all that `reading.read_yaml` refuses."""
    return read_yaml(path, what)


def is_file_name(spec: str | os.PathLike[str]) -> bool:
    """Does `spec` name a file (and not something shipped)?"""
    return isinstance(spec, os.PathLike) or Path(spec).suffix in (".yaml", ".yml") or os.sep in spec


def check_keys(record: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raise `ConfigError` for the first key of `record` that is not in `known`."""
    for key in record:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {short(key)}; {suggest(str(key)[:60], known)}")


def check_choice(value: Any, known: Collection[str], where: str) -> None:
    """Raise `ConfigError` unless `value` is one of `known`."""
    if value not in tuple(known):
        raise ConfigError(f"{where}: {short(value)} is not a choice; {suggest(str(value)[:60], known)}")


def check_text(value: Any, where: str) -> str:
    """A name or remark: text, or a number that stands for itself.  Raises `ConfigError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"{where}: {short(value)} is no text")
    return str(value)


def to_mapping(record: Any) -> dict[str, Any]:
    """A frozen record as a plain mapping without its empty fields: what a YAML file holds."""
    pairs = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in pairs.items() if v not in (None, (), "")}
