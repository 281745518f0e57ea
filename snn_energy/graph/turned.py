"""Time in front: what a network computes on (B, T, …), computed on (T, B, …).

Neurons step through (T, B, …).  A network that keeps samples in front turns its tensors before and after
every neuron; the layers between do the same to each step of each sample, whichever axis is first.
"""

from __future__ import annotations

import dataclasses

from snn_energy.graph import nodes as n
from snn_energy.graph.dims import Shape
from snn_energy.graph.graph import Graph
from snn_energy.graph.nodes import Node
from snn_energy.graph.simplify import rebuild

# what works on the trailing axes alone, or element by element
FREE = (
    n.Conv, n.ConvTranspose, n.Linear, n.Norm, n.LayerNorm, n.MaxPool, n.AvgPool, n.AdaptiveAvgPool, n.Add,
    n.Sub, n.Mul, n.Div, n.Scale, n.Activation, n.Heaviside, n.Threshold, n.Reshape, n.MatMul,
)  # fmt: skip


def time_in_front(graph: Graph) -> Graph:
    """The same network; outputs are in the model's own layout, as before."""
    return _Turner(graph).run()


def _swaps(node: Node) -> bool:
    """Does it exchange the first two axes, and nothing else?"""
    return isinstance(node, n.Permute) and node.order == (1, 0, *range(2, len(node.order)))


def _drops_both(node: n.Reduce) -> bool:
    """Does a reduction leave at most one of the first two axes, so that their order is gone?"""
    return not node.keepdims and min(node.axes) < 2


class _Turner:
    """`turned`: of a tensor (B, T, …), the name of its twin (T, B, …)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = {}
        self.turned: dict[str, str] = {}

    def run(self) -> Graph:
        for node in self.graph:
            if node.shape[:2] == ("B", "T") and self.is_free(node):
                inputs = tuple(self.first(name) for name in node.inputs)
                name = f"{node.name}.turned" if node.name in self.graph.outputs else node.name
                self.add(dataclasses.replace(node, name=name, inputs=inputs, shape=_swapped(node)))
                self.turned[node.name] = name
            elif isinstance(node, n.Permute) and _swaps(node) and node.inputs[0] in self.turned:
                self.turned_back(node)
            elif isinstance(node, n.Permute) and _swaps(node) and node.shape[:2] == ("B", "T"):
                self.turned[node.name] = node.inputs[0]
                self.add(node)
            elif isinstance(node, n.Reduce) and node.inputs[0] in self.turned and _drops_both(node):
                axes = tuple(sorted({0: 1, 1: 0}.get(axis, axis) for axis in node.axes))
                self.add(dataclasses.replace(node, inputs=(self.turned[node.inputs[0]],), axes=axes))
            else:
                self.add(dataclasses.replace(node, inputs=tuple(self.as_was(i) for i in node.inputs)))
        for name in self.graph.outputs:
            self.as_was(name)
        return rebuild(self.graph, self.nodes.values())

    def add(self, node: Node) -> None:
        self.nodes[node.name] = node

    def is_free(self, node: Node) -> bool:
        """May it work on the turned tensors?  What it adds to them must have no axis of time or samples."""
        inside = isinstance(node, n.Reduce) and min(node.axes) > 1
        if not (isinstance(node, FREE) or inside) or not node.inputs:
            return False
        shapes = [self.graph[name].shape for name in node.inputs]
        timed = [shape[:2] == ("B", "T") for shape in shapes]
        broadcasts = isinstance(node, n.Add | n.Sub | n.Mul | n.Div)
        plain = [broadcasts and len(shape) <= len(node.shape) - 2 for shape in shapes]
        known = any(name in self.turned for name in node.inputs)
        started = any(isinstance(self.graph[name], n.Input) for name in node.inputs)
        return (known or started) and any(timed) and all(a or b for a, b in zip(timed, plain, strict=True))

    def first(self, name: str) -> str:
        """The tensor with time in front; one without samples as it is."""
        if self.graph[name].shape[:2] != ("B", "T"):
            return name
        if name not in self.turned:
            source = self.graph[name]
            self.turned[name] = f"{name}.steps_first"
            self.add(_swap(source, f"{name}.steps_first", _swapped(source)))
        return self.turned[name]

    def turned_back(self, node: n.Permute) -> None:
        """A tensor that the network itself turns: its twin is there already."""
        source = self.nodes[self.turned[node.inputs[0]]]
        self.add(n.Reshape(name=node.name, module=node.module, inputs=(source.name,), shape=node.shape))

    def as_was(self, name: str) -> str:
        """The tensor as the network made it."""
        if name not in self.nodes:
            source = self.nodes[self.turned[name]]
            self.add(_swap(source, name, self.graph[name].shape))
        elif name in self.turned and self.turned[name] == name:
            back = f"{name}.samples_first"
            if back not in self.nodes:
                self.add(_swap(self.nodes[name], back, self.graph[name].shape))
            return back
        return name


def _swapped(node: Node) -> Shape:
    return (node.shape[1], node.shape[0], *node.shape[2:])


def _swap(source: Node, name: str, shape: Shape) -> n.Permute:
    order = (1, 0, *range(2, len(shape)))
    return n.Permute(name=name, module=source.module, inputs=(source.name,), shape=shape, order=order)
