"""Exact sums of one operation while batches arrive; turned into an `OpRow` at the end."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from snn_energy.profiling.kinds import ValueSet
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.profile import OpRow
from snn_energy.profiling.provenance import TIME_MAJOR, union
from snn_energy.profiling.resolve import SIDES, SYNAPTIC, ZERO, Count, ratio

UNITLESS = 1.0  # the unit of an operand that has none


@dataclass(slots=True)
class Reading:
    """Counts over leading dimensions: `values` (float64, flat over `lead`) × `factor`; None for all ones.

    `units` counts unit events instead of events, in units of `unit`; None where each event is one.
    `order` says how time and batch lie in `lead`.
    """

    lead: tuple[int, ...]
    values: torch.Tensor | None
    factor: int = 1
    unit: float = UNITLESS
    units: torch.Tensor | None = None
    order: int = TIME_MAJOR


class Located:
    """Counts with a place: sums over samples, and over steps; None where samples cannot be told apart."""

    __slots__ = ("samples", "squares", "steps", "total")

    def __init__(self, total: int, steps: Iterable[int] = (), samples: list[int] | None = None) -> None:
        self.total, self.steps, self.samples = total, tuple(steps), samples
        self.squares = None if samples is None else sum(s * s for s in samples)


Place = tuple[tuple[int, ...], int, int]  # leading shape, order of time and batch, id of the values


def located(layout: Layout, pending: Iterable[dict[str, list[Reading]]]) -> dict[Place, Located]:
    """All readings of a pass before their factors: those of one shape are reduced together."""
    known: dict[Place, Located] = {}
    alike: dict[tuple[tuple[int, ...], int], dict[int, torch.Tensor]] = {}
    for reading in (r for counts in pending for readings in counts.values() for r in readings):
        place = reading.lead, reading.order
        for values in (reading.values, reading.units):
            if values is not None:
                alike.setdefault(place, {})[id(values)] = values
        if reading.values is None and (*place, 0) not in known:
            known[*place, 0] = _ones(layout, *place)
    for (lead, order), found_here in alike.items():
        block, grid = torch.stack(tuple(found_here.values())).long(), layout.split(lead, order)
        if grid is None:
            found = [Located(total) for total in block.sum(1).tolist()]
        else:  # further leading dimensions belong to the sample
            by_both = block.reshape(len(found_here), *grid.shape, -1).sum(3)
            steps, samples = by_both.sum(grid.batch_axis + 1), by_both.sum(grid.step_axis + 1)
            rows = zip(steps.tolist(), samples.tolist(), strict=True)
            found = [Located(sum(by_step), by_step, by_sample) for by_step, by_sample in rows]
        known.update({(lead, order, key): one for key, one in zip(found_here, found, strict=True)})
    return known


def _ones(layout: Layout, lead: tuple[int, ...], order: int) -> Located:
    """One of each leading index."""
    total, grid = math.prod(lead), layout.split(lead, order)
    if grid is None:
        return Located(total)
    steps, batch = grid.shape[grid.step_axis], layout.batch
    return Located(total, [total // steps] * steps, [total // batch] * batch)


class Tally:
    """The running record of one (module path, operation, site)."""

    def __init__(self, name: str, op: str, site: int, bit: int = 0) -> None:
        self.name, self.op, self.site = name, op, site
        self.bit = bit  # of this site, in `Tag.sites`
        self.fixed: dict[str, Any] = {}  # fields of the row that the first call settles
        self.sums: dict[str, int] = {}  # plain totals
        self.counts: dict[str, Count] = {}
        self.bases: dict[str, float] = {}  # unit of each count of unit events
        self.left: ValueSet | None = None
        self.right: ValueSet | None = None
        self.out: ValueSet | None = None
        self.before: tuple[ValueSet | None, ValueSet | None] = (
            None,
            None,
        )  # operands, at the last pass's end
        self.sources: tuple[str, ...] = ()
        self.feeds: dict[str, None] = {}
        self.static: bool | None = None
        self.folded: bool | None = None
        self.resets = False  # does what is put out reset what put it out?
        self.calls = 0  # in this pass
        self.pending: dict[str, list[Reading]] = {}
        self.repeats: list[bool] = []  # per call of this pass: was the input the same at each step?
        self.first: Any = None  # what the layer met at its first call of this pass
        self.plan: Plan | None = None
        self.sparse = False  # has a real operand had zeros?
        self.last: weakref.ref[torch.Tensor] | None = None  # what an addition gave at its last call

    def see_left(self, values: ValueSet) -> None:
        """Join the values of the first operand."""
        if self.left is not values:
            self.left = values if self.left is None else self.left.join(values)

    def see_right(self, values: ValueSet) -> None:
        """Join the values of the second operand."""
        if self.right is not values:
            self.right = values if self.right is None else self.right.join(values)

    def read(self, name: str, reading: Reading) -> None:
        """One call's contribution to the count `name`."""
        self.pending.setdefault(name, []).append(reading)

    def add(self, **sums: int) -> None:
        """Plain totals."""
        mine = self.sums
        for name, value in sums.items():
            mine[name] = mine.get(name, 0) + value

    def remember(
        self,
        key: Any,
        readings: dict[str, Reading],
        sums: dict[str, int],
        dense: dict[str, Reading] | None = None,
    ) -> None:
        """Count what shapes alone decide, and keep it for the next call of the same `key`.

        `dense`: what they decide besides where no operand has a zero (`all_nonzero`).
        """
        self.settle_plan()
        self.plan = Plan(key, readings, sums, dense or {})
        self.again()

    def again(self) -> None:
        """Count what the last call counted."""
        self.plan.calls += 1  # type: ignore[union-attr]

    def uniform(self, key: Any, **sums: int) -> None:
        """Totals that shapes alone decide: those of the last call, if it had the same `key`."""
        if self.plan is not None and self.plan.key == key:
            self.plan.calls += 1
        else:
            self.remember(key, {}, sums)

    def all_nonzero(self, is_full: Callable[[torch.Tensor], bool], *operands: torch.Tensor) -> bool:
        """Count real operands by their shapes, if none of them has a zero; not asked again once one had."""
        if self.sparse or not all(map(is_full, operands)):
            self.sparse = True
            return False
        for name, reading in self.plan.dense.items():  # type: ignore[union-attr]
            self.read(name, reading)
        return True

    def settle_plan(self) -> None:
        """Add what the calls that went by the plan have counted; another plan begins."""
        plan = self.plan
        if plan is None:
            return
        for name, reading in plan.readings.items():
            self.pending.setdefault(name, []).extend([reading] * plan.calls)
        for counts, passes in plan.passes.values():
            for name, count in counts.items():
                self.counts[name] = self.counts.get(name, ZERO) + count.in_passes(passes)
        self.add(**{name: value * (plan.calls + plan.before) for name, value in plan.sums.items()})
        self.plan = None

    def close_plan(self, layout: Layout) -> None:
        """Close a pass for the calls that went by the plan."""
        plan = self.plan
        if plan is None or not plan.calls:
            return
        if any(name in self.pending for name in plan.readings):
            for name, reading in plan.readings.items():
                self.pending[name] = [*self.pending.get(name, ()), *[reading] * plan.calls]
        elif plan.readings:
            key = plan.calls, layout.steps, layout.batch
            counts, passes = plan.passes.get(key) or (_alike(plan, layout), 0)
            plan.passes[key] = counts, passes + 1
        plan.before += plan.calls
        plan.calls = 0

    def flush(self, layout: Layout, known: dict[Place, Located]) -> None:
        """Close a pass: readings become counts."""
        graded = self.op in SYNAPTIC and any(v is not None and v.graded for v in (self.left, self.right))
        for name, readings in self.pending.items():
            events = _count(readings, layout, known)
            if graded and name in SIDES:
                self._add_units(name, readings, layout, known)
            self.counts[name] = self.counts.get(name, ZERO) + events
        if self.repeats:
            steps = layout.steps or 1
            static = steps > 1 and all(self.repeats) and len(self.repeats) == steps
            self.static = static if self.static is None else self.static and static
        self.sums["calls"] = self.sums.get("calls", 0) + self.calls * layout.batch
        self.before = self.left, self.right
        self.calls, self.pending, self.repeats = 0, {}, []
        self.first = self.last = None

    def _unit(self, name: str, operands: tuple[ValueSet | None, ValueSet | None]) -> float:
        """What one unit event of the count `name` stands for, if `operands` are its operands."""
        sides = [v for side, v in zip("lr", operands, strict=True) if side in SIDES[name]]
        return math.prod((v.unit if v is not None else 0.0) or UNITLESS for v in sides)

    def _add_units(
        self, name: str, readings: list[Reading], layout: Layout, known: dict[Place, Located]
    ) -> None:
        """Add the unit events of a pass to those of the passes before, both in the finer unit."""
        unit, key = self._unit(name, (self.left, self.right)), f"{name}_units"
        if key not in self.counts:  # until now each event was one unit event
            self.counts[key] = self.counts.get(name, ZERO)
            self.bases[name] = self._unit(name, self.before)
        finer = [
            Reading(
                r.lead,
                r.values if r.units is None else r.units,
                r.factor * ratio(r.unit, unit),
                order=r.order,
            )
            for r in readings
        ]
        before = self.counts[key].times(ratio(self.bases[name], unit))
        self.counts[key] = before + _count(finer, layout, known)
        self.bases[name] = unit

    def row(self, steps: int) -> OpRow:
        """The row, but for what `resolve` derives from it."""
        self.settle_plan()
        counts = dict(self.counts)
        given, right_given = counts.pop("input", ZERO), counts.pop("right_input", ZERO)
        for name in ("input_units", "right_input_units"):  # as their namesakes: no spread over samples
            if name in counts:
                steps_too = counts[name].by_step if name == "input_units" else ()
                counts[name] = Count(counts[name].total, steps_too, None)
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
            neuron_reset=out.total if self.resets else 0,
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


