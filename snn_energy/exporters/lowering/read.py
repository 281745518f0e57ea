"""Read a `Graph` (norms folded) into a `Plan`: what a Loihi-like chip can do of it, or who cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from snn_energy.exporters.lowering.base import as_chw, pair
from snn_energy.exporters.lowering.plan import (
    Averaged,
    Faded,
    Logits,
    Neuron,
    Output,
    Plan,
    Product,
    StaaNeuron,
    Stream,
    Synapse,
    TimeMean,
    Value,
    View,
    whole,
)
from snn_energy.exporters.lowering.products import ProductReader
from snn_energy.exporters.lowering.staa import StaaParameters
from snn_energy.exporters.netlist.record import Array
from snn_energy.graph import nodes as n
from snn_energy.graph.graph import Graph


def read(graph: Graph, staa: Mapping[str, StaaParameters] | None = None) -> Plan:
    """The plan of `graph`; raises `UnsupportedOp` with the node, its operation and the nearest way out.

    `staa`: the parameters of its STAA neurons by name, which stand in their modules only.
    """
    return Reader(graph, staa or {}).run()


class Reader(ProductReader):
    """Walks the graph once."""

    def __init__(self, graph: Graph, staa: Mapping[str, StaaParameters]) -> None:
        super().__init__(graph)
        self.staa = staa

    def run(self) -> Plan:
        if self.graph.spiking and not self.graph.neurons:
            self.refuse(
                self.graph.spiking[0],
                "its neurons are written out, but not all as v ← a·v + b·x with a threshold and a reset to 0 "
                "or by the threshold: use SpikingJelly's neurons, or export to onnx, which takes any",
            )
        for node in self.graph:
            if type(node) not in HANDLERS:
                self.refuse_mask(node)
                self.refuse(node, WAYS_OUT.get(type(node), "replace it or keep it outside the network"))
            handler = getattr(self, HANDLERS[type(node)].__name__)  # a subclass may have its own
            self.held[node.name] = handler(node, *(self.held[i] for i in node.inputs))
        for name in self.graph.outputs:
            self.finish(self.graph[name])
        return self.plan

    def refuse_mask(self, node: n.Node) -> None:
        """Refuse a mask over an attention's scores by what it is."""
        if isinstance(node, n.Constant) and any(
            isinstance(user, n.Mul) and any(isinstance(x, n.MatMul) for x in self.graph.producers(user))
            for user in self.graph.consumers(node.name)
        ):
            self.refuse(
                node,
                "a mask over the scores of an attention, between steps: a chip computes a step before it "
                "has the next (decoupled: temporal=false), or export to onnx",
            )

    def finish(self, node: n.Node) -> None:
        """The answer: a current, or spikes, or the mean over steps of either."""
        value = self.held[node.name]
        stream = value.stream if isinstance(value, Logits) else value
        inner = value.view if isinstance(value, TimeMean) else value
        if isinstance(inner, View):
            stream = self.counted(node, inner)
            self.plan.outputs[f"{node.name}.readout"] = Output(stream.terms, stream.bias, stream.shape)
            return
        if not isinstance(stream, Stream):
            way_out = (
                "the network must end in a linear layer on spikes, in spikes, or in their mean over steps"
            )
            self.refuse(node, way_out)
        assert isinstance(stream, Stream)
        name = node.inputs[0] if isinstance(value, Logits) and len(stream.terms) != 1 else stream.terms[0]
        self.plan.outputs[f"{name}.readout"] = Output(stream.terms, stream.bias, stream.shape)

    def counted(self, node: n.Node, view: View) -> Stream:
        """Spikes as a current of 1 each, in the order in which the network puts them out."""
        timed = [i for i, dim in enumerate(node.shape) if str(dim) == "T"]
        index = np.moveaxis(view.index, timed[0], 0) if timed else view.index
        order = self.step_index(node, View(view.base, index)).ravel()
        shape = self.base_shape(view)
        if not np.array_equal(order, np.arange(int(np.prod(shape)))):
            shape = (order.size, 1, 1)
        name = self.gather(f"{node.name}.spikes", view.base, shape, order, np.arange(order.size))
        self.plan.biases[name] = np.zeros(shape[0])
        return Stream((name,), self.plan.biases[name], shape, whole(self.t, shape))

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
        if isinstance(value, Product):
            return self.turned(node, value)
        if not isinstance(value, View | Stream):
            self.refuse(node, "only spikes and currents are rearranged; the only product is Q(KᵀV)")
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
        return Averaged(value.base, value.index.reshape(*self.shape(node), -1), value.window)

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
        elif isinstance(value, Stream) and self.is_product(value):
            base = self.relayed_product(node, value)
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

    # --------------------------------------------------------------------------------------------- neurons

    def filter(self, node: n.Filter, value: Value) -> Value:
        """A current that fades."""
        self.refuse(node, "use neurons without a synaptic current, or export to onnx or nir")
        raise AssertionError

    def neuron(self, node: n.Lif | n.If, value: Value) -> Value:
        if node.v_reset is None:
            self.refuse(
                node, "a chip resets to a value (soft reset does not exist there): train with v_reset=0.0"
            )
        rest = float(node.v_reset or 0.0)
        fades = (value.keep, value.gain) if isinstance(value, Faded) else None
        stream = self.as_stream(node, value.stream if isinstance(value, Faded) else value)
        if not self.is_whole(stream):
            self.refuse(node, "its input must lie as the layer before it made it")
        tau = node.tau if isinstance(node, n.Lif) else None
        gain = 1 / node.tau if isinstance(node, n.Lif) and node.decay_input else 1.0
        self.plan.neurons[node.name] = Neuron(
            stream.terms, stream.bias, stream.shape, tau, gain, node.v_threshold - rest, rest, fades
        )
        self.add_source(node.name, "lif", stream.shape)
        return View(node.name, whole(self.t, stream.shape).reshape(self.shape(node)))

    def staa_neuron(self, node: n.Neuron, value: Value) -> Value:
        """A STAA neuron with gates."""
        if node.name not in self.staa:
            self.refuse(node, f"{node.kind} has no form in integers: use LIF, PLIF, IF or the STAA neuron")
        p, stream = self.staa[node.name], self.as_stream(node, value)
        if not self.is_whole(stream):
            self.refuse(node, "its input must lie as the layer before it made it")
        self.plan.staa[node.name] = StaaNeuron(stream.terms, stream.bias, stream.shape, p)
        self.add_source(node.name, "staa", stream.shape)
        return View(node.name, whole(self.t, stream.shape).reshape(self.shape(node)))

    # ------------------------------------------------------------------------------------------ arithmetic

    def add(self, node: n.Add, left: Value, right: Value) -> Value:
        if isinstance(left, View) and isinstance(right, View):
            return self.spike_sum(node, left, right)
        if not isinstance(left, Stream) and not isinstance(right, Stream):
            self.refuse(node, "add currents, spikes to currents, or spikes to spikes")
        a, b = self.as_stream(node, left), self.as_stream(node, right)
        if a.shape != b.shape or not np.array_equal(a.index, b.index) or set(a.terms) & set(b.terms):
            self.refuse(node, "a shortcut must add two different currents of one shape")
        return Stream(a.terms + b.terms, a.bias + b.bias, a.shape, a.index)

    def spike_sum(self, node: n.Node, left: View, right: View) -> View:
        """Spikes plus spikes: relayed as graded spikes."""
        shape = self.base_shape(left)
        if self.base_shape(right) != shape or not np.array_equal(left.index, right.index):
            self.refuse(node, "spikes that are added must lie alike")
        if any(self.plan.sources[view.base].unit != 1 for view in (left, right)):
            self.refuse(node, "a mean of spikes over windows that are cut off can be added to currents only")
        here = np.arange(int(np.prod(shape)))
        names = tuple(
            self.gather(f"{node.name}.{side}", view.base, shape, here, here)
            for side, view in (("left", left), ("right", right))
        )
        largest = sum(self.plan.sources[view.base].largest for view in (left, right))
        self.add_source(node.name, "sum", shape, largest, names)
        return View(node.name, left.index)


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
    n.Filter: Reader.filter,
    n.Neuron: Reader.staa_neuron,
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
    n.Sub: "add instead: let the layer in front learn the sign",
    n.Div: "fold the divisor into the weights or the threshold",
    n.Threshold: "use a spiking neuron of SpikingJelly",
    n.Concat: "give each branch its own layer and add the currents",
    n.Stack: "show the input at every step and let the neurons keep the time",
    n.Pad: "let the convolution behind it pad with zeros",
}
