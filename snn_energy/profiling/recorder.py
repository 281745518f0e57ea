"""The state of one profiling session: tallies by site, tags by tensor, and what both need to know."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable
from itertools import chain, count
from typing import Any

import torch
from torch import nn

from snn_energy.profiling.fanout import FanOut
from snn_energy.profiling.kinds import REAL, ValueSet
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.measure import counts_of, ones_where_nonzero, units, values_of, without_zeros
from snn_energy.profiling.memory import Constants
from snn_energy.profiling.places import Places
from snn_energy.profiling.provenance import ATTRIBUTE, COUNTED, TIME_MAJOR, Measured, Tag
from snn_energy.profiling.settled import Settled
from snn_energy.profiling.tally import Reading, Tally, located

_PASSES = count(1)  # of all profiles: a tensor may outlive the one that tagged it
VARIANTS = 4  # of a call at one place that are remembered: a first step often differs from the others


class Recorder(Places):
    """Collects tallies while a model runs; `flush` closes each forward pass."""

    def __init__(self, model: nn.Module, neurons: Iterable[nn.Module] = ()) -> None:
        super().__init__()
        self.tallies: dict[tuple[str, str, Any], Tally] = {}  # by row, variant and place
        self.sites: dict[tuple[str, str], int] = {}
        self.layout = Layout(1, None)
        self.epoch = self.first = 0  # this pass, and the session's first
        self.touched: list[Tally] = []  # rows of the call that runs now
        self.looked = False  # has this call depended on values?
        self.settled: dict[Any, deque[Settled]] = {}  # by place: calls that count the same each time
        self.lasting: dict[
            Any, list[Tag]
        ] = {}  # by place: what is known of its results, if it stays the same
        self.called: set[str] = set()
        self.idle: dict[str, None] = {}  # modules in which products of constants alone ran, in order
        self.plain: Tag = Tag(0)  # nothing is known
        self.fixed: Tag = Tag(0, constant=True, still=True)  # of a constant
        self.constants = Constants(model, neurons)
        self.given: list[tuple[torch.Tensor, Tag]] = []  # the network's inputs
        self.input_stands: bool | None = None  # are they the same at every step?  None: not looked at yet
        self.sums: list[torch.Tensor] = []  # of what comparisons saw: one NaN makes a sum NaN
        self.swallowed = False  # did a comparison of this pass see NaN, which is gone behind it?

    # -- passes ---------------------------------------------------------------------------------------------

    def begin(self, layout: Layout) -> None:
        """Start a forward pass."""
        if layout != self.layout:
            self.settled.clear()
        self.layout, self.epoch = layout, next(_PASSES)
        self.first = self.first or self.epoch
        self.plain = Tag(self.epoch)
        for tag in (self.fixed, *chain.from_iterable(self.lasting.values())):
            tag.epoch = self.epoch
        self.sums, self.swallowed = [], False
        self.watched: torch.Tensor | None = None
        self.constants.begin(self.epoch == self.first)

    def give(self, inputs: Iterable[tuple[torch.Tensor, Tag]]) -> None:
        """These are the network's inputs, and what is known of each."""
        self.given, self.input_stands = [], None
        for x, tag in inputs:
            self.mark(x, tag)
            self.given.append((x, x.__dict__[ATTRIBUTE]))

    def flush(self) -> None:
        """End a forward pass: reduce what it left to exact sums."""
        for name in self.constants.changed_out_of_sight():
            self.unseen(
                f"{name} was written to out of sight (a numpy view, or memory shared with other code)"
            )
        if self.layout.steps is None:
            self.layout.steps = max(
                (t.calls for t in self.tallies.values() if "state_elements" in t.fixed), default=1
            )
        if self.sums:
            self.swallowed = bool(torch.stack(self.sums).isnan().any())
            self.sums = []
        active = [tally for tally in self.tallies.values() if tally.calls]
        for tally in active:
            tally.close_plan(self.layout)
        known = located(self.layout, (tally.pending for tally in active))
        for tally in active:
            tally.flush(self.layout, known)

    # -- sites ----------------------------------------------------------------------------------------------

    def tally(self, op: str, variant: str = "") -> Tally:
        """The tally of the operation that runs now, told apart from others by the line that called it."""
        key = (op, variant, self.place)
        found = self.tallies.get(key)
        if found is None:
            path = self.paths[-1]
            site = self.sites.get((path, op), 0)
            self.sites[path, op] = site + 1
            found = self.tallies[key] = Tally(path, op, site, 1 << len(self.tallies))
        found.calls += 1
        self.touched.append(found)
        return found

    # -- tags -----------------------------------------------------------------------------------------------

    def tag(self, x: Any) -> Tag | None:
        """What is known of `x`; None for a constant: a number, a parameter, or made of these alone."""
        if not isinstance(x, torch.Tensor):
            return None
        tag: Tag | None = x.__dict__.get(ATTRIBUTE)
        if tag is not None and tag.epoch == self.epoch:
            if tag.version == x._version and tag.clock == self.constants.clock:
                return None if tag.constant else tag
            return self._written(x, tag)
        if self.constants.holds(x):
            return None
        if (
            tag is not None and tag.constant and tag.version == x._version
        ):  # made in an earlier pass, and kept
            self.mark(x, self.fixed)
            return None
        if (tag is None or tag.epoch < self.first) and id(x) not in self.constants.demoted:
            self.unseen(elements=x.numel())
        self.mark(x, self.plain)
        return self.plain

    def _written(self, x: torch.Tensor, tag: Tag) -> Tag | None:
        """The tag of a tensor that may have changed since it was tagged."""
        memory = self.constants
        if memory.exposed and memory.written_by_numpy(x):
            self.unseen("a tensor written to through numpy", x.numel())
        if tag.version == x._version and not memory.torn_since(x, tag.clock):
            tag = tag.but(clock=memory.ticks)
        else:
            live = not tag.constant or memory.is_live(x)
            if not live and tag.version != x._version and not memory.was_touched(x):
                self.unseen("a constant that was written to out of sight (set_, a custom kernel)", x.numel())
                live = True
            tag = tag.forgetting(x._version).but(clock=memory.ticks, constant=not live)
        x.__dict__[ATTRIBUTE] = tag
        return None if tag.constant else tag

    def adopt(self, values: Iterable[Any], *, state: bool = False) -> None:
        """Tensors that a neuron made: its update lies behind them, and no work that nobody counted.

        `state`: they are activations whatever they were made of, also zeros in the first step.
        """
        for x in values:
            if isinstance(x, torch.Tensor):
                tag: Tag | None = x.__dict__.get(ATTRIBUTE)
                if tag is not None and tag.epoch == self.epoch:
                    known = not (state and tag.constant)
                elif tag is not None and tag.constant and tag.version == x._version:
                    known = not state
                else:
                    known = not state and self.constants.holds(x)
                if not known:
                    self.mark(x, self.plain)
            elif type(x) in (list, tuple):
                self.adopt(x, state=state)

    def live(self, values: Any) -> bool:
        """Is any of `values`, or an entry of a list or tuple among them, more than a constant?"""
        for value in values:
            if isinstance(value, torch.Tensor):
                if self.tag(value) is not None:
                    return True
            elif type(value) in (list, tuple) and self.live(value):
                return True
        return False

    def unseen(self, note: str = "", elements: int = 0) -> None:
        """A tensor that no visible operation made is work that nobody counted: say so."""
        note = note or "a tensor made out of sight (scripted or traced code, numpy, a custom kernel)"
        place, self.place = self.place, (self.paths[-1],)
        tally = self.tally("uncounted", f"unseen {note}")
        self.place, self.looked = place, True
        tally.fixed.setdefault("note", note)
        tally.add(output_elements=elements)

    def numbers_came_back(self, first: int, args: Any, kwargs: Any) -> bool:
        """May numbers among the arguments come from an activation?  Then a row says that it is lost."""
        back = self.constants.came_back(first, args, kwargs)
        if back:
            self.unseen("a tensor made from numbers, after numbers were taken out of another")
        return back

    def compared(self, x: torch.Tensor) -> None:
        """`x` is about to be compared, rounded or cast: NaN in it would leave no trace."""
        if x.is_floating_point():
            self.sums.append(x.sum().double())
        self.watched = x

    def settle(self, place: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tag: Tag, name: str) -> Tag:
        """The tag of a call's result; calls that would count the same again are remembered."""
        known = self.lasting.setdefault(place, [])
        last = next((one for one in known if one.same(tag)), tag)
        if last is tag and len(known) < VARIANTS:
            known.append(tag)
        if not self.looked and all(row.plan is not None for row in self.touched):
            given = Settled.of(self, name, args, kwargs, last)
            if given is not None:
                self.settled.setdefault(place, deque(maxlen=VARIANTS)).appendleft(given)
        return last

    def again(self, place: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tag | None:
        """Count a call as one like it was before; the tag of its result, or None if there was none."""
        for call in self.settled.get(place, ()):
            if call.name == name and call.matches(args, kwargs, self.epoch, self.constants.clock):
                if call.watched >= 0:
                    self.compared(args[call.watched])
                for row in call.rows:
                    row.calls += 1
                    row.again()
                return call.tag
        return None

    def uncounted(self, function: str, out: Any) -> None:
        """No rule covers `function`: a row that says so."""
        tally = self.tally("uncounted", function)
        tally.fixed.setdefault("note", function)
        for item in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(item, torch.Tensor):
                tally.add(output_elements=item.numel())

    def mark(self, out: Any, tag: Tag) -> None:
        """Tag every tensor in `out`."""
        if isinstance(out, torch.Tensor):
            version, ticks = out._version, self.constants.ticks
            if tag.version != version or tag.clock != ticks:
                tag = tag.but(version=version, clock=ticks)
            out.__dict__[ATTRIBUTE] = tag
        elif isinstance(out, (tuple, list)):
            for item in out:
                self.mark(item, tag)
        elif isinstance(out, dict):
            for item in out.values():
                self.mark(item, tag)

    def look_at(self, out: Any) -> None:
        """Say so where a module hands out a tensor that no visible operation made."""
        if isinstance(out, torch.Tensor):
            if self.constants.exposed or ATTRIBUTE not in out.__dict__:
                self.tag(out)
        elif isinstance(out, (tuple, list)):
            for item in out:
                self.look_at(item)
        elif isinstance(out, dict):
            self.look_at(tuple(out.values()))

    # -- values ---------------------------------------------------------------------------------------------

    def values(self, x: torch.Tensor, tag: Tag | None, known: ValueSet | None) -> ValueSet:
        """The values of operand `x`; not looked at again once its site has met some without a unit."""
        if known is not None and not known.countable:
            return known
        if tag is None:
            return REAL  # parameters and constants are weights
        if tag.values is not None:
            return tag.values
        found, self.looked = values_of(x), True
        self.mark(x, (self.tag(x) or tag).but(values=found))  # for the next operation that reads it
        return found

    def rows(self, x: torch.Tensor, tag: Tag | None, values: ValueSet, lead: int, factor: int = 1) -> Reading:
        """Nonzeros of `x` per leading index, times `factor`."""
        self.looked = True
        measured, shape = self.measured(x, values), tuple(x.shape[:lead])
        if measured is not None:
            size = measured.per_lead().numel()
            if x.dim() and size == x.shape[0]:
                shape = tuple(x.shape[:1])
            elif lead > 1 and size == x.shape[0] * x.shape[1]:
                shape = tuple(x.shape[:2])
            else:
                measured = None
        if measured is None:
            measured = self._measure(x, values, lead)
        graded = measured.units.per_lead() if values.graded and measured.units is not None else None
        order = TIME_MAJOR if tag is None else tag.order
        return Reading(shape, measured.per_lead(), factor, values.unit or 1.0, graded, order)

    def maps(self, x: torch.Tensor, values: ValueSet) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Nonzeros of (N, C, *spatial) summed over channels, (N, positions), and the same of unit events."""
        measured = self.measured(x, values)
        if measured is None or measured.positions(x) is None:
            measured = self._measure(x, values, 1)
        found = measured.positions(x)
        assert found is not None
        return found, None if measured.units is None else measured.units.maps

    def measured(self, x: torch.Tensor, values: ValueSet | None = None) -> Measured | None:
        """What was counted of this tensor before, if it shows all of it in the same order, unchanged."""
        known: Measured | None = x.__dict__.get(COUNTED)
        if known is None or known.epoch != self.epoch or known.version != x._version or self.constants.clock:
            return None
        if known.full or known.numel != x.numel() or not x.is_contiguous():
            return None
        return None if values is not None and values.graded and known.units is None else known

    def without_zeros(self, x: torch.Tensor) -> bool:
        """Is every element of `x` nonzero?  Looked at once, unless something is written there."""
        known: Measured | None = x.__dict__.get(COUNTED)
        here = known is not None and known.epoch == self.epoch and known.version == x._version
        if here and known.full and known.numel == x.numel() and not self.constants.clock:  # type: ignore[union-attr]
            return True
        if not without_zeros(x):
            return False
        if not here and x.is_contiguous():
            found = Measured(x, 1, self.epoch)
            found.full = True
            x.__dict__[COUNTED] = found
        return True

    def _measure(self, x: torch.Tensor, values: ValueSet, lead: int) -> Measured:
        """Count `x`, and keep the result for the next operation that reads it."""
        fresh = Measured(x, lead, self.epoch)
        fresh.maps, fresh.rows = counts_of(x, lead, lambda part: ones_where_nonzero(part, values))
        if values.graded:
            fresh.units = Measured(x, lead, self.epoch)
            fresh.units.maps, fresh.units.rows = counts_of(x, lead, lambda part: units(part, values))
        if x.is_contiguous():
            x.__dict__[COUNTED] = fresh
        return fresh


@functools.lru_cache(maxsize=256)
def fan_weights(fan: FanOut, device: torch.device) -> torch.Tensor:
    """The fan-out of each position, and ones: (2, positions) float64."""
    flat = torch.tensor(fan.flat, dtype=torch.float64, device=device)
    return torch.stack([flat, torch.ones_like(flat)])
