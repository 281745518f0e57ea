"""`lower`: a `Graph` becomes a `Netlist`, together with the real-valued network that it stands for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snn_energy.exporters.lowering.plan import Attention, Plan, Pool, Synapse
from snn_energy.exporters.lowering.products import norms_behind_products
from snn_energy.exporters.lowering.quantize import TIE, Calibration, Registers, quantize
from snn_energy.exporters.lowering.read import read
from snn_energy.exporters.lowering.staa import StaaParameters, plain_lifs
from snn_energy.exporters.netlist import record as nl
from snn_energy.exporters.netlist.check import DECAY_MAX, WEIGHT_EXPONENT_MAX, check
from snn_energy.graph import nodes as gn
from snn_energy.graph.graph import Graph
from snn_energy.graph.simplify import fold_norms

OR_WEIGHT = 2  # one spike gives 2 > threshold 1
AND_THRESHOLD = 3  # 2 + 2 > 3
TRUNCATION = "truncated to whole membrane units"


@dataclass(frozen=True)
class Lowering:
    """What lowering made.

    `graph`: the input with norms folded.  `dequantized`: the same graph with the weights, biases, thresholds
    and time constants that the registers stand for.  `notes`: what was approximated, one line each.
    """

    netlist: nl.Netlist
    graph: Graph
    dequantized: Graph
    registers: Registers
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def exact(self) -> bool:
        """Must every spike equal the de-quantized network's?  Not where decays are truncated."""
        return not any(TRUNCATION in note for note in self.notes)


def lower(
    graph: Graph,
    calibration: Calibration,
    *,
    bits: int = 8,
    stock_processes: bool | None = None,
    staa: Mapping[str, StaaParameters] | None = None,
) -> Lowering:
    """Lower a captured graph.  `bits`: of weights, 4 to 8.  `stock_processes`: build delays from stock Lava
    Processes (default: if nothing else needs an own Process).  `staa`: parameters of STAA neurons by name.
    Raises `UnsupportedOp` by node and operation.
    """
    folded = norms_behind_products(plain_lifs(fold_norms(graph), staa or {}))
    plan = read(folded, staa)
    registers = quantize(plan, calibration, bits=bits)
    nodes, edges = Emitter(plan, registers).run()
    own = any(isinstance(node, nl.OWN_PROCESSES) for node in nodes.values())
    origin: dict[str, Any] = {"model": dict(graph.meta), "weight_bits": bits}
    origin["stock_processes"] = not own if stock_processes is None else stock_processes
    netlist = check(nl.align(nl.Netlist(nodes, tuple(edges), plan.time_steps, origin=origin)))
    return Lowering(netlist, folded, dequantize(folded, plan, registers), registers, notes(plan, registers))


