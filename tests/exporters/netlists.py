"""Small netlists by hand, every dimension distinct, and a simulator in plain loops to hold ours against."""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np

from snn_energy.exporters.netlist.record import (
    Conv,
    Delay,
    Dense,
    Edge,
    GradedMaxPool,
    Identity,
    Input,
    Netlist,
    Population,
    Readout,
    Relay,
    Sparse,
    SpikeAttention,
    align,
    time_offsets,
)

T = 4


def even(rng: np.random.Generator, *shape: int, low: int = -127, high: int = 127) -> np.ndarray:
    return rng.integers(low, high, shape, endpoint=True) * 2


def bias(rng: np.random.Generator, channels: int, low: int = -60, high: int = 60) -> np.ndarray:
    return rng.integers(low, high, (channels, 1, 1), endpoint=True)


def chain(rng: np.random.Generator, **lif: int) -> Netlist:
    """Input (2,7,9) - conv - LIF - grouped strided conv - LIF - dense - LIF: what netx can hold."""
    lif = {"voltage_decay": 2048} | lif
    nodes = {
        "x": Input((2, 7, 9)),
        "conv1": Conv((2, 7, 9), even(rng, 6, 2, 3, 3), padding=(1, 1)),
        "lif1": Population((6, 7, 9), 300, bias_mantissa=bias(rng, 6), **lif),
        "conv2": Conv((6, 7, 9), even(rng, 8, 3, 3, 3, low=-60), stride=(2, 2), groups=2),
        "lif2": Population((8, 3, 4), 500, bias_mantissa=bias(rng, 8), **lif),
        "dense": Dense((8, 3, 4), even(rng, 5, 96, low=-100)),
        "lif3": Population((5, 1, 1), 400, bias_mantissa=bias(rng, 5), **lif),
    }
    names = list(nodes)
    return Netlist(nodes, tuple(Edge(a, b) for a, b in itertools.pairwise(names)), T)


def everything(rng: np.random.Generator, chunk: int = 2) -> Netlist:
    """Graded input, max pool of currents, membrane shortcuts, attention, relay, sparse, readout."""
    tokens = (6, 3, 5)
    nodes = {
        "x": Input((2, 6, 10), message_bits=6, scale=8.0),
        "stem": Conv((2, 6, 10), even(rng, 6, 2, 3, 3, low=-12, high=12), padding=(1, 1), exponent=1),
        "pool": GradedMaxPool((6, 6, 10), (3, 3), (2, 2), (1, 1)),
        "lif": Population(tokens, 1500, bias_mantissa=bias(rng, 6)),
        "or": Conv(tokens, np.full((6, 1, 3, 3), 2), padding=(1, 1), groups=6),
        "or_lif": Population(tokens, 1, voltage_decay=4095),
    }
    edges = [
        Edge("x", "stem"),
        Edge("stem", "pool"),
        Edge("pool", "lif"),
        Edge("lif", "or"),
        Edge("or", "or_lif"),
    ]
    for port in "qkv":
        nodes[f"{port}_conv"] = Conv(tokens, even(rng, 6, 6, 1, 1))
        nodes[f"{port}_lif"] = Population(tokens, 120, voltage_decay=1500, bias_mantissa=bias(rng, 6, 0, 90))
        edges += [
            Edge("or_lif", f"{port}_conv"),
            Edge(f"{port}_conv", f"{port}_lif"),
            Edge(f"{port}_lif", "attn", port),
        ]
    nodes |= {
        "attn": SpikeAttention(tokens, heads=2, chunk=chunk, gain=8),
        "attn_lif": Population(tokens, 8 * 7 - 1),
        "proj": Conv(tokens, even(rng, 6, 6, 1, 1)),
        "shortcut": Identity((6, 3, 5), 5, exponent=2),
        "relay": Relay(tokens),
        "mean": Conv(tokens, np.ones((6, 1, 3, 5), int), groups=6),
        "head_lif": Population((6, 1, 1), 30000, current_decay=3000, bias_mantissa=bias(rng, 6)),
        "spread": Sparse((6, 1, 1), (6, 1, 2), np.array([0, 1, 2, 3, 4, 5, 0, 0]),
                         np.array([0, 2, 4, 6, 8, 10, 1, 1]), even(rng, 8), exponent=1),
        "wide_lif": Population((6, 1, 2), 60),
        "head": Dense((6, 1, 2), even(rng, 3, 12)),
        "logits": Readout((3, 1, 1), np.array([0.5, -1.0, 0.25]), 0.01),
    }  # fmt: skip
    edges += [
        Edge("attn", "attn_lif"), Edge("attn_lif", "proj"), Edge("lif", "shortcut"), Edge("proj", "relay"),
        Edge("pool", "relay"), Edge("shortcut", "relay"), Edge("relay", "mean"), Edge("mean", "head_lif"),
        Edge("head_lif", "spread"), Edge("spread", "wide_lif"), Edge("wide_lif", "head"),
        Edge("head", "logits"),
    ]  # fmt: skip
    return align(Netlist(nodes, tuple(edges), T))


def messages(netlist: Netlist, rng: np.random.Generator, samples: int, still: bool = False) -> np.ndarray:
    node = netlist.nodes["x"]
    shape = (samples, *(() if still else (netlist.time_steps,)), *node.shape)
    if node.message_bits == 0:
        return (rng.random(shape) < 0.3).astype(np.int64)
    half = 1 << (node.message_bits - 1)
    return rng.integers(-half, half, shape)


