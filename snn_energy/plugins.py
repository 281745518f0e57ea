"""Names that users and installed packages add to ours: models, data sets, export targets, rules, neurons.

An installed package offers something by an entry point of the group `snn_energy.models`, `.datasets`,
`.targets`, `.rules` or `.neurons`: docs/extending.md.  It is imported when its name is first asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from snn_energy.errors import ConfigError

V = TypeVar("V")


@functools.cache
def offered(group: str) -> Mapping[str, metadata.EntryPoint]:
    """What installed packages offer under `group`, by name, not yet imported."""
    return {point.name: point for point in metadata.entry_points(group=group)}


@functools.cache
def load(group: str, name: str) -> Any:
    """The object behind an entry point.  Raises `ConfigError` where it cannot be imported."""
    point = offered(group)[name]
    try:
        return point.load()
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{group}: {name} = {point.value}: cannot be imported: {reason}") from None


class Registry(Mapping[str, V], Generic[V]):
    """What names stand for: ours, those that `register` added, those that installed packages offer.

    `accept(name, value)` makes an entry of what a user gave, or raises `ConfigError`.  `aliases` are further
    names of ours: they are looked up like any other, but neither listed nor counted.
    """

    def __init__(
        self,
        what: str,
        group: str,
        ours: Mapping[str, V],
        accept: Callable[[str, Any], V],
        aliases: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.what, self.group, self.ours, self.accept = what, group, ours, accept
        self.aliases = aliases
        self._added: dict[str, V] = {}

    def register(self, name: str, value: Any) -> None:
        """Add `name`; one that was added before is replaced, so that a notebook's cell can run twice.

        Raises `ConfigError` for a name of ours, one that cannot be typed, and a value that cannot be.
        """
        if not isinstance(name, str) or not name or set(name) & set(" \t\n,:/\\") or name[0] == "-":
            raise ConfigError(f"{self.what} {name!r}: a name is one word, without commas, colons and slashes")
        if name in self.ours or name in self.aliases:
            raise ConfigError(f"{self.what} {name!r} comes with snn-energy: choose another name")
        self._added[name] = self.accept(name, value)

    def canonical(self, name: str) -> str:
        """The name under which an alias is listed; any other name itself."""
        return self.aliases.get(name, name)

    def __getitem__(self, name: str) -> V:
        name = self.canonical(name)
        if name in self.ours:
            return self.ours[name]
        if name not in self._added:
            if name not in offered(self.group):
                raise KeyError(name)
            value = load(self.group, name)
            if name not in self._added:  # its import may have registered it, with more than the object says
                self._added[name] = self.accept(name, value)
        return self._added[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*self.ours, *self._added, *offered(self.group)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        known = name in self.ours or name in self.aliases or name in self._added
        return known or name in offered(self.group)
