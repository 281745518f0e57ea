"""May a network be run a few time steps at a time, its neurons keeping their membranes in between?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from math import lcm
from typing import Any

from snn_energy.errors import UnsupportedOp
from snn_energy.graph import nodes as n
from snn_energy.graph.dims import monomial
from snn_energy.graph.graph import Graph
from snn_energy.graph.nodes import Node

VIEWS = (n.Input, n.Reshape, n.Permute, n.Expand)
AFFINE = (n.Linear, n.Reshape, n.Permute, n.Scale, n.Add, n.Sub, n.Conv, n.Norm, n.AvgPool, n.AdaptiveAvgPool)


def steps_per_call(graph: Graph) -> int:
    """The fewest time steps that a streaming run can take at once: 1, or the chunk of an attention over
    steps.

    A run over T steps is then T / steps calls, and its outputs are the mean of theirs.  Raises
    `UnsupportedOp`, naming the node, where the network looks at all its steps together: an attention whose
    chunk is T, a convolution over time, an embedding per step, an output that is not a mean over steps.
    """
    averaged: set[str] = set()
    chunk = 1
    for node in graph:
        for dim in node.shape:
            if monomial(dim).t:
                chunk = lcm(chunk, monomial(dim).coefficient.denominator)
        if isinstance(node, n.Constant) and _timed(node):
            raise _spans(node, "holds a value for each step")
        if isinstance(node, n.Neuron) and node.step is None:
            raise _spans(node, f"is a {node.kind}, whose steps are written out")
        if not isinstance(node, VIEWS):
            _check_mixing(graph, node)
        if averaged.intersection(node.inputs):
            linear = isinstance(node, AFFINE) or (isinstance(node, n.Reduce) and node.kind != "max")
            if not linear:
                raise _spans(node, "works on an average over all steps")
            averaged.add(node.name)
        elif isinstance(node, n.Reduce) and set(node.axes) & _timed(graph[node.inputs[0]]):
            if node.kind != "mean" or any(
                graph[node.inputs[0]].shape[a] != "T" for a in node.axes if a in _timed(graph[node.inputs[0]])
            ):
                raise _spans(node, f"takes the {node.kind} over steps")
            averaged.add(node.name)
    if chunk > 1 and (single := graph.of_type(n.Neuron)):
        raise _spans(single[0], f"takes steps singly, and an attention {chunk} at once")
    for name in graph.outputs:
        if name not in averaged and not _timed(graph[name]) and graph.neurons:
            raise _spans(graph[name], "is an output without a mean over steps")
    return chunk


def _timed(node: Node) -> set[int]:
    """The axes along which time runs."""
    return {i for i, dim in enumerate(node.shape) if monomial(dim).t}


def _check_mixing(graph: Graph, node: Node) -> None:
    """Refuse a node that combines values of different steps."""
    for position, name in enumerate(node.inputs):
        source = graph[name]
        rank = len(source.shape)
        if _timed(source) & _mixed_axes(node, position, rank):
            raise _spans(node, "combines several steps")


def _mixed_axes(node: Node, position: int, rank: int) -> set[int]:
    """The axes of an operand of `rank` axes along which a node combines elements."""
    return MIXES[type(node)](node, position, rank)


def _images(node: Any, position: int, rank: int) -> set[int]:
    """Channels and space of a convolution."""
    return set(range(rank - node.weight.ndim + 1, rank))


def _nothing(node: Any, position: int, rank: int) -> set[int]:
    return set()


def _along(node: Any, position: int, rank: int) -> set[int]:
    return {node.axis}


MIXES: dict[type[Node], Callable[[Any, int, int], set[int]]] = {
    n.Conv: _images,
    n.ConvTranspose: _images,
    n.MaxPool: lambda node, position, rank: set(range(rank - len(node.kernel), rank)),
    n.AvgPool: lambda node, position, rank: set(range(rank - len(node.kernel), rank)),
    n.AdaptiveAvgPool: lambda node, position, rank: set(range(rank - len(node.size), rank)),
    n.LayerNorm: lambda node, position, rank: set(range(rank - node.weight.ndim, rank)),
    n.Linear: lambda node, position, rank: {rank - 1},
    n.Activation: lambda node, position, rank: {rank - 1} if node.kind == "softmax" else set(),
    n.MatMul: lambda node, position, rank: {rank - 1 if position == 0 else rank - 2},
    n.Pad: lambda node, position, rank: {
        i for i, (b, a) in enumerate(zip(node.before, node.after, strict=True)) if b or a
    },
    n.Repeat: lambda node, position, rank: {i for i, count in enumerate(node.repeats) if count != 1},
    n.Filter: lambda node, position, rank: {0},
    **dict.fromkeys((n.Norm, n.Slice, n.Select, n.Concat), _along),
    **dict.fromkeys(
        (
            *VIEWS,
            n.Constant,
            n.Lif,
            n.If,
            n.Neuron,
            n.Heaviside,
            n.Threshold,
            n.Add,
            n.Sub,
            n.Mul,
            n.Div,
            n.Scale,
            n.Reduce,
            n.Stack,
        ),
        _nothing,  # a neuron keeps its membrane, a reduction over steps is looked at by itself
    ),
}


def _spans(node: Node, why: str) -> UnsupportedOp:
    return UnsupportedOp(
        node.name,
        f"{node.op} step by step: it {why}",
        supported="networks whose steps meet only in neurons, in attention chunks and in a final mean",
        way_out="export the multi-step form",
    )


def with_steps(graph: Graph, steps: int) -> Graph:
    """The same network run for another number of steps; shapes follow by themselves."""
    return dataclasses.replace(graph, time_steps=steps)
