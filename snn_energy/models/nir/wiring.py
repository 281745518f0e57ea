"""From a graph with graphs in it to one list of nodes in the order of a step, and the edges that wait a step.

NIR allows cycles, and leaves open how they are cut into steps.  Here, as in the other readers, a value goes
along an edge within its step, except along one edge of each cycle: what a neuron sends there arrives in the
next step, and nothing arrives in the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from snn_energy.errors import CheckpointError

SEPARATOR = "."


@dataclass(frozen=True)
class Edge:
    """`late`: what `source` puts out in a step arrives at `target` in the next one."""

    source: str
    target: str
    late: bool = False


@dataclass(frozen=True)
class Wiring:
    """`nodes` by full name (`graph.node`), in the order in which a step visits them; `edges`, in any order.

    `shortened`: delays that wait one step less, because the edges into them are late.
    """

    nodes: dict[str, dict[str, Any]]
    edges: tuple[Edge, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shortened: frozenset[str] = frozenset()


def wire(graph: Mapping[str, Any], where: str, waits: Callable[[dict[str, Any]], str | None]) -> Wiring:
    """Flatten and order `graph`, as `file.as_graph` gives it.

    `waits(node)` says what a node can do for a cycle: "out" if what it sends may wait a step (a neuron), "in"
    if what it gets may (a delay), None if neither.  Raises `CheckpointError` for an edge to nowhere, a node
    that nothing reaches, and a cycle in which nothing can wait.
    """
    nodes, pairs = _flat(graph, where, "")
    top = {name for name, node in graph["nodes"].items() if node["type"] in ("Input", "Output")}
    inputs = tuple(n for n in nodes if n in top and nodes[n]["type"] == "Input")
    outputs = tuple(n for n in nodes if n in top and nodes[n]["type"] == "Output")
    reached = {target for _, target in pairs}
    for name, node in nodes.items():
        if name not in reached and name not in inputs:
            raise CheckpointError(f"{where}: nothing leads to node {name!r} ({node['type']})")
    waiting = {name: waits(node) for name, node in nodes.items()}
    late, shortened = _cut(list(nodes), pairs, waiting, inputs, where)
    order = _ordered(list(nodes), [pair for pair in pairs if pair not in late])
    edges = tuple(Edge(a, b, (a, b) in late) for a, b in pairs)
    return Wiring({n: nodes[n] for n in order}, edges, inputs, outputs, frozenset(shortened))


def _flat(graph: Mapping[str, Any], where: str, prefix: str) -> tuple[dict[str, dict], list[tuple[str, str]]]:
    """Nodes and edges with full names; an edge to or from a graph is one to its input, or from its output."""
    nodes: dict[str, dict] = {}
    pairs: list[tuple[str, str]] = []
    for name, node in graph["nodes"].items():
        full = prefix + name
        if node["type"] == "NIRGraph":
            inner, inner_pairs = _flat(node, f"{where}: {full}", full + SEPARATOR)
            pairs += inner_pairs
        else:
            inner = {full: node}
        if nodes.keys() & inner.keys():
            raise CheckpointError(f"{where}: two nodes are called {min(nodes.keys() & inner.keys())!r}")
        nodes |= inner
    for source, target in graph["edges"]:
        ends = (
            _end(graph, source, "Output", nodes, where, prefix),
            _end(graph, target, "Input", nodes, where, prefix),
        )
        pairs.append(ends)
    return nodes, pairs


def _end(
    graph: Mapping[str, Any], name: str, side: str, nodes: Mapping[str, dict], where: str, prefix: str
) -> str:
    """The node at an end of an edge; `side`: which node of a graph stands for it there."""
    node = graph["nodes"].get(name)
    if node is None:
        if prefix + name in nodes:  # graph.node, written out
            return prefix + name
        raise CheckpointError(
            f"{where}: an edge names {name!r}, which is no node; nodes: {', '.join(graph['nodes'])}"
        )
    if node["type"] != "NIRGraph":
        return prefix + name
    doors = [inner for inner, n in node["nodes"].items() if n["type"] == side]
    if len(doors) != 1:
        raise CheckpointError(
            f"{where}: an edge to or from graph {name!r}, which has {len(doors)} {side} nodes: "
            f"name one of them ({name}.NODE)"
        )
    return f"{prefix}{name}{SEPARATOR}{doors[0]}"


def _cut(
    nodes: list[str],
    pairs: list[tuple[str, str]],
    waiting: Mapping[str, str | None],
    inputs: tuple[str, ...],
    where: str,
) -> tuple[set[tuple[str, str]], set[str]]:
    """Edges that wait a step, so that no cycle is left, and the delays that wait one step less for it.

    Walking from the inputs, the edge that comes back to a node of its own path closes a cycle.  A delay in it
    waits, if there is one, else the last neuron before that edge.
    """
    late: set[tuple[str, str]] = set()
    shortened: set[str] = set()
    while (cycle := _cycle(nodes, [pair for pair in pairs if pair not in late], inputs)) is not None:
        backwards = list(zip(cycle, (*cycle[1:], cycle[0]), strict=True))[::-1]
        delays = [name for name, _ in backwards if waiting[name] == "in"]
        leaving = [pair for pair in backwards if waiting[pair[0]] == "out"]
        if delays:
            late |= {pair for pair in pairs if pair[1] == delays[0]}
            shortened.add(delays[0])
        elif leaving:
            late.add(leaving[0])
        else:
            circle = " → ".join((*cycle, cycle[0]))
            raise CheckpointError(f"{where}: the cycle {circle} has no neuron and no delay, nothing waits")
    return late, shortened


def _cycle(nodes: list[str], pairs: list[tuple[str, str]], inputs: tuple[str, ...]) -> list[str] | None:
    """The first cycle that a walk in depth meets, from where it enters it; None if there is none."""
    after: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in pairs:
        after[source].append(target)
    done: set[str] = set()
    for start in (*inputs, *nodes):
        if start in done:
            continue
        path, ahead = [start], [iter(after[start])]
        while path:
            follower = next(ahead[-1], None)
            if follower is None:
                done.add(path.pop())
                ahead.pop()
            elif follower in path:
                return path[path.index(follower) :]
            elif follower not in done:
                path.append(follower)
                ahead.append(iter(after[follower]))
    return None


def _ordered(nodes: list[str], pairs: list[tuple[str, str]]) -> list[str]:
    """`nodes` so that each comes after all that lead to it, else in the order of a walk from the first."""
    from graphlib import TopologicalSorter

    before: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in pairs:
        before[target].append(source)
    return list(TopologicalSorter(before).static_order())