class Loops:
    """A netlist stepped like hardware: every node every step, one value per message, Python integers.

    It keeps the pipeline: buffers between nodes, junk before the first sample arrives, resets by offset.
    """

    def __init__(self, netlist: Netlist) -> None:
        self.n, self.offsets, self.order = netlist, time_offsets(netlist), netlist.order()

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """(B, T, C, H, W) -> name -> (B, T, C, H, W) of every node."""
        samples, t = x.shape[:2]
        stream = x.reshape(-1, *x.shape[2:])
        total = samples * t + max(self.offsets.values())
        self.pending = {
            n: deque(np.zeros((node.latency, *node.shape), np.int64)) for n, node in self.n.nodes.items()
        }
        self.u = {n: np.zeros(p.shape, np.int64) for n, p in self.n.populations().items()}
        self.v = {n: np.zeros(p.shape, np.int64) for n, p in self.n.populations().items()}
        self.chunks: dict[str, list] = {}
        trace: dict[str, list] = {n: [] for n in self.order}
        for k in range(total):
            now = {n: self.pending[n].popleft() for n in self.order if self.n.nodes[n].latency}
            for name in self.order:
                value = self._step(name, k, now, stream)
                if self.n.nodes[name].latency:
                    if value is not None:
                        self.pending[name].extend(value)
                else:
                    now[name] = value
            for name in self.order:
                trace[name].append(now[name])
        starts = self.offsets
        cut = {n: np.stack(v[starts[n] : starts[n] + samples * t]) for n, v in trace.items()}
        return {n: v.reshape(samples, t, *v.shape[1:]) for n, v in cut.items()}

    def _step(self, name, k, now, stream):
        node = self.n.nodes[name]
        if isinstance(node, Input):
            return stream[k] if k < len(stream) else np.zeros(node.shape, np.int64)
        if isinstance(node, SpikeAttention):
            return self._attention(name, node, k, now)
        a = sum(now[e.source].reshape(getattr(node, "in_shape", node.shape)) for e in self.n.inputs_of(name))
        match node:
            case Population():
                return self._lif(name, node, a, k)
            case Relay() | Readout():
                return a
            case Delay():
                return [a]
            case Conv():
                return [conv_loops(a, node)]
            case Dense():
                return [(node.weight @ a.ravel() * 2**node.exponent).reshape(node.shape)]
            case Identity():
                return [a * node.weight * 2**node.exponent]
            case Sparse():
                out = np.zeros(int(np.prod(node.shape)), np.int64)
                for s, d, w in zip(node.sources, node.targets, node.values, strict=True):
                    out[d] += a.ravel()[s] * w * 2**node.exponent
                return [out.reshape(node.shape)]
            case GradedMaxPool():
                return [pool_loops(a, node)]

    def _lif(self, name, node, a, k):
        if k % self.n.time_steps == self.offsets[name] % self.n.time_steps:
            self.u[name][:] = 0
            self.v[name][:] = 0
        spikes = np.zeros(node.shape, np.int64)
        b = np.broadcast_to(node.bias, node.shape)
        for i in np.ndindex(node.shape):
            u, v = int(self.u[name][i]), int(self.v[name][i])
            u = (1 if u > 0 else -1) * ((abs(u) * (4096 - node.current_decay)) >> 12) + (int(a[i]) << 6)
            v = (1 if v > 0 else -1) * ((abs(v) * (4096 - node.voltage_decay)) >> 12) + u + int(b[i])
            v = min(max(v, -(2**23) + 1), 2**23 - 1)
            spikes[i] = v > node.threshold << 6
            self.u[name][i], self.v[name][i] = u, 0 if spikes[i] else v
        return spikes

    def _attention(self, name, node, k, now):
        ports = {e.port: now[e.source] for e in self.n.inputs_of(name)}
        start = self.offsets[name] - node.chunk
        if k < start:
            return [np.zeros(node.shape, np.int64)]
        pending = self.chunks.setdefault(name, [])
        pending.append(ports)
        if len(pending) < node.chunk:
            return None
        d = node.shape[0] // node.heads
        out = np.zeros((node.chunk, *node.shape), np.int64)
        for t, ch, y, xx in np.ndindex(out.shape):
            head = ch // d
            for c2 in range(head * d, head * d + d):
                if pending[t]["q"][c2, y, xx]:
                    out[t, ch, y, xx] += sum(int((p["k"][c2] * p["v"][ch]).sum()) for p in pending)
        self.chunks[name] = []
        return list(np.minimum(out * node.gain, 2**17 - 1))


def conv_loops(x: np.ndarray, node: Conv) -> np.ndarray:
    out = np.zeros(node.shape, np.int64)
    o, i, kh, kw = node.weight.shape
    for oc, oy, ox in np.ndindex(out.shape):
        base = oc // (o // node.groups) * i
        for ic, a, b in np.ndindex(i, kh, kw):
            y = oy * node.stride[0] + a * node.dilation[0] - node.padding[0]
            z = ox * node.stride[1] + b * node.dilation[1] - node.padding[1]
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                out[oc, oy, ox] += int(node.weight[oc, ic, a, b]) * int(x[base + ic, y, z]) * 2**node.exponent
    return out


def pool_loops(x: np.ndarray, node: GradedMaxPool) -> np.ndarray:
    out = np.zeros(node.shape, np.int64)
    for c, oy, ox in np.ndindex(out.shape):
        y0, x0 = oy * node.stride[0] - node.padding[0], ox * node.stride[1] - node.padding[1]
        seen = [x[c, y, z] for y in range(y0, y0 + node.kernel[0]) for z in range(x0, x0 + node.kernel[1])
                if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]]  # fmt: skip
        out[c, oy, ox] = max(seen)
    return out
