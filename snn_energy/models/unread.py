"""Is an attribute that a network sets read by it, and so state, or only shown to whoever looks?

An `Unread` is put in its place before a pass.  Being replaced, or appended to, is fine; anything else is a
read, which ends the pass.
"""

from __future__ import annotations

from typing import Any

_READS = [
    "add",
    "radd",
    "iadd",
    "sub",
    "rsub",
    "isub",
    "mul",
    "rmul",
    "imul",
    "truediv",
    "rtruediv",
    "floordiv",
    "mod",
    "pow",
    "neg",
    "matmul",
    "rmatmul",
    "and",
    "rand",
    "or",
    "ror",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "bool",
    "len",
    "iter",
    "next",
    "getitem",
    "contains",
    "call",
    "float",
    "int",
    "index",
    "array",
    "hash",
]


class Read(Exception):
    """An `Unread` was used."""


class Unread:
    """Stands for what an attribute held.  `read`: was it used?"""

    def __init__(self) -> None:
        self.__dict__["read"] = False

    def _use(self, *args: Any, **kwargs: Any) -> Any:
        self.__dict__["read"] = True
        raise Read

    def _take(self, *args: Any, **kwargs: Any) -> None:
        """A record joins those of a list or mapping: nothing is read."""

    append = extend = insert = clear = update = _take
    __setitem__ = _take

    def __getattr__(self, name: str) -> Any:
        return self._use()


for _name in _READS:
    setattr(Unread, f"__{_name}__", Unread._use)
