"""Where a tensor came from: a tag that rides on it from operation to operation.

A tag spares value tests (a neuron's spikes stay spikes through reshapes and max pools), names the neurons
behind an operand, lets a norm know that a synapse stands right before it, and tells activations from
constants.  It never decides a kind by itself: what it carries was read from values.
"""

from __future__ import annotations

from typing import Any

import torch

from snn_energy.profiling.kinds import ValueSet

ATTRIBUTE = "_snn_energy_tag"
COUNTED = "_snn_energy_counts"
# how time and batch lie in a tensor's leading dimensions: (T, B, …) or folded, (B, T, …) or folded,
# (B, …) with time further behind, not known
TIME_MAJOR, SAMPLE_MAJOR, SAMPLES_ALONE, UNKNOWN_ORDER = 0, 1, 2, 3
CURRENT = ValueSet(None)  # known by identity: what a synapse made is a current, whatever values it takes


class Measured:
    """What was counted of one tensor: its nonzeros (or unit events) per leading index, and per position.

    It rides on the tensor, and on views of all its memory, until something is written there.
    """

    __slots__ = ("channels", "epoch", "full", "lead", "maps", "numel", "rows", "units", "version")

    def __init__(self, x: torch.Tensor, lead: int, epoch: int = 0) -> None:
        self.numel, self.lead = x.numel(), lead
        self.epoch, self.version = epoch, x._version
        self.channels = x.shape[lead] if x.dim() > lead else 1
        self.rows: torch.Tensor | None = None  # float64, flat over the `lead` leading dimensions
        self.maps: torch.Tensor | None = None  # summed over channels: (leading, positions)
        self.units: Measured | None = None  # the same of unit events, where events are graded
        self.full = False  # known to have no zero; then nothing else may have been counted

    def per_lead(self) -> torch.Tensor:
        """`rows`, from `maps` where only these were counted."""
        if self.rows is None:
            self.rows = self.maps.double().sum(1)  # type: ignore[union-attr]
        return self.rows

    def positions(self, x: torch.Tensor) -> torch.Tensor | None:
        """`maps`, if they are those of `x` (N, C, *spatial)."""
        if self.maps is None or x.shape[0] != self.maps.shape[0] or x.shape[1] != self.channels:
            return None
        return self.maps


class Tag:
    """The history of a tensor in one forward pass.  Never changed once made, but for the pass it holds in."""

    __slots__ = (
        "clock", "constant", "drivers", "epoch", "order", "sites", "sources", "still", "synapse",
        "values", "version",
    )  # fmt: skip

    def __init__(
        self,
        epoch: int,  # the pass; tags of earlier passes are void
        sources: tuple[str, ...] = (),  # neurons, or "input", seen through views and pools
        drivers: tuple[
            Any, ...
        ] = (),  # tallies of the synapses whose sum this is, through norms, adds, pools
        synapse: Any = None,  # the tally of the layer with weights that made it, through views only
        values: ValueSet | None = None,  # the values, where they were read; CURRENT for what a synapse made
        still: bool = False,  # made without state or chance from the input: worth comparing over the steps
        sites: int = 0,  # of a still tensor: the sites that it went through, a bit each
        order: int = TIME_MAJOR,
        constant: bool = False,  # made from parameters and numbers alone
        version: int = 0,  # of the tensor when tagged: a later in-place change voids the tag
        clock: int = 0,  # writes seen through aliases of other tensors, until then
    ) -> None:
        self.epoch = epoch
        self.sources = sources
        self.drivers = drivers
        self.synapse = synapse
        self.values = values
        self.still = still
        self.sites = sites
        self.order = order
        self.constant = constant
        self.version = version
        self.clock = clock

    def same(self, other: Tag) -> bool:
        """Do both know the same?"""
        return (
            self.sources == other.sources
            and self.drivers == other.drivers
            and self.synapse is other.synapse
            and self.values is other.values
            and self.still == other.still
            and self.sites == other.sites
            and self.order == other.order
            and self.constant == other.constant
            and self.version == other.version
            and self.clock == other.clock
        )

    def but(self, **fields: Any) -> Tag:
        """The same with other `fields`."""
        changed = Tag.__new__(Tag)
        for name in Tag.__slots__:
            setattr(changed, name, fields[name] if name in fields else getattr(self, name))
        return changed

    def forgetting(self, version: int) -> Tag:
        """What remains known of a tensor that was written to since."""
        return self.but(synapse=None, values=None, still=False, sites=0, version=version)


def carry(x: torch.Tensor, out: Any) -> None:
    """What was counted of `x` holds of `out`, too, if it is a view of the same memory.

    Both are alive, so the same address is the same memory; whoever reads the counts looks whether `out` shows
    all of it in the same order.
    """
    if isinstance(out, torch.Tensor) and out.data_ptr() == x.data_ptr():
        out.__dict__[COUNTED] = x.__dict__[COUNTED]


def union(*names: tuple[Any, ...]) -> tuple[Any, ...]:
    """All entries, each once, in order."""
    first, *others = names
    for other in others:
        if other and other is not first:
            first = tuple(dict.fromkeys((*first, *other)))
    return first
