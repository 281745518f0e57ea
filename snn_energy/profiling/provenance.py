"""Where a tensor came from: a tag that rides on it from operation to operation.

A tag spares value tests (a neuron's spikes stay spikes through reshapes and max pools), names the neurons
behind an operand, lets a norm know that a synapse stands right before it, and tells activations from
constants.  It never decides a kind by itself: what it carries was read from values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from snn_energy.profiling.kinds import ValueSet

ATTRIBUTE = "_snn_energy_tag"


class Measured:
    """What is already known of one piece of memory: its nonzeros per leading index, and per position.

    Shared by all views that show the same elements in the same order.
    """

    __slots__ = ("channels", "lead", "maps", "numel", "pointer", "rows")

    def __init__(self, x: torch.Tensor, lead: int) -> None:
        self.pointer, self.numel, self.lead = x.data_ptr(), x.numel(), lead
        self.channels = x.shape[lead] if x.dim() > lead else 1
        self.rows: torch.Tensor | None = None  # float64, flat over the `lead` leading dimensions
        self.maps: torch.Tensor | None = None  # summed over channels: (leading, positions)

    def shows(self, x: torch.Tensor) -> bool:
        """Whether `x` is the same memory, all of it, in the same order."""
        return x.data_ptr() == self.pointer and x.numel() == self.numel and x.is_contiguous()

    def per_lead(self) -> torch.Tensor:
        """`rows`, from `maps` where only these were counted."""
        if self.rows is None:
            self.rows = self.maps.double().sum(1)  # type: ignore[union-attr]
        return self.rows

    def positions(self, x: torch.Tensor) -> torch.Tensor | None:
        """`maps`, if they are those of `x` (N, C, *spatial)."""
        if self.maps is None or not self.shows(x):
            return None
        return self.maps if x.shape[0] == self.maps.shape[0] and x.shape[1] == self.channels else None


@dataclass(slots=True)
class Tag:
    """The history of a tensor in one forward pass.  Never changed once made; made too often to be frozen."""

    epoch: int  # the pass; tags of earlier passes are void
    sources: tuple[str, ...] = ()  # neurons, or "input", seen through views and pools
    drivers: tuple[Any, ...] = ()  # tallies of the synapses whose sum this is, through norms, adds and pools
    synapse: Any = None  # the tally of the synapse that made it, through views only
    values: ValueSet | None = None  # the values, where they were read
    static: bool = False  # the same at every time step
    constant: bool = False  # made from parameters and numbers alone
    measured: Measured | None = None
    version: int = 0  # of the tensor when tagged: a later in-place change voids the tag

    def knowing(self, values: ValueSet | None, measured: Measured | None) -> Tag:
        """The same, knowing more."""
        return Tag(
            self.epoch,
            self.sources,
            self.drivers,
            self.synapse,
            self.values if values is None else values,
            self.static,
            self.constant,
            self.measured if measured is None else measured,
            self.version,
        )


def attach(x: torch.Tensor, tag: Tag) -> None:
    """Put `tag` on `x`."""
    x.__dict__[ATTRIBUTE] = tag if tag.version == x._version else replace(tag, version=x._version)


def read(x: torch.Tensor, epoch: int) -> Tag | None:
    """The tag of `x` if it was given in this pass; without what an in-place change has made untrue."""
    tag: Tag | None = x.__dict__.get(ATTRIBUTE)
    if tag is None or tag.epoch != epoch:
        return None
    if tag.version != x._version:
        return replace(tag, synapse=None, values=None, static=False, measured=None, version=x._version)
    return tag


def union(*names: tuple[Any, ...]) -> tuple[Any, ...]:
    """All entries, each once, in order."""
    first, *others = names
    for other in others:
        if other and other is not first:
            first = tuple(dict.fromkeys((*first, *other)))
    return first
