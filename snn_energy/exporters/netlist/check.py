"""What a netlist must satisfy before anything runs it: register widths, shapes, kinds of ports, alignment.

A chip keeps the low bits of a value that is too wide, and Lava's CPU models do the same or clip, each
in its own way and without a word.  So nothing reaches a writer or the simulator unchecked.
"""

from __future__ import annotations

import numpy as np

from snn_energy.errors import ConfigError
from snn_energy.exporters.netlist.record import (
    SPIKING,
    SYNAPSES,
    Array,
    Conv,
    Delay,
    Dense,
    GradedMaxPool,
    Identity,
    Input,
    Netlist,
    Node,
    Population,
    Readout,
    Relay,
    Shape,
    Sparse,
    SpikeAttention,
    StaaLif,
    first_misaligned,
    width,
)
from snn_energy.exporters.netlist.staa_bounds import staa_problems
from snn_energy.reading import one_line

THRESHOLD_MAX = (1 << 17) - 1  # 17 bits
DECAY_MAX = 4095  # 12 bits; the current decay register holds one less than it does
BIAS_MANTISSA = (-4096, 4095)  # 13 bits
BIAS_EXPONENT_MAX = 7  # 3 bits
WEIGHT_EXPONENT_MAX = 7
WEIGHTS_MIXED = (-256, 254)  # 8 bits with a sign bit: even numbers
WEIGHTS_EXCITATORY_MAX = 255
WEIGHTS_INHIBITORY_MIN = -255  # Lava clips the magnitude of one-signed weights to 8 bits
DELAY_MAX = 62  # 6 bits
MESSAGE_BITS_MAX = 24
SHOWN = 12  # problems in one message


def check(netlist: Netlist) -> Netlist:
    """Return `netlist` if it can be run, else raise `ConfigError` with its problems."""
    netlist.order()
    problems = [f"{name}: {text}" for name, node in netlist.nodes.items() for text in node_problems(node)]
    for name in netlist.named(StaaLif):
        node = netlist.nodes[name]
        assert isinstance(node, StaaLif)
        problems += [f"{name}: {text}" for text in staa_problems(node, netlist.time_steps)]
    problems += _edge_problems(netlist)
    if netlist.time_steps < 1:
        problems.append(f"time_steps must be at least 1, not {netlist.time_steps}")
    problems += [f"probe {name!r} is not a node" for name in netlist.probes if name not in netlist.nodes]
    for name in netlist.named(SpikeAttention):
        chunk = netlist.nodes[name].latency
        if netlist.time_steps % chunk:
            problems.append(
                f"{name}: {netlist.time_steps} time steps are not divisible by its chunk of {chunk}"
            )
    if not problems and (early := first_misaligned(netlist)):
        problems.append(f"{early}: its inputs carry different sample steps; call align() on the netlist")
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ConfigError("; ".join(map(one_line, problems[:SHOWN])) + more)
    return netlist


def node_problems(node: Node) -> list[str]:
    """Everything about one node that would not fit its registers."""
    if len(node.shape) != 3:
        return [f"shape {node.shape}: must be (C, H, W)"]
    match node:
        case Population():
            return _population_problems(node)
        case Conv() | Dense() | Sparse() | Identity():
            return _synapse_problems(node)
        case Delay() if not 1 <= node.steps <= DELAY_MAX:
            return [f"delay of {node.steps} steps; a synapse delays 1 to {DELAY_MAX}"]
        case Input() | Relay() if not 0 <= node.message_bits <= MESSAGE_BITS_MAX:
            return [f"messages of {node.message_bits} bits; at most {MESSAGE_BITS_MAX}"]
        case SpikeAttention() if node.heads < 1 or node.shape[0] % node.heads:
            return [f"{node.shape[0]} channels do not split into {node.heads} heads"]
        case _:
            return []


def _population_problems(node: Population) -> list[str]:
    problems = []
    if not 0 <= node.threshold <= THRESHOLD_MAX:
        problems.append(f"threshold {node.threshold} does not fit 17 unsigned bits (0 to {THRESHOLD_MAX})")
    if not 0 <= node.voltage_decay <= DECAY_MAX:
        problems.append(f"voltage decay {node.voltage_decay} does not fit 12 bits (0 to {DECAY_MAX})")
    if not 1 <= node.current_decay <= DECAY_MAX + 1:
        problems.append(f"current decay {node.current_decay} is outside 1 to {DECAY_MAX + 1}")
    low, high = int(node.bias_mantissa.min()), int(node.bias_mantissa.max())
    if low < BIAS_MANTISSA[0] or high > BIAS_MANTISSA[1]:
        problems.append(
            f"bias mantissas {low} to {high} do not fit 13 bits ({BIAS_MANTISSA[0]} to {BIAS_MANTISSA[1]})"
        )
    if not 0 <= node.bias_exponent <= BIAS_EXPONENT_MAX:
        problems.append(f"bias exponent {node.bias_exponent} does not fit 3 bits (0 to {BIAS_EXPONENT_MAX})")
    if not _broadcasts(node.bias_mantissa.shape, node.shape):
        problems.append(f"bias of shape {node.bias_mantissa.shape} does not broadcast to {node.shape}")
    return problems


