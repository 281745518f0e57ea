"""A NIR graph as a module: (T, B, …) in, (T, B, …) out, one walk through the nodes per step."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from snn_energy.errors import CheckpointError, ConfigError, DataError
from snn_energy.models.neurons import reset
from snn_energy.models.nir.file import as_graph
from snn_energy.models.nir.layers import SUPPORTED, Delay, Shape, build, delay_steps, own_shape, same, silence
from snn_energy.models.nir.neurons import NEURONS, NirNeuron
from snn_energy.models.nir.wiring import Edge, wire

DT = 1e-4  # seconds per step: that of the NIR paper's examples, and the default of SpikingJelly and Norse
MARK = "unsupported"  # metadata of a subgraph that our own export leaves for what NIR cannot say


class NirNetwork(nn.Module):
    """The network of a NIR graph; its modules bear the names of the nodes.

    Takes x (T, B, *`input_shape`), time first, and walks through T steps itself, from rest at each call;
    returns the output node's (T, B, …), or a dict of them by name where there are several.  Each module is
    called once per step with (B, …).

    `graph`: a tree of dicts as `read_nir` gives it (or `nir.NIRGraph.to_dict()`); `dt`: seconds per step, by
    default what the graph's metadata say, else `DT`; `where`: its file, for messages.  `notes` say what was
    inferred.  It is not for training: no gradients.  Raises `CheckpointError` for a node that is not read,
    and for fields and shapes that cannot be.
    """

    time_axis, batch_axis = 0, 1  # of the input and the output

    def __init__(self, graph: Mapping[str, Any], dt: float | None = None, where: str = "NIR graph") -> None:
        super().__init__()
        graph = as_graph(dict(graph), where)
        _check_kinds(graph, where, "")
        self.dt, source = _step(graph["metadata"], dt, where)
        self.config = {"dt": self.dt, "dt_from": source}
        wiring = wire(graph, where, functools.partial(_waits, dt=self.dt))
        if len(wiring.inputs) != 1 or not wiring.outputs:
            counts = f"{len(wiring.inputs)} Input and {len(wiring.outputs)} Output nodes"
            raise CheckpointError(
                f"{where}: the graph has {counts}, must have one Input, and an Output or more"
            )
        self.order = tuple(wiring.nodes)
        self.input, self.outputs = wiring.inputs[0], wiring.outputs
        self.sources: dict[str, list[Edge]] = {name: [] for name in self.order}
        for edge in wiring.edges:
            self.sources[edge.target].append(edge)
        self.late = {edge.source for edge in wiring.edges if edge.late}
        self.paths: dict[str, str] = {}  # of a node's module
        self.takes: dict[str, Shape] = {}  # by node: the shape of what it works on
        self.gives: dict[str, Shape] = {}
        self.notes: tuple[str, ...] = ()
        _Builder(self, wiring.nodes, wiring.shortened, where).run()
        self.input_shape = self.takes[self.input]
        if source == "default" and any(isinstance(m, NirNeuron | Delay) for m in self.modules()):
            self.notes += (f"dt = {DT:g} s per step, the default; NIR leaves it to the reader: dt=, --dt",)
        self.requires_grad_(False).eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """(T, B, *input_shape) -> (T, B, …).  Raises `DataError` for an input of another shape."""
        x = x if x.is_floating_point() else x.float()
        if x.dim() < 2 or not same(tuple(x.shape[2:]), self.input_shape) or not len(x):
            wanted = ", ".join(map(str, ("T", "B", *self.input_shape)))
            raise DataError(f"input of shape {tuple(x.shape)}: this network takes ({wanted}), time first")
        reset(self)
        before: dict[str, torch.Tensor] = {}
        steps = []
        for t in range(len(x)):
            values = self._step(x[t], before)
            before = {name: values[name] for name in self.late}
            steps.append([values[name] for name in self.outputs])
        outs = [torch.stack(out) for out in zip(*steps, strict=True)]
        return outs[0] if len(outs) == 1 else dict(zip(self.outputs, outs, strict=True))

    def _step(self, x: torch.Tensor, before: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What every node puts out in a step with input x (B, …); `before`: of the step before, if needed."""
        values: dict[str, torch.Tensor] = {}
        for name in self.order:
            shape = (len(x), *self.takes[name])
            arrived = [x.reshape(shape)] if name == self.input else []
            for edge in self.sources[name]:
                value = (before if edge.late else values).get(edge.source)
                arrived.append(silence(x, shape[1:]) if value is None else value.reshape(shape))
            total = arrived[0]
            for value in arrived[1:]:
                total = total + value
            path = self.paths.get(name)
            values[name] = total if path is None else self.get_submodule(path)(total)
        return values


