"""NIR, the exchange format of neuromorphic frameworks (Pedersen et al., Nature Communications 2024).

What NIR has is written as it is: convolutions in one and two dimensions (norms folded), linear layers, LIF
and IF, average pools; edges that meet are summed, which is a shortcut, of currents or of spikes.  A max pool
of spikes becomes SumPool2d and Threshold, an AND a Threshold.  A soft reset, which NIR's neurons do not have,
is an integrator (I, LI) whose spikes, found by a Threshold, come back to it one step later through a Scale.
A synaptic current makes an LIF a CubaLIF; other neurons get it from an LI in front.
What NIR has no word for, attention and max pools of currents, is refused by name, or, with
`unsupported="mark"`, stands as a subgraph of its name with nothing between its input and its output.

Every node has the shape of its tensor in the network: a vector (C,) is no map (C, 1, 1), and a Flatten stands
between them.  nir's type check computes both sides of a convolution's output from the first side of its
kernel, and its input's channels from the kernel's second axis: a kernel that is not square, or grouped, is
filled up with zeros (`kernels`).

NIR's neurons fire above their threshold, ours at or above it: what is written is the float32 just below.
The network's answer is the output's mean over steps, which the reader takes (NIR has no reduction over time).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from snn_energy.errors import ConfigError, MissingDependency, UnsupportedOp
from snn_energy.exporters.lowering.plan import Attention, Neuron, Plan, Pool, Source, Synapse
from snn_energy.exporters.nir.kernels import (
    can_be_square,
    checked_kernel,
    covers_the_map,
    filled_up,
    ungrouped,
)
from snn_energy.exporters.nir.read import read
from snn_energy.files import atomic_write
from snn_energy.graph.graph import Graph
from snn_energy.graph.simplify import fold_norms

DT = 1e-4  # seconds per step: the default of SpikingJelly, snnTorch and Norse
SUPPORTED = "convolutions, linear layers, LIF, IF, average pools, max pools and ANDs of spikes, shortcuts"
MARK = "unsupported"  # metadata key of a subgraph that stands for what NIR cannot say
RENAMED = "renamed"  # metadata key: JSON of the nodes that are not called `key(name)`
Shape = tuple[int, ...]


def to_nir(graph: Graph, *, unsupported: str = "refuse", dt: float = DT) -> Any:
    """`nir.NIRGraph` of a graph.  `unsupported`: "refuse" raises `UnsupportedOp`, "mark" keeps the name.

    Nodes carry the names of the graph, with `_` for dots (importers make modules of them).
    """
    if unsupported not in ("refuse", "mark"):
        raise ConfigError(f"unsupported = {unsupported!r}: must be refuse or mark")
    return Writer(read(fold_norms(graph)), unsupported == "mark", dt).run()


def write_nir(graph: Graph, path: str | Path, **options: Any) -> None:
    """Write `to_nir(graph)` to a `.nir` file, which nir's own reader has to take, its type check on.

    Raises `UnsupportedOp`, and leaves no file, where it does not.
    """
    nir = nir_package()
    made = to_nir(graph, **options)
    with atomic_write(path) as temporary:
        nir.write(str(temporary), made)
        try:
            again = nir.read(str(temporary))
        except Exception as error:
            raise _unreadable(path, f"nir.read says {error}") from error
        if set(again.nodes) != set(made.nodes) or set(again.edges) != set(made.edges):
            raise _unreadable(path, "nir.read returns other nodes or edges")


def _unreadable(path: str | Path, why: str) -> UnsupportedOp:
    return UnsupportedOp(
        Path(path).name, f"the graph to a file that reads back: {' '.join(why.split())[:300]}",
        supported="what nir's reader takes with its type check on", way_out="please report this network",
    )  # fmt: skip


def nir_package() -> Any:
    """The nir module, or `MissingDependency`."""
    try:
        import nir
    except ImportError as error:
        raise MissingDependency("nir", "nir", "NIR export") from error
    return nir


class Writer:
    """Turns a plan into NIR nodes and edges.

    `shapes`: of every node's output; `at`: the node that carries a source or a term of the plan.
    """

    def __init__(self, plan: Plan, mark: bool, dt: float) -> None:
        self.plan, self.mark, self.dt, self.nir = plan, mark, dt, nir_package()
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.shapes: dict[str, Shape] = {}
        self.at: dict[str, str] = {}

    def run(self) -> Any:
        for name, source in self.plan.sources.items():
            self.source(name, source)
        for output in self.plan.outputs.values():
            heard, shape = self.heard(output.terms)
            at = self.put("output", self.nir.Output(output_type={"output": np.array(shape)}), shape)
            self.wire(heard, at)
        renamed = {name: at for name, at in self.at.items() if at != key(name) and name in self.plan.neurons}
        metadata = {
            "time_steps": self.plan.time_steps,
            "dt": self.dt,
            "readout": "mean of the output over steps",
            RENAMED: json.dumps(renamed),
        }
        return self.nir.NIRGraph(nodes=self.nodes, edges=self.edges, metadata=metadata, type_check=False)

    def put(self, name: str, node: Any, shape: Shape) -> str:
        """Add a node under a free name, which is returned."""
        at = key(name)
        while at in self.nodes:
            at += "_"
        self.nodes[at], self.shapes[at] = node, shape
        return at

    def wire(self, sources: list[str], target: str) -> None:
        """Edges from `sources`, which are summed; one that is there twice counts twice, through a Scale."""
        for source in dict.fromkeys(sources):
            times, shape = sources.count(source), self.shapes[source]
            if times > 1:
                scale = self.put(f"{source}_times", self.nir.Scale(np.full(shape, times, np.float32)), shape)
                self.edges.append((source, scale))
                source = scale
            self.edges.append((source, target))

    def flat(self, source: str) -> str:
        """`source` as a vector."""
        shape = self.shapes[source]
        if len(shape) == 1:
            return source
        known = [b for a, b in self.edges if a == source and type(self.nodes[b]).__name__ == "Flatten"]
        if known:
            return known[0]
        flatten = self.nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
        at = self.put(f"{source}_flatten", flatten, (int(np.prod(shape)),))
        self.edges.append((source, at))
        return at

    def heard(self, terms: tuple[str, ...]) -> tuple[list[str], Shape]:
        """The nodes that carry `terms`, all of one shape, and that shape."""
        found = [self.term(name) for name in terms]
        if len({self.shapes[at] for at in found}) > 1:
            found = [self.flat(at) for at in found]
        return found, self.shapes[found[0]]

    def refuse(self, name: str, what: str, way_out: str, sources: list[str], shape: Shape) -> str:
        """Raise, or leave a subgraph of that name."""
        if not self.mark:
            raise UnsupportedOp(key(name), f"{what} in NIR", supported=SUPPORTED, way_out=way_out)
        node = self.nir.NIRGraph(
            nodes={
                "input": self.nir.Input({"input": np.array(shape)}),
                "output": self.nir.Output({"output": np.array(shape)}),
            },
            edges=[("input", "output")],
            metadata={MARK: what},
            type_check=False,
        )
        at = self.put(name, node, shape)
        self.wire(sources, at)
        return at

    # ------------------------------------------------------------------------------------------- sources

    def source(self, name: str, source: Source) -> None:
        match source.kind:
            case "input":
                shape = tuple(self.plan.meta["input_shape"])
                self.at[name] = self.put(name, self.nir.Input({"input": np.array(shape)}), shape)
            case "lif":
                neuron = self.plan.neurons[name]
                heard, shape = self.heard(neuron.terms)
                self.at[name] = self.neuron(name, neuron, heard, shape)
            case "or":
                self.at[name] = self.spike_pool(name, source)
            case "and" | "and not" | "sum":
                self.at[name] = self.gate(name, source)

    def neuron(self, name: str, neuron: Neuron, heard: list[str], shape: Shape) -> str:
        full = lambda value: np.full(shape, value, np.float32)  # noqa: E731
        r = full(1 / self.dt if neuron.tau is None else neuron.gain * neuron.tau)  # τ where only v decays
        tau = None if neuron.tau is None else full(neuron.tau * self.dt)
        threshold, reset = just_below(full(neuron.threshold + neuron.rest)), full(neuron.rest)
        soft = name in self.plan.meta["soft"]
        if neuron.current is not None:
            keep, entry = neuron.current
            tau_syn, w_in = full(self.dt / (1 - keep)), full(entry / (1 - keep))
            if tau is not None and not soft:
                node = self.nir.CubaLIF(tau_syn, tau, r, reset, threshold, reset, w_in)
                at = self.put(name, node, shape)
                self.wire(heard, at)
                return at
            fading = self.put(f"{name}_current", self.nir.LI(tau_syn, w_in, full(0.0)), shape)
            self.wire(heard, fading)
            heard = [fading]
        if soft:
            return self.soft(name, neuron, heard, shape, (r, tau))
        if tau is None:
            at = self.put(name, self.nir.IF(r=r, v_threshold=threshold, v_reset=reset), shape)
        else:
            at = self.put(name, self.nir.LIF(tau, r, reset, threshold, reset), shape)
        self.wire(heard, at)
        return at

    def soft(self, name: str, neuron: Neuron, heard: list[str], shape: Shape, registers: Any) -> str:
        """v ← v − θ·s as a current one step later: the integrator hears −θ·s, by what it keeps of v."""
        r, tau = registers
        full = lambda value: np.full(shape, value, np.float32)  # noqa: E731
        falls = self.plan.meta["soft"][name]
        if neuron.tau is None:
            membrane, back = self.nir.I(r=r), -falls
        else:
            membrane, back = self.nir.LI(tau, r, full(0.0)), -falls * (neuron.tau - 1)
            back /= neuron.gain * neuron.tau
        held = self.put(f"{name}_membrane", membrane, shape)
        at = self.put(name, self.nir.Threshold(just_below(full(neuron.threshold))), shape)
        scale = self.put(f"{name}_reset", self.nir.Scale(full(back)), shape)
        self.wire(heard, held)
        self.edges += [(held, at), (at, scale), (scale, held)]
        return at

    def spike_pool(self, name: str, source: Source) -> str:
        (term_name,) = source.made_of
        term = self.plan.terms[term_name]
        assert isinstance(term, Synapse)
        feed = self.at[term.source]
        if term.kind != "conv" or len(self.shapes[feed]) != 3:
            what = "a max pool over rearranged spikes"
            return self.refuse(name, what, "pool over space", [feed], source.shape)
        size, stride, padding = term.weight.shape[2:], term.stride, term.padding
        pool = self.nir.SumPool2d(np.array(size), np.array(stride), np.array(padding))
        pooled = self.put(term_name, pool, source.shape)
        at = self.put(name, self.nir.Threshold(np.full(source.shape, 0.5, np.float32)), source.shape)
        self.wire([feed], pooled)
        self.wire([pooled], at)
        return at

    def gate(self, name: str, source: Source) -> str:
        terms = [self.plan.terms[t] for t in source.made_of]
        feeds = [self.at[t.source] for t in terms if isinstance(t, Synapse)]
        whole = all(isinstance(t, Synapse) and _is_identity(t) for t in terms)
        shapes = {self.shapes[feed] for feed in feeds}
        if not whole or len(shapes) > 1:
            what = "an AND with a mask over tokens" if source.kind == "and" else "a rearranged sum of spikes"
            return self.refuse(name, what, "export the part before it", feeds, source.shape)
        (shape,) = shapes
        ones = np.ones(shape, np.float32)
        levels = {"and": 1.5, "and not": 0.5}
        level = levels.get(source.kind)
        node = self.nir.Scale(ones) if level is None else self.nir.Threshold(ones * level)
        feeds = [
            self.scaled(f"{name}_taken", feed, float(term.weight.ravel()[0]))
            for feed, term in zip(feeds, terms, strict=True)
            if isinstance(term, Synapse)
        ]
        at = self.put(name, node, shape)
        self.wire(feeds, at)
        return at

    # --------------------------------------------------------------------------------------------- terms

    def term(self, name: str) -> str:
        """The node that carries a term, written on first demand."""
        if name not in self.at:
            self.at[name] = self.written(name)
        return self.at[name]

    def written(self, name: str) -> str:
        match self.plan.terms[name]:
            case Synapse(kind="conv") as term:
                return self.conv(name, term)
            case Synapse(kind="dense") as term:
                bias = self.plan.biases[name].astype(np.float32)
                at = self.put(name, self.nir.Affine(term.weight.astype(np.float32), bias), term.shape[:1])
                self.wire([self.flat(self.at[term.source])], at)
                return at
            case Synapse() as term:
                feed = self.at[term.source]
                if _is_identity(term):
                    return self.scaled(name, feed, float(term.weight.ravel()[0]))
                what = "a sum over tokens"
                return self.refuse(name, what, "export the part before it", [feed], term.shape)
            case Pool(kind="sum") as pool:
                heard, _ = self.heard(pool.terms)
                kernel = np.array(pool.kernel)
                return self.pooled(name, self.nir.AvgPool2d(kernel, kernel, np.array([0, 0])), heard, pool)
            case Pool() as pool:
                heard, _ = self.heard(pool.terms)
                way_out = "pool after the neuron (pooling_stat with 0 at its end)"
                return self.refuse(name, "a max pool of currents", way_out, heard, pool.shape)
            case Attention() as term:
                feeds = [self.at[source] for source in (term.q, term.k, term.v)]
                way_out = "unsupported='mark' keeps its place as a subgraph"
                return self.refuse(name, "spike attention Q(KᵀV)", way_out, feeds, term.shape)

    def scaled(self, name: str, feed: str, weight: float) -> str:
        """Spikes as a current: the spikes themselves, or by a Scale."""
        if weight == 1:
            return feed
        shape = self.shapes[feed]
        at = self.put(name, self.nir.Scale(np.full(shape, weight, np.float32)), shape)
        self.wire([feed], at)
        return at

    def pooled(self, name: str, node: Any, heard: list[str], pool: Pool) -> str:
        at = self.put(name, node, pool.shape)
        self.wire(heard, at)
        return at

    def conv(self, name: str, term: Synapse) -> str:
        feed, bias = self.at[term.source], self.plan.biases[name].astype(np.float32)
        shape = self.shapes[feed]
        if len(shape) == 2:
            weight = ungrouped(term)[:, :, 0].astype(np.float32)
            settings = (term.stride[1], term.padding[1], term.dilation[1])
            told = filled_up(term, (0,))
            node: Any = self.nir.Conv1d(shape[1], weight, *settings, 1, bias, metadata=told)
            at = self.put(name, node, (term.shape[0], term.shape[2]))
        elif covers_the_map(term, shape[1:]) and not can_be_square(term):  # a linear layer on the whole map
            matrix = ungrouped(term).reshape(len(bias), -1).astype(np.float32)
            at, feed = self.put(name, self.nir.Affine(matrix, bias), term.shape[:1]), self.flat(feed)
        else:
            weight, padding = checked_kernel(name, term, shape[1:])
            weight = weight.astype(np.float32)
            told = filled_up(
                term,
                tuple((a - b) // 2 for a, b in zip(weight.shape[2:], term.weight.shape[2:], strict=True)),
            )
            node = self.nir.Conv2d(
                shape[1:], weight, term.stride, padding, term.dilation, 1, bias, metadata=told
            )
            at = self.put(name, node, term.shape)
        self.wire([feed], at)
        return at


def _is_identity(term: Synapse) -> bool:
    """Is each position connected to itself alone?"""
    if term.sources is None or term.targets is None:
        return False
    return bool(np.array_equal(term.sources, term.targets)) and term.sources.size == np.prod(term.shape)


def key(name: str) -> str:
    """A node's name in NIR: importers make it an attribute path, so dots and hashes must go."""
    return name.replace(".", "_").replace("#", "_")


def just_below(threshold: np.ndarray) -> np.ndarray:
    """The next lower float32: a float32 membrane is above it where it is at or above `threshold`."""
    return np.nextafter(threshold, np.float32(-np.inf), dtype=np.float32)