class Emitter:
    """Writes the nodes and edges of a plan."""

    def __init__(self, plan: Plan, registers: Registers) -> None:
        self.plan, self.registers = plan, registers
        self.nodes: dict[str, nl.Node] = {}
        self.edges: list[nl.Edge] = []

    def run(self) -> tuple[dict[str, nl.Node], list[nl.Edge]]:
        for name in self.plan.sources:
            self.source(name)
        for name, output in self.plan.outputs.items():
            self.terms(output.terms, name)
            scale = 1 / self.registers.scales[output.terms[0]]
            self.nodes[name] = nl.Readout(output.shape, output.bias, scale)
        offsets = nl.time_offsets(nl.Netlist(self.nodes, tuple(self.edges), self.plan.time_steps))
        for name, fire in self.registers.neurons.items():
            if np.any(fire.extra):
                self.extra_bias(name, fire.extra, offsets)
        return self.nodes, self.edges

    def extra_bias(self, target: str, extra: nl.Array, offsets: Mapping[str, int]) -> None:
        """A neuron that fires at every step brings what of a bias does not fit its register.

        Its own bias makes it fire; its one synapse, from what feeds `target` last, only keeps its time.
        """
        last = max(sources_of(self.plan, self.plan.neurons[target].terms), key=lambda name: offsets[name])
        ticks, clock, bias = f"{target}.ticks", f"{target}.clock", f"{target}.extra_bias"
        one = np.zeros(1, np.int64)
        self.nodes |= {
            ticks: nl.Sparse(self.plan.sources[last].shape, (1, 1, 1), one, one, one + 1),
            clock: nl.Population((1, 1, 1), 1, DECAY_MAX, bias_mantissa=np.full((1, 1, 1), 2)),
            bias: nl.Dense((1, 1, 1), extra[:, None] >> WEIGHT_EXPONENT_MAX, WEIGHT_EXPONENT_MAX),
        }
        path = (last, ticks, clock, bias, target)
        self.edges += [nl.Edge(a, b) for a, b in itertools.pairwise(path)]

    def source(self, name: str) -> None:
        source = self.plan.sources[name]
        match source.kind:
            case "input":
                scale = self.registers.input
                self.nodes[name] = nl.Input(source.shape, scale.message_bits, scale.scale)
            case "lif":
                self.neuron(name)
            case "staa":
                self.terms(self.plan.staa[name].terms, name)
                self.nodes[name] = self.registers.staa[name]
            case "sum":
                self.gates(name, 1)
                self.nodes[name] = nl.Relay(source.shape, int(source.largest).bit_length() + 1)
            case "product":
                self.terms(source.made_of, name)
                self.nodes[name] = nl.Relay(source.shape)
            case kind:
                self.gates(name, OR_WEIGHT)
                threshold = AND_THRESHOLD if kind == "and" else 1
                self.nodes[name] = nl.Population(source.shape, threshold, voltage_decay=DECAY_MAX)

    def neuron(self, name: str) -> None:
        neuron, fire = self.plan.neurons[name], self.registers.neurons[name]
        self.terms(neuron.terms, name)
        self.nodes[name] = nl.Population(
            neuron.shape,
            fire.threshold,
            fire.voltage_decay,
            bias_mantissa=fire.bias.reshape(-1, 1, 1),
            bias_exponent=fire.bias_exponent,
        )

    def gates(self, target: str, weight: int) -> None:
        """Synapses of one weight that make an OR, an AND or a sum."""
        for name in self.plan.sources[target].made_of:
            term = self.plan.terms[name]
            assert isinstance(term, Synapse)
            values = np.rint(term.weight).astype(np.int64) * weight
            self.synapses(name, term, values, 0)
            self.edges.append(nl.Edge(name, target))

    def terms(self, names: tuple[str, ...], target: str) -> None:
        for name in names:
            if name not in self.nodes:
                self.term(name)
            self.edges.append(nl.Edge(name, target))

    def term(self, name: str) -> None:
        match self.plan.terms[name]:
            case Synapse() as term:
                weights = self.registers.weights[name]
                self.synapses(name, term, weights.values, weights.exponent)
            case Pool(kind="max") as pool:
                self.terms(pool.terms, name)
                self.nodes[name] = nl.GradedMaxPool(pool.in_shape, pool.kernel, pool.stride, pool.padding)
            case Pool() as pool:
                relay = f"{name}.relay"
                self.terms(pool.terms, relay)
                self.nodes[relay] = nl.Relay(pool.in_shape)
                ones = np.ones((pool.in_shape[0], 1, *pool.kernel), np.int64)
                self.nodes[name] = nl.Conv(pool.in_shape, ones, pool.stride, groups=pool.in_shape[0])
                self.edges.append(nl.Edge(relay, name))
            case Attention() as term:
                gain = self.registers.gains[name]
                self.nodes[name] = nl.SpikeAttention(term.shape, term.heads, term.chunk, gain)
                self.edges += [nl.Edge(getattr(term, port), name, port) for port in "qkv"]

    def synapses(self, name: str, term: Synapse, values: nl.Array, exponent: int) -> None:
        in_shape = self.plan.sources[term.source].shape
        self.edges.append(nl.Edge(term.source, name))
        match term.kind:
            case "conv":
                self.nodes[name] = nl.Conv(
                    in_shape, values, term.stride, term.padding, term.dilation, term.groups, exponent
                )
            case "dense":
                self.nodes[name] = nl.Dense(in_shape, values, exponent)
            case _:
                assert term.sources is not None and term.targets is not None
                weight = int(values.ravel()[0])
                if in_shape == term.shape and np.array_equal(term.sources, term.targets):
                    self.nodes[name] = nl.Identity(in_shape, weight, exponent)
                else:
                    filled = np.full(term.sources.size, weight, np.int64)
                    self.nodes[name] = nl.Sparse(
                        in_shape, term.shape, term.sources, term.targets, filled, exponent
                    )


