"""The `Netlist`: a spiking network in integers, as a Loihi-like chip holds it.  No torch in it.

A netlist is named nodes and directed edges between them.  Time runs in steps; what a node emits at
step k is a function of what its inputs emit at step k, delayed by the node's latency:

    kind              receives          emits             latency        on the chip
    Input             (outside)         spikes / graded   0              injected spikes
    Population        current           binary spikes     0              LIF compartments
    Relay             current           graded spikes     0              graded-spike compartments
    Conv, Dense,
    Sparse, Identity  spikes            current           1              synapses
    Delay             current, spikes   the same          steps          synaptic delay (6 bits)
    GradedMaxPool     current           current           1              own process
    SpikeAttention    spikes q, k, v    current           chunk          own process
    StaaLif           current           binary spikes     0              own process
    Readout           current           (read by host)    0              accumulator, read once per sample

Several currents into one node are summed.  Because every synapse costs a step, two paths to one node
may differ in length: `align` inserts `Delay` nodes until every node hears one sample step at a time,
and `time_offsets` says how many steps later that is.  States are reset once per sample of `time_steps`
steps, each node at its own offset, so samples stream through the network back to back.

Populations follow Loihi's fixed-point equations (units: 1 current unit = 64 membrane units):

    u ← sgn(u)·⌊|u|·(4096 − current_decay) / 4096⌋ + 64·a           24 bits
    v ← clip(sgn(v)·⌊|v|·(4096 − voltage_decay) / 4096⌋ + u + bias)  24 bits
    s = [v > 64·threshold];  v ← 0 where s

Davies et al., "Loihi: A Neuromorphic Manycore Processor with On-Chip Learning", IEEE Micro 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from snn_energy.errors import ConfigError
from snn_energy.reading import one_line
from snn_energy.records import short

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]

DECAY_UNITY = 4096
VOLTAGE_LIMIT = 1 << 23
CURRENT_LIMIT = 1 << 17  # |a| below it: 64·a fits the 24-bit current register


@dataclass(frozen=True)
class Input:
    """Spikes from outside: (C, H, W).  `message_bits` 0 means binary, else signed graded messages.

    An analog sample x enters as clip(round(x·scale)), so the person who runs the chip needs `scale`.
    """

    shape: Shape
    message_bits: int = 0
    scale: float = 1.0
    latency: ClassVar[int] = 0


@dataclass(frozen=True)
class Population:
    """LIF compartments of one shape; threshold and decays are shared, the bias is per channel or neuron.

    The bias enters the membrane as `bias_mantissa · 2**bias_exponent` (13 and 3 bits).
    """

    shape: Shape
    threshold: int
    voltage_decay: int = 2048
    current_decay: int = DECAY_UNITY
    bias_mantissa: Array = field(default_factory=lambda: np.zeros((1, 1, 1), np.int64))
    bias_exponent: int = 6
    latency: ClassVar[int] = 0

    @property
    def bias(self) -> Array:
        """Bias in membrane units, broadcastable to `shape`."""
        return self.bias_mantissa.astype(np.int64) << self.bias_exponent


@dataclass(frozen=True)
class Relay:
    """Stateless compartments that pass their summed current on as graded spikes (Loihi 2)."""

    shape: Shape
    message_bits: int = 24
    latency: ClassVar[int] = 0


@dataclass(frozen=True)
class Conv:
    """Convolution synapses.  `weight` (O, I/groups, kH, kW); current = 2**exponent · (weight ⋆ spikes)."""

    in_shape: Shape
    weight: Array
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    exponent: int = 0
    latency: ClassVar[int] = 1

    @property
    def shape(self) -> Shape:
        sides = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                self.in_shape[1:],
                self.padding,
                self.dilation,
                self.weight.shape[2:],
                self.stride,
                strict=True,
            )
        )
        return (self.weight.shape[0], *sides)


@dataclass(frozen=True)
class Dense:
    """All-to-all synapses: `weight` (O, I) over the flattened (C, H, W) input; output (O, 1, 1)."""

    in_shape: Shape
    weight: Array
    exponent: int = 0
    latency: ClassVar[int] = 1

    @property
    def shape(self) -> Shape:
        return (self.weight.shape[0], 1, 1)


@dataclass(frozen=True)
class Sparse:
    """Listed synapses: current[targets[i]] += values[i] · spike[sources[i]], both flat in (C, H, W) order."""

    in_shape: Shape
    shape: Shape
    sources: Array
    targets: Array
    values: Array
    exponent: int = 0
    latency: ClassVar[int] = 1


@dataclass(frozen=True)
class Identity:
    """One synapse of `weight` per neuron."""

    shape: Shape
    weight: int = 1
    exponent: int = 0
    latency: ClassVar[int] = 1

    @property
    def in_shape(self) -> Shape:
        return self.shape


@dataclass(frozen=True)
class Delay:
    """The same values, `steps` steps later."""

    shape: Shape
    steps: int

    @property
    def latency(self) -> int:
        return self.steps


@dataclass(frozen=True)
class GradedMaxPool:
    """Maximum of currents under a window; padding never wins.  An own process: synapses cannot compare."""

    in_shape: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    latency: ClassVar[int] = 1

    @property
    def shape(self) -> Shape:
        sides = (
            (n + 2 * p - k) // s + 1
            for n, k, s, p in zip(self.in_shape[1:], self.kernel, self.stride, self.padding, strict=True)
        )
        return (self.in_shape[0], *sides)


@dataclass(frozen=True)
class SpikeAttention:
    """current = gain · Q(KᵀV) per head, over the tokens of `chunk` consecutive steps (STAtten).

    Shapes are (C, H, W) spikes; heads split the channels contiguously.  A result leaves `chunk` steps
    after its q arrived, because the last step of a chunk is seen by the first.  It saturates at
    CURRENT_LIMIT − 1 instead of wrapping: above any threshold that cannot change a spike.
    """

    shape: Shape
    heads: int
    chunk: int = 1
    gain: int = 1

    @property
    def latency(self) -> int:
        return self.chunk


@dataclass(frozen=True)
class StaaLif:
    """LIF neurons whose aggregation is attended to (STAA-SNN); equations and units in `staa_lif`.

    `bias` (C, 1, 1) in current units; `threshold` and `position` (T, C) in membrane units, 64 to one of
    current; `gain` N and `keep` M with 16 fraction bits.  A gate that is off is an empty mapping.
    `context_*`: key (C,), query (R, C), value (C, R), their biases, norm_weight and norm_bias (R,), epsilon
    and the shifts; `attention`: conv1 and conv2 (3,) and their shifts.  `scale`: current units per real unit.
    """

    shape: Shape
    threshold: int
    gain: int
    keep: int
    bias: Array
    position: Array
    position_at: str = "off"
    context_in: Mapping[str, Array] = field(default_factory=dict)
    context_state: Mapping[str, Array] = field(default_factory=dict)
    attention: Mapping[str, Array] = field(default_factory=dict)
    scale: float = 1.0
    latency: ClassVar[int] = 0


@dataclass(frozen=True)
class Readout:
    """The classifier's end: the host sums the current over the sample's steps.

    logits = scale · (Σ_t current[t] / time_steps + bias)
    """

    shape: Shape
    bias: Array
    scale: float = 1.0
    latency: ClassVar[int] = 0


Node = (
    Input | Population | Relay | Conv | Dense | Sparse | Identity | Delay
    | GradedMaxPool | SpikeAttention | StaaLif | Readout
)  # fmt: skip
Synapses = Conv | Dense | Sparse | Identity
SYNAPSES = (Conv, Dense, Sparse, Identity)
OWN_PROCESSES = (GradedMaxPool, SpikeAttention, StaaLif)
SPIKING = (Population, StaaLif)  # what emits binary spikes
NODE_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Input, Population, Relay, Conv, Dense, Sparse, Identity, Delay, GradedMaxPool, SpikeAttention,
        StaaLif, Readout,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Edge:
    """`source` feeds `target`; `port` tells q, k and v of a `SpikeAttention` apart, else it is "in"."""

    source: str
    target: str
    port: str = "in"


@dataclass(frozen=True)
class Netlist:
    """Named nodes (in any order), edges, and the number of steps of one sample.

    `probes` are the nodes whose output a runtime records: by default every spiking node and readout.
    `origin` says where the netlist came from (model, checkpoint, quantization), for reports only.
    """

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    time_steps: int
    probes: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.probes:
            names = tuple(n for n, node in self.nodes.items() if isinstance(node, (*SPIKING, Readout)))
            object.__setattr__(self, "probes", names)

    def inputs_of(self, name: str) -> list[Edge]:
        return [e for e in self.edges if e.target == name]

    def targets_of(self, name: str) -> list[Edge]:
        return [e for e in self.edges if e.source == name]

    def populations(self) -> dict[str, Population]:
        return {n: node for n, node in self.nodes.items() if isinstance(node, Population)}

    def named(self, kind: type[Any]) -> list[str]:
        return [n for n, node in self.nodes.items() if isinstance(node, kind)]

    def order(self) -> list[str]:
        """Node names so that every source comes before its targets."""
        waiting = dict.fromkeys(self.nodes, 0)
        followers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for edge in self.edges:
            if edge.source not in self.nodes or edge.target not in self.nodes:
                missing = edge.source if edge.source not in self.nodes else edge.target
                where = one_line(f"edge {edge.source} -> {edge.target}")
                raise ConfigError(f"{where}: there is no node {short(missing)}")
            waiting[edge.target] += 1
            followers[edge.source].append(edge.target)
        ready = [name for name, count in waiting.items() if count == 0]
        for name in ready:  # grows while it is walked
            for follower in followers[name]:
                waiting[follower] -= 1
                if waiting[follower] == 0:
                    ready.append(follower)
        if len(ready) < len(self.nodes):
            loop = sorted(set(self.nodes) - set(ready))
            raise ConfigError(
                f"recurrent netlists are not supported: {one_line(', '.join(loop))} form a loop"
            )
        return ready


def width(node: Node) -> int:
    """Neurons, or values per step, that leave `node`."""
    return int(np.prod(node.shape))


def time_offsets(netlist: Netlist) -> dict[str, int]:
    """Steps between a sample step at the input and its arrival at each node's output (the longest path)."""
    offsets: dict[str, int] = {}
    arrivals: dict[str, int] = dict.fromkeys(netlist.nodes, 0)
    for name in netlist.order():
        offsets[name] = arrivals[name] + netlist.nodes[name].latency
        for edge in netlist.targets_of(name):
            arrivals[edge.target] = max(arrivals[edge.target], offsets[name])
    return offsets


