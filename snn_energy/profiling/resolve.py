"""From what was counted to what it costs: which candidate count is an AC, which a MAC.

While batches arrive, every candidate is counted (`OpRow.counts`); the joined kinds decide at the end.
That is what makes the result independent of the order of batches and of how they were sharded.
`DECISIONS` holds a function for each way in which a row is decided, `ROWS` says which one a row takes;
`operations` joins them with the torch functions that make the rows.  `docs/counting.md` has it in words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snn_energy.errors import ConfigError, suggest
from snn_energy.profiling.kinds import ValueSet, value_set

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
PLAIN = ("scale", "norm", "max_pool", "compare", "special", "uncounted")
# row -> how it is decided; a neuron's row and one of a user's rule state it themselves (`OpRow.decided_as`)
ROWS: Mapping[str, str] = {
    **dict.fromkeys(WEIGHTED, "weighted"),
    "matmul": "product",
    **dict.fromkeys(ADDITIONS, "addition"),
    **dict.fromkeys(PRODUCTS, "multiplication"),
    **dict.fromkeys(REDUCTIONS, "reduction"),
    **dict.fromkeys(PLAIN, "as counted"),
}


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

    def in_passes(self, passes: int) -> Count:
        """The count of `passes` sets of samples, each with this one."""
        squares = None if self.square_sum is None else passes * self.square_sum
        return Count(passes * self.total, tuple(passes * s for s in self.by_step), squares)

    def times(self, factor: int) -> Count:
        """The count where each counted one is `factor` of them."""
        if factor == 1:
            return self
        squares = None if self.square_sum is None else factor**2 * self.square_sum
        return Count(factor * self.total, tuple(factor * s for s in self.by_step), squares)

    def less(self, part: Count) -> Count:
        """What is left without `part`; its spread over samples is not known."""
        same = len(self.by_step) == len(part.by_step)
        steps = tuple(a - b for a, b in zip(self.by_step, part.by_step, strict=True)) if same else ()
        return Count(self.total - part.total, steps, None)


ZERO = Count()
# count -> the operands, left or right, whose unit events it can count
SIDES = {
    "events": "l",
    "events_pruned": "l",
    "input": "l",
    "left": "l",
    "right": "r",
    "right_input": "r",
    "coincident": "lr",
}


def ratio(coarse: float, fine: float) -> int:
    """How many fine units a coarse one holds."""
    return max(1, round(coarse / fine))


@dataclass(frozen=True)
class Decided:
    """What a row costs as executed: accumulates of unit events and of events, MACs, MACs of nonzeros.

    The last three are those of the first, second and third over nonzero weights.
    """

    units: Count = ZERO
    events: Count = ZERO
    macs: Count = ZERO
    nonzero: Count = ZERO
    unpruned: tuple[Count, Count, Count, Count] | None = None


class Candidates:
    """The counts of a row by name, and whether its operands are event-driven."""

    def __init__(self, row: OpRow) -> None:
        self.row = row
        self.left = value_set(row.input_kind, row.input_values)
        self.right = value_set(row.right_kind or "real", row.right_values)

    def __getitem__(self, name: str) -> Count:
        return self.row.counts.get(name, ZERO)

    def unit_events(self, name: str, *operands: ValueSet) -> Count:
        """The unit events of a count, whose operands are `operands`."""
        graded = any(values.graded for values in operands)
        return self.row.counts.get(f"{name}_units", ZERO) if graded else self[name]

    @property
    def sides(self) -> tuple[bool, bool]:
        """Is the left operand event-driven, is the right?"""
        return self.left.event_driven, self.row.right_kind is not None and self.right.event_driven


def _weighted(c: Candidates) -> Decided:
    pruned = "valid_pruned" in c.row.counts
    if c.left.event_driven:
        units, events = c.unit_events("events", c.left), c["events"]
        if not pruned:
            return Decided(units, events)
        met = units.less(c.unit_events("events_pruned", c.left)), events.less(c["events_pruned"])
        return Decided(units, events, unpruned=(*met, ZERO, ZERO))
    kept = (ZERO, ZERO, c["valid"].less(c["valid_pruned"]), c["events"].less(c["events_pruned"]))
    return Decided(macs=c["valid"], nonzero=c["events"], unpruned=kept if pruned else None)


def _product(c: Candidates) -> Decided:
    left, right = c.sides
    constant = c.row.weight_elements > 0  # one side is a weight: only its nonzeros meet anything
    if left and right:
        return Decided(c.unit_events("coincident", c.left, c.right), c["coincident"])
    if left or right:
        side, values = ("left", c.left) if left else ("right", c.right)
        met = c.unit_events("coincident", values), c["coincident"], ZERO, ZERO
        return Decided(c.unit_events(side, values), c[side], unpruned=met if constant else None)
    weights = c["right" if c.row.weight_side == "right" else "left"]
    met = (ZERO, ZERO, weights, c["coincident"])
    return Decided(macs=c["valid"], nonzero=c["coincident"], unpruned=met if constant else None)


def _addition(c: Candidates) -> Decided:
    left, right = c.sides
    if left and right:
        ac = c["coincident"]
    elif left or right:
        ac = c["left" if left else "right"]
    else:
        ac = c["valid"]
    return Decided(ac, ac)


def _multiplication(c: Candidates) -> Decided:
    return Decided() if any(c.sides) else Decided(macs=c["valid"], nonzero=c["coincident"])


def _reduction(c: Candidates) -> Decided:
    ac = c["events" if c.left.event_driven else "valid"]
    return Decided(ac, ac)


def _as_counted(c: Candidates) -> Decided:
    """A row without operands to decide about; a user's rule may have counted ACs and MACs outright."""
    return Decided(c["ac"], c["ac"], c["mac"], c["mac"])


