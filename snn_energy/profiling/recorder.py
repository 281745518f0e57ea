"""The state of one profiling session: tallies by site, tags by tensor, and what both need to know."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn

from snn_energy.profiling.fanout import FanOut
from snn_energy.profiling.kinds import REAL, ValueSet
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.measure import ones_where_nonzero, position_counts, row_counts, units, values_of
from snn_energy.profiling.memory import Constants
from snn_energy.profiling.provenance import ATTRIBUTE, TIME_MAJOR, Measured, Tag
from snn_energy.profiling.tally import Reading, Tally, located

_CALL = nn.Module._call_impl.__code__
_EPOCHS = itertools.count(1)  # of all sessions: what one left on a tensor that was kept is void in the next


class Recorder:
    """Collects tallies while a model runs; `flush` closes each forward pass."""

    def __init__(self, model: nn.Module, neurons: Iterable[nn.Module] = ()) -> None:
        self.tallies: dict[tuple[str, str, Any], Tally] = {}
        self.sites: dict[tuple[str, str], int] = {}
        self.layout = Layout(1, None)
        self.epoch = self.first = 0  # this pass, and the session's first
        self.paths: list[str] = [""]
        self.frame: FrameType | None = None
        self.codes: dict[int, CodeType] = {}  # kept, so that the id of each stays its own
        self.called: set[str] = set()
        self.plain: Tag = Tag(0)  # nothing is known
        self.fixed: Tag = Tag(0)  # of a constant
        self.constants = Constants(model, neurons)
        self.sums: list[torch.Tensor] = []  # of what comparisons saw: one NaN makes a sum NaN
        self.swallowed = False  # did a comparison of this pass see NaN, which is gone behind it?

    # -- passes ---------------------------------------------------------------------------------------------

    def begin(self, layout: Layout) -> None:
        """Start a forward pass."""
        self.layout, self.epoch = layout, next(_EPOCHS)
        self.first = self.first or self.epoch
        self.plain = Tag(self.epoch)
        self.fixed = Tag(self.epoch, constant=True, still=True)
        self.sums, self.swallowed = [], False
        self.constants.begin(first=self.epoch == self.first)

    def flush(self) -> None:
        """End a forward pass: reduce what it left to exact sums."""
        for name in self.constants.changed_out_of_sight():
            self.unseen(f"{name} was written to out of sight (a numpy view, or memory shared with other code)")
        if self.layout.steps is None:
            self.layout.steps = max(
                (t.calls for t in self.tallies.values() if "state_elements" in t.fixed), default=1
            )
        if self.sums:
            self.swallowed = bool(torch.stack(self.sums).isnan().any())
            self.sums = []
        active = [tally for tally in self.tallies.values() if tally.calls]
        known = located(self.layout, (tally.pending for tally in active))
        for tally in active:
            tally.flush(self.layout, known)

    # -- sites ----------------------------------------------------------------------------------------------

    def tally(self, op: str, variant: str = "") -> Tally:
        """The tally of the operation that runs now, told apart from others by the line that called it."""
        path = self.paths[-1]
        key = (path, op, (variant, self._site()))
        found = self.tallies.get(key)
        if found is None:
            site = self.sites.get((path, op), 0)
            self.sites[path, op] = site + 1
            found = self.tallies[key] = Tally(path, op, site, 1 << len(self.tallies))
        found.calls += 1
        return found

    def _site(self) -> tuple[Any, ...]:
        frame = self.frame
        chain: list[int] = []
        while frame is not None and frame.f_code is not _CALL:
            code = frame.f_code
            self.codes[id(code)] = code
            chain += (id(code), frame.f_lasti)
            frame = frame.f_back
        return tuple(chain)

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
        if tag is not None and tag.constant and tag.version == x._version:  # made in an earlier pass, and kept
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
        tally = self.tally("uncounted", f"unseen {note}")
        tally.fixed.setdefault("note", note)
        tally.add(output_elements=elements)

    def compared(self, x: torch.Tensor) -> None:
        """`x` is about to be compared, rounded or cast: NaN in it would leave no trace."""
        if x.is_floating_point():
            self.sums.append(x.sum().double())

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
            if ATTRIBUTE not in out.__dict__:
                self.tag(out)
        elif isinstance(out, (tuple, list)):
            for item in out:
                self.look_at(item)
        elif isinstance(out, dict):
            self.look_at(tuple(out.values()))

    # -- values ---------------------------------------------------------------------------------------------

    def values(self, x: torch.Tensor, tag: Tag | None, known: ValueSet | None) -> ValueSet:
        """The values of operand `x`; not looked at again once its site has met some without a unit."""
        if known is not None and known.values is None and not known.counts:
            return known
        if tag is None:
            return REAL  # parameters and constants are weights
        if tag.values is not None:
            return tag.values
        found = values_of(x)
        self.learn(x, tag, values=found)
        return found

    def learn(
        self, x: torch.Tensor, tag: Tag, values: ValueSet | None = None, measured: Measured | None = None
    ) -> None:
        """Add what was just found out about `x` to its tag, for the next operation that reads it."""
        latest = self.tag(x) or tag
        self.mark(x, latest.knowing(values, measured))

    def rows(
        self, x: torch.Tensor, tag: Tag | None, values: ValueSet, lead: int, factor: int = 1
    ) -> Reading:
        """Nonzeros of `x` per leading index, times `factor`."""
        measured, shape = self._measured(x, tag, values), tuple(x.shape[:lead])
        if measured is not None:
            size = measured.per_lead().numel()
            if x.dim() and size == x.shape[0]:
                shape = tuple(x.shape[:1])
            elif lead > 1 and size == x.shape[0] * x.shape[1]:
                shape = tuple(x.shape[:2])
            else:
                measured = None
        if measured is None:
            measured = self._measure(x, tag, values, lead)
        graded = measured.units.per_lead() if values.graded and measured.units is not None else None
        order = TIME_MAJOR if tag is None else tag.order
        return Reading(shape, measured.per_lead(), factor, values.unit or 1.0, graded, order)

    def maps(
        self, x: torch.Tensor, tag: Tag | None, values: ValueSet
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Nonzeros of (N, C, *spatial) summed over channels, (N, positions), and the same of unit events."""
        measured = self._measured(x, tag, values)
        if measured is None or measured.positions(x) is None:
            measured = self._measure(x, tag, values, 1)
        found = measured.positions(x)
        assert found is not None
        return found, None if measured.units is None else measured.units.maps

    def _measured(self, x: torch.Tensor, tag: Tag | None, values: ValueSet) -> Measured | None:
        """What was counted of this tensor before, if it shows all of it in the same order."""
        known = tag.measured if tag is not None else None
        if known is None or known.numel != x.numel() or not x.is_contiguous():
            return None
        return None if values.graded and known.units is None else known

    def _measure(self, x: torch.Tensor, tag: Tag | None, values: ValueSet, lead: int) -> Measured:
        """Count `x`, and keep the result for the next operation that reads it."""
        fresh = _counted(x, ones_where_nonzero(x, values), lead)
        if values.graded:
            fresh.units = _counted(x, units(x, values), lead)
        if tag is not None and x.is_contiguous():
            self.learn(x, tag, measured=fresh)
        return fresh


def _counted(x: torch.Tensor, counts: torch.Tensor, lead: int) -> Measured:
    fresh = Measured(x, lead)
    if lead == 1 and x.dim() > 2:
        fresh.maps = position_counts(counts, 1)
    else:
        fresh.rows = row_counts(counts, lead)
    return fresh


@functools.lru_cache(maxsize=256)
def fan_weights(fan: FanOut, device: torch.device) -> torch.Tensor:
    """The fan-out of each position, and ones: (2, positions) float64."""
    flat = torch.tensor(fan.flat, dtype=torch.float64, device=device)
    return torch.stack([flat, torch.ones_like(flat)])
