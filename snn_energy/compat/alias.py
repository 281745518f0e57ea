"""A module under an old name: a view of modules of today, and one clear line for what they have not."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from snn_energy.errors import OldNameError

SHOWN = 12
"""How many names an error lists."""


def missing(name: str, known: Iterable[str]) -> OldNameError:
    """What an import of the old `name` ends in; `known` are the names beside it."""
    parent, _, child = name.rpartition(".")
    beside = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent]
    shown = sorted(beside)
    if len(beside) > SHOWN:
        close = difflib.get_close_matches(child, beside, n=SHOWN)
        shown = [*close, *(name for name in shown if name not in close)][:SHOWN]
        shown.append(f"… ({len(beside)} in all)")
    there = f"{parent} gives {', '.join(shown)}" if beside else f"there is {', '.join(sorted(known))}"
    return OldNameError(f"{name}: an old name without an alias here; {there}", name=name)


class Alias(ModuleType):
    """`sources` are searched in order; `children` are the old submodules, imported when asked for.

    A source with `__all__` gives those names alone.
    """

    def __init__(self, name: str, sources: list[ModuleType], children: set[str]) -> None:
        super().__init__(name, f"{name}: an old import name; see snn_energy.compat.old_names.")
        self.__dict__["_sources"], self.__dict__["_children"] = sources, children

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            if name == "__all__" and self._sources:
                return dir(self)
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if f"{self.__name__}.{name}" in self._children:
            return importlib.import_module(f"{self.__name__}.{name}")
        for source in self._sources:
            if name in getattr(source, "__all__", (name,)) and hasattr(source, name):
                return getattr(source, name)
        raise missing(f"{self.__name__}.{name}", {f"{self.__name__}.{n}" for n in dir(self)})

    def __dir__(self) -> list[str]:
        names = {child.rpartition(".")[2] for child in self._children}
        for source in self._sources:
            names |= set(getattr(source, "__all__", None) or _own_names(source))
        return sorted(name for name in names if not name.startswith("_"))


def _own_names(module: ModuleType) -> set[str]:
    """The classes and functions of a module and of the modules below it; not what it imports."""
    return {
        name
        for name, value in vars(module).items()
        if callable(value) and str(getattr(value, "__module__", "")).startswith(module.__name__)
    }
