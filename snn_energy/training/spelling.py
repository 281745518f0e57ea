"""Values of a recipe as its author spelt them, where a field holds text.

YAML 1.1 reads `off`, `no`, `on`, `yes`, `null` and `0011` as truth values, nothing and nine.  A field that
holds text (`pe: off`, `pooling_stat: 0011`) means the letters.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml


class Text(NamedTuple):
    """What a field that holds text takes: these words (None: any), nothing too, truth values too."""

    words: frozenset[str] | None
    optional: bool = False
    truth: bool = False


def text_fields(cls: type) -> dict[str, Text]:
    """The fields of a dataclass that hold text: of type `str`, a `Literal` with words, or a union of it."""
    try:
        hints = typing.get_type_hints(cls)
    except (NameError, AttributeError, TypeError):  # a name that only a type checker imports
        hints = {name: str for name, hint in _annotations(cls).items() if hint in ("str", str)}
    found = {name: _text(hint) for name, hint in hints.items()}
    return {name: text for name, text in found.items() if text is not None}


def _annotations(cls: type) -> dict[str, Any]:
    """Annotations of a class and its bases, as written."""
    return {
        name: hint
        for base in reversed(cls.__mro__)
        for name, hint in vars(base).get("__annotations__", {}).items()
    }


def _text(hint: Any) -> Text | None:
    """What a type says of text; None where it takes none, or any text and something else, as `int | str`."""
    parts = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if str in parts:
        return Text(None, type(None) in parts) if set(parts) <= {str, type(None)} else None
    options = [option for part in parts if get_origin(part) is Literal for option in get_args(part)]
    words = frozenset(option for option in options if isinstance(option, str))
    truth = bool in parts or any(isinstance(option, bool) for option in options)
    return Text(words, type(None) in parts or None in options, truth) if words else None


def as_spelt(text: Text | None, spelling: str, value: Any) -> Any:
    """The value of a field: `spelling` where it holds text, else `value`, which YAML made of it.

    Where a field takes certain words and the spelling is none of them, quotes count as YAML's, and a truth
    value as one if the field takes those; what fits nowhere stays as spelt, for a message to show.
    """
    if text is None or (text.optional and value is None):
        return value
    if text.words is None or spelling in text.words:
        return spelling
    return value if isinstance(value, str) or (text.truth and isinstance(value, bool)) else spelling


def spellings(text: str) -> dict[str, Any]:
    """The scalars of a YAML table as written, by key, and those of the tables in it; merged keys included.

    The text must be YAML that holds a table.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        return _table(loader, node) if isinstance(node, yaml.MappingNode) else {}
    finally:
        loader.dispose()


def _table(loader: yaml.SafeLoader, node: yaml.MappingNode, depth: int = 2) -> dict[str, Any]:
    loader.flatten_mapping(node)
    found: dict[str, Any] = {}
    for key, value in node.value:
        if isinstance(value, yaml.ScalarNode):
            found[key.value] = value.value
        elif isinstance(value, yaml.MappingNode) and depth > 1:
            found[key.value] = _table(loader, value, depth - 1)
    return found


def respelt(
    values: Mapping[str, Any], written: Mapping[str, Any], fields: Mapping[str, Text]
) -> dict[str, Any]:
    """`values` with the text fields among them as `written`."""
    return {
        key: as_spelt(fields.get(key), written[key], value) if isinstance(written.get(key), str) else value
        for key, value in values.items()
    }