def weights_of(node: Node) -> Array:
    """The integer weights that a synapse node stores."""
    match node:
        case Conv() | Dense():
            return node.weight
        case Sparse():
            return node.values
        case Identity():
            return np.array([node.weight])
        case _:
            raise TypeError(f"{type(node).__name__} has no weights")


def _synapse_problems(node: Conv | Dense | Sparse | Identity) -> list[str]:
    problems = []
    weights = weights_of(node)
    if weights.size == 0:
        return ["it has no synapses"]
    if not np.issubdtype(weights.dtype, np.integer):
        return [f"weights are {weights.dtype}, not integers"]
    low, high = int(weights.min()), int(weights.max())
    if low < 0 < high:
        if low < WEIGHTS_MIXED[0] or high > WEIGHTS_MIXED[1]:
            problems.append(f"weights {low} to {high} do not fit 8 signed bits {WEIGHTS_MIXED}")
        if np.any(weights % 2):
            problems.append("weights of both signs must be even: the sign takes one of the 8 bits")
    elif low < WEIGHTS_INHIBITORY_MIN or high > WEIGHTS_EXCITATORY_MAX:
        problems.append(f"weights {low} to {high} do not fit 8 bits (0 to 255, or -255 to 0)")
    if not 0 <= node.exponent <= WEIGHT_EXPONENT_MAX:
        problems.append(f"weight exponent {node.exponent} is outside 0 to {WEIGHT_EXPONENT_MAX}")
    match node:
        case Conv():
            if node.in_shape[0] != node.weight.shape[1] * node.groups or node.weight.shape[0] % node.groups:
                shape = f"weight {node.weight.shape} in {node.groups} groups"
                problems.append(f"{shape} does not fit {node.in_shape[0]} channels")
            elif min(node.shape) < 1:
                problems.append(
                    f"kernel {node.weight.shape[2:]} is larger than the padded input {node.in_shape[1:]}"
                )
        case Dense() if node.weight.shape[1] != np.prod(node.in_shape):
            problems.append(f"weight {node.weight.shape} does not fit {node.in_shape}")
        case Sparse():
            problems += _sparse_problems(node)
    return problems


def _sparse_problems(node: Sparse) -> list[str]:
    if not node.sources.size == node.targets.size == node.values.size:
        return ["sources, targets and values differ in length"]
    for what, index, shape in (("source", node.sources, node.in_shape), ("target", node.targets, node.shape)):
        if index.min() < 0 or index.max() >= np.prod(shape):
            return [f"a {what} index is outside {shape}"]
    return []


def emits(netlist: Netlist, name: str) -> str:
    """`spikes` or `current`: what leaves a node (a delay passes on what it gets)."""
    node = netlist.nodes[name]
    if isinstance(node, Delay):
        sources = netlist.inputs_of(name)
        return emits(netlist, sources[0].source) if sources else "nothing"
    return "spikes" if isinstance(node, (Input, *SPIKING, Relay)) else "current"


def message_bits(netlist: Netlist, name: str) -> int:
    """Bits of the messages that node `name` emits; 0 for binary spikes."""
    node = netlist.nodes[name]
    if isinstance(node, Delay):
        return message_bits(netlist, netlist.inputs_of(name)[0].source)
    return node.message_bits if isinstance(node, Input | Relay) else 0


def _edge_problems(netlist: Netlist) -> list[str]:
    problems = []
    if len(set(netlist.edges)) < len(netlist.edges):
        problems.append("an edge is listed twice")
    for name, node in netlist.nodes.items():
        edges = netlist.inputs_of(name)
        ports = [e.port for e in edges]
        if isinstance(node, Input):
            problems += [f"{name}: an input cannot be fed by {edges[0].source}"] if edges else []
            continue
        if isinstance(node, SpikeAttention):
            if sorted(ports) != ["k", "q", "v"]:
                problems.append(f"{name}: needs exactly one edge each into q, k and v, has {ports}")
        elif not edges:
            problems.append(f"{name}: nothing feeds it")
        elif any(p != "in" for p in ports):
            problems.append(f"{name}: has no port {next(p for p in ports if p != 'in')!r}")
        elif len(edges) > 1 and not isinstance(node, (*SPIKING, Relay, Readout, GradedMaxPool)):
            problems.append(f"{name}: a {type(node).__name__} has one source, not {len(edges)}")
        problems += _source_problems(netlist, name, node)
    return problems


def _source_problems(netlist: Netlist, name: str, node: Node) -> list[str]:
    wants = "spikes" if isinstance(node, (*SYNAPSES, SpikeAttention)) else "current"
    expected: Shape = getattr(node, "in_shape", node.shape)
    problems = []
    for edge in netlist.inputs_of(name):
        source = netlist.nodes[edge.source]
        fits = source.shape == expected or (isinstance(node, Dense) and width(source) == np.prod(expected))
        if not fits:
            problems.append(f"{name}: wants {expected}, but {edge.source} gives {source.shape}")
        if not isinstance(node, Delay) and emits(netlist, edge.source) != wants:
            problems.append(f"{name}: wants {wants}, but {edge.source} emits {emits(netlist, edge.source)}")
    return problems


def _broadcasts(shape: Shape, target: Shape) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == tuple(target)
    except ValueError:
        return False
