"""Which of a network's outputs is its answer: one rule for tensors and for the names that stand for them.

A network may return a tensor, `(logits, None)`, a list of maps, a dict, or a dataclass of them.  Unless told
otherwise the answer is the entry `logits` of a dict, else the first tensor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from snn_energy.errors import ConfigError, DataError


def answer(out: Any, place: int | str | None = None) -> Any:
    """The answer in `out`, a structure whose leaves are tensors, or whatever stands for them.

    `place`: its index or key.  Raises `ConfigError` for one that is not there, `DataError` where there is no
    answer at all.
    """
    found = _first(out if place is None else _entry(out, place))
    if found is None:
        raise DataError(f"the network puts out {_what(out)}: an export needs a tensor, its class scores")
    return found


def _entry(out: Any, place: int | str) -> Any:
    entries = _entries(out)
    wanted = str(len(entries) + place if isinstance(place, int) and place < 0 else place)
    if wanted not in entries:
        known = ", ".join(entries) or f"a single {type(out).__name__}"
        raise ConfigError(f"output {place!r}: the network puts out {known}")
    return entries[wanted]


def _entries(out: Any) -> dict[str, Any]:
    """What a structure holds, by key or index."""
    if dataclasses.is_dataclass(out) and not isinstance(out, type):
        out = {f.name: getattr(out, f.name) for f in dataclasses.fields(out)}
    if isinstance(out, Mapping):
        return {str(key): value for key, value in out.items()}
    if isinstance(out, tuple | list):
        return {str(index): value for index, value in enumerate(out)}
    return {}


def _first(out: Any) -> Any:
    """`logits`, or the first leaf that is something."""
    entries = _entries(out)
    if not entries:
        return None if isinstance(out, Mapping | tuple | list) else out
    if entries.get("logits") is not None:
        return _first(entries["logits"])
    return next((leaf for value in entries.values() if (leaf := _first(value)) is not None), None)


def _what(out: Any) -> str:
    return "nothing" if out is None else f"{type(out).__name__} without a tensor"
