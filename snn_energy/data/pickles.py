"""Reading pickles of arrays, numbers, text and plain containers without running anything in them.

A pickle is a program: it may import any function and call it.  Here it finds five names, all of them ours:
what NumPy writes for an array, a type and (from Python 3, in an old protocol) bytes.  Any other is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from snn_energy import reading
from snn_energy.errors import DataError


class Refused(pickle.UnpicklingError):
    """The pickle asks for a name that no file of arrays needs."""


class _Type:
    """`numpy.dtype` of a plain number: what NumPy calls it, and its byte order once that is told."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = _text(code), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    def dtype(self) -> np.dtype:
        """Raises `Refused` for objects, records and text."""
        found = np.dtype(self.code) if self.code[:1] in tuple("biuf") else None
        if found is None or found.kind not in "biuf":
            raise Refused(f"an array of type {self.code!r}, must be one of numbers")
        return found.newbyteorder(">") if self.order == ">" else found.newbyteorder("<")


class _Array:
    """`numpy.ndarray`, filled when the pickle tells its state: version, shape, type, order and bytes."""

    def __init__(self, *_: Any) -> None:
        self.array = np.zeros(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, raw = state
        self.array = _filled(raw, kind, shape, "F" if by_columns else "C")


def _filled(raw: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    raw = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)  # Python 2 has no bytes but text
    if not isinstance(kind, _Type) or not all(type(n) is int and n >= 0 for n in shape):
        raise Refused(f"an array of shape {shape!r}")
    dtype = kind.dtype()
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise Refused(f"{len(raw)} bytes for an array of shape {shape}, {dtype}")
    array = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(dtype.newbyteorder("="))


def _buffer(raw: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """What protocol 5 calls."""
    made = _Array()
    made.array = _filled(raw, kind, shape, _text(order))
    return made


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    if _text(codec) not in ("latin1", "latin-1"):
        raise Refused(f"bytes in {codec!r}")
    return str(text).encode("latin1")


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


KNOWN = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _buffer for core in ("core", "_core")},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise Refused(f"it asks to import {module}.{name}, which was not done")
        return KNOWN[module, name]


def read_pickle(path: Path) -> Any:
    """What the pickle holds, text of Python 2 as latin-1; arrays of numbers as `numpy.ndarray`.

    Raises `DataError`, in one line, for a file that is missing or damaged, and for one that asks to import
    anything: it is named, and neither imported nor run.
    """
    raw = reading.read_bytes(path, "pickle of arrays", "arrays")
    try:
        _check_memory(raw)
        return _plain(_Reader(io.BytesIO(raw), encoding="latin1").load())
    except Refused as error:
        raise DataError(f"{path}: not a file of arrays: {error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a pickle that can be read ({reason})") from None


def _check_memory(raw: bytes) -> None:
    """Raise `Refused` for places of the memo so far behind that the unpickler would take gigabytes for it."""
    for opcode, argument, _ in pickletools.genops(raw):
        if opcode.name in ("PUT", "LONG_BINPUT") and (argument or 0) > len(raw):
            raise Refused(f"place {argument:,} of its memo, in {len(raw):,} bytes")


def _plain(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """`value` with arrays in the place of what stood for them; what is there twice is made once."""
    seen = {} if seen is None else seen
    if isinstance(value, _Array):
        return value.array
    if not isinstance(value, dict | list | tuple):
        return value
    if id(value) not in seen:
        if isinstance(value, dict):
            seen[id(value)] = {key: _plain(item, seen) for key, item in value.items()}
        else:
            seen[id(value)] = type(value)(_plain(item, seen) for item in value)
    return seen[id(value)]
