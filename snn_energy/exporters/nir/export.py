"""`--target nir`: write a model as NIR, read the file back, run it, and compare with the model.

The file is run by `run_nir`, which knows the primitives we write, and, where its importer takes the graph
(plain convolutions, linear layers, average pools, LIF and IF), by SpikingJelly as well.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from snn_energy.errors import DataError, VerificationError
from snn_energy.exporters.nir.write import DT, MARK, key, nir_package, write_nir
from snn_energy.exporters.verification import NeuronCheck, Part, Verification
from snn_energy.graph.capture import capture
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import run

NIR_FILE = "model.nir"
GRAPH_FILE = "graph.json"


@dataclass(frozen=True)
class NirPart(Part):
    """Nodes behind a marked part, which were not compared; what SpikingJelly's importer made of the file."""

    key: ClassVar[str] = "nir"
    not_compared: tuple[str, ...]
    spikingjelly: str


def export_nir(
    model: nn.Module, out: Path, x: Any, y: Any = None, *, unsupported: str = "refuse"
) -> Verification:
    """Write `out`/model.nir and verify it on samples `x`.

    Raises `UnsupportedOp` by name, unless `unsupported` is "mark"; then what depends on a marked part is not
    compared, and the record lists it.
    """
    graph = capture(model, np.asarray(x[:1], np.float32))
    write_nir(graph, out / NIR_FILE, unsupported=unsupported)
    graph.save(out / GRAPH_FILE)
    return verify_dir(out, x, y)


def verify_dir(folder: str | Path, x: Any, y: Any = None) -> Verification:
    """Run an exported .nir file on `x` and compare spikes and logits with the captured model, float64."""
    folder, x = Path(folder), np.asarray(x, np.float32)
    graph = Graph.load(folder / GRAPH_FILE)
    try:
        file = nir_package().read(str(folder / NIR_FILE), type_check=False)
    except OSError as error:
        raise DataError(f"cannot read {folder / NIR_FILE}: {error}") from error
    held, blocked = run_nir(file, x, graph.time_steps)
    wanted = run(graph, x, dtype=torch.float64)
    checks = []
    for node in graph.neurons:
        if key(node.name) in held:
            got = held[key(node.name)]
            spikes = wanted[node.name].reshape(got.shape)
            checks.append(NeuronCheck(node.name, got.numel(), int(spikes.sum()), int((got != spikes).sum())))
    part = NirPart(tuple(sorted(blocked)), _in_spikingjelly(file, x, graph, wanted))
    logits = wanted[graph.outputs[0]]
    verdict = Verification("nir", "model.nir", len(x), 0.0, 0, tuple(checks), parts=(part,))
    if "output" in blocked:
        return dataclasses.replace(verdict, form="model.nir up to the marked parts")
    result = held["output"].mean(0)
    differ = int((result.argmax(-1) != logits.argmax(-1)).sum())
    accuracy = {} if y is None else {"file": float((result.argmax(-1).numpy() == np.asarray(y)).mean())}
    worst = float((result - logits).abs().max())
    return dataclasses.replace(verdict, logits_difference=worst, predictions_differ=differ, accuracy=accuracy)


def run_nir(file: Any, x: np.ndarray, time_steps: int) -> tuple[dict[str, torch.Tensor], set[str]]:
    """Every node's output, (T, B, ...), and the names that hang on a marked part and cannot be run."""
    held: dict[str, torch.Tensor] = {}
    blocked: set[str] = set()
    sources: dict[str, list[str]] = {name: [] for name in file.nodes}
    for a, b in file.edges:
        sources[b].append(a)
    frames = torch.as_tensor(x, dtype=torch.float64)
    frames = frames.expand(time_steps, *frames.shape) if frames.dim() < 5 else frames.transpose(0, 1)
    with torch.no_grad():
        for name in TopologicalSorter(sources).static_order():
            node = file.nodes[name]
            if MARK in (node.metadata or {}) or blocked & set(sources[name]):
                blocked.add(name)
            elif not sources[name]:
                held[name] = frames
            else:
                total = sum(held[s] for s in sources[name])
                assert isinstance(total, torch.Tensor)
                held[name] = execute(node, total, float(np.asarray(file.metadata.get("dt", DT))))
    return held, blocked


