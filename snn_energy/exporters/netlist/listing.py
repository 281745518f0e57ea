"""A netlist as text, for a person."""

from __future__ import annotations

from snn_energy.exporters.netlist.record import (
    SPIKING,
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
    Sparse,
    SpikeAttention,
    StaaLif,
    neurons,
    time_offsets,
)


def listing(netlist: Netlist) -> str:
    """One line per node in order of time: offset, name, kind, shape, what it holds, what it hears."""
    offsets = time_offsets(netlist)
    rows = []
    for name in sorted(netlist.order(), key=lambda n: offsets[n]):
        node = netlist.nodes[name]
        shape = "×".join(map(str, node.shape))
        sources = ", ".join(
            e.source if e.port == "in" else f"{e.port}={e.source}" for e in netlist.inputs_of(name)
        )
        rows.append((f"+{offsets[name]}", name, type(node).__name__, shape, _details(node), sources))
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(5)]
    populations = sum(isinstance(node, SPIKING) for node in netlist.nodes.values())
    head = f"{populations} populations, {neurons(netlist)} neurons, {netlist.time_steps} steps a sample"
    lines = []
    for row in rows:
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, f"<- {row[5]}" if row[5] else ""]))
    return "\n".join([head, *(line.rstrip() for line in lines)])


def _details(node: Node) -> str:
    match node:
        case Input():
            return (
                f"{node.message_bits}-bit messages, scale {node.scale:g}" if node.message_bits else "spikes"
            )
        case Population():
            biased = " biased" if node.bias_mantissa.any() else ""
            return f"threshold {node.threshold} decay {node.voltage_decay}/4096{biased}"
        case Conv():
            grouped = f" groups {node.groups}" if node.groups > 1 else ""
            kernel = "×".join(map(str, node.weight.shape[2:]))
            return f"{kernel} stride {node.stride[0]},{node.stride[1]}{grouped} weights·2^{node.exponent}"
        case Dense():
            return f"{node.weight.shape[1]} inputs, weights·2^{node.exponent}"
        case Sparse():
            return f"{node.values.size} synapses·2^{node.exponent}"
        case Identity():
            return f"weight {node.weight}·2^{node.exponent}"
        case SpikeAttention():
            return f"{node.heads} heads, chunk {node.chunk}, gain {node.gain}"
        case GradedMaxPool():
            return f"{node.kernel[0]}×{node.kernel[1]} stride {node.stride[0]},{node.stride[1]}"
        case StaaLif():
            return f"threshold {node.threshold} {_gates(node)}"
        case Delay():
            return f"{node.steps} steps"
        case Readout():
            return f"logits in units of {node.scale:g}"
        case Relay():
            return f"{node.message_bits}-bit messages"


def _gates(node: StaaLif) -> str:
    """`GC 4 hidden, PE at input, SA`, or `no gates`."""
    gates = [f"GC {len(node.context_in['query_bias'])} hidden"] if node.context_in else []
    gates += [f"PE at {node.position_at}"] if node.position_at != "off" else []
    return ", ".join(gates + (["SA"] if node.attention else [])) or "no gates"
