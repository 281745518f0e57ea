"""Rewrites of a `Graph` that leave what it computes as it is (norm folding: up to rounding)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from snn_energy.graph import nodes as n
from snn_energy.graph.dims import Dim
from snn_energy.graph.graph import Graph
from snn_energy.graph.nodes import Node


def rebuild(graph: Graph, nodes: Iterable[Node], outputs: tuple[str, ...] | None = None) -> Graph:
    """`graph` with other nodes, those that reach no output left out; inputs stay."""
    nodes = tuple(nodes)
    outputs = graph.outputs if outputs is None else outputs
    alive = set(outputs)
    for node in reversed(nodes):
        if node.name in alive:
            alive.update(node.inputs)
    kept = tuple(node for node in nodes if node.name in alive or isinstance(node, n.Input))
    return Graph(kept, outputs, graph.time_steps, graph.meta)


def prune(graph: Graph) -> Graph:
    """Without dead nodes, factors of 1, reshapes of reshapes, and those that an `Expand` makes needless."""
    made: dict[str, Node] = {}
    alias: dict[str, str] = {}
    for node in graph:
        node = dataclasses.replace(node, inputs=tuple(alias.get(i, i) for i in node.inputs))
        source = made[node.inputs[0]] if node.inputs else None
        if isinstance(node, n.Reshape | n.Expand) and isinstance(source, n.Reshape):
            before = made[source.inputs[0]]
            if isinstance(node, n.Reshape) or _strip(source.shape) == _strip(before.shape):
                node = dataclasses.replace(node, inputs=source.inputs)
                source = before
        same = source is not None and node.shape == source.shape
        idle = isinstance(node, n.Reshape | n.Expand) or (
            isinstance(node, n.Scale) and (node.factor, node.offset) == (1.0, 0.0)
        )
        if source is not None and same and idle:
            alias[node.name] = source.name
            continue
        made[node.name] = node
    return _renumber(rebuild(graph, made.values(), tuple(alias.get(o, o) for o in graph.outputs)))


def _renumber(graph: Graph) -> Graph:
    """Close the gaps that left-out nodes leave in `reshape#6`, `reshape#9`."""
    count: dict[str, int] = {}
    new: dict[str, str] = {}
    for node in graph:
        base = node.name.split("#")[0]
        index = count[base] = count.get(base, -1) + 1
        new[node.name] = f"{base}#{index}" if index else base
    nodes = [
        dataclasses.replace(node, name=new[node.name], inputs=tuple(new[i] for i in node.inputs))
        for node in graph
    ]
    return rebuild(graph, nodes, tuple(new[o] for o in graph.outputs))


def _strip(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def fold_norms(graph: Graph) -> Graph:
    """Every `Norm` that alone reads a Conv, ConvTranspose or Linear goes into its weights.

    W' = W · γ/σ and b' = (b - μ) · γ/σ + β per output channel, σ = sqrt(var + eps), in float64 and rounded
    once.  The synapse keeps its name; the Norm disappears.  A Norm that follows anything else stays.
    """
    folded: dict[str, Node] = {}
    alias: dict[str, str] = {}
    for node in graph:
        node = dataclasses.replace(node, inputs=tuple(alias.get(i, i) for i in node.inputs))
        if isinstance(node, n.Norm):
            source = folded[node.inputs[0]]
            alone = len(graph.consumers(source.name)) == 1 and source.name not in graph.outputs
            if (
                alone
                and isinstance(source, n.Conv | n.ConvTranspose | n.Linear)
                and _on_outputs(node, source)
            ):
                folded[source.name] = _scaled(source, node)
                alias[node.name] = source.name
                continue
        folded[node.name] = node
    return rebuild(graph, folded.values(), tuple(alias.get(o, o) for o in graph.outputs))


def _on_outputs(norm: n.Norm, source: n.Conv | n.ConvTranspose | n.Linear) -> bool:
    """Does the norm run along the synapse's output channels?"""
    channel = len(source.shape) - (1 if isinstance(source, n.Linear) else source.weight.ndim - 1)
    return norm.axis == channel


def norm_affine(norm: n.Norm) -> tuple[np.ndarray, np.ndarray]:
    """A norm as x · scale + shift, float64."""
    weight, bias, mean, var = (
        np.asarray(a, np.float64) for a in (norm.weight, norm.bias, norm.mean, norm.var)
    )
    scale = weight / np.sqrt(var + norm.eps)
    return scale, bias - mean * scale


def _scaled(source: n.Conv | n.ConvTranspose | n.Linear, norm: n.Norm) -> Node:
    scale, shift = norm_affine(norm)
    weight = np.asarray(source.weight, np.float64)
    if isinstance(source, n.ConvTranspose):  # (C, O/groups, *kernel), groups along C
        groups = source.groups
        grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        factor = scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        weight = (grouped * factor).reshape(weight.shape)
    else:
        weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    bias = shift if source.bias is None else np.asarray(source.bias, np.float64) * scale + shift
    kind = source.weight.dtype
    return dataclasses.replace(source, weight=weight.astype(kind), bias=bias.astype(kind))


# The same at every step, one operand: a static image may pass them before it is repeated.
PER_STEP = (
    n.Conv,
    n.ConvTranspose,
    n.Linear,
    n.Norm,
    n.MaxPool,
    n.AvgPool,
    n.AdaptiveAvgPool,
    n.Scale,
    n.Activation,
)


def hoist_static(graph: Graph) -> Graph:
    """Show a static image to the network after, not before, its first synapse: computed once, not T times.

    `Conv(Expand(x))` becomes `Expand(Conv(x))`, up to the first neuron; values are unchanged.
    """
    nodes = {node.name: node for node in graph}
    order: list[Node] = []
    static: dict[str, str] = {}  # expanded tensor -> its one step
    for node in graph:
        source = node.inputs[0] if node.inputs else ""
        if isinstance(node, n.Expand) and node.shape[:1] == ("T",) and nodes[source].shape == node.shape[1:]:
            static[node.name] = source
        elif isinstance(node, PER_STEP) and source in static:
            step = dataclasses.replace(node, inputs=(static[source],), shape=node.shape[1:])
            if isinstance(node, n.Norm):
                step = dataclasses.replace(step, axis=node.axis - 1)  # type: ignore[arg-type]
            step = dataclasses.replace(step, name=node.name)
            shown = n.Expand(
                name=f"{node.name}.every_step", inputs=(node.name,), shape=node.shape, module=node.module
            )
            order += [step, shown]
            nodes[shown.name] = shown
            static[shown.name] = node.name
            static[node.name] = node.name
            continue
        order.append(dataclasses.replace(node, inputs=tuple(_shown(i, static, nodes) for i in node.inputs)))
    return rebuild(graph, order, tuple(_shown(o, static, nodes) for o in graph.outputs))


def _shown(name: str, static: dict[str, str], nodes: dict[str, Node]) -> str:
    shown = f"{name}.every_step"
    return shown if shown in nodes and static.get(name) == name else name
