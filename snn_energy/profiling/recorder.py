"""The state of one profiling session: tallies by site, tags by tensor, and what both need to know."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn

from snn_energy.profiling import provenance
from snn_energy.profiling.fanout import FanOut
from snn_energy.profiling.kinds import REAL, ValueSet
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.measure import ones_where_nonzero, position_counts, row_counts, values_of
from snn_energy.profiling.provenance import Measured, Tag
from snn_energy.profiling.tally import Tally, located

_CALL = nn.Module._call_impl.__code__


class Recorder:
    """Collects tallies while a model runs; `flush` closes each forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.tallies: dict[tuple[str, str, Any], Tally] = {}
        self.sites: dict[tuple[str, str], int] = {}
        self.layout = Layout(1, None)
        self.epoch = 0
        self.paths: list[str] = [""]
        self.frame: FrameType | None = None
        self.codes: dict[int, CodeType] = {}  # kept, so that the id of each stays its own
        self.called: set[str] = set()
        self.plain: Tag = Tag(0)  # nothing is known
        self.still: Tag = Tag(0)  # of a constant: the same at every step
        self.constants = _constants(model)

    # -- passes ---------------------------------------------------------------------------------------------

    def begin(self, layout: Layout) -> None:
        """Start a forward pass."""
        self.layout, self.epoch = layout, self.epoch + 1
        self.plain, self.still = Tag(self.epoch), Tag(self.epoch, static=True)

    def flush(self) -> None:
        """End a forward pass: reduce what it left to exact sums."""
        if self.layout.steps is None:
            self.layout.steps = max(
                (t.calls for t in self.tallies.values() if "state_elements" in t.fixed), default=1
            )
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
            found = self.tallies[key] = Tally(path, op, site)
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
        if not isinstance(x, torch.Tensor) or id(x) in self.constants:
            return None
        tag = provenance.read(x, self.epoch)
        if tag is None:
            if provenance.ATTRIBUTE not in x.__dict__:
                self.unseen(x)
            provenance.attach(x, self.plain)
            return self.plain
        return None if tag.constant else tag

    def live(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Is any argument, or entry of a list among them, more than a constant?"""
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, torch.Tensor):
                if self.tag(value) is not None:
                    return True
            elif isinstance(value, (list, tuple)):
                for item in value:
                    if isinstance(item, torch.Tensor) and self.tag(item) is not None:
                        return True
        return False

    def unseen(self, x: torch.Tensor) -> None:
        """A tensor that no visible operation made is work that nobody counted: say so."""
        tally = self.tally("uncounted", "unseen")
        tally.fixed.setdefault("note", "a tensor made out of sight (scripted code or a custom function)")
        tally.add(output_elements=x.numel())

    def uncounted(self, function: str, out: Any) -> None:
        """No rule covers `function`: a row that says so."""
        tally = self.tally("uncounted", function)
        tally.fixed.setdefault("note", function)
        for item in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(item, torch.Tensor):
                tally.add(output_elements=item.numel())
        self.mark(out, self.plain)

    def mark(self, out: Any, tag: Tag) -> None:
        """Tag every tensor in `out`."""
        if isinstance(out, torch.Tensor):
            provenance.attach(out, tag)
        elif isinstance(out, (tuple, list)):
            for item in out:
                self.mark(item, tag)

    # -- values ---------------------------------------------------------------------------------------------

    def values(self, x: torch.Tensor, tag: Tag | None, known: ValueSet | None) -> ValueSet:
        """The values of operand `x`; not looked at again once its site has met real ones (`known`)."""
        if known is not None and known.kind == "real":
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
        latest = provenance.read(x, self.epoch) or tag
        provenance.attach(x, latest.knowing(values, measured))

    def rows(
        self, x: torch.Tensor, tag: Tag | None, values: ValueSet | None, lead: int
    ) -> tuple[Any, torch.Tensor]:
        """Nonzeros per leading index: (leading shape, float64 counts flat over it)."""
        known = tag.measured if tag is not None else None
        if known is not None and known.shows(x):
            counts = known.per_lead()
            size = counts.numel()
            if size == x.shape[0]:
                return tuple(x.shape[:1]), counts
            if lead > 1 and x.dim() > 1 and size == x.shape[0] * x.shape[1]:
                return tuple(x.shape[:2]), counts
        ones, fresh = ones_where_nonzero(x, values), Measured(x, lead)
        if lead == 1 and x.dim() > 2:
            fresh.maps = position_counts(ones, 1)
        else:
            fresh.rows = row_counts(ones, lead)
        if tag is not None and x.is_contiguous():
            self.learn(x, tag, measured=fresh)
        return tuple(x.shape[:lead]), fresh.per_lead()

    def maps(self, x: torch.Tensor, tag: Tag | None, values: ValueSet | None) -> torch.Tensor:
        """Nonzeros of (N, C, *spatial) summed over channels: (N, positions)."""
        known = tag.measured if tag is not None else None
        found = known.positions(x) if known is not None else None
        if found is not None:
            return found
        maps = position_counts(ones_where_nonzero(x, values), 1)
        if tag is not None and x.is_contiguous():
            fresh = Measured(x, 1)
            fresh.maps = maps
            self.learn(x, tag, measured=fresh)
        return maps


@functools.lru_cache(maxsize=256)
def fan_weights(fan: FanOut, device: torch.device) -> torch.Tensor:
    """The fan-out of each position, and ones: (2, positions) float64."""
    flat = torch.tensor(fan.flat, dtype=torch.float64, device=device)
    return torch.stack([flat, torch.ones_like(flat)])


def _constants(model: nn.Module) -> dict[int, torch.Tensor]:
    """Parameters, buffers and tensors kept as plain attributes, by identity."""
    tensors: Iterable[Any] = [*model.parameters(), *model.buffers()]
    plain = [v for m in model.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    return {id(t): t for t in (*tensors, *plain)}


Handler = Callable[[Recorder, Any, tuple[Any, ...], dict[str, Any]], Any]