def align(netlist: Netlist) -> Netlist:
    """Insert a `Delay` on every edge that is early, so that all inputs of a node carry one sample step."""
    offsets = time_offsets(netlist)
    nodes = dict(netlist.nodes)
    edges: dict[Edge, None] = {}
    for edge in netlist.edges:
        source, target = netlist.nodes[edge.source], netlist.nodes[edge.target]
        slack = offsets[edge.target] - target.latency - offsets[edge.source]
        if slack == 0:
            edges[edge] = None
            continue
        name = f"{edge.source}.delay{slack}"
        nodes[name] = Delay(source.shape, slack)
        edges[Edge(edge.source, name)] = None
        edges[replace(edge, source=name)] = None
    return replace(netlist, nodes=nodes, edges=tuple(edges))


def first_misaligned(netlist: Netlist) -> str | None:
    """Name of a node whose inputs carry different sample steps, or None: what `align` repairs."""
    offsets = time_offsets(netlist)
    for edge in netlist.edges:
        if offsets[edge.source] != offsets[edge.target] - netlist.nodes[edge.target].latency:
            return edge.target
    return None


def neurons(netlist: Netlist) -> int:
    """The LIF and relay neurons that a chip must hold, those of own processes included."""
    return sum(width(node) for node in netlist.nodes.values() if isinstance(node, (*SPIKING, Relay)))