def sources_of(plan: Plan, terms: tuple[str, ...]) -> Iterator[str]:
    """What spikes into `terms`, and into what they pool."""
    for name in terms:
        match plan.terms[name]:
            case Synapse() as term:
                yield term.source
            case Attention() as term:
                yield term.q
            case Pool() as pool:
                yield from sources_of(plan, pool.terms)


def dequantize(graph: Graph, plan: Plan, registers: Registers) -> Graph:
    """`graph` with what the registers stand for, in float64: weights, biases, thresholds, time constants."""
    nodes: list[gn.Node] = []
    for node in graph:
        if isinstance(node, gn.Conv | gn.Linear) and node.name in registers.weights:
            real = registers.weights[node.name].real
            term = plan.terms[node.name]
            assert isinstance(term, Synapse)
            if real.size == node.weight.size and term.kind == "conv":
                node = dataclasses.replace(node, weight=real.reshape(node.weight.shape))
            else:
                node = dataclasses.replace(node, weight=_original(node.weight, term, real))
            if not _is_output(plan, node.name):
                bias = registers.biases[node.name] / registers.scales[node.name]
                node = dataclasses.replace(node, bias=np.asarray(bias))
        elif isinstance(node, gn.Lif | gn.If) and node.name in registers.neurons:
            fire = registers.neurons[node.name]
            node = dataclasses.replace(node, v_threshold=fire.real_threshold)
            if isinstance(node, gn.Lif) and fire.real_tau is not None:
                node = dataclasses.replace(node, tau=fire.real_tau, learned=False)
        nodes.append(node)
    return dataclasses.replace(graph, nodes=tuple(nodes))


def _is_output(plan: Plan, term: str) -> bool:
    return any(term in output.terms for output in plan.outputs.values())


def _original(weight: nl.Array, term: Synapse, real: nl.Array) -> nl.Array:
    """Undo an average pool that was folded into the weights, or a permutation of a dense layer's inputs."""
    if term.kind == "conv":
        (kh, kw), (big_h, big_w) = (
            weight.shape[-2:] if weight.ndim == 4 else (1, weight.shape[-1]),
            real.shape[2:],
        )
        window = (big_h // kh, big_w // kw)
        return real[:, :, :: window[0], :: window[1]].reshape(weight.shape) * float(np.prod(window))
    columns = _columns(term, weight)
    return np.stack([real[:, where].sum(axis=1) for where in columns], axis=1)


def _columns(term: Synapse, weight: nl.Array) -> list[nl.Array]:
    """For each input feature of a linear layer, the columns of the lowered matrix that hold it."""
    assert term.sources is not None
    size = term.sources.size // weight.shape[1]
    return list(term.sources.reshape(weight.shape[1], size))


def notes(plan: Plan, registers: Registers) -> tuple[str, ...]:
    """What the registers cannot hold exactly."""
    lines = []
    for name, neuron in plan.neurons.items():
        fire = registers.neurons[name]
        wanted = neuron.threshold + neuron.rest
        if abs(fire.real_threshold - wanted) > 2 * TIE * max(1.0, abs(wanted)):
            lines.append(f"{name}: threshold {wanted:g} becomes {fire.real_threshold:.6g}")
        if np.any(fire.extra):
            lines.append(f"{name}: synapses from a neuron that always fires bring part of its bias")
        if neuron.tau is not None and fire.real_tau != neuron.tau:
            lines.append(f"{name}: tau {neuron.tau:g} becomes {fire.real_tau:.6g}")
        if neuron.tau not in (2.0, None):
            lines.append(f"{name}: the decays of tau {neuron.tau:g} are {TRUNCATION}")
        elif plan.time_steps > 7 and neuron.tau is not None:
            lines.append(f"{name}: over {plan.time_steps} steps, the membrane is {TRUNCATION}")
    if plan.staa:
        lines.append(f"{len(plan.staa)} STAA neurons: gates in fixed point, 16 bits of fraction")
    return tuple(lines)
