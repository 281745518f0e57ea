"""NIR, the exchange format of neuromorphic frameworks (Pedersen et al., Nature Communications 2024).

What NIR has is written as it is: convolutions (norms folded), linear layers, LIF and IF, average pools; edges
that meet are summed, which is a shortcut.  A max pool of spikes becomes SumPool2d and Threshold, an AND a
Threshold.  What NIR has no word for, attention and max pools of currents, is refused by name, or, with
`unsupported="mark"`, stands as a subgraph of its name with nothing between its input and its output.

NIR's neurons fire above their threshold, ours at or above it: what is written is the float32 just below.
Logits are the output's mean over steps, which the reader takes (NIR has no reduction over time).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from snn_energy.errors import ConfigError, MissingDependency, UnsupportedOp
from snn_energy.exporters.lowering.plan import Attention, Neuron, Plan, Pool, Source, Synapse
from snn_energy.exporters.lowering.read import read
from snn_energy.files import atomic_write
from snn_energy.graph.graph import Graph
from snn_energy.graph.simplify import fold_norms

DT = 1e-4  # seconds per step: the default of SpikingJelly, snnTorch and Norse
SUPPORTED = "convolutions, linear layers, LIF, IF, average pools, max pools and ANDs of spikes, shortcuts"
MARK = "unsupported"  # metadata key of a subgraph that stands for what NIR cannot say


def to_nir(graph: Graph, *, unsupported: str = "refuse", dt: float = DT) -> Any:
    """`nir.NIRGraph` of a graph.  `unsupported`: "refuse" raises `UnsupportedOp`, "mark" keeps the name.

    Nodes carry the names of the graph, with `_` for dots (importers make modules of them).
    """
    if unsupported not in ("refuse", "mark"):
        raise ConfigError(f"unsupported = {unsupported!r}: must be refuse or mark")
    return Writer(read(fold_norms(graph)), unsupported == "mark", dt).run()


def write_nir(graph: Graph, path: str | Path, **options: Any) -> None:
    """Write `to_nir(graph)` to a `.nir` file and read it back with the nir package: it must be the same."""
    nir = nir_package()
    made = to_nir(graph, **options)
    with atomic_write(path) as temporary:
        nir.write(str(temporary), made)
        again = nir.read(str(temporary), type_check=False)  # its check assumes square kernels
    if set(again.nodes) != set(made.nodes) or set(again.edges) != set(made.edges):
        raise UnsupportedOp(
            str(path), "read-back", supported="what nir itself returns", way_out="report this graph"
        )


def nir_package() -> Any:
    """The nir module, or `MissingDependency`."""
    try:
        import nir
    except ImportError as error:
        raise MissingDependency("nir", "nir", "NIR export") from error
    return nir


class Writer:
    """Turns a plan into NIR nodes and edges."""

    def __init__(self, plan: Plan, mark: bool, dt: float) -> None:
        self.plan, self.mark, self.dt, self.nir = plan, mark, dt, nir_package()
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.marked: list[str] = []

    def run(self) -> Any:
        for name, source in self.plan.sources.items():
            self.source(name, source)
        for output in self.plan.outputs.values():
            self.nodes["output"] = self.nir.Output(output_type={"output": np.array([output.shape[0]])})
            self.terms(output.terms, "output")
        metadata = {
            "time_steps": self.plan.time_steps,
            "dt": self.dt,
            "readout": "mean of the output over steps",
        }
        return self.nir.NIRGraph(nodes=self.nodes, edges=self.edges, metadata=metadata, type_check=False)

    def refuse(
        self, name: str, what: str, way_out: str, sources: tuple[str, ...], shape: tuple[int, ...]
    ) -> None:
        """Raise, or leave a subgraph of that name."""
        if not self.mark:
            raise UnsupportedOp(name, f"{what} in NIR", supported=SUPPORTED, way_out=way_out)
        kind = self.nir.NIRGraph(
            nodes={
                "input": self.nir.Input({"input": np.array(shape)}),
                "output": self.nir.Output({"output": np.array(shape)}),
            },
            edges=[("input", "output")],
            metadata={MARK: what},
            type_check=False,
        )
        self.nodes[name] = kind
        self.marked.append(name)
        self.edges += [(key(source), name) for source in sources]

    # ------------------------------------------------------------------------------------------- sources

    def source(self, name: str, source: Source) -> None:
        nir, at = self.nir, key(name)
        match source.kind:
            case "input":
                self.nodes[at] = nir.Input(input_type={"input": np.array(source.shape)})
            case "lif":
                neuron = self.plan.neurons[name]
                self.terms(neuron.terms, at)
                self.nodes[at] = self.neuron(neuron)
            case "or":
                self.spike_pool(name, source)
            case "and" | "sum":
                self.gate(name, source)

    def neuron(self, neuron: Neuron) -> Any:
        shape = feature_shape(neuron.shape)
        full = lambda value: np.full(shape, value, np.float32)  # noqa: E731
        threshold, reset = just_below(full(neuron.threshold + neuron.rest)), full(neuron.rest)
        if neuron.tau is None:
            return self.nir.IF(r=full(1 / self.dt), v_threshold=threshold, v_reset=reset)
        r = full(neuron.gain * neuron.tau)  # 1 where the input decays too, τ where it does not
        return self.nir.LIF(full(neuron.tau * self.dt), r, reset, threshold, reset)

    def spike_pool(self, name: str, source: Source) -> None:
        (term_name,) = source.made_of
        term = self.plan.terms[term_name]
        assert isinstance(term, Synapse)
        if term.kind != "conv":
            self.refuse(
                key(name),
                "a max pool over rearranged spikes",
                "pool over space",
                (term.source,),
                source.shape,
            )
            return
        pool = self.nir.SumPool2d(
            np.array(term.weight.shape[2:]), np.array(term.stride), np.array(term.padding)
        )
        self.nodes[key(term_name)] = pool
        self.nodes[key(name)] = self.nir.Threshold(np.full(source.shape, 0.5, np.float32))
        self.edges += [(key(term.source), key(term_name)), (key(term_name), key(name))]

    def gate(self, name: str, source: Source) -> None:
        terms = [self.plan.terms[t] for t in source.made_of]
        feeds = tuple(t.source for t in terms if isinstance(t, Synapse))
        if any(self.plan.sources[f].shape != source.shape for f in feeds):
            self.refuse(
                key(name), "an AND with a mask over tokens", "export the part before it", feeds, source.shape
            )
            return
        ones = np.ones(source.shape, np.float32)
        self.nodes[key(name)] = (
            self.nir.Threshold(ones * 1.5) if source.kind == "and" else self.nir.Scale(ones)
        )
        self.edges += [(key(feed), key(name)) for feed in feeds]

    # --------------------------------------------------------------------------------------------- terms

    def terms(self, names: tuple[str, ...], target: str) -> None:
        for name in names:
            if key(name) not in self.nodes:
                self.term(name)
            self.edges.append((key(name), target))

    def term(self, name: str) -> None:
        match self.plan.terms[name]:
            case Synapse(kind="conv") as term:
                self.conv(name, term)
            case Synapse(kind="dense") as term:
                self.dense(name, term)
            case Synapse() as term:
                self.refuse(
                    key(name), "a sum over tokens", "export the part before it", (term.source,), term.shape
                )
            case Pool(kind="sum") as pool:
                self.mean(name, pool)
            case Pool() as pool:
                way_out = "pool after the neuron (pooling_stat with 0 at its end)"
                self.refuse(key(name), "a max pool of currents", way_out, (), pool.shape)
                self.terms(pool.terms, key(name))
            case Attention() as term:
                way_out = "unsupported='mark' keeps its place as a subgraph"
                self.refuse(
                    key(name), "spike attention Q(KᵀV)", way_out, (term.q, term.k, term.v), term.shape
                )

    def conv(self, name: str, term: Synapse) -> None:
        in_shape = self.plan.sources[term.source].shape
        self.nodes[key(name)] = self.nir.Conv2d(
            in_shape[1:], term.weight.astype(np.float32), term.stride, term.padding, term.dilation,
            term.groups, self.plan.biases[name].astype(np.float32),
        )  # fmt: skip
        self.edges.append((key(term.source), key(name)))

    def dense(self, name: str, term: Synapse) -> None:
        source, shape = key(term.source), self.plan.sources[term.source].shape
        if feature_shape(shape) == shape:
            flat = f"{key(name)}_flatten"
            self.nodes[flat] = self.nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
            self.edges.append((source, flat))
            source = flat
        bias = self.plan.biases[name].astype(np.float32)
        self.nodes[key(name)] = self.nir.Affine(term.weight.astype(np.float32), bias)
        self.edges.append((source, key(name)))

    def mean(self, name: str, pool: Pool) -> None:
        at, kernel = key(name), np.array(pool.kernel)
        whole = pool.shape[1:] == (1, 1)
        pooled = f"{at}_pool" if whole else at
        self.nodes[pooled] = self.nir.AvgPool2d(kernel, kernel, np.array([0, 0]))
        self.terms(pool.terms, pooled)
        if whole:
            self.nodes[at] = self.nir.Flatten({"input": np.array(pool.shape)}, start_dim=0, end_dim=-1)
            self.edges.append((pooled, at))


def key(name: str) -> str:
    """A node's name in NIR: importers make it an attribute path, so dots and hashes must go."""
    return name.replace(".", "_").replace("#", "_")


def just_below(threshold: np.ndarray) -> np.ndarray:
    """The next lower float32: a float32 membrane is above it where it is at or above `threshold`."""
    return np.nextafter(threshold, np.float32(-np.inf), dtype=np.float32)


def feature_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, 1, 1) is a vector (C,) in NIR; a map stays a map."""
    return shape[:1] if shape[1:] == (1, 1) else shape
