"""From what was counted to what it costs: which candidate count is an AC, which a MAC.

While batches arrive, every candidate is counted (`OpRow.counts`); the joined kinds decide at the end.
That is what makes the result independent of the order of batches and of how they were sharded.
`docs/counting.md` states the same rules in words.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snn_energy.profiling.kinds import value_set

if TYPE_CHECKING:
    from snn_energy.profiling.profile import OpRow

CONVOLUTIONS = (
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)
WEIGHTED = (*CONVOLUTIONS, "linear")
SYNAPTIC = (*WEIGHTED, "matmul")
ADDITIONS = ("add",)
PRODUCTS = ("mul",)
SUMS = ("sum", "mean")
REDUCTIONS = (*SUMS, "avg_pool")


@dataclass(frozen=True)
class Count:
    """An exact count: its total, its split over time steps, and Σ over samples of its square.

    `by_step` has T entries, or one per group of steps that the operation joined (a chunk of STAtten), or
    none where steps cannot be told apart.  `square_sum` is None where samples cannot be told apart.
    """

    total: int = 0
    by_step: tuple[int, ...] = ()
    square_sum: int | None = 0

    def __add__(self, other: Count) -> Count:
        """The count over both sets of samples; the split over steps is kept where both have the same."""
        if not self.total and not self.by_step and self.square_sum is not None:
            return other
        if not other.total and not other.by_step and other.square_sum is not None:
            return self
        same = len(self.by_step) == len(other.by_step)
        squares = None
        if self.square_sum is not None and other.square_sum is not None:
            squares = self.square_sum + other.square_sum
        steps = tuple(a + b for a, b in zip(self.by_step, other.by_step, strict=True)) if same else ()
        return Count(self.total + other.total, steps, squares)

    def once(self, repeats: int) -> Count:
        """The same work done at the first step only, where `repeats` steps repeated it."""
        if repeats == 1:
            return self
        squares = None if self.square_sum is None else self.square_sum // repeats**2
        total = self.total // repeats
        steps = (total, *(0 for _ in self.by_step[1:])) if self.by_step else ()
        return Count(total, steps, squares)


ZERO = Count()


def resolve(row: OpRow, **fields: Any) -> OpRow:
    """Fill `ac`, `mac` and their companions of `row` from its `counts` and kinds; set `fields` besides."""
    row = _canonical(row)
    left = value_set(row.input_kind, row.input_values).event_driven
    right = row.right_kind is not None and value_set(row.right_kind, row.right_values).event_driven
    accumulates, multiplies, nonzero = _executed(row, left, right)
    ac, mac = accumulates.once(row.static_repeats), multiplies.once(row.static_repeats)
    coincident, one_sided = _both_figures(row, left, right)
    return dataclasses.replace(
        row,
        **fields,
        ac=ac.total,
        ac_by_step=ac.by_step,
        ac_square_sum=ac.square_sum,
        ac_executed=accumulates.total,
        mac=mac.total,
        mac_by_step=mac.by_step,
        mac_square_sum=mac.square_sum,
        mac_executed=multiplies.total,
        mac_nonzero=nonzero.total,
        ac_coincident=coincident.total,
        ac_one_sided=one_sided.total,
    )


def _canonical(row: OpRow) -> OpRow:
    """`row` without the counts of an operand that has turned out real, where its nonzeros do not matter.

    They were counted until its first real batch only, so they depend on the order of the batches.
    """
    if row.op in SUMS and row.input_kind == "real":
        counts = {name: count for name, count in row.counts.items() if name != "events"}
        return dataclasses.replace(row, counts=counts, input_nonzero=0, input_nonzero_by_step=())
    if row.op in ADDITIONS and "real" in (row.input_kind, row.right_kind):
        void = {"coincident", *(["left"] if row.input_kind == "real" else [])}
        void |= {"right"} if row.right_kind == "real" else set()
        return dataclasses.replace(row, counts={n: c for n, c in row.counts.items() if n not in void})
    return row


def _executed(row: OpRow, left: bool, right: bool) -> tuple[Count, Count, Count]:
    """(AC, MAC, MAC with nonzero operands) as executed; `left`, `right`: is the operand event-driven?"""
    counts = {name: row.counts.get(name, ZERO) for name in ("events", "valid", "left", "right", "coincident")}
    if row.op in WEIGHTED:
        return (counts["events"], ZERO, ZERO) if left else (ZERO, counts["valid"], counts["events"])
    if row.op in REDUCTIONS:
        return (counts["events"] if left else counts["valid"], ZERO, ZERO)
    if row.op in PRODUCTS:
        return (ZERO, ZERO, ZERO) if left or right else (ZERO, counts["valid"], counts["coincident"])
    if row.op == "matmul" or row.op in ADDITIONS:
        if left and right:
            return counts["coincident"], ZERO, ZERO
        if left or right:
            return counts["left" if left else "right"], ZERO, ZERO
        if row.op in ADDITIONS:
            return counts["valid"], ZERO, ZERO
        return ZERO, counts["valid"], counts["coincident"]
    return ZERO, ZERO, ZERO


def _both_figures(row: OpRow, left: bool, right: bool) -> tuple[Count, Count]:
    """(both operands nonzero, nonzeros of one event-driven operand × fan-out)."""
    if row.op in WEIGHTED:
        events = row.counts.get("events", ZERO)
        return events, events
    if row.op in ("matmul", *ADDITIONS):
        side = "right" if right and not left else "left"
        return row.counts.get("coincident", ZERO), row.counts.get(side, ZERO)
    return ZERO, ZERO
