"""Run a netlist in integers: bit-exact with Lava's fixed-point models, without Lava.

A netlist is feed-forward, aligned and reset per sample, so what a node does in step k of a sample does not
depend on when that step reaches it.  The simulator therefore evaluates node after node, each over a whole
batch of samples and steps, instead of step after step over all nodes: the same spikes, one matrix product
where the runtime needs thousands of messages.

It counts what a chip is charged for, per node: spikes, neuron updates and synaptic events (a message that
meets a non-zero weight).  A value that its register could not hold is a `VerificationError`: nothing wraps.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_energy.errors import DataError, MissingDependency, VerificationError
from snn_energy.exporters.netlist import int_ops, staa_lif
from snn_energy.exporters.netlist.check import check
from snn_energy.exporters.netlist.record import (
    CURRENT_LIMIT,
    DECAY_UNITY,
    SPIKING,
    SYNAPSES,
    VOLTAGE_LIMIT,
    Array,
    Conv,
    Delay,
    Dense,
    GradedMaxPool,
    Identity,
    Input,
    Netlist,
    Population,
    Readout,
    Relay,
    Sparse,
    SpikeAttention,
    StaaLif,
    Synapses,
    width,
)
from snn_energy.exporters.netlist.synapses import copies, fan_out


@dataclass(frozen=True)
class Counts:
    """Events of one node, summed over the samples and steps that were run."""

    spikes: int = 0
    updates: int = 0
    synaptic_events: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.spikes + other.spikes,
            self.updates + other.updates,
            self.synaptic_events + other.synaptic_events,
        )


@dataclass(frozen=True)
class Activity:
    """What a run gave.

    `outputs`: probed node -> (B, T, C, H, W); binary spikes int8, all else int32.  `logits`: readout ->
    (B, K) float64.  `counts`: node -> `Counts` over all samples.  `samples`: B.
    """

    outputs: Mapping[str, Array]
    logits: Mapping[str, Array]
    counts: Mapping[str, Counts]
    samples: int

    def predictions(self) -> Array:
        """(B,) class of the largest logit of the only readout."""
        if len(self.logits) != 1:
            raise DataError(f"the netlist has {len(self.logits)} recorded readouts, not one")
        (logits,) = self.logits.values()
        return np.asarray(logits.argmax(axis=1))


def simulate(
    netlist: Netlist, x: Array, *, xp: Any = None, batch: int = 8, probes: tuple[str, ...] | None = None
) -> Activity:
    """Run samples `x`, (B, C, H, W) held for every step or (B, T, C, H, W), integers as `Input` takes them.

    `xp`: an array namespace (default NumPy; CuPy runs on a GPU).  `batch`: samples at once.  `probes`:
    nodes to record (default: the netlist's).  Raises DataError for an input that does not fit and
    VerificationError for a value that its register could not hold.
    """
    return Simulator(netlist, xp=xp).run(x, batch=batch, probes=probes)


def as_maps(node: Input, time_steps: int, x: Array) -> Array:
    """Vectors (N, C) and lines (N, C, L), or (N, T, …) of them, as maps (C, H, W), as a netlist has them."""
    for lead in (1, 2):
        inner = x.shape[lead:]
        alike = 1 <= len(inner) < 3 and (inner[0], *[1] * (3 - len(inner)), *inner[1:]) == node.shape
        if alike and (lead == 1 or x.shape[1] == time_steps):
            return x.reshape(*x.shape[:lead], *node.shape)
    return x


def as_messages(netlist: Netlist, x: Array) -> Array:
    """Check integer samples against the netlist's only input and hold images still: (B, T, C, H, W)."""
    (name,) = netlist.named(Input)
    node = netlist.nodes[name]
    assert isinstance(node, Input)
    x = np.asarray(x)
    if not (np.issubdtype(x.dtype, np.integer) or x.dtype == bool):
        raise DataError(f"{name} takes integers, not {x.dtype}; encode the samples with the input's scale")
    x = as_maps(node, netlist.time_steps, x)
    if x.ndim == 4:
        x = np.repeat(x[:, None], netlist.time_steps, axis=1)
    if x.ndim != 5 or x.shape[1:] != (netlist.time_steps, *node.shape):
        raise DataError(
            f"{name} takes samples of {node.shape} or {(netlist.time_steps, *node.shape)}, not {x.shape[1:]}"
        )
    low, high = message_range(node)
    if x.size and (x.min() < low or x.max() > high):
        raise DataError(
            f"{name} takes messages from {low} to {high}; the samples reach from {x.min()} to {x.max()}"
        )
    return x


def message_range(node: Input) -> tuple[int, int]:
    """Smallest and largest message of an input."""
    if node.message_bits == 0:
        return 0, 1
    return -(1 << (node.message_bits - 1)), (1 << (node.message_bits - 1)) - 1


def encode(netlist: Netlist, x: Array) -> Array:
    """Real samples to the integers that the input takes: clip(round(x·scale)), halves to even."""
    (name,) = netlist.named(Input)
    node = netlist.nodes[name]
    assert isinstance(node, Input)
    low, high = message_range(node)
    x = as_maps(node, netlist.time_steps, np.asarray(x, np.float64))
    return np.clip(np.rint(x * node.scale), low, high).astype(np.int32)


class Simulator:
    """A checked netlist with its weights where `xp` keeps arrays; `run` may be called many times."""

    def __init__(self, netlist: Netlist, *, xp: Any = None) -> None:
        if xp is None:
            try:
                xp = importlib.import_module("array_api_compat.numpy")
            except ImportError as error:
                raise MissingDependency("array-api-compat", "lava", "the integer simulator") from error
        self.netlist, self.xp = check(netlist), xp
        self.order = netlist.order()
        self.sources = {n: netlist.inputs_of(n) for n in self.order}
        self.last_use = {e.source: n for n in self.order for e in self.sources[n]}
        self.largest = largest_outputs(netlist, self.order)
        self.weights: dict[str, Any] = {}
        self.gathers: dict[str, Any] = {}  # of sparse projections: which source each synapse reads
        self.fan_outs: dict[str, Any] = {}
        for name, node in netlist.nodes.items():
            if isinstance(node, SYNAPSES):
                self.weights[name] = xp.asarray(
                    _operand(node), dtype=int_ops.container(self._sum_bound(name), xp)
                )
                if isinstance(node, Sparse):
                    self.gathers[name] = xp.asarray(int_ops.sparse_table(node)[0])
                events = fan_out(node) * copies(netlist, name)
                self.fan_outs[name] = xp.asarray(events, dtype=xp.float64)

    def run(self, x: Array, *, batch: int = 8, probes: tuple[str, ...] | None = None) -> Activity:
        """See `simulate`."""
        messages = as_messages(self.netlist, x)
        probes = self.netlist.probes if probes is None else probes
        parts: dict[str, list[Array]] = {name: [] for name in probes}
        counts = dict.fromkeys(self.order, Counts())
        for start in range(0, len(messages), batch):
            outputs, batch_counts = self._run_batch(messages[start : start + batch], probes)
            for name in probes:
                parts[name].append(outputs[name])
            counts = {name: counts[name] + batch_counts[name] for name in self.order}
        recorded = {name: np.concatenate(arrays) for name, arrays in parts.items() if arrays}
        logits = {n: read_logits(node, recorded[n]) for n, node in self.netlist.nodes.items()
                  if isinstance(node, Readout) and n in recorded}  # fmt: skip
        return Activity(recorded, logits, counts, len(messages))

    def _run_batch(self, x: Array, probes: tuple[str, ...]) -> tuple[dict[str, Array], dict[str, Counts]]:
        """Outputs of the probes, (B, T, ...), and the counts of every node, for a few samples."""
        values: dict[str, Any] = {}
        recorded: dict[str, Array] = {}
        counts: dict[str, Counts] = {}
        for name in self.order:
            node = self.netlist.nodes[name]
            if isinstance(node, Input):
                values[name] = self.xp.asarray(x.reshape(-1, *node.shape), dtype=self.xp.float32)
                counts[name] = Counts(spikes=int(np.count_nonzero(x)))
            else:
                values[name], counts[name] = self._evaluate(name, values, len(x))
            if name in probes:
                kind = np.int8 if isinstance(node, SPIKING) else np.int32
                recorded[name] = _to_host(values[name], kind).reshape(*x.shape[:2], *node.shape)
            for edge in self.sources[name]:
                if self.last_use[edge.source] == name:
                    values.pop(edge.source, None)
        return recorded, counts

    def _evaluate(self, name: str, values: Mapping[str, Any], samples: int) -> tuple[Any, Counts]:
        """Output of one node, (B·T, C, H, W), from the outputs of its sources."""
        xp, node = self.xp, self.netlist.nodes[name]
        if isinstance(node, SpikeAttention):
            return self._attention(name, node, {e.port: values[e.source] for e in self.sources[name]})
        x = self._summed(name, [values[e.source] for e in self.sources[name]], samples)
        match node:
            case Population():
                spikes = self._fire(name, node, x, samples)
                return spikes, Counts(_total(spikes, xp), width(node) * x.shape[0])
            case StaaLif():
                spikes = xp.asarray(staa_membrane(node, x, samples, xp) >= node.threshold, dtype=xp.float32)
                return spikes, Counts(_total(spikes, xp), width(node) * x.shape[0])
            case Relay():
                return x, Counts(_total(x != 0, xp), width(node) * x.shape[0])
            case GradedMaxPool():
                return int_ops.max_pool(x, node, xp), Counts()
            case Delay() | Readout():
                return x, Counts()
            case Conv() | Dense() | Sparse() | Identity():
                return self._currents(name, node, x)
            case _:
                raise TypeError(f"{name}: no simulation of {type(node).__name__}")

    def _summed(self, name: str, parts: list[Any], samples: int) -> Any:
        """Sum of the sources' outputs in a dtype that holds it, checked against the node's register."""
        xp, node, bound = self.xp, self.netlist.nodes[name], self._input_bound(name)
        dtype = int_ops.container(bound, xp)
        x = parts[0]
        for part in parts[1:]:
            x = xp.astype(x, dtype, copy=False) + xp.astype(part, dtype, copy=False)
        limit = CURRENT_LIMIT if isinstance(node, SPIKING) else VOLTAGE_LIMIT
        if bound >= limit and not isinstance(node, SYNAPSES):
            self._require_below(limit, name, x, samples)
        return x

    def _require_below(self, limit: int, name: str, x: Any, samples: int, first: int = 0) -> None:
        """Refuse a value that would wrap on the chip; say where.  `x` begins with step `first`."""
        if float(self.xp.max(self.xp.abs(x))) < limit:
            return
        values = _to_host(x, np.float64).reshape(samples, x.shape[0] // samples, -1)
        sample, step, neuron = np.argwhere(np.abs(values) >= limit)[0]
        where = f"sample {sample}, step {first + step}, neuron {neuron}"
        raise VerificationError(
            f"{name}: {values[sample, step, neuron]:.0f} in {where} "
            f"does not fit its register (below ±{limit}); lower the netlist with more headroom"
        )

    def _fire(self, name: str, node: Population, current: Any, samples: int) -> Any:
        """The fixed-point LIF over the T steps of every sample: (B·T, C, H, W) currents -> spikes."""
        xp = self.xp
        dtype = xp.result_type(
            *(int_ops.decay_container(r, xp) for r in (node.voltage_decay, node.current_decay))
        )
        current = xp.reshape(xp.astype(current, dtype, copy=False), (samples, -1, *node.shape))
        bias = xp.asarray(node.bias, dtype=dtype)
        biased, threshold = bool(np.any(node.bias)), float(node.threshold << 6)
        spikes = xp.empty(current.shape, dtype=xp.float32)
        charge = 64.0 * self._input_bound(name) + float(np.abs(node.bias).max())
        halving = node.current_decay == DECAY_UNITY and node.voltage_decay >= DECAY_UNITY // 2
        clips = not halving or 2 * charge >= VOLTAGE_LIMIT  # |v| ≤ |v|/2 + charge stays below 2·charge
        u = v = None
        for step in range(current.shape[1]):
            added = current[:, step, ...] * 64.0
            if node.current_decay < 4096 and u is not None:
                added = added + int_ops.decay(u, node.current_decay, xp)
                self._require_below(VOLTAGE_LIMIT, name, added, samples, step)
            u = added
            v = u if v is None else int_ops.decay(v, node.voltage_decay, xp) + u
            v = v + bias if biased else v
            if clips:
                v = xp.clip(v, 1.0 - VOLTAGE_LIMIT, VOLTAGE_LIMIT - 1.0)
            fired = v > threshold
            spikes[:, step, ...] = xp.astype(fired, xp.float32)
            v = xp.where(fired, xp.zeros_like(v), v)
        return xp.reshape(spikes, (-1, *node.shape))

    def _currents(self, name: str, node: Synapses, x: Any) -> tuple[Any, Counts]:
        """Synaptic currents of a projection and the events that made them."""
        xp, weight = self.xp, self.weights[name]
        met = xp.sum(xp.astype(x != 0, xp.float32), axis=0)
        events = float(xp.sum(xp.astype(xp.reshape(met, node.in_shape), xp.float64) * self.fan_outs[name]))
        x = xp.astype(x, weight.dtype, copy=False)
        match node:
            case Conv():
                out = int_ops.conv(x, weight, node, xp)
            case Dense():
                out = xp.matmul(xp.reshape(x, (x.shape[0], -1)), weight)
            case Sparse():
                out = int_ops.sparse(x, self.gathers[name], weight, xp)
            case Identity():
                out = x * weight
        return xp.reshape(out, (x.shape[0], *node.shape)), Counts(synaptic_events=round(events))

    def _attention(self, name: str, node: SpikeAttention, ports: Mapping[str, Any]) -> tuple[Any, Counts]:
        """gain·Q(KᵀV), saturated; an event is a k AND v that writes, or a row that a q spike reads."""
        xp = self.xp
        dtype = int_ops.container(attention_bound(node), xp)
        q, k, v = (xp.astype(ports[p], dtype, copy=False) for p in "qkv")
        out, events = int_ops.attention(q, k, v, node, xp)
        return xp.clip(out, 0.0, CURRENT_LIMIT - 1.0), Counts(
            synaptic_events=round(events) * copies(self.netlist, name)
        )

    def _input_bound(self, name: str) -> float:
        return sum(self.largest[e.source] for e in self.sources[name])

    def _sum_bound(self, name: str) -> float:
        node = self.netlist.nodes[name]
        assert isinstance(node, SYNAPSES)
        return int_ops.fan_in_bound(node, self._input_bound(name))


def staa_membrane(node: StaaLif, current: Any, samples: int, xp: Any) -> Any:
    """V in int64 of (B·T, C, H, W) currents; it fires where V ≥ threshold."""
    steps = xp.reshape(xp.asarray(current, dtype=xp.int64), (samples, -1, *node.shape))
    return xp.reshape(staa_lif.run(vars(node), steps, xp), (-1, *node.shape))


def largest_outputs(netlist: Netlist, order: list[str]) -> dict[str, float]:
    """Bound of |output| of each node, whatever the samples: for the choice of dtypes and of checks."""
    largest: dict[str, float] = {}
    for name in order:
        node = netlist.nodes[name]
        heard = sum(largest[e.source] for e in netlist.inputs_of(name))
        match node:
            case Input():
                largest[name] = max(map(abs, message_range(node)))
            case Population() | StaaLif():
                largest[name] = 1
            case Relay():
                largest[name] = min(heard, VOLTAGE_LIMIT)
            case SpikeAttention():
                largest[name] = min(attention_bound(node), CURRENT_LIMIT - 1)
            case Conv() | Dense() | Sparse() | Identity():
                largest[name] = int_ops.fan_in_bound(node, heard)
            case _:
                largest[name] = heard
    return largest


def attention_bound(node: SpikeAttention) -> float:
    """Largest gain·Q(KᵀV) that spikes can give: every q row reads `dim` sums over all tokens of a chunk."""
    channels, height, breadth = node.shape
    return float(node.gain * (channels // node.heads) * node.chunk * height * breadth)


def read_logits(node: Readout, currents: Array) -> Array:
    """(B, T, K, 1, 1) currents of a readout -> (B, K) logits."""
    summed = currents.reshape(*currents.shape[:2], -1).sum(axis=1, dtype=np.int64)
    return np.asarray(node.scale * summed / currents.shape[1] + np.asarray(node.bias).reshape(-1))


def _operand(node: Synapses) -> Array:
    """The weights as the simulator multiplies them: exponent applied, laid out for a matrix product."""
    match node:
        case Conv():
            return int_ops.conv_kernel(node)
        case Dense():
            return node.weight.astype(np.int64).T << node.exponent
        case Sparse():
            return int_ops.sparse_table(node)[1]
        case Identity():
            return np.asarray(node.weight << node.exponent)


def _total(x: Any, xp: Any) -> int:
    return int(xp.sum(xp.astype(x, xp.float64)))


def _to_host(x: Any, dtype: Any) -> Array:
    if hasattr(x, "get"):  # CuPy
        x = x.get()
    return np.asarray(x).astype(dtype)
