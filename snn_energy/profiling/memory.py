"""What is constant in a forward pass, and which memory was written to by whom.

Parameters, buffers and tensors kept as attributes are constants, by identity, until an activation is
written into them.  torch's version counters tell of most writes; what they do not see is watched here:
`.data` shares memory but not the counter, numpy shares memory and tells nobody, and numbers taken out of
tensors come back as tensors without a past.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from types import CellType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from snn_energy.models.walk import modules, named_modules
from snn_energy.profiling.operations import NUMBERS
from snn_energy.profiling.provenance import ATTRIBUTE, COUNTED
from snn_energy.profiling.pruning import ATTRIBUTE as ZEROS

SAMPLED = 4096  # elements of a weight that are compared
ALWAYS_ASK = -1  # no tag's clock: some memory can be written to without a trace


class Constants:
    """The constants of `model`, but for those of its neurons, which are their own business."""

    def __init__(self, model: nn.Module, neurons: Iterable[nn.Module] = ()) -> None:
        own = {m for neuron in neurons for m in modules(neuron)}
        self.known: dict[int, torch.Tensor] = {}
        self.watched: list[tuple[str, torch.Tensor, bool]] = []  # name, tensor, is it a parameter?
        looked_at: set[type] = set()
        for path, module in named_modules(model):
            for name, tensor in _tensors_of(module, looked_at):
                if id(tensor) not in self.known:
                    self.known[id(tensor)] = tensor
                    if module not in own:
                        self.watched.append(
                            (f"{path}.{name}".lstrip("."), tensor, name in module._parameters)
                        )
        for tensor in _around(model):
            self.known.setdefault(id(tensor), tensor)
        self.demoted: dict[int, torch.Tensor] = {}  # constants that became activations
        self.ticks = 0  # writes through an alias so far
        self.clock = 0  # the same; ALWAYS_ASK where there may be others
        self.torn: dict[int, int] = {}  # storage -> clock of the last such write
        self.aliased: set[int] = set()  # storages with an alias that has a version counter of its own
        self.exposed: dict[int, int] = {}  # storages that numpy can write to -> what they held
        self.live: dict[int, Any] = {}  # storages of constants that an activation was written into
        self.touched: set[int] = set()  # storages of constants that a visible operation wrote to
        self.taken_out = False  # did values of an activation leave as numbers, a list or an array?
        self.snapshots: list[
            tuple[str, torch.Tensor, torch.Tensor, int]
        ] = []  # name, tensor, content, version
        self.weights: list[tuple[str, torch.Tensor, int]] = []
        self.norms: list[float] = []

    def begin(self, first: bool) -> None:
        """A pass begins: remember what the constants hold (parameters before the first pass only)."""
        if self.live:  # what the last pass wrote to is state in this one
            for key in [key for key, x in self.known.items() if _ready(x) and storage(x) in self.live]:
                self.demoted[key] = self.known.pop(key)
        self.live.clear()
        self.torn.clear()
        self.aliased.clear()
        self.exposed.clear()
        self.touched.clear()
        self.ticks, self.clock, self.taken_out = 0, 0, False
        watched = [entry for entry in self.watched if id(entry[1]) in self.known and _ready(entry[1])]
        self.snapshots = [
            (name, t, t.detach().clone(), t._version) for name, t, parameter in watched if not parameter
        ]
        self.weights = [(name, t, t._version) for name, t, parameter in watched if parameter] if first else []
        self.norms = norms_of([t for _, t, _ in self.weights])

    def changed_out_of_sight(self) -> Iterator[str]:
        """Names of constants that were written to in this pass though nobody was seen to do so."""
        changed = [
            (name, t)
            for name, t, before, version in self.snapshots
            if t._version != version or not alike(t, before)
        ]
        now = norms_of([t for _, t, _ in self.weights])
        for (name, t, version), a, b in zip(self.weights, self.norms, now, strict=True):
            if t._version != version or (a != b and (a == a or b == b)):
                changed.append((name, t))
        yield from (name for name, t in changed if storage(t) not in self.touched)
        self.snapshots, self.weights, self.norms = [], [], []

    def holds(self, x: torch.Tensor) -> bool:
        """Is `x` a constant of the model, still?"""
        if id(x) not in self.known:
            return False
        if self.live and storage(x) in self.live:
            self.demoted[id(x)] = self.known.pop(id(x))
            return False
        return True

    def is_live(self, x: torch.Tensor) -> bool:
        """Was an activation written into the memory of this constant?"""
        return storage(x) in self.live

    def was_touched(self, x: torch.Tensor) -> bool:
        """Did a visible operation write to the memory of this constant?"""
        return storage(x) in self.touched

    def wrote(self, target: Any, live: bool) -> None:
        """A visible operation wrote to `target`; `live`: an activation took part."""
        if not isinstance(target, torch.Tensor):
            for item in target if isinstance(target, (list, tuple)) else ():
                self.wrote(item, live)
            return
        tag = target.__dict__.get(ATTRIBUTE)
        constant = id(target) in self.known or (tag is not None and tag.constant)
        if constant:
            place = target.untyped_storage()
            self.touched.add(place.data_ptr())
            if live:
                self.live[place.data_ptr()] = place
        if self.aliased and storage(target) in self.aliased:
            self.torn[storage(target)] = self._tick()

    def touch(self, x: Any) -> None:
        """`x` was written to in sight, with what no later operation of this pass reads."""
        if isinstance(x, torch.Tensor):
            self.touched.add(storage(x))

    def leave(self, model: nn.Module) -> None:
        """Take from the model's tensors what a profile has hung on them."""
        classes: set[type] = set()
        held = (tensor for module in modules(model) for _, tensor in _tensors_of(module, classes))
        for tensor in (*held, *self.known.values(), *self.demoted.values()):
            for name in (ATTRIBUTE, COUNTED, ZEROS):
                tensor.__dict__.pop(name, None)

    def alias(self, x: torch.Tensor) -> None:
        """`x.data` was handed out: writes to it do not show in the version of `x`."""
        self.aliased.add(storage(x))
        x.__dict__.pop(ZEROS, None)

    def expose(self, x: torch.Tensor) -> None:
        """The memory of `x` was handed to numpy."""
        x.__dict__.pop(ZEROS, None)
        self.taken_out = True
        if x.device.type == "cpu" and x.layout == torch.strided:
            self.exposed[storage(x)] = fingerprint(x)
            self.clock = ALWAYS_ASK

    def replaced(self, x: torch.Tensor, live: bool) -> None:
        """`x.data = …`: another content under the same identity."""
        self.touched.add(storage(x))
        x.__dict__.pop(ZEROS, None)
        if live and id(x) in self.known:
            self.demoted[id(x)] = self.known.pop(id(x))
        self.torn[storage(x)] = self._tick()

    def torn_since(self, x: torch.Tensor, clock: int) -> bool:
        """May the content of `x` have changed since `clock` without its version telling?"""
        place = storage(x)
        return place in self.exposed or self.torn.get(place, 0) > clock

    def written_by_numpy(self, x: torch.Tensor) -> bool:
        """Has memory that was handed to numpy changed since it was last looked at?"""
        place = storage(x)
        if place not in self.exposed:
            return False
        before, self.exposed[place] = self.exposed[place], fingerprint(x)
        return before != self.exposed[place]

    def came_back(self, first: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """May the numbers among the arguments, from `first` on, have been taken out of an activation?"""
        if not self.taken_out:
            return False
        given = (*args[first:], *(value for name, value in kwargs.items() if name in NUMBERS))
        return any(_something(value) for value in given)

    def _tick(self) -> int:
        self.ticks += 1
        if self.clock != ALWAYS_ASK:
            self.clock = self.ticks
        return self.ticks


def _something(value: Any) -> bool:
    """Numbers, but for a single zero: not tensors, which have a past of their own, nor names and the like."""
    if isinstance(value, (int, float)):
        return value != 0
    if isinstance(value, (list, tuple)):
        return any(isinstance(item, (int, float)) or _something(item) for item in value)
    return not (value is None or isinstance(value, (torch.Tensor, torch.dtype, torch.device, str, slice)))


def storage(x: torch.Tensor) -> int:
    """The address of the memory of `x`; 0 where it has none yet."""
    return x.untyped_storage().data_ptr() if _ready(x) else 0


def fingerprint(x: torch.Tensor) -> int:
    """Of the whole memory of `x`, on the CPU."""
    whole = torch.empty(0, dtype=torch.uint8).set_(x.untyped_storage())
    return zlib.crc32(whole.numpy().data)


def norms_of(tensors: list[torch.Tensor]) -> list[float]:
    """Σ |x| over some thousand elements of each, which tell whether it was overwritten."""
    some = [t.detach().reshape(-1)[:: t.numel() // SAMPLED + 1] for t in tensors]
    return [float(n) for n in torch._foreach_norm(some, 1)] if some else []


def alike(x: torch.Tensor, before: torch.Tensor) -> bool:
    """The same values, NaN for NaN."""
    return x.shape == before.shape and bool(torch.equal(x, before) or ((x == before) | (x != x)).all())


def _ready(x: torch.Tensor) -> bool:
    """Has `x` memory yet?  Parameters of lazy layers get theirs in the first pass."""
    return not is_lazy(x)


_MODULES_OWN = frozenset(vars(nn.Module()))  # hooks and the like
_MAY_HOLD = (torch.Tensor, list, tuple, dict)


def _tensors_of(module: nn.Module, looked_at: set[type]) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, buffers and tensors in plain attributes, in lists and dictionaries, too.

    Those of its classes only where they are not among the classes already `looked_at`.
    """
    for registered in (module._parameters, module._buffers):
        yield from ((name, t) for name, t in registered.items() if isinstance(t, torch.Tensor))
    classes = [c for c in type(module).__mro__[: -len(nn.Module.__mro__)] if c not in looked_at]
    looked_at.update(classes)
    for names in (vars(module), *map(vars, classes)):
        for name, value in names.items():
            if isinstance(value, _MAY_HOLD) and name not in _MODULES_OWN:
                yield from ((name, t) for t in _inside(value))


def _around(model: nn.Module) -> Iterator[torch.Tensor]:
    """Tensors that the methods of the model's modules find in their files and closures."""
    classes = {cls for module in modules(model) for cls in type(module).__mro__}
    methods = [f for cls in classes for f in vars(cls).values() if isinstance(f, FunctionType)]
    files = {id(f.__globals__): f.__globals__ for f in methods if not f.__module__.startswith("torch.")}
    cells = [cell for f in methods for cell in f.__closure__ or ()]
    for value in (*(v for names in files.values() for v in names.values()), *map(_content, cells)):
        if isinstance(value, torch.Tensor):
            yield value


def _content(cell: CellType) -> Any:
    """What a closure holds; None while it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _inside(value: Any, depth: int = 4) -> Iterator[torch.Tensor]:
    """Tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _inside(item, depth - 1)
