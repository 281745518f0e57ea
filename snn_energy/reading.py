"""The gate for files of strangers: bounded before they are read, strict in what they may say.

Everything that this package reads as text, JSON or YAML comes through here, so that a file can neither take
more memory than `limits` allow, nor nest deeper than `DEPTH`, nor say what no reader expects (NaN, a key
twice, an alias that expands to millions).  `records` then holds its values against a dataclass.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

from snn_energy.errors import ConfigError, DataError, SnnEnergyError

Form = Literal["json", "yaml", "arrays", "checkpoint"]
LIMITS: dict[str, int] = {"json": 64 << 20, "yaml": 128 << 10, "arrays": 2 << 30, "checkpoint": 16 << 30}
"""Bytes that a file may have; of `arrays` and a `checkpoint`, also what it may unpack to."""
DEPTH = 64
"""Levels of nesting in JSON and YAML: ours have six."""
LARGEST = 10**60
"""Whole numbers end here: a sum of squared counts of the largest networks has 40 digits."""
NODES = 200_000
"""Values in a YAML file, with what its aliases stand for."""

_told: contextvars.ContextVar[int | None] = contextvars.ContextVar("max_bytes", default=None)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def a(what: str) -> str:
    """`a profile`, `an exported package`."""
    return f"{'an' if what[:1] in 'aeiou' else 'a'} {what}"


@contextlib.contextmanager
def limits(max_bytes: int | str | None) -> Iterator[None]:
    """Read files up to `max_bytes` (`3000000`, `"4G"`) in this block, in place of `LIMITS`; None: no change.

    Raises `ConfigError` for what is no positive number of bytes.
    """
    token = _told.set(_told.get() if max_bytes is None else _bytes(max_bytes))
    try:
        yield
    finally:
        _told.reset(token)


def limit(form: Form) -> int:
    """How many bytes a file of this form may have here and now."""
    told = _told.get()
    return LIMITS[form] if told is None else told


def told() -> bool:
    """Did the user say how much may be read?"""
    return _told.get() is not None


def _bytes(given: int | str) -> int:
    found = re.fullmatch(r"(\d{1,18})\s*([kmgt]?)i?b?", str(given).strip().lower())
    number = int(found[1]) * _UNITS[found[2]] if found else 0
    if number < 1 or isinstance(given, bool):
        raise ConfigError(f"--max-bytes {given!r}: must be a positive number of bytes, such as 500M or 4G")
    return number


def too_large(where: object, size: int, form: Form, error: type[SnnEnergyError] = DataError) -> NoReturn:
    """Raise `error`: what `where` holds has `size` bytes, more than is read here."""
    raise error(
        f"{where}: {size:,} bytes, more than the limit of {limit(form):,}; "
        "if you trust it, raise the limit: snn-energy --max-bytes, snn_energy.reading.limits"
    )


def read_bytes(
    path: str | os.PathLike[str], what: str, form: Form, error: type[SnnEnergyError] = DataError
) -> bytes:
    """The content of a regular file within the limit.

    Raises `error` for one that is missing, cannot be read, is a folder, device or pipe, or is too large.
    """
    with open_regular(path, what, form, error) as stream:
        raw = stream.read(limit(form) + 1)
    if len(raw) > limit(form):  # it grew, or its size is not known (/proc)
        too_large(path, len(raw), form, error)
    return raw


@contextlib.contextmanager
def open_regular(
    path: str | os.PathLike[str], what: str, form: Form, error: type[SnnEnergyError] = DataError
) -> Iterator[BinaryIO]:
    """The same, open for reading: what reads bit by bit bounds itself what it takes."""
    try:
        with open(path, "rb", opener=_without_waiting) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise error(f"{path}: cannot be read as {a(what)}: it is no regular file")
            if status.st_size > limit(form):
                too_large(path, status.st_size, form, error)
            yield stream
    except SnnEnergyError:
        raise
    except FileNotFoundError:
        raise error(f"{path}: no such file; {a(what)} was expected") from None
    except (OSError, ValueError) as problem:  # ValueError: a zero byte in the name
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{path}: cannot be read as {a(what)}: {one_line(reason)}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Open at once: a pipe without a writer would wait for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_text(
    path: str | os.PathLike[str], what: str, form: Form, error: type[SnnEnergyError] = DataError
) -> str:
    """The same as text.  Raises `error` where it is not UTF-8."""
    try:
        return read_bytes(path, what, form, error).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(
            f"{path}: cannot be read as {a(what)}: not text in UTF-8 (byte {problem.start:,})"
        ) from None


def read_json(
    path: str | os.PathLike[str],
    what: str,
    error: type[SnnEnergyError] = DataError,
    *,
    finite: bool = True,
) -> dict[str, Any]:
    """The JSON object in a file.  Raises `error` as `read_text` and `parse_json` do, and for no object."""
    found = parse_json(
        read_text(path, what, "json", error), f"{path}: cannot be read as {a(what)}", error, finite=finite
    )
    if not isinstance(found, dict):
        raise error(f"{path}: not a {what}: expected a JSON object, found {type(found).__name__}")
    return found


def parse_json(text: str, where: str, error: type[SnnEnergyError] = DataError, *, finite: bool = True) -> Any:
    """What `text` says in JSON.

    Raises `error`, beginning with `where`, for no JSON, more than `DEPTH` levels, a key that stands twice in
    an object, a whole number beyond `LARGEST`, and, where `finite`, for NaN and infinity.
    """
    if _levels(text) > DEPTH:
        raise error(f"{where}: nested more than {DEPTH} levels deep")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise error(f"{where}: the key {_short(twice)} stands twice in one object")
        return found

    def real(word: str) -> float:
        value = float(word)
        if finite and not math.isfinite(value):
            raise error(f"{where}: {_short(word)} is no finite number")
        return value

    try:
        found = json.loads(
            text,
            object_pairs_hook=unique,
            parse_constant=real,
            parse_float=real,
            parse_int=functools.partial(_whole, where=where, error=error),
        )
        if "\\ud" in text.lower():  # half a surrogate pair could be written nowhere
            json.dumps(found, ensure_ascii=False).encode("utf-8")
        return found
    except (ValueError, RecursionError) as problem:
        raise error(f"{where}: not JSON: {one_line(problem)}") from None


def _whole(word: str, where: str, error: type[SnnEnergyError]) -> int:
    if len(word) > 62 or abs(int(word)) > LARGEST:
        raise error(f"{where}: a whole number of {len(word.lstrip('+-')):,} digits; at most 60 are read")
    return int(word)


def _levels(text: str) -> int:
    """The deepest nesting of brackets outside strings."""
    deepest = level = 0
    for mark in re.finditer(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', text, re.DOTALL):
        first = text[mark.start()]
        if first in "[{":
            level += 1
            deepest = max(deepest, level)
            if deepest > DEPTH:
                break
        elif first in "]}":
            level -= 1
    return deepest


def parse_yaml(
    text: str, where: str, error: type[SnnEnergyError] = ConfigError, *, finite: bool = True
) -> Any:
    """What `text` says in YAML: names, numbers, truth values, lists, mappings.  A date is a text.

    Raises `error`, beginning with `where`, for no YAML, another tag (`!!python`, `!!set`), more than `DEPTH`
    levels, more than `NODES` values, a key that stands twice in a mapping, a whole number beyond `LARGEST`,
    and, where `finite`, for NaN and infinity.
    """
    import yaml

    if len(text) > limit("yaml"):
        too_large(where, len(text), "yaml", error)
    refuse: Callable[[str], SnnEnergyError] = lambda said: error(f"{where}{said}")  # noqa: E731
    try:
        loader = _loader()(text, refuse, finite)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        said = getattr(problem, "problem", None) or one_line(problem)
        raise error(f"{where}{line}: not YAML: {one_line(said)}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise error(f"{where}: not YAML that can be read: {one_line(problem)}") from None


@functools.cache
def _loader() -> Any:
    """PyYAML's safe loader behind the limits; made when first needed, since PyYAML is imported then."""
    import yaml

    tags = {f"tag:yaml.org,2002:{tag}" for tag in ("null", "bool", "int", "float", "str", "seq", "map")}

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012  # a date is a text: none of our fields is one
            first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
            for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def __init__(self, text: str, refuse: Callable[[str], SnnEnergyError], finite: bool) -> None:
            super().__init__(text)
            self.refuse, self.finite, self.level = refuse, finite, 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.level += 1
            if self.level > DEPTH:
                raise self.refuse(f": nested more than {DEPTH} levels deep")
            node = super().compose_node(parent, index)
            self.level -= 1
            return node

        def get_single_node(self) -> Any:
            node = super().get_single_node()
            if node is not None:
                self._weigh(node, {})
            return node

        def _weigh(self, node: Any, known: dict[int, int | None]) -> int:
            """How many values a node stands for, aliases followed."""
            if id(node) in known:
                size = known[id(node)]
                if size is None:
                    raise self.refuse(": an alias stands for what holds it")
                return size
            known[id(node)] = None
            if node.tag not in tags and not node.tag.endswith(":merge"):
                tag = node.tag.replace("tag:yaml.org,2002:", "!!")
                raise self.refuse(f", line {node.start_mark.line + 1}: {_short(tag)} is not read here")
            parts = [] if isinstance(node, yaml.ScalarNode) else node.value
            size = 1
            for part in parts:
                size += sum(self._weigh(n, known) for n in (part if isinstance(part, tuple) else (part,)))
            if size > NODES:
                raise self.refuse(f": stands for more than {NODES:,} values")
            known[id(node)] = size
            return size

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            line = node.start_mark.line + 1
            own = [
                self.construct_object(key, True) for key, _ in node.value if not key.tag.endswith(":merge")
            ]
            seen = set()
            for key in own:
                if isinstance(key, list | dict):
                    raise self.refuse(f", line {line}: a key must be a name or a number")
                if key in seen:
                    raise self.refuse(f", line {line}: the key {_short(key)} stands twice")
                seen.add(key)
            return super().construct_mapping(node, deep)

        def construct_yaml_str(self, node: Any) -> str:
            value = super().construct_yaml_str(node)
            value.encode("utf-8")  # half a surrogate pair could be written nowhere: a ValueError
            return value

        def construct_yaml_int(self, node: Any) -> int:
            value = super().construct_yaml_int(node) if len(str(node.value)) < 300 else LARGEST + 1
            if abs(value) > LARGEST:
                line = f", line {node.start_mark.line + 1}"
                raise self.refuse(f"{line}: a whole number of more than 60 digits")
            return value

        def construct_yaml_float(self, node: Any) -> float:
            value = super().construct_yaml_float(node)
            if self.finite and not math.isfinite(value):
                line = f", line {node.start_mark.line + 1}"
                raise self.refuse(f"{line}: {_short(node.value)} is no finite number")
            return value

    Loader.add_constructor("tag:yaml.org,2002:str", Loader.construct_yaml_str)
    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    return Loader


def read_yaml(
    path: str | os.PathLike[str], what: str, error: type[SnnEnergyError] = ConfigError
) -> dict[Any, Any]:
    """The mapping in a YAML file.  Raises `error` as `read_text` and `parse_yaml` do, and for no mapping."""
    found = parse_yaml(read_text(path, what, "yaml", error), str(Path(path)), error)
    if not isinstance(found, dict):
        raise error(f"{path}: a {what} is a mapping of names to values, not {type(found).__name__}")
    return found


def one_line(text: object) -> str:
    """Any text on one line, and no more of it than a line."""
    words = " ".join(str(text).split())
    return words if len(words) <= 300 else f"{words[:297]}…"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
