"""Plain values held against a dataclass: every field of its declared type, every number in its range."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections import abc
from collections.abc import Mapping
from typing import Any, TypeVar

from snn_energy.errors import DataError, SnnEnergyError, suggest

Record = TypeVar("Record")
NO_BOUNDS: Mapping[str, float | None] = types.MappingProxyType({})


def record_from(
    kind: type[Record],
    given: Any,
    where: str,
    error: type[SnnEnergyError] = DataError,
    *,
    least: float | None = 0,
    bounds: Mapping[str, float | None] = NO_BOUNDS,
) -> Record:
    """A dataclass of `kind` from a mapping, as JSON and YAML give it: lists become tuples.

    Fields declared as str, int, float, bool, dataclasses, and tuples, mappings and unions of these must hold
    such, those declared as arrays an array; `Any` holds what it likes.  Numbers are finite and at least
    `least`, or what `bounds` has for their field instead; None: any number, NaN too.

    Raises `error`, beginning with `where` and the field, for another value, an unknown field and a missing
    one.
    """
    if not isinstance(given, Mapping):
        raise error(f"{where}: {short(given)} is no {kind.__name__}; a mapping of its fields is")
    declared = _fields(typing.cast(Any, kind))
    for key in given:
        if key not in declared:
            raise error(f"{where}: unknown key {short(key)}; {suggest(str(key)[:60], declared)}")
    for name, (_, needed) in declared.items():
        if needed and name not in given:
            raise error(f"{where}: {name!r} is missing")
    check = functools.partial(_value, error=error, bounds=bounds)
    values = {
        key: check(declared[key][0], value, f"{where}: {key}", least=bounds.get(key, least))
        for key, value in given.items()
    }
    return kind(**values)


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Name -> (declared type, must it be given) of a dataclass's fields."""
    hints = typing.get_type_hints(kind)
    none = dataclasses.MISSING
    return {
        f.name: (hints[f.name], f.default is none and f.default_factory is none)
        for f in dataclasses.fields(kind)
        if f.init
    }


def _value(
    kind: Any,
    value: Any,
    where: str,
    error: type[SnnEnergyError],
    least: float | None,
    bounds: Mapping[str, float | None],
) -> Any:
    """The value as `kind`, or `error`."""
    again = functools.partial(_value, error=error, least=least, bounds=bounds)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or (origin is not None and origin.__name__ == "ndarray" and type(value) is origin):
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in inner:
            return None
        others = [k for k in inner if k is not type(None)]
        return again(others[0], value, where)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        if len(kinds) == len(value):
            return tuple(
                again(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True))
            )
    elif origin in (dict, abc.Mapping) and isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise error(f"{where}: {short(key)} is no name")
        return {key: again(inner[1], item, f"{where}: {short(key)}") for key, item in value.items()}
    elif dataclasses.is_dataclass(kind):
        return record_from(typing.cast(Any, kind), value, where, error, least=least, bounds=bounds)
    elif kind in (int, float):
        return _number(kind, value, where, error, least)
    elif isinstance(kind, type) and isinstance(value, kind):
        return value
    raise error(f"{where} = {short(value)}: must be {_words(kind)}")


def _number(kind: Any, value: Any, where: str, error: type[SnnEnergyError], least: float | None) -> Any:
    right = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not right or (least is not None and not (math.isfinite(value) and value >= least)):
        beyond = "" if least is None else f", at least {least:g}"
        raise error(f"{where} = {short(value)}: must be {_words(kind)}{beyond}")
    return value


def _words(kind: Any) -> str:
    words = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false"}
    if kind in words:
        return words[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return f"a list, each {_words(inner[0])}"
    return (
        f"a mapping of names, each {_words(inner[1])}"
        if origin is dict
        else getattr(kind, "__name__", "another")
    )


def short(value: Any) -> str:
    """A value in few characters, for a message."""
    text = (
        repr(value)
        if not isinstance(value, dict | list | tuple) or len(value) < 9
        else f"{len(value)} entries"
    )
    return text if len(text) <= 60 else f"{text[:57]}…"


def schema_of(kind: Any, least: float | None = 0, bounds: Mapping[str, float | None] = NO_BOUNDS) -> Any:
    """What `record_from` takes for `kind`, as JSON Schema (draft 2020-12): the form of a published file."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [schema_of(k, least, bounds) for k in inner]}
    if origin in (tuple, list):
        return {"type": "array", "items": schema_of(inner[0], least, bounds)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(inner[1], least, bounds)}
    if kind in (int, float):
        words = {"type": "integer" if kind is int else "number"}
        return words if least is None or math.isinf(least) else {**words, "minimum": least}
    if not dataclasses.is_dataclass(kind):
        return {"type": {str: "string", bool: "boolean"}.get(typing.cast(Any, kind), "null")}
    fields = _fields(typing.cast(Any, kind))
    return {
        "type": "object",
        "properties": {k: schema_of(hint, bounds.get(k, least), bounds) for k, (hint, _) in fields.items()},
        "required": [k for k, (_, needed) in fields.items() if needed],
        "additionalProperties": False,
    }
