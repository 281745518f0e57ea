"""Rewrites that save passes over memory and leave every value as it is, bit for bit.

For the equations of neurons: x - θ ≥ 0 is x ≥ θ, x · (x ≥ θ) is one operation, a power of two goes into the
weights behind it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from math import frexp

import numpy as np

from snn_energy.graph import nodes as n
from snn_energy.graph.graph import Graph
from snn_energy.graph.nodes import Node
from snn_energy.graph.simplify import rebuild


def tighten(graph: Graph) -> Graph:
    """`graph` with fewer operations, its outputs under the same names and equal in every bit.

    One exception: a zero may change its sign.
    """
    made: dict[str, Node] = {}
    for node in graph:
        for rule in RULES:
            node = rule(node, made)
        made[node.name] = node
    return rebuild(graph, made.values())


Rule = Callable[[Node, dict[str, Node]], Node]


def _shifted_threshold(node: Node, made: dict[str, Node]) -> Node:
    """Θ(x + c) -> x ≥ -c: a rounded sum has the sign of the true one."""
    if isinstance(node, n.Heaviside) and node.threshold == 0:
        scale = made[node.inputs[0]]
        if isinstance(scale, n.Scale) and scale.factor == 1:
            return dataclasses.replace(node, inputs=scale.inputs, threshold=-scale.offset)
    return node


def _gated_by_itself(node: Node, made: dict[str, Node]) -> Node:
    """x · (x ≥ θ) -> x above the threshold, else 0."""
    if isinstance(node, n.Mul):
        for x, gate in (node.inputs, node.inputs[::-1]):
            fire = made[gate]
            alone = isinstance(fire, n.Heaviside) and fire.inputs == (x,)
            if alone and not fire.strict and fire.threshold > 0:  # type: ignore[attr-defined]
                level: float = fire.threshold  # type: ignore[attr-defined]
                kept = n.Threshold(name=node.name, module=node.module, shape=node.shape, threshold=level)
                return dataclasses.replace(kept, inputs=(x,))
    return node


def _scale_into_weights(node: Node, made: dict[str, Node]) -> Node:
    """W (2ᵏ x) -> (2ᵏ W) x: a power of two rounds nothing."""
    if isinstance(node, n.Conv | n.Linear):
        scale = made[node.inputs[0]]
        if isinstance(scale, n.Scale) and scale.offset == 0 and abs(frexp(scale.factor)[0]) == 0.5:
            weight = node.weight * np.float32(scale.factor)
            return dataclasses.replace(node, inputs=scale.inputs, weight=weight)
    return node


RULES: tuple[Rule, ...] = (_shifted_threshold, _gated_by_itself, _scale_into_weights)
