"""Exact sums of one operation while batches arrive; turned into an `OpRow` at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from snn_energy.profiling.kinds import ValueSet
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.profile import OpRow
from snn_energy.profiling.provenance import union
from snn_energy.profiling.resolve import ZERO, Count


@dataclass(slots=True)
class Reading:
    """Counts over leading dimensions: `values` (float64, flat over `lead`) × `factor`; None for all ones."""

    lead: tuple[int, ...]
    values: torch.Tensor | None
    factor: int = 1


class Located:
    """Counts with a place: sums over samples, and over steps; None where samples cannot be told apart."""

    __slots__ = ("samples", "squares", "steps", "total")

    def __init__(self, total: int, steps: Iterable[int] = (), samples: list[int] | None = None) -> None:
        self.total, self.steps, self.samples = total, tuple(steps), samples
        self.squares = None if samples is None else sum(s * s for s in samples)


def located(layout: Layout, pending: Iterable[dict[str, list[Reading]]]) -> dict[Any, Located]:
    """All readings of a pass before their factors, by (shape, id of the values): reduced together."""
    known: dict[Any, Located] = {}
    alike: dict[tuple[int, ...], dict[int, torch.Tensor]] = {}
    for reading in (r for counts in pending for readings in counts.values() for r in readings):
        if reading.values is not None:
            alike.setdefault(reading.lead, {})[id(reading.values)] = reading.values
        elif (reading.lead, 0) not in known:
            known[reading.lead, 0] = _ones(layout, reading.lead)
    for lead, values in alike.items():
        block, steps = torch.stack(tuple(values.values())).long(), layout.split(lead)
        if steps is None:
            found = [Located(total) for total in block.sum(1).tolist()]
        else:  # further leading dimensions belong to the sample
            grid = block.reshape(len(values), steps, layout.batch, -1).sum(3)
            rows = zip(grid.sum(2).tolist(), grid.sum(1).tolist(), strict=True)
            found = [Located(sum(by_step), by_step, by_sample) for by_step, by_sample in rows]
        known.update({(lead, key): one for key, one in zip(values, found, strict=True)})
    return known


def _ones(layout: Layout, lead: tuple[int, ...]) -> Located:
    """One of each leading index."""
    total, steps = math.prod(lead), layout.split(lead)
    if steps is None:
        return Located(total)
    return Located(total, [total // steps] * steps, [total // layout.batch] * layout.batch)


class Tally:
    """The running record of one (module path, operation, site)."""

    def __init__(self, name: str, op: str, site: int) -> None:
        self.name, self.op, self.site = name, op, site
        self.fixed: dict[str, Any] = {}  # fields of the row that the first call settles
        self.sums: dict[str, int] = {}  # plain totals
        self.counts: dict[str, Count] = {}
        self.left: ValueSet | None = None
        self.right: ValueSet | None = None
        self.out: ValueSet | None = None
        self.sources: tuple[str, ...] = ()
        self.feeds: dict[str, None] = {}
        self.static: bool | None = None
        self.folded: bool | None = None
        self.calls = 0  # in this pass
        self.pending: dict[str, list[Reading]] = {}
        self.totals: list[tuple[str, tuple[int, ...], int]] = []
        self.repeats: list[bool] = []  # per call of this pass: was the input the same at each step?
        self.first_input: torch.Tensor | None = None

    def see_left(self, values: ValueSet) -> None:
        """Join the values of the first operand."""
        self.left = values if self.left is None else self.left.join(values)

    def see_right(self, values: ValueSet) -> None:
        """Join the values of the second operand."""
        self.right = values if self.right is None else self.right.join(values)

    def read(self, name: str, lead: tuple[int, ...], values: torch.Tensor | None, factor: int = 1) -> None:
        """One call's contribution to the count `name`."""
        self.pending.setdefault(name, []).append(Reading(lead, values, factor))

    def add(self, **sums: int) -> None:
        """Plain totals."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def flush(self, layout: Layout, known: dict[Any, Located]) -> None:
        """Close a pass: readings become counts."""
        for name, readings in self.pending.items():
            self.counts[name] = self.counts.get(name, ZERO) + _count(readings, layout, known)
        if self.repeats:
            steps = layout.steps or 1
            static = steps > 1 and all(self.repeats) and len(self.repeats) == steps
            self.static = static if self.static is None else self.static and static
        self.add(calls=self.calls * layout.batch)
        self.calls, self.pending, self.repeats, self.first_input = 0, {}, [], None

    def row(self, steps: int) -> OpRow:
        """The row, but for what `resolve` derives from it."""
        counts = dict(self.counts)
        given, right_given = counts.pop("input", ZERO), counts.pop("right_input", ZERO)
        out = counts.pop("output", ZERO)
        sums: dict[str, Any] = {**self.sums}
        valid = counts.get("valid", ZERO).total
        return OpRow(
            name=self.name,
            op=self.op,
            site=self.site,
            **self.fixed,
            **sums,
            input_kind="" if self.left is None else self.left.kind,
            input_values=None if self.left is None else self.left.values,
            right_kind=None if self.right is None else self.right.kind,
            right_values=None if self.right is None else self.right.values,
            two_valued_input=self.left is not None and self.left.two_valued,
            output_kind="" if self.out is None else self.out.kind,
            input_nonzero=given.total,
            input_nonzero_by_step=given.by_step,
            right_nonzero=right_given.total,
            output_nonzero=out.total,
            neuron_reset=out.total,
            output_nonzero_by_step=out.by_step,
            valid_macs=valid if "dense_macs" in sums else 0,
            sources=self.sources,
            feeds=tuple(self.feeds),
            static_repeats=steps if self.static else 1,
            norm_folded=bool(self.folded),
            counts=counts,
        )

    def merge_sources(self, sources: tuple[str, ...]) -> None:
        """Note where an operand came from."""
        if sources and sources is not self.sources:
            self.sources = union(self.sources, sources)


def _count(readings: list[Reading], layout: Layout, known: dict[Any, Located]) -> Count:
    """The count of one pass from its calls, which are the steps of a loop, or repetitions."""
    steps, factors = layout.steps or 1, [r.factor for r in readings]
    parts = [known[r.lead, 0 if r.values is None else id(r.values)] for r in readings]
    if len(parts) == 1:
        (factor,), (one,) = factors, parts
        if one.squares is None:
            return Count(factor * one.total, (), None)
        by_step = tuple([factor * s for s in one.steps]) if steps == 1 or len(one.steps) > 1 else ()
        return Count(factor * one.total, by_step, factor * factor * one.squares)
    totals = [factor * part.total for factor, part in zip(factors, parts, strict=True)]
    squares = _squares(factors, parts)
    lengths = {len(part.steps) for part in parts}
    by_step = ()
    if squares is None:
        pass
    elif lengths == {1} and steps > 1:
        each, odd = divmod(len(totals), steps)  # calls of one step stand together
        by_step = () if odd else tuple([sum(totals[i : i + each]) for i in range(0, len(totals), each)])
    elif len(lengths) == 1:
        rows = ([f * s for s in part.steps] for f, part in zip(factors, parts, strict=True))
        by_step = tuple([sum(column) for column in zip(*rows, strict=True)])
    return Count(sum(totals), by_step, squares)


def _squares(factors: list[int], parts: list[Located]) -> int | None:
    """Σ over samples of (Σ over calls)²; None where samples cannot be told apart."""
    samples = [part.samples for part in parts if part.samples is not None]
    if len(samples) < len(parts):
        return None
    common = factors[0]
    if factors.count(common) < len(factors):
        samples = [[f * s for s in column] for f, column in zip(factors, samples, strict=True)]
        common = 1
    return common * common * sum([s * s for s in map(sum, zip(*samples, strict=True))])
