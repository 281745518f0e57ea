"""Input kinds: what the values of a tensor allow the hardware to do.  Decided from values alone.

A kind is a statement about the set of *nonzero* values a tensor ever took.  Sets only grow as batches
arrive, so a kind only moves towards `real`.  Nothing here imports torch.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

KINDS = ("binary", "scaled", "ternary", "integer", "real")


@dataclass(frozen=True)
class ValueSet:
    """The nonzero values seen: none, one, or (-1, 1); None for any other set; are all integers?"""

    values: tuple[float, ...] | None = ()
    integral: bool = True

    @functools.cached_property
    def kind(self) -> str:
        """`binary` {0,1}, `scaled` {0,a}, `ternary` {-1,0,1}, `integer`, else `real`."""
        if self.values is not None:
            if self.values in ((), (1.0,)):
                return "binary"
            if len(self.values) == 1:
                return "scaled"
            return "ternary"
        return "integer" if self.integral else "real"

    @functools.cached_property
    def event_driven(self) -> bool:
        """Whether only nonzero elements cause work."""
        return self.kind != "real"

    @property
    def two_valued(self) -> bool:
        """Zero and at most one other value, within [0, 1]: what syops takes for spikes."""
        return self.values is not None and len(self.values) < 2 and all(0 <= v <= 1 for v in self.values)

    def join(self, other: ValueSet) -> ValueSet:
        """The values of both: commutative, associative, never further from `real`."""
        if self == other:
            return self
        integral = self.integral and other.integral
        if self.values is None or other.values is None:
            return ValueSet(None, integral)
        values = tuple(sorted({*self.values, *other.values}))
        return ValueSet(values if len(values) < 2 or values == (-1.0, 1.0) else None, integral)


EMPTY = ValueSet()
BINARY = ValueSet((1.0,))
TERNARY = ValueSet((-1.0, 1.0))
INTEGER = ValueSet(None, True)
REAL = ValueSet(None, False)


def value_set(kind: str, values: tuple[float, ...] | None) -> ValueSet:
    """Rebuild the set that a saved (kind, values) pair stands for."""
    if values is None:
        return ValueSet(None, kind != "real")
    return ValueSet(values, all(float(v).is_integer() for v in values))