@dataclass(slots=True)
class Plan:
    """What a call of one `key` (shapes, kinds) counts, and how many such calls came since."""

    key: Any
    readings: dict[str, Reading]
    sums: dict[str, int]
    dense: dict[str, Reading]
    calls: int = 0  # in this pass
    before: int = 0  # in passes before
    # (calls in a pass, T, B) -> what one such pass counts, and how many there were
    passes: dict[tuple[int, int | None, int], tuple[dict[str, Count], int]] = field(default_factory=dict)


def _alike(plan: Plan, layout: Layout) -> dict[str, Count]:
    """What a pass counts in which every call went by the plan."""
    known: dict[Place, Located] = {}
    for reading in plan.readings.values():
        known[reading.lead, reading.order, 0] = _ones(layout, reading.lead, reading.order)
    return {name: _count([r] * plan.calls, layout, known) for name, r in plan.readings.items()}


def _count(readings: list[Reading], layout: Layout, known: dict[Place, Located]) -> Count:
    """The count of one pass from its calls, which are the steps of a loop, or repetitions."""
    steps = layout.steps or 1
    if len(readings) == 1:
        (reading,) = readings
        factor = reading.factor
        one = known[reading.lead, reading.order, 0 if reading.values is None else id(reading.values)]
        if one.squares is None:
            return Count(factor * one.total, (), None)
        by_step = tuple([factor * s for s in one.steps]) if steps == 1 or len(one.steps) > 1 else ()
        return Count(factor * one.total, by_step, factor * factor * one.squares)
    factors = [r.factor for r in readings]
    parts = [known[r.lead, r.order, 0 if r.values is None else id(r.values)] for r in readings]
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
