"""One `TorchFunctionMode` that sends every torch function touching activations to its rule.

Nothing that the model computes is touched: every function is called once with the arguments it was given, and
its result is returned as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from snn_energy.errors import SnnEnergyError
from snn_energy.profiling import movement
from snn_energy.profiling.call import Call, Rule
from snn_energy.profiling.operations import ASIDE, DRAWS, MAKES, OPERATIONS, TAKES_OUT, Operation
from snn_energy.profiling.provenance import ATTRIBUTE, COUNTED, Tag, carry
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.resolve import SYNAPTIC
from snn_energy.profiling.rules import RULES, foreign_name

_ANY = Operation("", parameters=("input", "other"))  # of a function that only a user's rule knows
_OPERANDS = (torch.Tensor, int, float, complex)  # bool is an int
_PRODUCTS = {f"conv{transposed}{d}d" for transposed in ("", "_transpose") for d in (1, 2, 3)}
_PRODUCTS |= {"linear", "matmul", "mm", "mv", "bmm", "addmm", "addmv", "addbmm", "baddbmm", "einsum"}
"""Functions that multiply with weights, where a neuron does that in its own `forward`."""
_TURNS = ("T", "mT", "H", "mH")


class Watch(TorchFunctionMode):
    """Sends every torch function that touches activations to its rule."""

    def __init__(self, recorder: Recorder, rules: Mapping[str, Rule]) -> None:
        super().__init__()
        self.recorder = recorder
        self.rules = rules
        self.handlers: dict[Any, Any] = {}  # by function
        self.aside: list[Any] = []  # guards that keep torch functions inside neurons from coming here
        # neurons with synapses that run now: is all looked at (in a layer of theirs), nothing, or products
        self.within: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        handler = self.handlers.get(func)
        if handler is None:
            handler = self.handlers[func] = self._handler(func)
        if self.within and self.within[-1] != "all":
            self.recorder.adopt((args, *(kwargs or {}).values()))
            name = (getattr(func, "__name__", None) or str(func)).strip("_")
            if self.within[-1] == "nothing" or name not in _PRODUCTS:
                return self._part_of_update(func, args, kwargs or {})
            self.recorder.adopt(args[:1], state=True)
        return handler(func, args, kwargs or {})

    def _part_of_update(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A function in a neuron's `forward`: what it makes of activations is one, and costs nothing more."""
        rec, live = self.recorder, self.recorder.live((args, *kwargs.values()))
        out = func(*args, **kwargs)
        for x in out if isinstance(out, (list, tuple)) else (out,):
            if isinstance(x, torch.Tensor):
                rec.mark(x, rec.plain if live else rec.fixed)
        return out

    def _handler(self, func: Any) -> Any:
        """What to do with calls of `func`."""
        theirs = foreign_name(func, self.rules)
        if theirs is not None:
            return self._counter(theirs, theirs)
        raw = getattr(func, "__name__", None) or str(func)
        if raw in ("__get__", "__set__"):
            attribute = getattr(getattr(func, "__self__", None), "__name__", "")
            return self._getter(attribute) if raw == "__get__" else self._set
        name = raw.strip("_")
        if raw == "__bool__":  # a decision of Python's
            return _pass
        if raw == "set_":
            return self._set
        if name in TAKES_OUT and (raw.startswith("__") or name not in OPERATIONS):
            return self._take_out
        if name in ASIDE:
            return _pass
        return self._counter(name, raw)

    def _counter(self, name: str, raw: str) -> Any:
        """Counts calls of a function that may do work."""
        rec, rule, operation = self.recorder, self.rules.get(name), OPERATIONS.get(name, _ANY)
        writes = (raw.endswith("_") and not raw.endswith("__")) or name == "setitem" or raw.startswith("__i")
        makes, draws = MAKES.get(name), name in DRAWS
        ours = rule is not None and rule is RULES.get(name)
        operator = operation.parameters[:2] == ("input", "other") and not writes

        def count(func: Any, args: Any, kwargs: Any) -> Any:
            place = rec.enter(sys._getframe(2))
            before = rec.again(place, name, args, kwargs)
            if before is not None:
                out = func(*args, **kwargs)
                rec.mark(out, before)
                return out
            tags: list[Tag] = []
            _collect(rec, args, tags)
            if kwargs:  # what lay in `out` before is no operand
                _collect(rec, [value for key, value in kwargs.items() if key != "out"], tags)
            if writes or "out" in kwargs:
                rec.constants.wrote(_target(args, kwargs), live=bool(tags))
                if rec.constants.live:  # what was constant for calls remembered may be so no longer
                    rec.settled.clear()
            if not tags:
                return constant(func, args, kwargs)
            rec.touched, rec.looked, rec.watched = [], False, None
            call = Call(rec, func, name, operation, args, kwargs, tags)
            strange = operator and len(args) == 2 and not isinstance(args[1], _OPERANDS)
            if strange and call.run() is NotImplemented:  # `x == None`: Python goes on without torch
                return NotImplemented
            try:
                known = uncovered(call) if rule is None else rule(call)
            except SnnEnergyError:
                raise
            except Exception as error:
                if call.failed is not None:
                    raise
                known = _gap(call, error)
            out = call.run()
            known = known or call.known()
            if isinstance(known, tuple):  # one for each result
                for one, tag in zip(out, known, strict=False):
                    rec.mark(one, tag)
                return out
            if ours and not writes and "out" not in kwargs:  # a user's rule may read what we do not see
                known = rec.settle(place, args, kwargs, known, name)
            rec.mark(out, known)
            return out

        def constant(func: Any, args: Any, kwargs: Any) -> Any:
            out = func(*args, **kwargs)
            if draws:
                live = not writes or id(_target(args, kwargs)) not in rec.constants.known
            else:
                live = makes is not None and rec.numbers_came_back(makes, args, kwargs)
            rec.mark(args[0] if out is None and args else out, rec.plain if live else rec.fixed)
            if name in SYNAPTIC:
                rec.idle.setdefault(rec.paths[-1])
            return out

        def uncovered(call: Call) -> Tag:
            rec.uncounted(name, call.run())
            return call.known(event=True)

        return count if writes or rule is not movement.view else self._viewer(count)

    def _viewer(self, otherwise: Any) -> Any:
        """`movement.view` for what it nearly always meets: one tensor that is known, and a view of it."""
        rec = self.recorder

        def look(func: Any, args: Any, kwargs: Any) -> Any:
            x: Any = args[0] if args else None
            tag: Tag | None = x.__dict__.get(ATTRIBUTE) if isinstance(x, torch.Tensor) else None
            if (
                tag is None
                or tag.epoch != rec.epoch
                or tag.version != x._version
                or tag.clock != rec.constants.clock
                or (tag.constant and len(args) > 1 and isinstance(args[1], torch.Tensor))
            ):
                return otherwise(func, args, kwargs)
            out = func(*args, **kwargs)
            if out.dtype != x.dtype:  # the same bits read as another type
                rec.mark(out, tag.but(values=None, synapse=None))
                return out
            rec.mark(out, tag)
            if COUNTED in x.__dict__:
                carry(x, out)
            return out

        return look

    def _getter(self, attribute: str) -> Any:
        rec = self.recorder

        def get(func: Any, args: Any, kwargs: Any) -> Any:
            out = func(*args, **kwargs)
            if not isinstance(out, torch.Tensor):
                return out
            x = args[0]
            tag = rec.tag(x)
            if attribute == "data":
                rec.constants.alias(x)
            if tag is None:
                tag = rec.fixed
            elif attribute in _TURNS:
                call = Call(rec, lambda *_: out, attribute, _ANY, args, {}, [tag])
                tag = movement.transpose(call)
            rec.mark(out, tag)
            return out

        return get

    def _set(self, func: Any, args: Any, kwargs: Any) -> Any:
        """`x.data = y`, `x.set_(y)`, and settings that change no value."""
        if getattr(func, "__name__", "") != "set_" and getattr(func.__self__, "__name__", "") != "data":
            return func(*args, **kwargs)
        rec, (x, *new) = self.recorder, args
        known = bool(new) and isinstance(new[0], torch.Tensor)
        tag = rec.tag(new[0]) if known else rec.plain
        out = func(*args, **kwargs)
        if not known:
            rec.unseen("a tensor that was given other memory", x.numel())
        rec.constants.replaced(x, live=tag is not None)
        rec.settled.clear()
        rec.mark(x, rec.fixed if tag is None else tag)
        return out

    def _take_out(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Values leave torch: remember that they may come back."""
        out = func(*args, **kwargs)
        rec = self.recorder
        if args and rec.tag(args[0]) is not None:
            if isinstance(out, (int, float, list)):
                rec.constants.taken_out = True
            else:
                rec.constants.expose(args[0])
        elif args and isinstance(args[0], torch.Tensor) and not isinstance(out, (int, float, list)):
            taken = rec.constants.taken_out
            rec.constants.expose(args[0])
            rec.constants.taken_out = taken
        return out


def _target(args: Any, kwargs: Any) -> Any:
    """What a function that writes writes to."""
    return kwargs["out"] if "out" in kwargs else args[0] if args else next(iter(kwargs.values()), None)


def _gap(call: Call, error: Exception) -> Tag:
    """A rule that fails is a gap in the count, not in the model."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
    call.rec.looked = True
    call.rec.uncounted(f"{call.name} called in a way that its rule does not cover ({reason})", call.run())
    return call.known(event=True)


def _pass(func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs)


def _collect(rec: Recorder, values: Any, tags: list[Tag]) -> None:
    """The tags of all activations among `values`, lists and tuples included."""
    epoch, clock = rec.epoch, rec.constants.clock
    for value in values:
        if isinstance(value, torch.Tensor):
            tag: Tag | None = value.__dict__.get(ATTRIBUTE)
            if tag is None or tag.epoch != epoch or tag.version != value._version or tag.clock != clock:
                tag = rec.tag(value)
                if tag is not None:
                    tags.append(tag)
            elif not tag.constant:
                tags.append(tag)
        elif type(value) in (list, tuple):
            _collect(rec, value, tags)
