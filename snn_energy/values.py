"""Values as people write them on a command line or in a file: one YAML value each."""

from __future__ import annotations

import math
import re
from typing import Any

from snn_energy import reading
from snn_energy.errors import ConfigError


def parse_yaml(text: str, where: str, *, finite: bool = True) -> Any:
    """What `text` says in YAML; `3e-4` is a number.

    Raises `ConfigError`, naming `where`, for no YAML, and for what `reading.parse_yaml` does not read; where
    `finite`, for NaN and infinity.
    """
    value = _floats(reading.parse_yaml(text, where, finite=finite))
    if finite:
        _check_finite(value, where)
    return value


def _check_finite(value: Any, where: str) -> None:
    """Raise `ConfigError` for a number such as 1e999, which only `_floats` reads as one."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: {value} is no finite number")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_finite(item, where)


def parse_settings(items: tuple[str, ...] | list[str], flag: str = "--set") -> dict[str, Any]:
    """`("T=4", "act=relu")` -> `{"T": 4, "act": "relu"}`.

    Raises `ConfigError` for an item that is no NAME=VALUE, a name that no argument can have, a name given
    twice, and a value that is no YAML.
    """
    settings: dict[str, Any] = {}
    for item in items:
        name, sep, text = item.partition("=")
        name = name.strip()
        if not sep or not name.isidentifier():
            raise ConfigError(f"{flag} {item!r}: must be NAME=VALUE, such as {flag} T=4")
        if name in settings:
            raise ConfigError(f"{flag} {item!r}: {name} was given before, as {settings[name]!r}")
        # 0011 is a name (of stages that pool, say); YAML 1.1 would read a number of base 8
        settings[name] = (
            text if re.fullmatch(r"0\d+", text) else parse_yaml(text, f"{flag} {item}", finite=False)
        )
    return settings


def _floats(value: Any) -> Any:
    """YAML 1.1 reads 3e-4 (no dot) as text; the whole field writes it so."""
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    if isinstance(value, str) and value.lstrip("+-")[:1].isdigit() and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value
