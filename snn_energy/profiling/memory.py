"""What is constant in a forward pass, and which memory was written to by whom.

Parameters, buffers and tensors kept as attributes are constants, by identity, until an activation is
written into them.  torch's version counters tell of most writes; what they do not see is watched here:
`.data` shares memory but not the counter, numpy shares memory and tells nobody, and numbers taken out of
tensors come back as tensors without a past.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from snn_energy.profiling.provenance import ATTRIBUTE

ALWAYS_ASK = -1  # no tag's clock: some memory can be written to without a trace


class Constants:
    """The constants of `model`, but for those of its neurons, which are their own business."""

    def __init__(self, model: nn.Module, neurons: Iterable[nn.Module] = ()) -> None:
        own = {m for neuron in neurons for m in neuron.modules()}
        self.known: dict[int, torch.Tensor] = {}
        self.watched: list[tuple[str, torch.Tensor, bool]] = []  # name, tensor, is it a parameter?
        for path, module in model.named_modules():
            for name, tensor in _tensors_of(module):
                if id(tensor) not in self.known:
                    self.known[id(tensor)] = tensor
                    if module not in own:
                        self.watched.append((f"{path}.{name}".lstrip("."), tensor, name in module._parameters))
        self.demoted: dict[int, torch.Tensor] = {}  # constants that became activations
        self.ticks = 0  # writes through an alias so far
        self.clock = 0  # the same; ALWAYS_ASK where there may be others
        self.torn: dict[int, int] = {}  # storage -> clock of the last such write
        self.aliased: set[int] = set()  # storages with an alias that has a version counter of its own
        self.exposed: dict[int, int] = {}  # storages that numpy can write to -> a sum over their bytes
        self.live: dict[int, Any] = {}  # storages of constants that an activation was written into
        self.touched: set[int] = set()  # storages of constants that a visible operation wrote to
        self.taken_out = False  # did the values of a tensor leave as a list or an array?
        self.numbers: set[float] = set()  # single values that did
        self.snapshots: list[tuple[str, torch.Tensor, Any]] = []

    def begin(self, first: bool) -> None:
        """A pass begins: remember what the constants hold (parameters before the first pass only)."""
        self.live.clear()
        self.torn.clear()
        self.aliased.clear()
        self.exposed.clear()
        self.touched.clear()
        self.numbers.clear()
        self.ticks, self.clock, self.taken_out = 0, 0, False
        self.snapshots = [
            (name, tensor, checksum(tensor) if parameter else tensor.detach().clone())
            for name, tensor, parameter in self.watched
            if (first or not parameter) and id(tensor) in self.known
        ]

    def changed_out_of_sight(self) -> Iterator[str]:
        """Names of constants whose content changed in this pass though nobody was seen to write to them."""
        for name, tensor, before in self.snapshots:
            same = checksum(tensor) == before if isinstance(before, int) else alike(tensor, before)
            if not same and storage(tensor) not in self.touched:
                yield name
        self.snapshots = []

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

    def alias(self, x: torch.Tensor) -> None:
        """`x.data` was handed out: writes to it do not show in the version of `x`."""
        self.aliased.add(storage(x))

    def expose(self, x: torch.Tensor) -> None:
        """The memory of `x` was handed to numpy."""
        self.taken_out = True
        if x.device.type == "cpu" and x.layout == torch.strided:
            self.exposed[storage(x)] = bytes_sum(x)
            self.clock = ALWAYS_ASK

    def replaced(self, x: torch.Tensor, live: bool) -> None:
        """`x.data = …`: another content under the same identity."""
        self.touched.add(storage(x))
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
        before, self.exposed[place] = self.exposed[place], bytes_sum(x)
        return before != self.exposed[place]

    def came_back(self, values: Iterable[Any]) -> bool:
        """May a tensor made from these values hold what was taken out of an activation?"""
        if self.taken_out:
            return any(not isinstance(v, (bool, str)) and v is not None for v in values)
        return bool(self.numbers) and any(v in self.numbers for v in values if isinstance(v, float))

    def _tick(self) -> int:
        self.ticks += 1
        if self.clock != ALWAYS_ASK:
            self.clock = self.ticks
        return self.ticks


def storage(x: torch.Tensor) -> int:
    """The address of the memory of `x`."""
    return x.untyped_storage().data_ptr()


def bytes_sum(x: torch.Tensor) -> int:
    """A sum over the bytes of the whole memory of `x`."""
    whole = torch.empty(0, dtype=torch.uint8).set_(x.untyped_storage())
    return int(whole.sum(dtype=torch.int64))


def checksum(x: torch.Tensor) -> int:
    """A sum over the bits of `x`, word by word."""
    x = x.detach()
    words = {4: torch.int32, 8: torch.int64, 2: torch.int16, 1: torch.uint8}.get(x.element_size())
    if words is None or x.is_complex() or not x.is_contiguous():
        x, words = x.contiguous(), torch.uint8
    return int(x.view(words).sum(dtype=torch.int64)) if x.dim() else int(x.reshape(1).view(words).sum())


def alike(x: torch.Tensor, before: torch.Tensor) -> bool:
    """The same values, NaN for NaN."""
    return x.shape == before.shape and bool(torch.equal(x, before) or ((x == before) | (x != x)).all())


def _tensors_of(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, buffers and tensors kept as plain attributes."""
    for table in (module._parameters, module._buffers, vars(module)):
        yield from ((name, t) for name, t in table.items() if isinstance(t, torch.Tensor))
