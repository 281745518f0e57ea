"""Read a `Graph` (norms folded) into a `Plan`: what a Loihi-like chip can do of it, or who cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.lower_plan import (
    Attention,
    Averaged,
    Logits,
    Neuron,
    Output,
    Plan,
    Pool,
    Product,
    Source,
    Stream,
    Synapse,
    TimeMean,
    Value,
    View,
    one_step,
    whole,
)
from snn_energy.exporters.netlist import Array, Shape
from snn_energy.graph import nodes as n
from snn_energy.graph.dims import values
from snn_energy.graph.graph import Graph

SUPPORTED = (
    "convolutions and linear layers on spikes, batch norm behind them, LIF, PLIF and IF with hard reset, "
    "max and average pools, membrane shortcuts, AND and sums of spikes, Q(KᵀV) on spikes"
)


def read(graph: Graph) -> Plan:
    """The plan of `graph`; raises `UnsupportedOp` with the node, its operation and the nearest way out."""
    return Reader(graph).run()


class Reader:
    """Walks the graph once; `held` maps each node to what flows out of it."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.t = graph, graph.time_steps
        self.plan = Plan(graph.time_steps)
        self.held: dict[str, Value] = {}

    def run(self) -> Plan:
        for node in self.graph:
            handler = HANDLERS.get(type(node))
            if handler is None:
                self.refuse(node, WAYS_OUT.get(type(node), "replace it or keep it outside the network"))
            assert handler is not None
            self.held[node.name] = handler(self, node, *(self.held[i] for i in node.inputs))
        for name in self.graph.outputs:
            self.finish(self.graph[name])
        return self.plan

    def refuse(self, node: n.Node, way_out: str) -> None:
        raise UnsupportedOp(node.name, node.op, supported=SUPPORTED, way_out=way_out)

    def finish(self, node: n.Node) -> None:
        value = self.held[node.name]
        stream = value.stream if isinstance(value, Logits) else value
        if not isinstance(stream, Stream):
            self.refuse(node, "the network must end in a linear layer on spikes, or in its mean over steps")
        assert isinstance(stream, Stream)
        name = node.inputs[0] if isinstance(value, Logits) and len(stream.terms) != 1 else stream.terms[0]
        self.plan.outputs[f"{name}.readout"] = Output(stream.terms, stream.bias, stream.shape)

    # ------------------------------------------------------------------------------------ small helpers

    def shape(self, node: n.Node) -> Shape:
        """(T, 1, ...) of a node's output for one sample; a static tensor is held at every step."""
        shape = values(node.shape, self.t, 1)
        return (self.t, *shape) if self.is_static(node) else shape

    def is_static(self, node: n.Node) -> bool:
        """Has it no time axis: (B, ...), the same at every step?"""
        return str(node.shape[0]) == "B" and not any("T" in str(d) for d in node.shape)

    def base_shape(self, view: View | Averaged) -> Shape:
        return self.plan.sources[view.base].shape

    def is_whole(self, value: View | Stream) -> bool:
        shape = self.base_shape(value) if isinstance(value, View) else value.shape
        size = self.t * int(np.prod(shape))
        return value.index.size == size and bool(np.array_equal(value.index.ravel(), np.arange(size)))

    def add_source(
        self, name: str, kind: str, shape: Shape, largest: int = 1, made_of: tuple[str, ...] = ()
    ) -> View:
        self.plan.sources[name] = Source(kind, shape, largest, made_of)
        return View(name, whole(self.t, shape))

    def gather(self, name: str, source: str, shape: Shape, sources: Array, targets: Array) -> str:
        """A term of weight-1 synapses; returns its name."""
        weight = np.ones(1)
        self.plan.terms[name] = Synapse(
            "gather", source, shape, weight, sources=sources.ravel(), targets=targets.ravel()
        )
        return name

    def step_index(self, node: n.Node, view: View | Averaged) -> Array:
        index = one_step(view.index, int(np.prod(self.base_shape(view))))
        if index is None:
            self.refuse(node, "it mixes time steps; only attention products over chunks may")
        assert index is not None
        return index

    def stream(self, node: n.Node, name: str, shape: Shape, bias: Array | None = None) -> Stream:
        """The stream of the single term `name`, laid out as the node's output."""
        channels = np.zeros(shape[0]) if bias is None else np.asarray(bias, np.float64)
        self.plan.biases[name] = channels
        return Stream((name,), channels, shape, whole(self.t, shape).reshape(self.shape(node)))

    def as_stream(self, node: n.Node, value: Value) -> Stream:
        if isinstance(value, Stream):
            return value
        if isinstance(value, View):
            shape = self.base_shape(value)
            name = f"{node.name}.from.{value.base}"
            here = np.arange(int(np.prod(shape)))
            self.gather(name, value.base, shape, here, here)
            self.plan.biases[name] = np.zeros(shape[0])
            return Stream((name,), np.zeros(shape[0]), shape, value.index)
        self.refuse(node, "put a spiking neuron in front of it")
        raise AssertionError

    # ------------------------------------------------------------------------- sources and rearrangement

    def input(self, node: n.Input) -> Value:
        if self.plan.sources:
            self.refuse(node, "a netlist takes one input")
        shape = self.shape(node)
        frames = len(node.shape) > 1 and str(node.shape[1]) == "T"  # (B, T, C, ...)
        per_step = shape[2:]
        base = as_chw(per_step)
        self.add_source(node.name, "input", base)
        index = whole(self.t, base).reshape(self.t, 1, *per_step)
        return View(node.name, index.swapaxes(0, 1) if frames else index)

    def rearrange(self, node: n.Node, value: Value) -> Value:
        if isinstance(value, Averaged) and isinstance(node, n.Reshape | n.Permute):
            return self.rearrange_average(node, value)
        if not isinstance(value, View | Stream):
            self.refuse(node, "rearrange spikes or currents, not a product or a mean over steps")
        assert isinstance(value, View | Stream)
        index = value.index
        match node:
            case n.Reshape():
                index = index.reshape(self.shape(node))
            case n.Permute():
                index = index.transpose(self.axes_of(node, node.order))
            case n.Expand() | n.Repeat():
                index = self.expand(node, index)
            case n.Slice():
                index = np.moveaxis(
                    np.moveaxis(index, node.axis, 0)[node.start : node.stop : node.step], 0, node.axis
                )
            case n.Select():
                index = np.take(index, node.index, axis=node.axis)
        return (
            View(value.base, index)
            if isinstance(value, View)
            else Stream(value.terms, value.bias, value.shape, index)
        )

    def axes_of(self, node: n.Node, order: tuple[int, ...]) -> tuple[int, ...]:
        """An order of a tensor's axes as an order of its index's, which always has time in front."""
        static = self.is_static(self.graph[node.inputs[0]])
        return (0, *(axis + 1 for axis in order)) if static else order

    def rearrange_average(self, node: n.Reshape | n.Permute, value: Averaged) -> Averaged:
        """The last axis of the index holds what is averaged and stays last."""
        if isinstance(node, n.Permute):
            order = self.axes_of(node, node.order)
            return Averaged(value.base, value.index.transpose(*order, value.index.ndim - 1))
        return Averaged(value.base, value.index.reshape(*self.shape(node), -1))

    def expand(self, node: n.Node, index: Array) -> Array:
        """Showing a static image at every step changes nothing here: it is held at every step already."""
        if index.size != int(np.prod(self.shape(node))):
            self.refuse(node, "only a static input may be repeated, along time")
        return index.reshape(self.shape(node))

    # -------------------------------------------------------------------------------------------- synapses

    def conv(self, node: n.Conv, value: Value) -> Value:
        weight: Array = np.asarray(node.weight, np.float64)
        stride = node.stride
        padding, dilation = node.padding, node.dilation
        if weight.ndim == 3:  # Conv1d: a map of height 1
            weight, stride, padding, dilation = (
                weight[:, :, None],
                (1, *stride),
                (0, *padding),
                (1, *dilation),
            )
        if weight.ndim != 4:
            self.refuse(node, "use two-dimensional convolutions")
        if isinstance(value, Averaged) and value.window and max(dilation) == 1:
            window = value.window
            weight = np.kron(weight, np.ones(window) / np.prod(window))
            stride = (stride[0] * window[0], stride[1] * window[1])
            padding = (padding[0] * window[0], padding[1] * window[1])
            base = value.base
        elif isinstance(value, View) and self.is_whole(value):
            base = value.base
        else:
            self.refuse(
                node, "a convolution must read spikes as their neuron laid them out, or their average pool"
            )
        shape = as_chw(self.shape(node)[2:])
        self.plan.terms[node.name] = Synapse(
            "conv", base, shape, weight, pair(stride), pair(padding), pair(dilation), node.groups
        )
        return self.stream(node, node.name, shape, node.bias)

    def linear(self, node: n.Linear, value: Value) -> Value:
        over_time = isinstance(value, TimeMean)
        inner = value.view if isinstance(value, TimeMean) else value
        if not isinstance(inner, View | Averaged):
            self.refuse(node, "a linear layer must read spikes or their mean")
        assert isinstance(inner, View | Averaged)
        index = self.step_index(node, inner)
        groups = index if isinstance(inner, Averaged) else index[..., None]
        if groups.ndim != 2:
            self.refuse(node, "use a 1×1 convolution for a linear layer on every token")
        weight = np.zeros((node.weight.shape[0], int(np.prod(self.base_shape(inner)))))
        np.add.at(weight.T, groups, np.asarray(node.weight, np.float64).T[:, None] / groups.shape[1])
        shape = (node.weight.shape[0], 1, 1)
        self.plan.terms[node.name] = Synapse("dense", inner.base, shape, weight, sources=groups)
        bias = np.zeros(shape[0]) if node.bias is None else np.asarray(node.bias, np.float64)
        self.plan.biases[node.name] = bias
        stream = Stream((node.name,), bias, shape, whole(self.t, shape).reshape(self.t, 1, shape[0]))
        return Logits(stream) if over_time else stream

    def matmul(self, node: n.MatMul, left: Value, right: Value) -> Value:
        if isinstance(left, View) and isinstance(right, View):
            return Product(left, right)
        if isinstance(left, View) and isinstance(right, Product):  # Q (KᵀV)
            return self.attention(node, left, right.left, right.right, right.scale)
        if isinstance(left, Product) and isinstance(right, View):  # (Q Kᵀ) V: the same sums
            return self.attention(node, left.left, left.right, right, left.scale)
        self.refuse(node, "attention on a chip is Q(KᵀV) of spikes, without softmax")
        raise AssertionError

    def attention(self, node: n.Node, q: View, k_transposed: View, v: View, scale: float) -> Value:
        channels, height, width = self.base_shape(q)
        tokens = height * width
        if q.index.ndim != 5 or q.index.shape[-2] % tokens or channels % q.index.shape[2]:
            self.refuse(node, "tokens must be (T/chunk, B, heads, chunk·H·W, head dim)")
        heads, chunk = q.index.shape[2], q.index.shape[-2] // tokens
        order = np.arange(self.t * channels * tokens)
        order = order.reshape(self.t // chunk, chunk, 1, heads, channels // heads, tokens)
        order = order.transpose(0, 2, 3, 1, 5, 4).reshape(self.t // chunk, 1, heads, chunk * tokens, -1)
        wanted = (order, order.swapaxes(-1, -2), order)
        views = (q, k_transposed, v)
        if any(not np.array_equal(x.index, w) for x, w in zip(views, wanted, strict=True)) or any(
            self.plan.sources[x.base].largest != 1 for x in views
        ):
            self.refuse(node, "q, k and v must be binary spikes split into heads along the channels")
        shape = (channels, height, width)
        self.plan.terms[node.name] = Attention(q.base, k_transposed.base, v.base, shape, heads, chunk, scale)
        self.plan.biases[node.name] = np.zeros(channels)
        return Stream((node.name,), np.zeros(channels), shape, order)

    def scale(self, node: n.Scale, value: Value) -> Value:
        if isinstance(value, Product) and node.offset == 0:
            return Product(value.left, value.right, value.scale * node.factor)
        if isinstance(value, Stream) and node.offset == 0 and len(value.terms) == 1:
            term = self.plan.terms[value.terms[0]]
            if isinstance(term, Attention):
                scaled = Attention(
                    term.q, term.k, term.v, term.shape, term.heads, term.chunk, term.scale * node.factor
                )
                self.plan.terms[value.terms[0]] = scaled
                return value
        self.refuse(node, "fold the factor into the weights or the threshold")
        raise AssertionError

    # --------------------------------------------------------------------------------------------- neurons

    def neuron(self, node: n.Lif | n.If, value: Value) -> Value:
        if node.v_reset is None:
            self.refuse(
                node, "a chip resets to a value (soft reset does not exist there): train with v_reset=0.0"
            )
        rest = float(node.v_reset or 0.0)
        stream = self.as_stream(node, value)
        if not self.is_whole(stream):
            self.refuse(node, "its input must lie as the layer before it made it")
        tau = node.tau if isinstance(node, n.Lif) else None
        gain = 1 / node.tau if isinstance(node, n.Lif) and node.decay_input else 1.0
        self.plan.neurons[node.name] = Neuron(
            stream.terms, stream.bias, stream.shape, tau, gain, node.v_threshold - rest, rest
        )
        self.add_source(node.name, "lif", stream.shape)
        return View(node.name, whole(self.t, stream.shape).reshape(self.shape(node)))

    # --------------------------------------------------------------------------------------------- pooling

    def max_pool(self, node: n.MaxPool, value: Value) -> Value:
        if node.ceil_mode or max(node.dilation) > 1 or len(node.kernel) != 2:
            self.refuse(node, "use a two-dimensional max pool without ceil_mode or dilation")
        kernel, stride, padding = pair(node.kernel), pair(node.stride), pair(node.padding)
        if isinstance(value, Stream) and self.is_whole(value):
            shape = as_chw(self.shape(node)[2:])
            self.plan.terms[node.name] = Pool("max", value.terms, value.shape, shape, kernel, stride, padding)
            return self.stream(node, node.name, shape, value.bias)
        if isinstance(value, View) and self.plan.sources[value.base].largest == 1:
            return self.spike_pool(node, value, kernel, stride, padding)
        self.refuse(node, "pool binary spikes or currents")
        raise AssertionError

    def spike_pool(
        self,
        node: n.Node,
        view: View,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> View:
        """A max of spikes is an OR: a stateless population that one spike makes fire."""
        base, term = self.base_shape(view), f"{node.name}.synapses"
        if self.is_whole(view):
            shape, weight = as_chw(self.shape(node)[2:]), np.ones((base[0], 1, *kernel))
            self.plan.terms[term] = Synapse("conv", view.base, shape, weight, stride, padding, groups=base[0])
            return self.add_source(node.name, "or", shape, made_of=(term,))
        index = self.step_index(node, view)
        if stride != (1, 1) or np.unique(index).size != index.size or index.size != np.prod(base):
            self.refuse(node, "a max pool over rearranged spikes must have stride 1")
        padded = np.pad(index, [(0, 0)] * (index.ndim - 2) + [(p, p) for p in padding], constant_values=-1)
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(-2, -1))
        used = windows.reshape(*index.shape, -1)
        targets = np.broadcast_to(index[..., None], used.shape)[used >= 0]
        self.gather(term, view.base, base, used[used >= 0], targets)
        self.add_source(node.name, "or", base, made_of=(term,))
        return View(node.name, view.index)

    def avg_pool(self, node: n.AvgPool, value: Value) -> Value:
        kernel, stride = pair(node.kernel), pair(node.stride)
        if kernel != stride or max(node.padding) or node.ceil_mode or len(node.kernel) != 2:
            self.refuse(node, "use an average pool whose stride is its kernel, without padding")
        return self.average(node, value, kernel)

    def adaptive_pool(self, node: n.AdaptiveAvgPool, value: Value) -> Value:
        sides = self.shape(self.graph[node.inputs[0]])[-2:]
        if any(a % b for a, b in zip(sides, node.size, strict=True)):
            self.refuse(node, "the map must divide into the grid")
        return self.average(node, value, (sides[0] // node.size[0], sides[1] // node.size[1]))

    def average(self, node: n.Node, value: Value, kernel: tuple[int, int]) -> Value:
        if isinstance(value, View):
            windows = np.lib.stride_tricks.sliding_window_view(value.index, kernel, axis=(-2, -1))
            cut = windows[..., :: kernel[0], :: kernel[1], :, :]
            index = cut.reshape(*cut.shape[:-2], -1)
            return Averaged(value.base, index, kernel if self.is_whole(value) else None)
        if isinstance(value, Stream) and self.is_whole(value):
            return self.relayed_mean(node, value, kernel)
        self.refuse(node, "average spikes or currents")
        raise AssertionError

    def relayed_mean(self, node: n.Node, stream: Stream, kernel: tuple[int, int]) -> Stream:
        """The mean of a current: relayed as graded spikes, summed by synapses of weight 1."""
        sides = (stream.shape[1] // kernel[0], stream.shape[2] // kernel[1])
        shape = (stream.shape[0], *sides)
        self.plan.terms[node.name] = Pool("sum", stream.terms, stream.shape, shape, kernel, kernel)
        return self.stream(node, node.name, shape, stream.bias)

    def reduce(self, node: n.Reduce, value: Value) -> Value:
        source = self.graph[node.inputs[0]]
        lead = 1 if self.is_static(source) else 0
        axes = tuple(a % len(source.shape) + lead for a in node.axes)
        if node.kind == "mean" and axes == (0,):
            if isinstance(value, Stream):
                return Logits(value)
            if isinstance(value, View | Averaged):
                return TimeMean(value)
        if node.kind == "mean" and isinstance(value, View) and 0 not in axes:
            kept = [a for a in range(value.index.ndim) if a not in axes]
            moved = value.index.transpose(*kept, *axes)
            return Averaged(value.base, moved.reshape(*moved.shape[: len(kept)], -1))
        if node.kind == "mean" and isinstance(value, Stream) and self.is_space(value, axes):
            return self.relayed_mean(node, value, (value.shape[1], value.shape[2]))
        if node.kind == "sum" and isinstance(value, View) and 0 not in axes:
            return self.summed(node, value, axes)
        self.refuse(node, "means over space or over all steps, and sums of spikes, can be lowered")
        raise AssertionError

    def is_space(self, stream: Stream, axes: tuple[int, ...]) -> bool:
        """Do `axes` cover exactly the positions of each channel?"""
        kept = [a for a in range(stream.index.ndim) if a not in axes]
        groups = stream.index.transpose(*kept, *axes).reshape(
            -1, int(np.prod([stream.index.shape[a] for a in axes]))
        )
        whole_map = whole(self.t, stream.shape).reshape(-1, stream.shape[1] * stream.shape[2])
        return groups.shape == whole_map.shape and bool(np.array_equal(np.sort(groups, axis=1), whole_map))

    def summed(self, node: n.Node, view: View, axes: tuple[int, ...]) -> Stream:
        """Σ of spikes over some axes: synapses of weight 1 into one neuron per remaining position."""
        index = self.step_index(node, view)
        axes = tuple(a - 2 for a in axes)
        kept = [a for a in range(index.ndim) if a not in axes]
        groups = index.transpose(*kept, *axes).reshape(int(np.prod([index.shape[a] for a in kept])), -1)
        shape = (len(groups), 1, 1)
        targets = np.broadcast_to(np.arange(len(groups))[:, None], groups.shape)
        self.gather(node.name, view.base, shape, groups, targets)
        return self.stream(node, node.name, shape)

    # ------------------------------------------------------------------------------------------ arithmetic

    def add(self, node: n.Add, left: Value, right: Value) -> Value:
        if isinstance(left, View) and isinstance(right, View):
            return self.spike_sum(node, left, right)
        if not isinstance(left, Stream) or not isinstance(right, Stream):
            self.refuse(
                node, "add currents to currents or spikes to spikes: put the shortcut before the neuron"
            )
        assert isinstance(left, Stream) and isinstance(right, Stream)
        a, b = left, right
        if a.shape != b.shape or not np.array_equal(a.index, b.index) or set(a.terms) & set(b.terms):
            self.refuse(node, "a shortcut must add two different currents of one shape")
        return Stream(a.terms + b.terms, a.bias + b.bias, a.shape, a.index)

    def spike_sum(self, node: n.Node, left: View, right: View) -> View:
        """Spikes plus spikes: relayed as graded spikes."""
        shape = self.base_shape(left)
        if self.base_shape(right) != shape or not np.array_equal(left.index, right.index):
            self.refuse(node, "spikes that are added must lie alike")
        here = np.arange(int(np.prod(shape)))
        names = tuple(
            self.gather(f"{node.name}.{side}", view.base, shape, here, here)
            for side, view in (("left", left), ("right", right))
        )
        largest = sum(self.plan.sources[view.base].largest for view in (left, right))
        self.add_source(node.name, "sum", shape, largest, names)
        return View(node.name, left.index)

    def mul(self, node: n.Mul, left: Value, right: Value) -> Value:
        """An AND of spikes, laid out as the operand that has all positions."""
        if not isinstance(left, View) or not isinstance(right, View):
            self.refuse(node, "only spikes can be multiplied (an AND)")
        assert isinstance(left, View) and isinstance(right, View)
        if any(self.plan.sources[v.base].largest != 1 for v in (left, right)):
            self.refuse(node, "only binary spikes can be multiplied (an AND)")
        if left.index.size < right.index.size:
            left, right = right, left
        a, b = self.step_index(node, left), self.step_index(node, right)
        shape = self.base_shape(left)
        if a.size != np.prod(shape) or np.unique(a).size != a.size:
            self.refuse(node, "one operand must hold every spike of its neurons once")
        first = self.gather(f"{node.name}.left", left.base, shape, a, a)
        second = self.gather(f"{node.name}.right", right.base, shape, np.broadcast_to(b, a.shape), a)
        self.add_source(node.name, "and", shape, made_of=(first, second))
        return View(node.name, left.index)


def pair(numbers: tuple[int, ...]) -> tuple[int, int]:
    return numbers[0], numbers[1]


def as_chw(shape: Shape) -> Shape:
    """(C,), (C, L) or (C, H, W) as a map (C, H, W)."""
    return (shape[0], *[1] * (3 - len(shape)), *shape[1:])


HANDLERS: dict[type[n.Node], Callable[..., Any]] = {
    n.Input: Reader.input,
    n.Reshape: Reader.rearrange,
    n.Permute: Reader.rearrange,
    n.Expand: Reader.rearrange,
    n.Repeat: Reader.rearrange,
    n.Slice: Reader.rearrange,
    n.Select: Reader.rearrange,
    n.Conv: Reader.conv,
    n.Linear: Reader.linear,
    n.MatMul: Reader.matmul,
    n.Scale: Reader.scale,
    n.Lif: Reader.neuron,
    n.If: Reader.neuron,
    n.MaxPool: Reader.max_pool,
    n.AvgPool: Reader.avg_pool,
    n.AdaptiveAvgPool: Reader.adaptive_pool,
    n.Reduce: Reader.reduce,
    n.Add: Reader.add,
    n.Mul: Reader.mul,
}
WAYS_OUT: dict[type[n.Node], str] = {
    n.Norm: "a norm must stand directly behind a convolution or linear layer that feeds nothing else",
    n.LayerNorm: "use batch norm: a chip cannot divide by a running standard deviation",
    n.ConvTranspose: "upsample with an ordinary convolution",
    n.Activation: "a chip has spiking neurons only: replace it by a LIF",
    n.Heaviside: "use a LIF node of SpikingJelly",
    n.Constant: "add it as the bias of a convolution",
}
