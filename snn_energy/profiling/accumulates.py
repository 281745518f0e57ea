"""The accumulates of a forward pass as a number with a gradient: a profile's counts, for training.

A profile of the network says at which places of its code events meet synapses, and how each is decided.
`Accumulates` watches the same places while the network trains and adds up the same counts of the tensors
there: spikes times fan-out, products of spikes.  Spikes have surrogate gradients, and so has the sum.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from snn_energy.errors import ConfigError
from snn_energy.models.walk import named_modules
from snn_energy.profiling.call import Call
from snn_energy.profiling.contract import Declared
from snn_energy.profiling.events import COUNTS, count, row_of
from snn_energy.profiling.neurons import named_neurons
from snn_energy.profiling.operations import OPERATIONS
from snn_energy.profiling.places import Places
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.resolve import Candidates
from snn_energy.profiling.session import counted

LOOKED_AT = 8
"""Samples of which the places are found."""


@dataclass(frozen=True)
class Followed:
    """What a profile says of a network: rows of events by the place of their call, and all the rest.

    `alone`: the places of those that are the only ones of their operation in their module; `seen`: all places
    where something was counted.  `constant`: accumulates per sample of rows without events, which no spike
    changes; `dense`: those of the rows of events if everything were an event.
    """

    rows: Mapping[Any, tuple[OpRow, ...]]
    alone: Mapping[tuple[str, str], Any]
    seen: frozenset[Any]
    constant: float
    dense: float

    @classmethod
    def of(cls, profile: Profile, recorder: Recorder) -> Followed:
        """Raises `ConfigError` where no events meet synapses."""
        rows = {row.key: row for row in profile.rows}
        places: dict[Any, tuple[OpRow, ...]] = {}
        constant = dense = 0.0
        for (_, _, place), tally in recorder.tallies.items():
            row = rows[tally.name, tally.op, tally.site]
            if not row.counts.get("valid"):
                continue
            if any(Candidates(row).sides) and row.op != "mul":
                places[place] = (*places.get(place, ()), row)
                dense += row.counts["valid"].total / row.static_repeats
            else:
                constant += row.ac
        if not places:
            raise ConfigError(
                f"{profile.model}: no spikes meet synapses, so there are no accumulates to count"
            )
        often = Counter((row.name, row.op) for row in profile.rows)
        alone = {(r.name, r.op): p for p, found in places.items() for r in found if often[r.name, r.op] == 1}
        seen = frozenset(place for _, _, place in recorder.tallies)
        return cls(places, alone, seen, constant / profile.samples, dense / profile.samples)


class Accumulates:
    """Counts the accumulates of a network's training steps: those of a profile (`OpRow.ac`), with a gradient.

    Every forward pass in training mode is counted; `share()` is what the last one came to.  The places are
    found by a profile of the first samples, after which the network is as it was.  What is counted must be
    called from Python: not inside `torch.compile`, nor in a function that computes its own gradient.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.followed: Followed | None = None
        self.total: torch.Tensor | None = None
        self.samples = 0
        self._places = Places()
        self._running: _Pass | None = None
        self._missed: list[str] = []
        self._looking = False

        def begin(module: nn.Module, args: Any) -> None:  # functions: a copy of the network may keep them
            if module is self.model and module.training and torch.is_grad_enabled() and not self._looking:
                self._begin(args)

        def end(module: nn.Module, args: Any, out: Any) -> None:
            if module is self.model and self._running is not None and not self._looking:
                self._end(whole=out is not None)

        self._handles = [
            model.register_forward_pre_hook(begin),
            model.register_forward_hook(end, always_call=True, prepend=True),  # the last to begin ends first
        ]

    def remove(self) -> None:
        """Count no more."""
        for handle in self._handles:
            handle.remove()

    def share(self, above: float = 0.0) -> torch.Tensor:
        """Accumulates of the last training pass, as a share of those if every input were an event.

        A scalar with gradient: the mean of the inputs' rates, weighted by fan-out.  `above`: only the
        accumulates per sample beyond so many, none if there are less.  It can be read once per pass; raises
        `RuntimeError` otherwise.
        """
        found, followed = self._spent(), self.followed
        if found is None or followed is None:
            raise RuntimeError("no accumulates: call share() once after a forward pass in training mode")
        spent = found / self.samples - max(above, followed.constant)
        return (spent.clamp(min=0) / max(1.0, followed.dense)).float()

    def look(self, *args: torch.Tensor) -> None:
        """Find the places now, instead of at the first training pass: they are those of these weights."""
        self.followed = self._look(args)

    def count(self, *args: torch.Tensor) -> torch.Tensor:
        """The accumulates of one forward pass in the mode that the network is in: a scalar with gradient."""
        self._begin(args)
        try:
            self.model(*args)
        finally:
            if self._running is not None:  # in training mode the network's own call has ended it
                self._end(whole=True)
        found = self._spent()
        assert found is not None
        return found

    def _look(self, args: tuple[torch.Tensor, ...]) -> Followed:
        few = tuple(x.detach()[:LOOKED_AT] for x in args)
        self._looking = True
        try:
            with torch.random.fork_rng(devices=[]):
                profile, recorder = counted(self.model, [few[0] if len(few) == 1 else few], Declared(), {})
        finally:
            self._looking = False
        self._places.codes = recorder.codes
        return Followed.of(profile, recorder)

    def _begin(self, args: tuple[Any, ...]) -> None:
        if self._running is not None:
            return
        if not args or not all(isinstance(x, torch.Tensor) for x in args):
            raise ConfigError("accumulates are counted of networks that take tensors, by position")
        self.followed = self.followed or self._look(args)
        self.samples, self.total = len(args[0]), None
        self._running = _Pass(self.model, self._places, self.followed)

    def _end(self, *, whole: bool) -> None:
        running, self._running = self._running, None
        assert running is not None and self.followed is not None
        found = running.end()
        if whole:
            self.total, self._missed = found + self.followed.constant * self.samples, running.missed()

    def _spent(self) -> torch.Tensor | None:
        """What the last pass came to, once.  Raises `ConfigError` where it missed places that are counted."""
        if self._missed:
            rest = f" and {len(self._missed) - 3} more" if len(self._missed) > 3 else ""
            named = ", ".join(self._missed[:3]) + rest
            raise ConfigError(f"accumulates of {named}: cannot be followed, training computes them otherwise")
        found, self.total = self.total, None
        return found