DECISIONS: Mapping[str, Callable[[Candidates], Decided]] = {
    "weighted": _weighted,
    "product": _product,
    "addition": _addition,
    "multiplication": _multiplication,
    "reduction": _reduction,
    "as counted": _as_counted,
}


def decision_of(op: str, decided_as: str = "") -> str:
    """How a row `op` is decided.  Raises `ConfigError` for a row that nobody declared."""
    name = decided_as or ROWS.get(op, "")
    if name not in DECISIONS:
        known = DECISIONS if decided_as else ROWS
        hint = "; " + suggest(decided_as or op, known)
        raise ConfigError(f"row {op!r}: decided as {decided_as!r}, which is no way to decide a row{hint}")
    return name


def resolve(row: OpRow, **fields: Any) -> OpRow:
    """Fill `ac`, `mac` and their companions of `row` from its `counts` and kinds; set `fields` besides."""
    row = _canonical(row)
    candidates = Candidates(row)
    decided = DECISIONS[decision_of(row.op, row.decided_as)](candidates)
    ac, mac = decided.units.once(row.static_repeats), decided.macs.once(row.static_repeats)
    coincident, one_sided = _both_figures(candidates)
    kept = decided.unpruned or (decided.units, decided.events, decided.macs, decided.nonzero)
    return dataclasses.replace(
        row,
        **fields,
        ac=ac.total,
        ac_by_step=ac.by_step,
        ac_square_sum=ac.square_sum,
        ac_executed=decided.units.total,
        ac_events=decided.events.total,
        mac=mac.total,
        mac_by_step=mac.by_step,
        mac_square_sum=mac.square_sum,
        mac_executed=decided.macs.total,
        mac_nonzero=decided.nonzero.total,
        ac_unpruned=kept[0].total,
        ac_events_unpruned=kept[1].total,
        mac_unpruned=kept[2].total,
        mac_nonzero_unpruned=kept[3].total,
        ac_coincident=coincident.total,
        ac_one_sided=one_sided.total,
        input_units=_unit_total(candidates, "input", candidates.left, row.input_nonzero),
        right_units=_unit_total(candidates, "right_input", candidates.right, row.right_nonzero),
    )


def _unit_total(c: Candidates, name: str, values: ValueSet, nonzero: int) -> int:
    return c.row.counts.get(f"{name}_units", ZERO).total if values.graded else nonzero


def _canonical(row: OpRow) -> OpRow:
    """`row` without the counts of an operand whose values have no unit, where its nonzeros do not matter.

    They were counted until its first such batch only, so they depend on the order of the batches.
    """
    left = bool(row.input_kind) and not value_set(row.input_kind, row.input_values).countable
    right = bool(row.right_kind) and not value_set(row.right_kind or "", row.right_values).countable
    void: set[str] = set()
    if row.op in SUMS and left:
        void = {"events"}
        row = dataclasses.replace(row, input_nonzero=0, input_nonzero_by_step=())
    if row.op in ADDITIONS and (left or right):
        void = {"coincident", *(["left"] if left else []), *(["right"] if right else [])}
    if row.op in SYNAPTIC:
        void |= _void_units(row)
    if not void & row.counts.keys():
        return row
    return dataclasses.replace(row, counts={n: c for n, c in row.counts.items() if n not in void})


def _void_units(row: OpRow) -> set[str]:
    """Unit events of operands without a unit: they were counted until the unit was lost."""
    left = not value_set(row.input_kind, row.input_values).unit
    right = not value_set(row.right_kind or "real", row.right_values).unit
    void = {"events_units", "events_pruned_units", "left_units", "input_units"} if left else set()
    if right:
        void |= {"right_units", "right_input_units"}
    lost = (left or right) if not row.weight_elements else (left and right)
    return void | ({"coincident_units"} if lost else set())


def _both_figures(c: Candidates) -> tuple[Count, Count]:
    """(both operands nonzero, nonzeros of one event-driven operand × fan-out)."""
    op, (left, right) = c.row.op, c.sides
    if op in WEIGHTED:
        return c["events"], c["events"]
    if op in ("matmul", *ADDITIONS):
        side = "right" if right and not left else "left"
        return c["coincident"], c[side]
    return ZERO, ZERO
