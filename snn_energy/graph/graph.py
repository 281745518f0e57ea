"""The `Graph`: a spiking network as data, without torch.

Layout.  Time is always its own axis and comes first, the batch second: (T, B, C, H, W), (T, B, C), and
(T/2, B, heads, tokens, dim) where an attention looks at chunks of two steps.  A tensor without the symbol
T has no time axis (a static image, logits averaged over time).  So a `Conv` of shape (T, B, O, H, W) is one
synapse that fires at each of T steps.  A neuron reads (T, B, ...) and starts from rest.

    >>> print(graph)
    Graph: 9 nodes, T = 4, 812 parameters
      x = Input() -> (B, 2, 8, 6)
      time = Expand(x) -> (T, B, 2, 8, 6)
      conv = Conv(time; weight=float32[5, 2, 3, 3], ...) -> (T, B, 5, 8, 6)
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from snn_energy.arrays import read_npz
from snn_energy.errors import DataError, SnnEnergyError
from snn_energy.files import atomic_write, write_text
from snn_energy.graph.nodes import NEURONS, Heaviside, Input, Node, node_types
from snn_energy.reading import one_line, read_json
from snn_energy.records import short

SCHEMA = 1
N = TypeVar("N", bound=Node)


@dataclass(frozen=True, eq=False)
class Graph:
    """Typed nodes in an order in which each stands after all that it reads.

    `outputs`: names of the nodes whose tensors the network returns.  `time_steps`: T.  `meta`: plain data
    about the origin (model name, configuration, class names).  Raises ValueError where a name is taken
    twice or is read before it is made.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    time_steps: int
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            if node.name in seen:
                raise ValueError(f"two nodes are named {node.name!r}")
            for name in node.inputs:
                if name not in seen:
                    raise ValueError(f"{node.name} reads {name!r}, which no earlier node makes")
            seen.add(node.name)
        for name in self.outputs:
            if name not in seen:
                raise ValueError(f"output {name!r} is no node")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        same = (self.outputs, self.time_steps, self.meta) == (other.outputs, other.time_steps, other.meta)
        return same and self.nodes == other.nodes

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __str__(self) -> str:
        head = f"Graph: {len(self)} nodes, T = {self.time_steps}, {self.parameters():,} parameters"
        tail = f"  return {', '.join(self.outputs)}"
        return "\n".join([head, *(f"  {node}" for node in self.nodes), tail])

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _consumers(self) -> dict[str, list[Node]]:
        table: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                table[name].append(node)
        return table

    def consumers(self, name: str) -> list[Node]:
        """The nodes that read `name`, in order; a node that reads it twice stands once."""
        return self._consumers[name]

    def producers(self, node: Node) -> list[Node]:
        """The nodes that `node` reads, one per input."""
        return [self._by_name[name] for name in node.inputs]

    def of_type(self, *kinds: type[N]) -> list[N]:
        """Every node of the given kinds, in order: `graph.of_type(Lif)`."""
        return [node for node in self.nodes if isinstance(node, kinds)]

    @property
    def inputs(self) -> list[Input]:
        """The input nodes, in the order of the model's arguments."""
        return self.of_type(Input)

    @property
    def batch_axis(self) -> int:
        """The axis of the samples in the first input: 0 in (B, C, H, W) and (B, T, …), 1 in (T, B, …)."""
        return next((i for i, dim in enumerate(self.inputs[0].shape) if "B" in str(dim)), 0)

    @property
    def takes_frames(self) -> bool:
        """Does the first input have a time axis of its own?"""
        return any("T" in str(dim) for dim in self.inputs[0].shape)

    @property
    def neurons(self) -> list[Node]:
        """Every spiking neuron node, in order."""
        return [node for node in self.nodes if isinstance(node, NEURONS)]

    @property
    def spiking(self) -> list[Node]:
        """Every node that makes spikes: neurons, and step functions of (B, …) or (T, B, …) beside them."""
        return [
            node
            for node in self.nodes
            if isinstance(node, NEURONS)
            or (isinstance(node, Heaviside) and (node.shape[:1] == ("B",) or node.shape[:2] == ("T", "B")))
        ]

    def parameters(self) -> int:
        """Numbers held in weights and constants; what several nodes share counts once."""
        return sum(array.size for array in {id(array): array for _, array in self.weights()}.values())

    def weights(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every array with its name, `block.0.attn.q_conv:weight`, in order."""
        for node in self.nodes:
            for key, value in node.attributes().items():
                if isinstance(value, np.ndarray):
                    yield f"{node.name}:{key}", value
                elif isinstance(value, Graph):
                    yield from ((f"{node.name}/{name}", array) for name, array in value.weights())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `path` (JSON) and, beside it, the weights: `graph.json` and `graph.npz`."""
        path = Path(path)
        first = _first_names(self)
        record = {"schema": SCHEMA, **_graph_to_json(self, first)}
        with atomic_write(path.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
            held = {name: array for name, array in self.weights() if first[id(array)] == name}
            np.savez(file, **held)  # type: ignore[arg-type]
        write_text(path, json.dumps(record, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Graph:
        """Read what `save` wrote.  Raises `DataError` for a file that is missing or is not a Graph."""
        path = Path(path)
        try:
            record = read_json(path, "saved Graph", finite=False)  # a bound of `clamp` may be infinite
            if record.get("schema") != SCHEMA:
                raise DataError(
                    f"{path}: graph schema {short(record.get('schema'))}; this version reads {SCHEMA}"
                )
            arrays = read_npz(path.with_suffix(".npz"), "saved Graph")[1]
            return _graph_from_json(record, arrays)
        except SnnEnergyError as error:
            raise error if isinstance(error, DataError) else DataError(f"{path}: {error}") from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{path}: not a saved Graph ({one_line(error)})") from error


def _first_names(graph: Graph) -> dict[int, str]:
    """The first name of each distinct array, by id: an array that several nodes share is stored once."""
    names: dict[int, str] = {}
    for name, array in graph.weights():
        names.setdefault(id(array), name)
    return names


def _graph_to_json(graph: Graph, names: dict[int, str]) -> dict[str, Any]:
    fields = {"time_steps": graph.time_steps, "outputs": graph.outputs, "meta": graph.meta}
    return {**fields, "nodes": [_to_json(node, names) for node in graph]}


def _graph_from_json(record: dict[str, Any], arrays: dict[str, Any]) -> Graph:
    nodes = tuple(_from_json(entry, arrays) for entry in record["nodes"])
    return Graph(nodes, tuple(record["outputs"]), record["time_steps"], record["meta"])


def _to_json(node: Node, names: dict[int, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"op": node.op}
    for f in dataclasses.fields(node):
        value = getattr(node, f.name)
        if isinstance(value, np.ndarray):
            value = {"array": names[id(value)]}
        elif isinstance(value, Graph):
            value = {"graph": _graph_to_json(value, names)}
        entry[f.name] = value
    return entry


def _from_json(entry: dict[str, Any], arrays: dict[str, Any]) -> Node:
    entry = dict(entry)
    kinds, op = node_types(), entry.pop("op")
    if op not in kinds:
        raise ValueError(f"unknown operation {op!r}")
    for key, value in entry.items():
        if isinstance(value, dict):
            nested = "graph" in value
            entry[key] = _graph_from_json(value["graph"], arrays) if nested else arrays[value["array"]]
        elif isinstance(value, list):
            entry[key] = tuple(value)
    return kinds[op](**entry)
