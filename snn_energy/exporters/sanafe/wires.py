"""A netlist as neurons and explicit synapses between them: all that a chip without graded spikes has.

Synapses, relays and delays on the way between two populations become one list of weighted connections:

* a graded input becomes one binary neuron per bit of its messages, with that bit's weight (the sign bit's is
  negative), so that the same currents arrive;
* a relay only adds, so what follows it is composed with what precedes it, in whole numbers;
* a delay of d steps is kept by d layers of neurons that fire one step after they are hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.netlist.record import (
    SYNAPSES,
    Array,
    Delay,
    Input,
    Netlist,
    Population,
    Readout,
    Relay,
    time_offsets,
    width,
)
from snn_energy.exporters.netlist.synapses import listed

SUPPORTED = "inputs, populations, relays, delays, and convolution, dense, sparse and one-to-one synapses"


@dataclass(frozen=True)
class Wires:
    """Connections from `source` to population `target`: flat indices and whole weights, all (n,).

    `late`: steps that a spike waits before it takes them, besides the one step of a synapse.
    """

    source: str
    target: str
    sources: Array
    targets: Array
    weights: Array
    late: int


def obstacle(netlist: Netlist) -> UnsupportedOp | None:
    """The first node that has no form in neurons and synapses."""
    for name, node in netlist.nodes.items():
        if not isinstance(node, (Input, Population, Relay, Delay, Readout, *SYNAPSES)):
            way_out = "the integer simulator and Lava run it; SDT attention with pools of spikes needs none"
            return UnsupportedOp(
                name, f"{type(node).__name__} in SANA-FE", supported=SUPPORTED, way_out=way_out
            )
        if isinstance(node, Population) and np.any(node.bias) and node.current_decay < 4096:
            way_out = "a bias enters as a synapse here, so its current must not persist: current_decay 4096"
            return UnsupportedOp(name, "bias with a decaying current", supported=SUPPORTED, way_out=way_out)
    return None


def wires(netlist: Netlist) -> list[Wires]:
    """Every connection into every population."""
    offsets = time_offsets(netlist)
    found = []
    for target in netlist.named(Population):
        for source, sources, targets, weights in _currents(netlist, target):
            sources, targets, weights = _merged(sources, targets, weights)
            late = offsets[target] - offsets[source] - 1
            found.append(Wires(source, target, *_bits(netlist, source, sources, targets, weights), late))
    return found


def bit_planes(node: Input, messages: Array) -> Array:
    """Messages (T, C, H, W) as the spikes (T, bits, C, H, W) of their two's complement."""
    bits = max(node.message_bits, 1)
    return np.stack([(messages >> b) & 1 for b in range(bits)], axis=1).astype(bool)


def _bits(
    netlist: Netlist, source: str, sources: Array, targets: Array, weights: Array
) -> tuple[Array, Array, Array]:
    """The same connections from every bit of a graded input."""
    node = netlist.nodes[source]
    if not isinstance(node, Input) or not node.message_bits:
        return sources, targets, weights
    values = [1 << b for b in range(node.message_bits - 1)] + [-1 << (node.message_bits - 1)]
    return (
        np.concatenate([sources + plane * width(node) for plane in range(node.message_bits)]),
        np.tile(targets, node.message_bits),
        np.concatenate([weights * value for value in values]),
    )


def _currents(netlist: Netlist, target: str) -> Iterator[tuple[str, Array, Array, Array]]:
    """(spiking node, sources, targets, weights) of each current into node `target`."""
    for edge in netlist.inputs_of(target):
        projection = _undelayed(netlist, edge.source)
        node = netlist.nodes[projection]
        assert isinstance(node, SYNAPSES)
        source = _undelayed(netlist, netlist.inputs_of(projection)[0].source)
        last = listed(node)
        if not isinstance(netlist.nodes[source], Relay):
            yield (source, *last)
            continue
        for name, *first in _currents(netlist, source):
            yield (name, *_composed((first[0], first[1], first[2]), last))


def _undelayed(netlist: Netlist, name: str) -> str:
    """What a chain of delays ends in; `late` follows from time offsets."""
    while isinstance(netlist.nodes[name], Delay):
        name = netlist.inputs_of(name)[0].source
    return name


def _composed(
    first: tuple[Array, Array, Array], last: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """Connections from what `first` starts at to what `last` ends at, through the relay between them."""
    order = np.argsort(last[0], kind="stable")
    last = (last[0][order], last[1][order], last[2][order])
    begin = np.searchsorted(last[0], first[1], "left")
    count = np.searchsorted(last[0], first[1], "right") - begin
    which = np.repeat(np.arange(len(first[0])), count)
    onward = np.repeat(begin - np.cumsum(count) + count, count) + np.arange(int(count.sum()))
    return first[0][which], last[1][onward], first[2][which] * last[2][onward]


def _merged(sources: Array, targets: Array, weights: Array) -> tuple[Array, Array, Array]:
    """At most one connection between two neurons; none of weight 0."""
    pairs, where = np.unique(np.stack([sources, targets]), axis=1, return_inverse=True)
    summed = np.zeros(pairs.shape[1], np.int64)
    np.add.at(summed, where.reshape(-1), weights)
    used = summed != 0
    return pairs[0][used], pairs[1][used], summed[used]
