"""Input kinds: what the values of a tensor allow the hardware to do.  Decided from values alone.

A kind is a statement about the set of *nonzero* values a tensor ever took.  Sets only grow as batches
arrive.  Nothing here imports torch.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

KINDS = ("binary", "scaled", "ternary", "integer", "real")
LARGEST = 15  # the largest event, in units: beyond it an operand is real
ROUNDING = 1e-5  # of a unit: what sums and divisions in float32 leave of whole multiples


@dataclass(frozen=True)
class ValueSet:
    """The nonzero values seen, in order; None once they are no multiples, up to 15, of a common unit.

    `counts`: declared to be event counts: whole numbers of any size, which `values` then does not list.
    """

    values: tuple[float, ...] | None = ()
    counts: bool = False

    @functools.cached_property
    def unit(self) -> float:
        """What one unit event stands for: whole multiples of it are all the values; 0 without values."""
        if self.counts:
            return 1.0
        return 0.0 if not self.values else (grid(self.values) or 0.0)

    @functools.cached_property
    def largest(self) -> int:
        """The largest event in units; 0 where there is none, or no unit.  Declared counts have no bound."""
        if self.counts:
            return 2**31
        return round(max(map(abs, self.values)) / self.unit) if self.values and self.unit else 0

    @functools.cached_property
    def kind(self) -> str:
        """`binary` {0,1}, `scaled` {0,a}, `ternary` {-1,0,1}, `integer` (multiples of a unit), else `real`.

        The unit is the smallest magnitude, or among whole numbers their greatest common divisor.
        """
        if self.counts:
            return "integer"
        if self.values is None:
            return "real"
        if self.values in ((), (1.0,)):
            return "binary"
        if len(self.values) == 1:
            return "scaled"
        if self.values == (-1.0, 1.0):
            return "ternary"
        whole = all(v.is_integer() for v in self.values)
        smallest = min(map(abs, self.values))
        return "integer" if whole or round(smallest / self.unit) == 1 else "real"

    @functools.cached_property
    def event_driven(self) -> bool:
        """Whether only nonzero elements cause work."""
        return self.kind != "real"

    @functools.cached_property
    def countable(self) -> bool:
        """Whether the values seen so far have a unit: with more of them, these may still be events."""
        return self.counts or self.values is not None

    @functools.cached_property
    def graded(self) -> bool:
        """Whether some event stands for more than one unit event."""
        return self.largest > 1

    @property
    def two_valued(self) -> bool:
        """Zero and at most one other value, within [0, 1]: what syops takes for spikes."""
        return self.values is not None and len(self.values) < 2 and all(0 <= v <= 1 for v in self.values)

    def join(self, other: ValueSet) -> ValueSet:
        """The values of both: commutative, associative; what has no unit never finds one again."""
        if self is other or self == other:
            return self
        if self.counts or other.counts:
            whole = all(s.counts or (s.values is not None and _whole(s.values)) for s in (self, other))
            return COUNTS if whole else REAL
        if self.values is None or other.values is None:
            return REAL
        values = tuple(sorted({*self.values, *other.values}))
        return ValueSet(values) if len(values) < 2 or grid(values) is not None else REAL


def grid(values: tuple[float, ...]) -> float | None:
    """The greatest unit of which all `values` are whole multiples, at most 15; None if there is none."""
    magnitudes = [abs(v) for v in values]
    if not magnitudes or not all(map(math.isfinite, magnitudes)):
        return None
    smallest, top = min(magnitudes), max(magnitudes)
    if len(values) > 4 * LARGEST or top > (LARGEST + 0.5) * smallest:
        return None
    for parts in range(1, LARGEST + 1):
        if top * parts > (LARGEST + 0.5) * smallest:
            return None
        multiples = [m * parts / smallest for m in magnitudes]
        if all(abs(k - round(k)) <= ROUNDING * k for k in multiples):
            return smallest / parts
    return None


def _whole(values: tuple[float, ...]) -> bool:
    return all(float(v).is_integer() for v in values)


EMPTY = ValueSet()
BINARY = ValueSet((1.0,))
TERNARY = ValueSet((-1.0, 1.0))
COUNTS = ValueSet(None, counts=True)
REAL = ValueSet(None)


def value_set(kind: str, values: tuple[float, ...] | None) -> ValueSet:
    """Rebuild the set that a saved (kind, values) pair stands for."""
    if values is None:
        return COUNTS if kind == "integer" else REAL
    return ValueSet(tuple(float(v) for v in values))
