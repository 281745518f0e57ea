"""What a population, or a box of its neurons, asks of a core: neurons, weight bits, input axons.

Synapses are stored where the neurons lie that hear them.  A zero weight is no synapse.  On a chip that shares
convolutions, a core stores the kernels of the output maps it holds, whatever part of the maps; else it stores
every synapse.  An input axon is needed for every source neuron that reaches the box.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from snn_energy.exporters.chip.chips import Chip
from snn_energy.exporters.netlist.check import message_bits
from snn_energy.exporters.netlist.record import (
    SYNAPSES,
    Array,
    Conv,
    Delay,
    Dense,
    Identity,
    Netlist,
    Relay,
    Shape,
    Synapses,
    width,
)
from snn_energy.exporters.netlist.synapses import fan_out

WEIGHT_BITS = 8
Range = tuple[int, int]


@dataclass(frozen=True)
class Demand:
    """What one population asks of a chip."""

    population: str
    neurons: int
    synapses: int
    fan_in: int  # source neurons that reach it
    weight_bits: int
    graded: bool


def demand(netlist: Netlist, name: str, chip: Chip) -> Demand:
    """Resources of one population as a whole."""
    target, incoming = netlist.nodes[name], projections(netlist, name)
    asks = Asks(target.shape, [node for node, _ in incoming], chip)
    graded = isinstance(target, Relay) or any(message_bits(netlist, source) for _, source in incoming)
    synapses = sum(int(fan_out(node).sum()) for node, _ in incoming)
    fan_in = sum(width(netlist.nodes[source]) for _, source in incoming)
    bits = int(asks.bits((0, asks.shape[1]), (0, asks.shape[2])).sum())
    return Demand(name, width(target), synapses, fan_in, bits, graded)


def projections(netlist: Netlist, name: str) -> list[tuple[Synapses, str]]:
    """(projection, its source) of everything that reaches a population, through delays."""
    found: list[tuple[Synapses, str]] = []
    for edge in netlist.inputs_of(name):
        node = netlist.nodes[edge.source]
        if isinstance(node, SYNAPSES):
            found.append((node, netlist.inputs_of(edge.source)[0].source))
        elif isinstance(node, Delay):
            found += projections(netlist, edge.source)
    return found


class Asks:
    """What boxes of one population of `shape` (C, H, W) ask, its synapses being `incoming`."""

    def __init__(self, shape: Shape, incoming: Iterable[Synapses], chip: Chip) -> None:
        self.shape, self.chip = shape, chip
        self.incoming = [_Incoming(node, shape, chip) for node in incoming]
        self.bits_per_synapse = WEIGHT_BITS + int(chip["synapse_overhead_bits"])

    def bits(self, rows: Range, columns: Range) -> Array:
        """Weight bits (C,) that each output map brings to a core which holds these rows and columns."""
        stored = np.zeros(self.shape[0], np.int64)
        for incoming in self.incoming:
            stored += incoming.stored(rows, columns)
        return stored * self.bits_per_synapse

    def axons(self, channels: Range, rows: Range, columns: Range) -> int:
        """Source neurons with a synapse into the box."""
        return sum(incoming.axons(channels, rows, columns) for incoming in self.incoming)

    def most_axons(self, rows: Range, columns: Range) -> int:
        """The most that one output map needs for these rows and columns, or a bound if that fits a core."""
        bound = sum(incoming.axon_bound(rows, columns) for incoming in self.incoming)
        if bound <= self.chip["in_axons_per_core"]:
            return bound
        return max(self.axons((c, c + 1), rows, columns) for c in range(self.shape[0]))


class _Incoming:
    """One projection into a population."""

    def __init__(self, node: Synapses, shape: Shape, chip: Chip) -> None:
        self.node, self.shape, self.shared = node, shape, bool(chip["shared_convolutions"])

    def stored(self, rows: Range, columns: Range) -> Array:
        """Synapses (C,) per output map in a box of these rows and columns."""
        if isinstance(self.node, Conv):
            if self.shared:
                return self.taps.sum(axis=(1, 2))
            inside = [self._inside(axis, span).sum(axis=(1, 2)) for axis, span in ((0, rows), (1, columns))]
            return np.asarray(np.einsum("cij,i,j->c", self.taps, *inside))
        per_neuron = self.per_neuron[:, slice(*rows), slice(*columns)]
        return np.asarray(per_neuron.sum(axis=(1, 2)))

    def axons(self, channels: Range, rows: Range, columns: Range) -> int:
        """Source neurons with a synapse into the box."""
        node = self.node
        if isinstance(node, Conv):
            return self._conv_axons(node, channels, rows, columns)
        if isinstance(node, Identity):
            spans = (channels, rows, columns)
            return int(np.prod([stop - start for start, stop in spans])) if node.weight else 0
        if isinstance(node, Dense):
            return int(np.any(node.weight[slice(*channels)], axis=0).sum())
        targets = np.arange(int(np.prod(self.shape))).reshape(self.shape)
        held = targets[slice(*channels), slice(*rows), slice(*columns)].ravel()
        used = np.isin(node.targets, held) & (node.values != 0)
        return int(np.unique(node.sources[used]).size)

    def axon_bound(self, rows: Range, columns: Range) -> int:
        """No output map needs more axons than this."""
        node = self.node
        if isinstance(node, Conv):
            sides = [self._inside(a, span).any(axis=(0, 1)).sum() for a, span in ((0, rows), (1, columns))]
            return int(node.weight.shape[1] * np.prod(sides))
        return int(self.per_neuron[:, slice(*rows), slice(*columns)].sum(axis=(1, 2)).max(initial=0))

    def _conv_axons(self, node: Conv, channels: Range, rows: Range, columns: Range) -> int:
        per_group, total = node.weight.shape[0] // node.groups, 0
        reach = [self._inside(axis, span).any(axis=1) for axis, span in ((0, rows), (1, columns))]
        for group in range(channels[0] // per_group, (channels[1] - 1) // per_group + 1):
            start, stop = max(channels[0], group * per_group), min(channels[1], (group + 1) * per_group)
            used = (node.weight[start:stop] != 0).any(axis=0)  # taps (I/groups, kH, kW) with a synapse
            if used.all():
                total += used.shape[0] * int(reach[0].any(axis=0).sum()) * int(reach[1].any(axis=0).sum())
            else:
                hits = np.einsum(
                    "iab,ay,bx->iyx", used.astype(np.int64), *(r.astype(np.int64) for r in reach)
                )
                total += int((hits > 0).sum())
        return total

    @cached_property
    def taps(self) -> Array:
        """Non-zero weights (O, kH, kW) over the input maps of a convolution."""
        assert isinstance(self.node, Conv)
        return np.asarray(np.count_nonzero(self.node.weight, axis=1), np.int64)

    @cached_property
    def per_neuron(self) -> Array:
        """Synapses of every neuron, of the population's shape."""
        node, size = self.node, int(np.prod(self.shape))
        if isinstance(node, Dense):
            counts = np.count_nonzero(node.weight, axis=1)
        elif isinstance(node, Identity):
            counts = np.full(size, int(node.weight != 0))
        else:
            assert not isinstance(node, Conv)
            counts = np.bincount(node.targets[node.values != 0], minlength=size)
        return np.asarray(counts, np.int64).reshape(self.shape)

    def _inside(self, axis: int, span: Range) -> Array:
        """(k, outputs, n): does tap i of output y read input position p, which lies inside the map?"""
        node = self.node
        assert isinstance(node, Conv)
        n, k = node.in_shape[1 + axis], node.weight.shape[2 + axis]
        outputs = np.arange(*span)[None, :] * node.stride[axis]
        at = outputs + np.arange(k)[:, None] * node.dilation[axis] - node.padding[axis]
        return np.asarray(at[..., None] == np.arange(n))