class _Pass(TorchFunctionMode):
    """One forward pass under watch, from its making to `end`."""

    def __init__(self, model: nn.Module, places: Places, followed: Followed) -> None:
        super().__init__()
        self.places, self.rows, self.followed = places, followed.rows, followed
        self.met: dict[Any, Any] = {}  # where training came by, and which place of evaluation that is
        self.total: Any = 0.0
        self.aside: list[Any] = []
        self.handles: list[Any] = []
        places.paths = [""]
        neurons = named_neurons(model)
        inside = {child for m in neurons.values() for _, child in named_modules(m) if child is not m}
        for path, module in named_modules(model):
            if module is model or module in inside or isinstance(module, torch.jit.ScriptModule):
                continue
            enter, leave = self._hooks(path, path in neurons)
            self.handles.append(module.register_forward_pre_hook(enter))
            self.handles.append(module.register_forward_hook(leave, always_call=True, prepend=True))
        self.__enter__()

    def _hooks(self, path: str, is_neuron: bool) -> tuple[Any, Any]:
        """What keeps track of where the network is; a neuron's inside is not looked at."""

        def enter(module: nn.Module, args: Any) -> None:
            self.places.paths.append(path)
            if is_neuron:
                self.aside.append(torch._C.DisableTorchFunction())
                self.aside[-1].__enter__()

        def leave(module: nn.Module, args: Any, out: Any) -> None:
            if is_neuron:
                self.aside.pop().__exit__(None, None, None)
            self.places.paths.pop()

        return enter, leave

    def end(self) -> torch.Tensor:
        """Watch no more; what was counted."""
        self.__exit__(None, None, None)
        for handle in self.handles:
            handle.remove()
        return self.total

    def missed(self) -> list[str]:
        """The rows of places that the pass did not come by, or came by twice: in another line, and there."""
        by = Counter(self.met.values())
        wrong = [rows for place, rows in self.rows.items() if by[place] != 1]
        return [row.name or row.op for rows in wrong for row in rows]

    def _known(self, name: str) -> Any:
        """The place of evaluation where the function that is called now was seen; None for no such place.

        Training may do the same in another line.
        """
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code is _Pass.__torch_function__.__code__:  # of another counter
            frame = frame.f_back
        here = self.places.enter(frame)
        if here in self.followed.seen:
            return here if here in self.rows else None
        if here in self.met:
            return self.met[here]
        return self.followed.alone.get((self.places.paths[-1], row_of(name)))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raw = getattr(func, "__name__", None) or str(func)
        name = raw.strip("_")
        place = self._known(name) if name in OPERATIONS else None
        if place is None:
            return func(*args, **(kwargs or {}))
        rows = self.rows[place]
        if name not in COUNTS or len(rows) > 1:
            raise ConfigError(f"accumulates of {rows[0].name or name}: {name} cannot be followed in training")
        self.met[self.places.place] = place
        writes = raw.startswith("__i") or (raw.endswith("_") and not raw.endswith("__"))
        operands = (args[0].clone(), *args[1:]) if writes and args else args  # as they were, for the gradient
        out = func(*args, **(kwargs or {}))
        call = Call(_NOBODY, func, name, OPERATIONS[name], operands, kwargs or {}, [])
        call.ran, call.result = True, out
        with torch._C.DisableTorchFunction(), torch.autocast(out.device.type, enabled=False):
            self.total = self.total + count(call, rows[0])
        return out


_NOBODY: Any = None  # a call that only binds its arguments asks no recorder
