"""Conventions, cost tables and published figures are data: YAML read into frozen records, checked by name."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from snn_energy.errors import ConfigError, suggest


@functools.cache
def shipped(filename: str) -> dict[str, Any]:
    """The mapping in one of the YAML files that lie beside this module."""
    text = resources.files("snn_energy.energy").joinpath(filename).read_text(encoding="utf-8")
    return yaml.safe_load(text)


def read_mapping(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """The mapping in a user's YAML file.  Raises `ConfigError` for an unreadable file or another shape."""
    try:
        record = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a {what}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not YAML; a {what} is a mapping of names to values") from None
    if not isinstance(record, dict):
        raise ConfigError(f"{path}: a {what} is a mapping of names to values, not {type(record).__name__}")
    return record


def is_file_name(spec: str | os.PathLike[str]) -> bool:
    """Does `spec` name a file (and not something shipped)?"""
    return isinstance(spec, os.PathLike) or Path(spec).suffix in (".yaml", ".yml") or os.sep in spec


def check_keys(record: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raise `ConfigError` for the first key of `record` that is not in `known`."""
    for key in record:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; {suggest(str(key), known)}")


def check_choice(value: Any, known: Collection[str], where: str) -> None:
    """Raise `ConfigError` unless `value` is one of `known`."""
    if value not in tuple(known):
        raise ConfigError(f"{where}: {value!r} is not a choice; {suggest(str(value), known)}")


def to_mapping(record: Any) -> dict[str, Any]:
    """A frozen record as a plain mapping without its empty fields: what a YAML file holds."""
    pairs = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in pairs.items() if v not in (None, (), "")}
