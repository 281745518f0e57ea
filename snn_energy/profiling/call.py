"""One call of a torch function: its arguments by torch's names, its result, and what is known of both.

A counting rule is a function of a `Call`.  It reads operands (`call["input"]`), counts in rows
(`call.row("add")`) and returns what is known of the result (`call.known(...)`; a tuple where it has several
results), or None for what follows from the operands alone.  The engine has bound the arguments, runs the
function once, whatever the rule does, and marks the result.  docs/extending.md shows how to write one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from snn_energy.errors import ConfigError, suggest
from snn_energy.profiling.kinds import ValueSet
from snn_energy.profiling.measure import row_counts
from snn_energy.profiling.operations import ALIASES, OPERATIONS, OTHERWISE, REVERSED, Operation
from snn_energy.profiling.provenance import ATTRIBUTE, CURRENT, TIME_MAJOR, Tag, union
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.tally import Reading, Tally

Rule = Callable[["Call"], Tag | tuple[Tag, ...] | None]


class Call:
    """A torch function about to run.  `name` is the function's, without underscores."""

    __slots__ = (
        "_bound",
        "args",
        "failed",
        "func",
        "kwargs",
        "name",
        "operation",
        "ran",
        "rec",
        "result",
        "tags",
    )

    def __init__(
        self,
        rec: Recorder,
        func: Any,
        name: str,
        operation: Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tags: list[Tag],
    ) -> None:
        self.rec, self.func, self.name, self.operation = rec, func, name, operation
        self.args, self.kwargs, self.tags = args, kwargs, tags
        self.ran = False
        self.failed: BaseException | None = None
        self.result: Any = None
        self._bound: dict[str, Any] | None = None

    # -- the function ---------------------------------------------------------------------------------------

    def run(self) -> Any:
        """The function's result; it runs at the first request."""
        if not self.ran:
            self.ran = True
            try:
                self.result = self.func(*self.args, **self.kwargs)
            except BaseException as error:
                self.failed = error
                raise
        return self.result

    # -- arguments ------------------------------------------------------------------------------------------

    def arguments(self) -> dict[str, Any]:
        """All arguments that were given, by torch's names."""
        if self._bound is None:
            parameters = OTHERWISE.get((self.name, len(self.args)), self.operation.parameters)
            bound = dict(zip(parameters, self.args, strict=False))
            for name, value in self.kwargs.items():
                bound[name if name in parameters else ALIASES.get(name, name)] = value
            if self.name in REVERSED:
                first, second = parameters[:2]
                bound[first], bound[second] = bound[second], bound[first]
            self._bound = bound
        return self._bound

    def pair(self) -> tuple[Any, Any]:
        """The operands of a function of two, in the order of its arithmetic."""
        if not self.kwargs and len(self.args) == 2 and self.name not in REVERSED:
            return self.args
        given = self.arguments()
        return given["input"], given["other"]

    def __getitem__(self, name: str) -> Any:
        """The argument that torch calls `name`.  Raises `KeyError` where it was not given."""
        return self.arguments()[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The argument that torch calls `name`, or `default`."""
        value = self.arguments().get(name, default)
        return default if value is None else value

    def tensors(self) -> Iterator[torch.Tensor]:
        """All tensors among the arguments, those in lists and tuples included."""
        return tensors_in((*self.args, *self.kwargs.values()))

    def live(self) -> Iterator[torch.Tensor]:
        """Those that are activations."""
        return (x for x in self.tensors() if self.rec.tag(x) is not None)

    def tag(self, x: Any) -> Tag | None:
        """What is known of an operand; None for a constant."""
        return self.rec.tag(x)

    def values(self, x: Any, seen: ValueSet | None = None) -> ValueSet:
        """The values of an operand; `seen`: those that the row has met so far."""
        return self.rec.values(x, self.rec.tag(x), seen)

    # -- counts ---------------------------------------------------------------------------------------------

    def row(self, op: str, variant: str = "", decided_as: str = "") -> Tally:
        """The row `op` of the module that runs now; `variant` tells rows of one call apart.

        `decided_as`: how candidates become ACs and MACs (of `resolve.DECISIONS`), for a row of your own.
        """
        tally = self.rec.tally(op, variant)
        if decided_as:
            tally.fixed.setdefault("decided_as", decided_as)
        return tally

    def lead(self, x: torch.Tensor) -> int:
        """How many leading dimensions of `x` are time and batch."""
        return self.rec.layout.leading(x.shape, self.order)

    @property
    def order(self) -> int:
        """How time and batch lie in the operands."""
        return max((tag.order for tag in self.tags), default=TIME_MAJOR)

    def evenly(self, x: torch.Tensor, each: int = 1) -> Reading:
        """`each` operations for every element of `x`."""
        shape = tuple(x.shape[: self.lead(x)])
        size = 1
        for n in shape:
            size *= n
        return Reading(shape, None, each * x.numel() // max(1, size), order=self.order)

    def nonzeros(self, x: torch.Tensor, values: ValueSet) -> Reading:
        """One operation for every nonzero element of `x`."""
        return self.rec.rows(x, self.rec.tag(x), values, self.lead(x))

    def left(self, row: Tally, x: Any) -> ValueSet:
        """The values of `x`, the first operand of `row`: they are what the row is decided by."""
        values = self.values(x, row.left)
        row.see_left(values)
        return values

    def right(self, row: Tally, x: Any) -> ValueSet:
        """The values of `x`, the second operand of `row`."""
        values = self.values(x, row.right)
        row.see_right(values)
        return values

    def summed(self, counts: torch.Tensor) -> Reading:
        """Counts of your own: whole numbers, time and batch first as in an operand, summed over the rest.

        Raises `ConfigError` for fractions and negative numbers.
        """
        counts = counts.detach().double()
        if counts.numel() and not bool(((counts == counts.round()) & (counts >= 0)).all()):
            raise ConfigError(f"rule {self.name!r}: counts must be whole numbers, 0 or more")
        lead = self.lead(counts)
        return Reading(tuple(counts.shape[:lead]), row_counts(counts, lead), order=self.order)

    def like(self, name: str, **arguments: Any) -> Tag:
        """Count as our rule of `name` counts a call with `arguments`; returns what is known of the result.

        The function's result must be what `name` would give.  Tensors are arguments of the call, views of
        them, or what `constant` was told of.  Raises `ConfigError` for any other tensor, and for a name or a
        parameter that there is not.
        """
        from snn_energy.profiling.rules import RULES

        if name not in RULES:
            raise ConfigError(f"rule {self.name!r}: like({name!r}): no rule of ours; {suggest(name, RULES)}")
        operation = OPERATIONS[name]
        known_as = operation.parameters
        for key in arguments:
            if ALIASES.get(key, key) not in known_as:
                unknown = f"unknown argument {key!r}; {suggest(key, known_as)}"
                raise ConfigError(f"rule {self.name!r}: like({name!r}): {unknown}")
        for x in tensors_in(arguments.values()):
            self._adopt(x, name)
        tags = [tag for tag in map(self.tag, tensors_in(arguments.values())) if tag is not None]
        if not tags:
            raise ValueError(f"like({name!r}): none of its arguments is an activation")
        same = Call(self.rec, lambda **_: self.run(), name, operation, (), arguments, tags)
        known = RULES[name](same)
        if isinstance(known, tuple):  # of its first result
            return known[0]
        return same.known() if known is None else known

    def constant(self, x: torch.Tensor) -> torch.Tensor:
        """`x`, a tensor that a rule made of parameters and numbers alone: weights unpacked, say."""
        self.rec.mark(x, self.rec.fixed)
        return x

    def _adopt(self, x: torch.Tensor, name: str) -> None:
        """Know of a view that a rule made what is known of the tensor whose memory it shows."""
        tag = x.__dict__.get(ATTRIBUTE)
        if (tag is not None and tag.epoch == self.rec.epoch) or any(x is own for own in self.tensors()):
            return
        memory = x.untyped_storage().data_ptr()
        for own in self.tensors():
            if memory and own.untyped_storage().data_ptr() == memory:
                self.rec.mark(x, self.rec.tag(own) or self.rec.fixed)
                return
        raise ConfigError(
            f"rule {self.name!r}: like({name!r}): a tensor of shape {tuple(x.shape)} is neither an "
            "argument of the call nor a view of one; give call.constant(x) if it is made of parameters alone"
        )

    def describe(self, row: Tally, x: torch.Tensor, out: torch.Tensor, **more: Any) -> None:
        """Shapes of one sample and step, once per row."""
        if "input_shape" not in row.fixed:
            layout, order = self.rec.layout, self.order
            row.fixed |= {
                "input_shape": layout.inner(x.shape, layout.leading(x.shape, order), order),
                "output_shape": layout.inner(out.shape, layout.leading(out.shape, order), order),
                **more,
            }

    # -- the result -----------------------------------------------------------------------------------------

    def known(
        self,
        values: ValueSet | None = None,
        *,
        row: Tally | None = None,
        event: bool = False,
        sources: tuple[str, ...] | None = None,
        synapse: Tally | None = None,
        order: int | None = None,
    ) -> Tag:
        """What is known of the result: where it came from follows from the operands, the rest is given.

        `values`: its values, where they are certain.  `event`: a comparison or rounding made events of what
        may have been a current.  `synapse`: the row of the layer with weights whose sums these are.
        """
        first, *others = self.tags
        drivers, found, still, sites, latest = (
            first.drivers,
            first.sources,
            first.still,
            first.sites,
            first.order,
        )
        current = first.values is CURRENT
        for tag in others:
            drivers, found = union(drivers, tag.drivers), union(found, tag.sources)
            still = still and tag.still
            sites |= tag.sites
            current = current or tag.values is CURRENT
            latest = max(latest, tag.order)
        if not still:
            sites = 0
        elif row is not None:
            if sites & row.bit:  # its own earlier result comes back: a state
                still, sites = False, 0
            else:
                sites |= row.bit
        if values is None and current and not event:
            values = CURRENT
        if synapse is not None:
            drivers, values, found = (synapse,), CURRENT, ()
        return Tag(
            self.rec.epoch,
            found if sources is None else sources,
            drivers,
            synapse,
            values,
            still,
            sites,
            latest if order is None else order,
        )


def tensors_in(values: Any) -> Iterator[torch.Tensor]:
    """Every tensor among `values`, in nested lists, tuples and dictionaries too."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())
