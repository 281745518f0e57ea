"""Sizes of tensors whose batch B and number of time steps T stay symbols.

A `Dim` is a plain int, or a text for a monomial in T and B: `"B"`, `"T"`, `"T*B"`, `"2*B"`, `"T/2"` (the
number of chunks of two steps), `"T/2*B"`.  A `Shape` is a tuple of them.  Texts are canonical: two equal
sizes are the same text.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod

Dim = int | str
Shape = tuple[Dim, ...]


@dataclass(frozen=True)
class Monomial:
    """coefficient · T^t · B^b, with which sizes multiply."""

    coefficient: Fraction = Fraction(1)
    t: int = 0
    b: int = 0

    def __mul__(self, other: Monomial) -> Monomial:
        return Monomial(self.coefficient * other.coefficient, self.t + other.t, self.b + other.b)

    def __truediv__(self, other: Monomial) -> Monomial:
        return Monomial(self.coefficient / other.coefficient, self.t - other.t, self.b - other.b)

    def dim(self) -> Dim:
        """The canonical `Dim`: an int where T and B do not occur."""
        above, below = self.coefficient.numerator, self.coefficient.denominator
        if self.t == self.b == 0 and below == 1:
            return above
        factors = [str(above)] if above != 1 else []
        if below != 1:
            factors.append(f"T/{below}")
            factors += ["T"] * (self.t - 1)
        else:
            factors += ["T"] * self.t
        return "*".join(factors + ["B"] * self.b) or "1"


def monomial(dim: Dim) -> Monomial:
    """Read a `Dim`."""
    if isinstance(dim, int):
        return Monomial(Fraction(dim))
    result = Monomial()
    for factor in dim.split("*"):
        symbol, _, below = factor.partition("/")
        divisor = Fraction(1, int(below or 1))
        if symbol == "T":
            result *= Monomial(divisor, t=1)
        elif symbol == "B":
            result *= Monomial(divisor, b=1)
        else:
            result *= Monomial(int(symbol) * divisor)
    return result


def times(*dims: Dim) -> Dim:
    """The product of sizes: `times("T", "B") == "T*B"`."""
    return prod((monomial(d) for d in dims), start=Monomial()).dim()


def value(dim: Dim, steps: int, batch: int) -> int:
    """The number behind a size, for T = steps and B = batch.  Raises ValueError where it is not whole."""
    m = monomial(dim)
    number = m.coefficient * Fraction(steps) ** m.t * Fraction(batch) ** m.b
    if number.denominator != 1:
        raise ValueError(f"{dim} is not a whole number for T = {steps}, B = {batch}")
    return int(number)


def values(shape: Shape, steps: int, batch: int) -> tuple[int, ...]:
    """`value` of every size of a shape."""
    return tuple(value(d, steps, batch) for d in shape)


def show(shape: Shape) -> str:
    """`(T, B, 64, 8, 6)`."""
    return f"({', '.join(map(str, shape))})"
