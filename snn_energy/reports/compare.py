"""Two or more profiles beside each other: layer by layer, block by block, accuracy against energy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_energy.energy import Energy
from snn_energy.energy.analysis import compare_with_twin
from snn_energy.files import write_text
from snn_energy.profiling.profile import Profile
from snn_energy.reports import embed
from snn_energy.reports.charts import Point, front, scatter
from snn_energy.reports.html import render_page
from snn_energy.reports.training import training
from snn_energy.reports.view import operation_name, twin_words
from snn_energy.reports.words import picojoules

SCRIPTS = ("format.js", "evaluate.js", "shared.js", "compare.js")
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Side:
    """One of the profiles that are compared, its name in the comparison, and its energy."""

    label: str
    profile: Profile
    energy: Energy

    @property
    def rate(self) -> float | None:
        """Mean firing rate over all neurons and steps; None without neurons."""
        return self.profile.mean_rate


@dataclass(frozen=True)
class Line:
    """One operation in each of the profiles: which row it is there (None: none) and its pJ."""

    name: str
    operation: str
    block: str
    rows: tuple[int | None, ...]
    pj: tuple[float | None, ...]

    @property
    def charged(self) -> bool:
        """Is any of them charged for it?"""
        return any(self.pj)

    @property
    def difference(self) -> float:
        """pJ of the last less those of the first; one that is not there costs nothing."""
        return (self.pj[-1] or 0.0) - (self.pj[0] or 0.0)

    @property
    def ratio(self) -> float | None:
        """The last over the first; None where either is not there, or both are nothing."""
        return ratio(self.pj[0], self.pj[-1])


def ratio(first: float | None, last: float | None) -> float | None:
    """last / first; infinite over nothing, None where one is unknown or both are nothing."""
    if first is None or last is None or not (first or last):
        return None
    return last / first if first else math.inf


def ratio_words(value: float | None) -> str:
    """`1.234`, `∞`, nothing for None."""
    return "" if value is None else "∞" if math.isinf(value) else f"{value:.3f}"


def lines(sides: Sequence[Side]) -> list[Line]:
    """Every operation of any of the profiles, in the order of the first that has it."""
    where: dict[Key, list[int | None]] = {}
    for s, side in enumerate(sides):
        after: Key | None = None
        for i, row in enumerate(side.profile.rows):
            if row.key not in where:
                where = _inserted(where, row.key, [None] * len(sides), after)
            where[row.key][s] = i
            after = row.key
    found = []
    for rows in where.values():
        s, i = next((s, i) for s, i in enumerate(rows) if i is not None)
        row = sides[s].profile.rows[i]
        pj = tuple(None if k is None else side.energy.rows[k].pj for k, side in zip(rows, sides, strict=True))
        found.append(Line(row.name or "(model)", operation_name(row), row.block, tuple(rows), pj))
    return found


def _inserted(table: dict[Key, Any], key: Key, value: Any, after: Key | None) -> dict[Key, Any]:
    """`table` with a new entry behind that of `after`: what only one network has stands in its place."""
    if after == next(reversed(table), None):
        table[key] = value
        return table
    found: dict[Key, Any] = {key: value} if after is None else {}
    for known, held in table.items():
        found[known] = held
        if known == after:
            found[key] = value
    return found


def compare_page(sides: Sequence[Side], out: Path) -> Path:
    """Write the page that compares `sides` (two or more); the first is what the others are held against."""
    write_text(out, render_page("compare.html.j2", _content(sides), SCRIPTS))
    return out


def _content(sides: Sequence[Side]) -> dict[str, Any]:
    energies = [side.energy for side in sides]
    known = embed.choices((e.convention for e in energies), (e.costs for e in energies))
    blocks: dict[str, list[float]] = {}
    listed = lines(sides)
    for line in listed:
        held = blocks.setdefault(line.block or "(model)", [0.0] * len(sides))
        for s, pj in enumerate(line.pj):
            held[s] += pj or 0.0
    convention, costs = energies[0].convention, energies[0].costs
    points = [
        Point(side.label, side.energy.total_pj, side.profile.accuracy)
        for side in sides
        if side.profile.accuracy is not None
    ]
    return {
        "sides": sides,
        "first": sides[0],
        "energy": energies[0],
        "verdict": _verdict(sides),
        "twins": [twin_words(compare_with_twin(side.profile, convention, costs)) for side in sides],
        "lines": listed,
        "blocks": blocks,
        "trainings": [(side.label, found) for side in sides if (found := training(side.profile))],
        "dearest": max((pj for held in blocks.values() for pj in held), default=0.0) or 1.0,
        "front": front(points),
        "pareto": scatter(points, "energy per inference", "accuracy") if len(points) > 1 else "",
        "ratio": ratio,
        "ratio_words": ratio_words,
        "offered": known,
        "data": embed.page_data(
            [side.profile for side in sides], known, energies[0], labels=[side.label for side in sides]
        ),
    }


def _verdict(sides: Sequence[Side]) -> str:
    """The last against the first, or the range of many, in a sentence."""
    first, last = sides[0], sides[-1]
    if len(sides) > 2:
        cheap, dear = (pick(sides, key=lambda s: s.energy.total_pj) for pick in (min, max))
        return (
            f"From {picojoules(cheap.energy.total_pj)} ({cheap.label}) "
            f"to {picojoules(dear.energy.total_pj)} ({dear.label})"
        )
    share = ratio(first.energy.total_pj, last.energy.total_pj)
    words = f"{last.label} takes {picojoules(last.energy.total_pj)}, "
    words += f"{first.label} {picojoules(first.energy.total_pj)}"
    if share is not None and 0 < share < math.inf:
        words += f": {1 / share:.2f} × less" if share < 1 else f": {share:.2f} × as much"
    if first.profile.accuracy is not None and last.profile.accuracy is not None:
        points = 100 * (last.profile.accuracy - first.profile.accuracy)
        words += f"; accuracy {points:+.2f} points"
    return words


def labels(paths: Sequence[Path], profiles: Sequence[Profile]) -> list[str]:
    """A name for each: the model's where these differ, else its settings' (a sweep's trials), else the
    folder's or file's, else the whole path."""
    folders = [p.parent.name if p.name == "profile.json" and p.parent.name else p.stem for p in paths]
    settings = [p.environment.get("settings", "") for p in profiles]
    for names in ([p.model for p in profiles], settings, folders):
        if len(set(names)) == len(names) and all(names):
            return names
    whole = [str(p) for p in paths]
    return [f"{n} ({whole[:i].count(n) + 1})" if n in whole[:i] else n for i, n in enumerate(whole)]