class _Builder:
    """Gives a network its modules, from the input onwards: each edge brings a shape."""

    def __init__(
        self, network: NirNetwork, nodes: Mapping[str, dict], shortened: frozenset[str], where: str
    ) -> None:
        self.network, self.nodes, self.shortened, self.where = network, nodes, shortened, where

    def run(self) -> None:
        net = self.network
        self.give(net.input, self.input_shape())
        waiting = [name for name in net.order if name != net.input]
        while waiting:  # more than one round only where a cycle hides what feeds a node
            ready = [n for n in waiting if any(e.source in net.gives for e in net.sources[n])]
            if not ready:
                raise CheckpointError(f"{self.where}: node {waiting[0]!r} is not reached from the input")
            for name in waiting[:]:
                known = [net.gives[e.source] for e in net.sources[name] if e.source in net.gives]
                if known:
                    self.give(name, known[0])
                    waiting.remove(name)
        for name in net.order:
            for edge in net.sources[name]:
                given = net.gives[edge.source]
                if not self.fits(name, given):
                    raise CheckpointError(
                        f"{self.where}: {edge.source!r} gives {given}, {name!r} takes {net.takes[name]}"
                    )

    def input_shape(self) -> Shape | None:
        """What the Input says, or else what the fields of a node behind it ask for."""
        net, nodes = self.network, self.nodes
        stated = _declared(nodes[net.input], self.where)
        behind = (name for name in net.order if any(e.source == net.input for e in net.sources[name]))
        return stated or next((own for own in (own_shape(nodes[name]) for name in behind) if own), None)

    def fits(self, name: str, given: Shape) -> bool:
        """May features of shape `given` go into a node?  A linear layer takes its inputs from any shape."""
        takes = self.network.takes[name]
        linear = self.nodes[name]["type"] in ("Linear", "Affine")
        return same(given, takes) or (linear and math.prod(given) == math.prod(takes))

    def give(self, name: str, shape: Shape | None) -> None:
        """Build the module of a node that gets features of `shape`; None: an Input that does not say."""
        net, node = self.network, self.nodes[name]
        if shape is None:
            raise CheckpointError(f"{self.where}: node {name!r} (Input) does not say its shape")
        if node["type"] in ("Input", "Output"):
            told = _declared(node, self.where)
            if told is not None and not same(told, shape):
                net.notes += (f"{name} says {told}, is given {shape}",)
            net.takes[name] = net.gives[name] = shape
            return
        try:
            module, takes = build(node, shape, net.dt, name in self.shortened)
            if math.prod(takes) != math.prod(shape):
                raise ConfigError(f"takes {takes}, gets {shape}")
            with torch.no_grad():
                gives = tuple(module(torch.zeros(1, *takes)).shape[1:])
        except (ConfigError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{self.where}: node {name!r} ({node['type']}): {reason}") from None
        reset(module)
        if not same(takes, shape):
            net.notes += (f"{name} takes {takes}, is given {shape}: flattened, the last axis fastest",)
        stated = node.get("input_shape")
        if stated is not None and tuple(np.asarray(stated).reshape(-1)) != takes[1:]:
            net.notes += (f"{name} says input_shape = {np.asarray(stated).tolist()}, is given {takes}",)
        decays = [value for part, value in module.named_buffers() if part.startswith("decay")]
        if any(bool((value < 0).any()) for value in decays):
            net.notes += (f"{name}: dt = {net.dt:g} s is longer than a time constant: the steps overshoot",)
        net.takes[name], net.gives[name] = takes, gives
        net.paths[name] = place(net, name, module, self.nodes)


def place(root: nn.Module, name: str, module: nn.Module, nodes: Mapping[str, Any]) -> str:
    """Put the module of node `name` into `root`, in modules of its graphs' names; the path it has there.

    A dot that is part of a node's name becomes an underscore where the part before it is a node itself, and a
    name that torch does not take gets an underscore behind it.
    """
    parts = name.split(".")
    if any(".".join(parts[:i]) in nodes for i in range(1, len(parts))):
        parts = [name.replace(".", "_")]
    inner, path = root, []
    for part in parts[:-1]:
        part = _free(inner, part, within=True)
        if part not in inner._modules:
            inner.add_module(part, nn.Module())
        inner = inner.get_submodule(part)
        path.append(part)
    last = _free(inner, parts[-1])
    inner.add_module(last, module)
    return ".".join((*path, last))


def _free(inner: nn.Module, name: str, within: bool = False) -> str:
    while not name or (hasattr(inner, name) and not (within and type(inner._modules.get(name)) is nn.Module)):
        name += "_"
    return name


def _check_kinds(graph: Mapping[str, Any], where: str, prefix: str) -> None:
    """Raise `CheckpointError` naming the nodes that are not read."""
    for name, node in graph["nodes"].items():
        if node["type"] not in SUPPORTED:
            raise CheckpointError(
                f"{where}: node {prefix + name!r} is of type {node['type']}, which is not read; read are: "
                f"{', '.join(SUPPORTED)}"
            )
        if node["type"] == "NIRGraph":
            if MARK in node["metadata"]:
                raise CheckpointError(
                    f"{where}: node {prefix + name!r} stands for {node['metadata'][MARK]}, which NIR "
                    "cannot say: the file is no whole network"
                )
            _check_kinds(node, where, f"{prefix}{name}.")


def _waits(node: Mapping[str, Any], dt: float) -> str | None:
    """What a node can do for a cycle: see `wiring.wire`."""
    if node["type"] in NEURONS:
        return "out"
    if node["type"] != "Delay":
        return None
    try:
        return "in" if bool((delay_steps(node["delay"], dt) > 0).all()) else None
    except (ConfigError, KeyError):
        return None  # said where it is built


def _step(metadata: Mapping[str, Any], dt: float | None, where: str) -> tuple[float, str]:
    """Seconds per step, and who says so."""
    source = "argument"
    if dt is None:
        dt, source = (metadata["dt"], "metadata") if "dt" in metadata else (DT, "default")
    try:
        seconds = float(np.asarray(dt))
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(dt, bool) or not 0 < seconds < math.inf:
        raise ConfigError(f"{where}: dt = {dt!r} ({source}): must be seconds per step, above 0")
    return seconds, source


def _declared(node: Mapping[str, Any], where: str) -> Shape | None:
    """The shape that an Input or Output states."""
    stated = node.get("shape")
    if stated is None:
        return None
    sizes = np.asarray(stated).reshape(-1)
    if sizes.dtype.kind not in "iu" or (sizes.size and sizes.min() < 1):
        what = f"{node['type']} node of shape {sizes.tolist()}"
        raise CheckpointError(f"{where}: {what}: must be whole numbers above 0")
    return tuple(int(n) for n in sizes)
