"""What the handlers of `read` share: shapes, layouts, new sources and terms, refusals."""

from __future__ import annotations

import numpy as np

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.lowering.plan import (
    Averaged,
    Plan,
    Source,
    Stream,
    Synapse,
    Value,
    View,
    one_step,
    whole,
)
from snn_energy.exporters.netlist.record import Array, Shape
from snn_energy.graph import nodes as n
from snn_energy.graph.dims import values
from snn_energy.graph.graph import Graph

SUPPORTED = (
    "convolutions and linear layers on spikes, batch norm behind them, LIF, PLIF and IF with hard reset, "
    "max and average pools, membrane shortcuts, AND and sums of spikes, Q(KᵀV) on spikes"
)


class ReaderBase:
    """What every handler needs; `held` maps each node to what flows out of it."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.t = graph, graph.time_steps
        self.plan = Plan(graph.time_steps)
        self.held: dict[str, Value] = {}

    def refuse(self, node: n.Node, way_out: str) -> None:
        raise UnsupportedOp(node.name, node.op, supported=SUPPORTED, way_out=way_out)

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
        self,
        name: str,
        kind: str,
        shape: Shape,
        largest: int = 1,
        made_of: tuple[str, ...] = (),
        unit: float = 1.0,
    ) -> View:
        self.plan.sources[name] = Source(kind, shape, largest, made_of, unit)
        return View(name, whole(self.t, shape))

    def gather(
        self, name: str, source: str, shape: Shape, sources: Array, targets: Array, weight: float = 1.0
    ) -> str:
        """A term of synapses of one weight; returns its name."""
        self.plan.terms[name] = Synapse(
            "gather", source, shape, np.full(1, weight), sources=sources.ravel(), targets=targets.ravel()
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
        """A current: itself, or spikes (or their average pool) by synapses of one weight."""
        if isinstance(value, Stream):
            return value
        if isinstance(value, Averaged) and value.window:
            return self.averaged_stream(node, value, value.window)
        if isinstance(value, View):
            shape = self.base_shape(value)
            name = f"{node.name}.from.{value.base}"
            here = np.arange(int(np.prod(shape)))
            self.gather(name, value.base, shape, here, here)
            self.plan.biases[name] = np.zeros(shape[0])
            return Stream((name,), np.zeros(shape[0]), shape, value.index)
        self.refuse(node, "put a spiking neuron in front of it")
        raise AssertionError

    def averaged_stream(self, node: n.Node, value: Averaged, window: tuple[int, int]) -> Stream:
        """An average pool of spikes as a current: one synapse of weight 1/(window size) for each spike."""
        channels, height, width = self.base_shape(value)
        shape = (channels, height // window[0], width // window[1])
        name = f"{node.name}.from.{value.base}"
        weight = np.full((channels, 1, *window), 1 / np.prod(window))
        self.plan.terms[name] = Synapse(
            "conv", value.base, shape, weight, window, groups=channels, exact=True
        )
        return self.stream(node, name, shape)


def pair(numbers: tuple[int, ...]) -> tuple[int, int]:
    return numbers[0], numbers[1]


def as_chw(shape: Shape) -> Shape:
    """(C,), (C, L) or (C, H, W) as a map (C, H, W)."""
    return (shape[0], *[1] * (3 - len(shape)), *shape[1:])
