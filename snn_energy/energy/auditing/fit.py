"""Fitting one formula to the rows of a table, within what the printed digits allow.

    mJ = price of an AC × accumulates + price of a MAC × MACs + constant

Prices are given or found; a constant is found.  The fit asks how many rows one set of numbers can meet, not
for the least error: one misprinted row then spoils nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FLOOR = 1e-4  # of a row's mJ: papers multiply figures before they round them
MOST_TRIES = 20_000


@dataclass(frozen=True)
class Terms:
    """What a formula multiplies, by row: (n, k) values and half widths of the k unknowns' terms, and the
    known part of the sum with its half width, (n,); in G operations and mJ: a price in pJ is a factor."""

    free: Floats
    free_half: Floats
    known: Floats
    known_half: Floats
    mj: Floats
    mj_half: Floats

    @property
    def unknowns(self) -> int:
        """How many numbers must be found."""
        return int(self.free.shape[1])

    def part(self, rows: NDArray[np.bool_]) -> Terms:
        """These rows only."""
        return Terms(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Solution:
    """The unknowns' values, the interval of a single unknown, which rows are met, and by what they miss."""

    values: tuple[float, ...]
    interval: tuple[float, float] | None
    met: NDArray[np.bool_]
    predicted: Floats
    tolerance: Floats


def solve(terms: Terms) -> Solution:
    """The values that meet the most rows; none is negative."""
    if terms.unknowns == 0 or not len(terms.mj):
        return _judge(terms, (0.0,) * terms.unknowns, None)
    if terms.unknowns == 1:
        return _stab(terms)
    best = _judge(terms, (0.0,) * terms.unknowns, None)
    for values in _hypotheses(terms):
        found = _judge(terms, values, None)
        if _better(found, best, terms):
            best = found
    return best


def _judge(terms: Terms, values: Sequence[float], interval: tuple[float, float] | None) -> Solution:
    factors = np.asarray(values, dtype=np.float64)
    predicted = terms.known + terms.free @ factors
    tolerance = terms.mj_half + terms.known_half + terms.free_half @ factors
    met = np.abs(terms.mj - predicted) <= tolerance * (1 + 1e-9)
    return Solution(tuple(map(float, values)), interval, met, predicted, tolerance)


def _stab(terms: Terms) -> Solution:
    """One unknown: each row allows an interval of it; the value inside the most intervals, exactly."""
    term, half = terms.free[:, 0], terms.free_half[:, 0]
    rest, slack = terms.mj - terms.known, terms.mj_half + terms.known_half
    bears = term > 0
    if not bears.any():
        return _judge(terms, (0.0,), None)
    low = np.maximum((rest - slack)[bears] / (term + half)[bears], 0.0)
    narrow = np.maximum((term - half)[bears], 0.0)
    with np.errstate(divide="ignore"):
        high = np.where(narrow > 0, (rest + slack)[bears] / narrow, np.inf)
    inside = (low[:, None] <= low[None, :]) & (low[None, :] <= high[:, None])
    counts = inside.sum(axis=0)
    start = int(np.lexsort((low, -counts))[0])
    if counts[start] == 0:
        return _judge(terms, (0.0,), None)
    members = inside[:, start]
    interval = (float(low[members].max()), float(high[members].min()))
    typical = float(np.median((rest[bears] / term[bears])[members]))
    return _judge(terms, (min(max(typical, interval[0]), interval[1]),), interval)


def _hypotheses(terms: Terms) -> list[tuple[float, ...]]:
    """Values through every choice of as many rows as unknowns, each then fitted to the rows that it meets."""
    n, k = terms.free.shape
    rest = terms.mj - terms.known
    choices = itertools.combinations(range(n), k)
    stride = max(1, math.comb(n, k) // MOST_TRIES)
    found: list[tuple[float, ...]] = []
    scale = np.maximum(np.abs(terms.free).max(axis=0), 1e-300)
    for chosen in itertools.islice(choices, 0, None, stride):
        rows = list(chosen)
        matrix = terms.free[rows] / scale
        if np.linalg.matrix_rank(matrix, tol=1e-6) < k:
            continue
        values = np.linalg.solve(matrix, rest[rows]) / scale
        if (values < 0).any():
            continue
        found.append(tuple(map(float, values)))
        met = _judge(terms, found[-1], None).met
        if met.sum() > k:
            weights = 1 / (terms.mj_half + terms.known_half)[met]
            fitted, *_ = np.linalg.lstsq(
                terms.free[met] / scale * weights[:, None], rest[met] * weights, rcond=None
            )
            if (fitted >= 0).all():
                found.append(tuple(map(float, fitted / scale)))
    return found


def _better(new: Solution, old: Solution, terms: Terms) -> bool:
    """More rows met; of the same number, the lesser error."""
    counts = int(new.met.sum()), int(old.met.sum())
    if counts[0] != counts[1]:
        return counts[0] > counts[1]
    errors = [float(((terms.mj - s.predicted)[s.met] ** 2).sum()) for s in (new, old)]
    return errors[0] < errors[1]
