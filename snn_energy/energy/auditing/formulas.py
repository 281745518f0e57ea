"""The formulas that a table of energies is held against, in the order in which one would believe them.

A formula has a shape (which printed columns enter, with or without T) and prices (a known pair, or to be
found).  Evidence is counted, not felt: a formula with as many unknowns as rows meets every table, and the
more formulas are tried, the likelier it is that one fits by luck.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snn_energy.energy.auditing.fit import FLOOR, Floats, Solution, Terms, solve
from snn_energy.energy.auditing.table import Figure, PublishedRow
from snn_energy.energy.costs import CostTable, cost_tables

GIGA = 1e9
SUPPORTED = 0.05  # the chance below which a formula counts as found

SOPS = ("sops", "macs·rate·T", "macs·rate", "sops·T", "")
MACS = ("", "macs", "macs·T")
CONSTANTS = ("", "1", "T")
FEMTOJOULES = ("77 fJ per SOP, as in an early version of Spikformer", 0.077)


@dataclass(frozen=True)
class Formula:
    """A shape and its prices in pJ; None is a price to be found.  `prices_from`: where known prices stand."""

    sops: str = ""
    macs: str = ""
    constant: str = ""
    ac_pj: float | None = None
    mac_pj: float | None = None
    prices_from: str = ""

    @property
    def unknowns(self) -> tuple[str, ...]:
        """Names of the numbers to be found."""
        found = ["ac_pj"] if self.sops and self.ac_pj is None else []
        found += ["mac_pj"] if self.macs and self.mac_pj is None else []
        return (*found, "constant_mj") if self.constant else tuple(found)


@dataclass(frozen=True)
class Fit:
    """A formula solved on some rows.

    `met`: which of `rows` it meets; `degrees_of_freedom`: distinct rows met less numbers found (0 or less: no
    evidence at all); `chance`: how likely one of the formulas tried so far meets as many rows by luck, if
    energies were spread evenly.
    """

    formula: Formula
    solution: Solution
    rows: tuple[int, ...]
    met: tuple[int, ...]
    degrees_of_freedom: int
    tried: int
    chance: float

    @property
    def value(self) -> dict[str, float]:
        """What was found, by name."""
        return dict(zip(self.formula.unknowns, self.solution.values, strict=True))


def formulas(columns: frozenset[str], several_steps: bool, costs: CostTable) -> Iterator[Formula]:
    """Every formula for a table with these columns, the most usual first; `several_steps`: T differs."""
    priced = [(costs.name, costs.ac, costs.mac)]
    priced += [(t.name, t.ac, t.mac) for t in _arithmetic() if (t.ac, t.mac) != (costs.ac, costs.mac)]
    shapes = [s for s in _shapes(columns, several_steps) if s.sops or s.macs]
    for name, ac, mac in priced:
        yield from _priced(shapes, ac, mac, name)
    plain = [s for s in shapes if s.sops and not s.macs and not s.constant]
    for name, ac in _chips():
        yield from _priced(plain, ac, None, name)
    yield from _priced(shapes, costs.ac, None, costs.name, both=True)
    yield from _priced(shapes, None, None, "")


def _priced(
    shapes: list[Formula], ac: float | None, mac: float | None, name: str, both: bool = False
) -> Iterator[Formula]:
    for shape in shapes:
        if both and not (shape.sops and shape.macs):
            continue
        if ac is None and "T" in shape.sops and not shape.macs and not shape.constant:
            continue  # a price per step is found where prices are given
        yield Formula(shape.sops, shape.macs, shape.constant, ac, mac, name)


def _shapes(columns: frozenset[str], several_steps: bool) -> Iterator[Formula]:
    """Simple shapes first: fewer terms, then fewer factors."""
    found = []
    for sops in SOPS:
        for macs in MACS:
            for constant in CONSTANTS:
                needed = {w for part in (sops, macs) for w in part.split("·") if w} | (
                    {"T"} if constant == "T" else set()
                )
                dense = "rate" in sops
                if not needed <= columns or (dense and macs) or (dense and "sops" in columns):
                    continue
                if constant == "T" and not several_steps:
                    continue
                found.append(Formula(sops, macs, constant))
    order = {s: i for i, s in enumerate(SOPS)}
    found.sort(key=lambda f: (bool(f.constant), _factors(f), -len(f.macs), order[f.sops]))
    return iter(found)


def _factors(formula: Formula) -> int:
    return sum("T" in part for part in (formula.macs, formula.constant)) + (formula.sops == "sops·T")


@functools.cache
def _arithmetic() -> tuple[CostTable, ...]:
    """Cost tables of arithmetic alone: AC and MAC, no memory."""
    return tuple(t for t in cost_tables().values() if t.mac is not None and t.memory is None)


@functools.cache
def _chips() -> tuple[tuple[str, float], ...]:
    chips = tuple((t.name, t.ac) for t in cost_tables().values() if t.mac is None)
    return (FEMTOJOULES, *chips)


def fit(formula: Formula, rows: tuple[PublishedRow, ...], tried: int) -> Fit:
    """`formula` on the rows that state what it needs; `tried` formulas were tried, this one included."""
    usable = tuple(i for i, row in enumerate(rows) if states(row, formula))
    terms = _terms(formula, [rows[i] for i in usable])
    solution = solve(terms)
    met = tuple(i for i, hit in zip(usable, solution.met, strict=True) if hit)
    distinct = _distinct([rows[i] for i in usable])
    freedom = int((solution.met & distinct).sum()) - len(formula.unknowns)
    chance = _chance(formula, terms, solution, distinct, freedom, tried)
    return Fit(formula, solution, usable, met, freedom, tried, chance)


def states(row: PublishedRow, formula: Formula) -> bool:
    """Does the row state its mJ, T and rate where the formula needs them, and some of its operations?"""
    words = set(formula.sops.split("·")) | set(formula.macs.split("·")) | {formula.constant}
    if row.mj is None or ("T" in words and row.T is None):
        return False
    if "rate" in words:
        return row.rate is not None and row.macs is not None
    given = {"sops": row.sops, "macs": row.macs}
    return any(given[name] is not None for name in given if name in words)


def _terms(formula: Formula, rows: list[PublishedRow]) -> Terms:
    n = len(rows)
    free: list[tuple[Floats, Floats]] = []
    known, known_half = np.zeros(n), np.zeros(n)
    for part, price in ((formula.sops, formula.ac_pj), (formula.macs, formula.mac_pj)):
        if part:
            value, half = _product(part, rows)
            if price is None:
                free.append((value, half))
            else:
                known, known_half = known + price * value, known_half + price * half
    if formula.constant:
        factor = np.array([r.T.value if formula.constant == "T" and r.T else 1.0 for r in rows])
        free.append((factor, np.zeros(n)))
    stack = [np.stack([pair[i] for pair in free], axis=1) if free else np.zeros((n, 0)) for i in (0, 1)]
    printed = [r.mj or Figure(0.0, 0.0) for r in rows]
    mj = np.array([f.value for f in printed])
    unit = np.array([max(2 * f.half, FLOOR * f.value) for f in printed])
    return Terms(stack[0], stack[1], known, known_half, mj, unit)


def _product(part: str, rows: list[PublishedRow]) -> tuple[Floats, Floats]:
    """A term of every row in G operations, and its half width; operations that a row leaves out are none."""
    value, half = np.full(len(rows), 1 / GIGA), np.zeros(len(rows))
    for word in part.split("·"):
        figures = [getattr(row, word) or Figure(0.0, 0.0) for row in rows]
        factor = np.array([f.value for f in figures])
        half = half * factor + value * np.array([f.half for f in figures])
        value = value * factor
    return value, half


def _distinct(rows: list[PublishedRow]) -> NDArray[np.bool_]:
    """The first of rows that print the same figures: a repeated row is no second witness."""
    seen: set[tuple[float | None, ...]] = set()
    first = []
    for row in rows:
        key = tuple(f.value if f else None for f in (row.macs, row.sops, row.rate, row.T, row.mj))
        first.append(key not in seen)
        seen.add(key)
    return np.array(first, dtype=bool)


def _chance(
    formula: Formula, terms: Terms, solution: Solution, distinct: NDArray[np.bool_], freedom: int, tried: int
) -> float:
    """tried × ways to choose the rows met × what each row beyond the unknowns adds.

    A row is met by luck with the chance of its tolerance's width over the range that its energy might have
    had: 0 to what it prints, or, with a constant to be found, the range of the printed energies.
    """
    if freedom <= 0:
        return 1.0
    met = solution.met & distinct
    mj = terms.mj[met]
    span = np.maximum(mj, 1e-300)
    if formula.constant:
        span = np.minimum(span, mj.max() - mj.min())
    with np.errstate(divide="ignore"):
        share = np.minimum(
            1.0, np.where(span > 0, 2 * solution.tolerance[met] / np.maximum(span, 1e-300), 1.0)
        )
    worst = np.sort(share)[::-1][:freedom]
    ways = math.comb(int(distinct.sum()), int(met.sum()))
    log = math.log(tried) + math.log(ways) + float(np.log(np.maximum(worst, 1e-300)).sum())
    return math.exp(min(0.0, log))


def best_fit(rows: tuple[PublishedRow, ...], costs: CostTable) -> tuple[Fit | None, list[Fit]]:
    """The fit that luck explains least, and every other one that is supported, best first.

    None where no row states both an energy and operations.
    """
    columns = frozenset(q for q in ("macs", "sops", "rate", "T") if any(getattr(r, q) for r in rows))
    steps = {r.T.value for r in rows if r.T}
    fits = [fit(f, rows, i) for i, f in enumerate(formulas(columns, len(steps) > 1, costs), 1)]
    fits = [f for f in fits if f.met]
    fits.sort(key=lambda f: (f.chance, -f.degrees_of_freedom, f.tried))
    if not fits:
        return None, []
    return fits[0], [f for f in fits[1:] if f.chance <= SUPPORTED]
