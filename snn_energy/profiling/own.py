"""Rules that a user wrote: what they count in is checked, so that a slip is an error and not a wrong number.

Our own rules are tested; they run unwatched.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch

from snn_energy.errors import ConfigError, suggest
from snn_energy.profiling.call import Call, Rule
from snn_energy.profiling.kinds import ValueSet
from snn_energy.profiling.merge import SUMMED
from snn_energy.profiling.operations import OPERATIONS, Operation
from snn_energy.profiling.profile import OpRow
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.resolve import ROWS, SYNAPTIC, decision_of
from snn_energy.profiling.tally import Reading, Tally

ALWAYS = ("input", "right_input", "output")  # nonzeros of operands and result: rates, no cost
# way to decide a row -> counts that it reads: always, where its first operand may be events, its second, both
READ: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "addition": (("valid",), ("left",), ("right",), ("coincident",)),
    "multiplication": (("valid",), (), (), ()),
    "reduction": (("valid",), ("events",), (), ()),
    "as counted": ((), (), (), ()),
}
MAY_READ: Mapping[str, tuple[str, ...]] = {"as counted": ("ac", "mac"), "multiplication": ("coincident",)}
TWO_OPERANDS = ("addition", "multiplication")
TOTALS = tuple(name for name in SUMMED if name != "calls")
_FIELDS = tuple(f.name for f in dataclasses.fields(OpRow))


def watched(rule: Rule) -> Rule:
    """`rule`, checked after each call.  Raises `ConfigError` for counts that could not be right."""

    @functools.wraps(rule)
    def run(call: Call) -> Tag | tuple[Tag, ...] | None:
        call.rec.looked = True  # it may ask torch for values by itself: no call stands for another
        own = OwnCall(call)
        known = rule(own)
        own.run()
        own.check(known)
        return own.known() if known is None else known

    return run


class OwnCall(Call):
    """A call as a user's rule sees it: the same call, which remembers the rows that were asked for."""

    __slots__ = ("call", "rows")

    def __init__(self, call: Call) -> None:
        operation = call.operation
        if call.name not in OPERATIONS:
            operation = Operation("", parameters=parameters_of(call.func))
        super().__init__(call.rec, call.func, call.name, operation, call.args, call.kwargs, call.tags)
        self.call = call
        self.rows: list[Tally] = []

    def run(self) -> Any:
        """The function's result; it runs at the first request."""
        return self.call.run()

    def row(self, op: str, variant: str = "", decided_as: str = "") -> Tally:
        """The row `op` of the module that runs now; `variant` tells rows of one call apart.

        `decided_as`: how a row of your own becomes ACs and MACs: "as counted", "reduction", "addition" or
        "multiplication".  A row of ours is decided, and charged by conventions, as ours are.
        """
        where = f"rule {self.name!r}: row {op!r}"
        if not isinstance(op, str) or not op or op == "uncounted":
            raise ConfigError(f"{where}: must be a name; raise an exception for what the rule does not cover")
        if op in SYNAPTIC:
            raise ConfigError(f"{where} is of a layer with weights or a product: use call.like({op!r}, ...)")
        if op in ROWS and decided_as not in ("", ROWS[op]):
            raise ConfigError(f"{where} is ours, decided as {ROWS[op]!r}: name a row of your own")
        if op not in ROWS and decided_as not in READ:
            raise ConfigError(f"{where}: decided_as = {decided_as!r}; {suggest(decided_as, READ)}")
        tally = super().row(op, variant, decided_as)
        if tally not in self.rows:
            self.rows.append(tally)
        return tally

    def check(self, known: Any) -> None:
        """Raise `ConfigError` where the rule gave, read or added what no row can hold."""
        if known is not None and not isinstance(known, Tag):
            given = f"{type(known).__name__}, must return what call.known(...) gives, or None"
            raise ConfigError(f"rule {self.name!r}: returned {given}")
        for row in self.rows:
            where = f"rule {self.name!r}: row {row.op!r}"
            _check_totals(where, row)
            _check_counts(where, row)


def _check_totals(where: str, row: Tally) -> None:
    for name, value in row.sums.items():
        if name not in TOTALS and name != "calls":
            raise ConfigError(f"{where}: add({name}=…): no such total; {suggest(name, TOTALS)}")
        if type(value) is not int:
            raise ConfigError(f"{where}: add({name}={value!r}): must be an int")
    for name in row.fixed:
        if name not in _FIELDS:
            raise ConfigError(f"{where}: describe({name}=…): no such field; {suggest(name, _FIELDS)}")


def _check_counts(where: str, row: Tally) -> None:
    decision = decision_of(row.op, row.fixed.get("decided_as", ""))
    if row.left is None and decision != "as counted":
        raise ConfigError(f"{where} is decided by its operand's values: call.left(row, x) was not called")
    if row.right is None and decision in TWO_OPERANDS:
        raise ConfigError(f"{where} is decided by both operands' values: call.right(row, x) was not called")
    always, left, right, both = READ[decision]
    known = {*ALWAYS, *always, *left, *right, *both, *MAY_READ.get(decision, ())}
    for name, readings in row.pending.items():
        if name not in known:
            raise ConfigError(
                f"{where}: read({name!r}): no count of a row decided as {decision!r}; {suggest(name, known)}"
            )
        if not all(isinstance(reading, Reading) for reading in readings):
            raise ConfigError(
                f"{where}: read({name!r}): must be given what call.evenly, call.nonzeros or call.summed give"
            )
    events = _may_be_events(row.left), _may_be_events(row.right)
    needed = [
        *always,
        *(left if events[0] else ()),
        *(right if events[1] else ()),
        *(both if all(events) else ()),
    ]
    for name in needed:
        if name not in row.pending:
            raise ConfigError(f"{where}: read({name!r}, …) is missing; rows decided as {decision!r} need it")


def _may_be_events(values: ValueSet | None) -> bool:
    return values is not None and (values.values is not None or values.counts)


@functools.lru_cache(maxsize=1024)
def parameters_of(func: Any) -> tuple[str, ...]:
    """Torch's names of the parameters of a function that is not in our table, in order; `input` comes first
    where torch says `self`."""
    schema = getattr(getattr(func, "default", func), "_schema", None)
    if schema is not None:
        names = [argument.name for argument in schema.arguments]
    else:
        described = torch.overrides.get_testing_overrides().get(func, func)
        try:
            names = list(inspect.signature(described).parameters)
        except (TypeError, ValueError):
            names = ["input", "other"]
    return tuple("input" if name == "self" else name for name in names)
