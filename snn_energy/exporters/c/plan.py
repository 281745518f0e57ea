"""What the C program of a netlist computes with: types, lags, delay lines, and the engine of each projection.

Synapses cost no step in C, so a node runs in the same call as what feeds it, and delays that only kept the
chip's paths in step vanish.  What stays is the look ahead of attention: its answer to step t needs the last
step of t's chunk.  A node's lag is the number of steps that it runs behind the input, and a value that a
node of larger lag reads waits in a delay line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import lcm

import numpy as np

from snn_energy.errors import ConfigError
from snn_energy.exporters.netlist.check import check, message_bits
from snn_energy.exporters.netlist.record import (
    SPIKING,
    SYNAPSES,
    VOLTAGE_LIMIT,
    Conv,
    Delay,
    Dense,
    GradedMaxPool,
    Identity,
    Input,
    Netlist,
    Readout,
    Shape,
    SpikeAttention,
    width,
)
from snn_energy.exporters.netlist.simulate import Activity, largest_outputs, message_range

C_TYPES = {
    "u8": "uint8_t", "i8": "int8_t", "u16": "uint16_t", "i16": "int16_t", "u32": "uint32_t", "i32": "int32_t",
    "i64": "int64_t",
}  # fmt: skip
BYTES = {"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "i64": 8}
INDEX_MAX = (1 << 31) - 1
BREAK_EVEN = 0.9
"""Share of messages above which dense loops are chosen: benchmarks/c_engines.py, on x86-64 and Cortex-M4."""


@dataclass(frozen=True)
class Value:
    """What a node gives: its type, the lag at which it is there, and how many steps of it are kept."""

    node: str
    type: str
    shape: Shape
    lag: int
    slots: int = 1

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Plan:
    """A checked netlist with all that is decided before C is written.

    `values`: node -> what it gives (delays have none); `sources`: node -> (port, node) with delays followed
    back; `lags`: at which lag each node takes its inputs; `engines`: projection -> "events" or "dense".
    """

    netlist: Netlist
    order: tuple[str, ...]
    values: Mapping[str, Value]
    sources: Mapping[str, tuple[tuple[str, str], ...]]
    lags: Mapping[str, int]
    bounds: Mapping[str, float]
    engines: Mapping[str, str] = field(default_factory=dict)

    @property
    def lag(self) -> int:
        return max(value.lag for value in self.values.values())

    @property
    def ring(self) -> int:
        """Steps after which all delay lines stand where they stood."""
        return lcm(*(value.slots for value in self.values.values()))

    def source(self, name: str) -> str:
        """What feeds a projection, delays followed back."""
        return self.sources[name][0][1]

    def heard(self, name: str) -> float:
        """Bound of the sum of what feeds a node."""
        return sum(self.bounds[edge.source] for edge in self.netlist.inputs_of(name))


def plan(
    netlist: Netlist, rates: Mapping[str, float] | None = None, engines: Mapping[str, str] | None = None
) -> Plan:
    """Decide types, lags and engines of a netlist.

    `rates`: node -> share of its messages that are not zero, as measured; a projection whose source is not in
    it is event-driven.  `engines`: projection -> "events" or "dense", in place of that.  Raises `ConfigError`
    for what 32-bit indices or the arithmetic cannot hold.
    """
    check(netlist)
    order = tuple(name for name in netlist.order() if not isinstance(netlist.nodes[name], Delay))
    sources = {n: tuple((e.port, _root(netlist, e.source)) for e in netlist.inputs_of(n)) for n in order}
    lags, out = _lags(netlist, order, sources)
    bounds = largest_outputs(netlist, netlist.order())
    slots = dict.fromkeys(order, 1)
    for name in order:
        for port, source in sources[name]:
            at = out[name] if port == "q" else lags[name]
            slots[source] = max(slots[source], at - out[source] + 1)
    values: dict[str, Value] = {}
    for name in order:
        node = netlist.nodes[name]
        kind = _type(netlist, name, bounds, values, sources)
        values[name] = Value(name, kind, tuple(map(int, node.shape)), out[name], slots[name])
    found = Plan(netlist, order, values, sources, lags, bounds)
    _refuse(found)
    chosen = {n: _engine(found, n, rates or {}) for n in order if isinstance(netlist.nodes[n], SYNAPSES)}
    told = engines or {}
    chosen = {n: "dense" if told.get(n, engine) == "dense" else "events" for n, engine in chosen.items()}
    return Plan(netlist, order, values, sources, lags, bounds, chosen)


def rates_of(netlist: Netlist, activity: Activity) -> dict[str, float]:
    """Share of the messages of each node that were not zero in a run."""
    total = netlist.time_steps * max(activity.samples, 1)
    return {name: count.spikes / (width(netlist.nodes[name]) * total)
            for name, count in activity.counts.items() if name in netlist.nodes}  # fmt: skip


def _root(netlist: Netlist, name: str) -> str:
    """The node whose values a chain of delays passes on."""
    while isinstance(netlist.nodes[name], Delay):
        name = netlist.inputs_of(name)[0].source
    return name


def _lags(
    netlist: Netlist, order: tuple[str, ...], sources: Mapping[str, tuple[tuple[str, str], ...]]
) -> tuple[dict[str, int], dict[str, int]]:
    """At which lag each node takes its inputs, and at which its value is there; readouts come last."""
    taken: dict[str, int] = {}
    given: dict[str, int] = {}
    for name in order:
        node = netlist.nodes[name]
        taken[name] = max((given[source] for _, source in sources[name]), default=0)
        given[name] = taken[name] + (node.chunk - 1 if isinstance(node, SpikeAttention) else 0)
    last = max(given.values())
    for name in netlist.named(Readout):
        taken[name] = given[name] = last
    return taken, given


def signed_type(bound: float) -> str:
    """The smallest signed type of 16 bits or more that holds ±bound."""
    return "i16" if bound < 1 << 15 else "i32" if bound < 1 << 31 else "i64"


def wider(a: str, b: str) -> str:
    """Whichever has more bytes."""
    return a if BYTES[a] >= BYTES[b] else b


def _type(
    netlist: Netlist,
    name: str,
    bounds: Mapping[str, float],
    values: Mapping[str, Value],
    sources: Mapping[str, tuple[tuple[str, str], ...]],
) -> str:
    node = netlist.nodes[name]
    if isinstance(node, SPIKING):
        return "u8"
    if isinstance(node, Input):
        low, high = message_range(node)
        if low == 0:
            return "u8"
        return "i8" if high < 1 << 7 else "i16" if high < 1 << 15 else "i32"
    kind = signed_type(bounds[name])
    if isinstance(node, SYNAPSES):
        return wider(kind, values[sources[name][0][1]].type)
    if isinstance(node, Readout):
        return signed_type(min(bounds[name], VOLTAGE_LIMIT))
    return kind


def _refuse(found: Plan) -> None:
    """Raise `ConfigError` for what the C program could not index or compute."""
    netlist = found.netlist
    if len(inputs := netlist.named(Input)) != 1:
        raise ConfigError(f"{len(inputs)} inputs ({', '.join(inputs)}); a C program takes exactly one")
    for name in found.order:
        node, value = netlist.nodes[name], found.values[name]
        synapses = stored(node) if isinstance(node, SYNAPSES) else 0
        largest = max(value.size * max(value.slots, netlist.time_steps), synapses)
        if isinstance(node, SpikeAttention):
            dim = node.shape[0] // node.heads
            largest = max(largest, node.heads * dim * dim)
            for port, source in found.sources[name]:
                if found.values[source].type != "u8":
                    bits = message_bits(netlist, source)
                    raise ConfigError(
                        f"{name}: {port} is {source}, {bits}-bit messages; attention takes spikes"
                    )
        if isinstance(node, GradedMaxPool) and _sees_nothing(node):
            raise ConfigError(f"{name}: a window lies in its padding {node.padding} alone and has no maximum")
        if largest > INDEX_MAX:
            raise ConfigError(f"{name}: {largest:,} elements; 32-bit indices reach {INDEX_MAX:,}")


def _sees_nothing(node: GradedMaxPool) -> bool:
    """Whether some window holds no value."""
    for size, count, k, s, p in zip(
        node.in_shape[1:], node.shape[1:], node.kernel, node.stride, node.padding, strict=True
    ):
        if any(max(i * s - p, 0) >= min(i * s - p + k, size) for i in range(count)):
            return True
    return False


def stored(node: Conv | Dense | Identity | object) -> int:
    """Weights that a projection keeps."""
    if isinstance(node, Identity):
        return 1
    array = getattr(node, "weight", None)
    return int(np.size(array if array is not None else getattr(node, "values")))  # noqa: B009


def channelwise(node: object) -> bool:
    """A convolution of one output per channel, each of its own."""
    return isinstance(node, Conv) and node.groups == node.weight.shape[0] and node.weight.shape[1] == 1


def _engine(found: Plan, name: str, rates: Mapping[str, float]) -> str:
    node = found.netlist.nodes[name]
    if isinstance(node, Identity) or channelwise(node):
        return "dense"
    ((_, source),) = found.sources[name]
    return "dense" if rates.get(source, 0.0) > BREAK_EVEN else "events"