def execute(node: Any, x: torch.Tensor, dt: float) -> torch.Tensor:
    """One NIR primitive on (T, B, ...), float64."""
    kind = type(node).__name__
    per_step = lambda f: f(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # noqa: E731
    double = lambda a: torch.as_tensor(np.asarray(a), dtype=torch.float64)  # noqa: E731
    pair = lambda a: tuple(int(i) for i in np.broadcast_to(np.asarray(a), (2,)))  # noqa: E731
    match kind:
        case "Output":
            return x
        case "Flatten":
            return x.flatten(2)
        case "Scale":
            return x * double(node.scale)
        case "Threshold":
            return (x > double(node.threshold)).double()
        case "Affine":
            return x @ double(node.weight).T + double(node.bias)
        case "Conv2d":
            options = (pair(node.stride), pair(node.padding), pair(node.dilation), int(node.groups))
            return per_step(lambda z: F.conv2d(z, double(node.weight), double(node.bias), *options))
        case "AvgPool2d" | "SumPool2d":
            kernel, stride, padding = pair(node.kernel_size), pair(node.stride), pair(node.padding)
            mean = per_step(lambda z: F.avg_pool2d(z, kernel, stride, padding))
            return mean * (kernel[0] * kernel[1]) if kind == "SumPool2d" else mean
        case "LIF" | "IF":
            return _spikes(node, x, dt)
        case _:
            raise DataError(f"{kind}: this reader knows what snn-energy writes, not every NIR primitive")


def _spikes(node: Any, x: torch.Tensor, dt: float) -> torch.Tensor:
    """Forward Euler with step dt, firing at or above the threshold as SpikingJelly reads it."""
    arrays = {
        k: torch.as_tensor(np.asarray(getattr(node, k)), dtype=torch.float64) for k in ("r", "v_threshold")
    }
    reset = torch.as_tensor(np.asarray(node.v_reset), dtype=torch.float64)
    shape = x.shape[2:]
    v = reset.reshape(shape).expand_as(x[0]).clone()
    out = []
    for current in x:
        if type(node).__name__ == "IF":
            v = v + dt * arrays["r"].reshape(shape) * current
        else:
            tau = torch.as_tensor(np.asarray(node.tau), dtype=torch.float64).reshape(shape)
            leak = torch.as_tensor(np.asarray(node.v_leak), dtype=torch.float64).reshape(shape)
            tau = torch.round(tau / dt * 1e6) / 1e6  # float32 in the file: 2·1e-4 / 1e-4 must be 2
            v = v + (leak - v + arrays["r"].reshape(shape) * current) / tau
        s = (v >= arrays["v_threshold"].reshape(shape)).double()
        v = v * (1 - s) + reset.reshape(shape) * s
        out.append(s)
    return torch.stack(out)


def _in_spikingjelly(file: Any, x: np.ndarray, graph: Graph, wanted: dict[str, torch.Tensor]) -> str:
    """Run the file through SpikingJelly's importer; say what came out, or why it could not."""
    try:
        from spikingjelly.activation_based.nir_exchange import import_from_nir
    except ImportError as error:
        return f"not run: {error}"
    if x.ndim > 4:
        return "not run: its importer is fed one static image here"
    try:
        twin = import_from_nir(file, dt=DT, dtype=torch.float64)
        state, total = None, torch.zeros(())
        with torch.no_grad():
            for _ in range(graph.time_steps):
                out, state = twin(torch.as_tensor(x, dtype=torch.float64), state)
                total = total + out
    except Exception as error:
        return f"not run: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    result, logits = total / graph.time_steps, wanted[graph.outputs[0]]
    differ = int((result.argmax(-1) != logits.argmax(-1)).sum())
    if differ:
        raise VerificationError(
            f"SpikingJelly's reading of the NIR file differs in {differ} of {len(x)} predictions"
        )
    return f"{len(x)} of {len(x)} predictions equal, logits within {float((result - logits).abs().max()):.1e}"
