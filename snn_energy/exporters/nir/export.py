"""`--target nir`: write a model as NIR, read the file back, run it, and compare with the model.

The file is run by `NirRun`, which knows the primitives we write, and, where its importer takes the graph
(plain convolutions, linear layers, average pools, LIF and IF), by SpikingJelly as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from snn_energy.errors import ConfigError, DataError, MissingDependency, VerificationError
from snn_energy.exporters.kept_samples import KEPT, kept, write_arrays
from snn_energy.exporters.network import batches, classes, samples_first, scores, see, take
from snn_energy.exporters.nir.readers import RUNTIMES, importer, in_steps, tensor_of
from snn_energy.exporters.nir.run import NirRun
from snn_energy.exporters.nir.write import DT, RENAMED, key, nir_package, write_nir
from snn_energy.exporters.verification import Difference, NeuronCheck, Part, Verification
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import membrane, run

NIR_FILE = "model.nir"
GRAPH_FILE = "graph.json"
BATCH = 32
FOREIGN = 1e-4  # of answers that another framework computes in float32


@dataclass(frozen=True)
class NirPart(Part):
    """Nodes behind a marked part, which were not compared; what SpikingJelly's importer made of the file."""

    key: ClassVar[str] = "nir"
    not_compared: tuple[str, ...]
    spikingjelly: str


def export_nir(
    model: nn.Module,
    out: Path,
    x: Any,
    y: Any = None,
    *,
    unsupported: str = "refuse",
    layout: str | None = None,
    output: int | str | None = None,
) -> Verification:
    """Write `out`/model.nir and verify it on samples `x`, as the network takes them.

    `layout` and `output`: see `exporters.network`.  Raises `UnsupportedOp` by name, unless `unsupported` is
    "mark"; then what depends on a marked part is not compared, and the record lists it.
    """
    x = np.asarray(x, np.float32)
    graph = see(model, x, layout=layout, output=output).graph
    write_nir(graph, out / NIR_FILE, unsupported=unsupported)
    graph.save(out / GRAPH_FILE)
    write_arrays(out, kept(take(x, slice(KEPT), graph.batch_axis), y))
    return verify_dir(out, x, y)


def verify_dir(folder: str | Path, x: Any, y: Any = None, *, runtime: str = "nir") -> Verification:
    """Run an exported .nir file on `x` and compare spikes and answers with the captured model, float64.

    `runtime`: "nir" is NIR's own equations; spikingjelly, snntorch and norse are these frameworks' importers,
    in float32.  Raises `MissingDependency` for one that is not installed, `VerificationError` where it does
    not take the file.
    """
    folder, x = Path(folder), np.asarray(x, np.float32)
    graph, file = Graph.load(folder / GRAPH_FILE), read_file(folder / NIR_FILE)
    if runtime not in ("nir", *RUNTIMES):
        raise ConfigError(f"runtime {runtime!r}: must be {', '.join(('nir', *RUNTIMES))}")

    def held(factor: float) -> Verification:
        given = x * np.float32(factor)
        return compare(graph, file, given, y) if runtime == "nir" else in_runtime(graph, file, given, runtime)

    return held(1.0).louder(held)


def in_runtime(graph: Graph, file: Any, x: np.ndarray, runtime: str) -> Verification:
    """Hold another framework's reading of the file against the captured model, both in float32.

    The spikes of a neuron are compared where the importer keeps its module under the node's name.
    """
    try:
        twin = importer(runtime)(file)
    except ImportError as error:
        raise MissingDependency(runtime, "nir", f"its reading of NIR (pip install {runtime})") from error
    except Exception as error:  # whatever an importer raises
        said = " ".join(str(error).split())
        raise VerificationError(f"{runtime} does not take the file: {said}") from error
    fired, answers = _recorded(twin, graph, file, x, runtime)
    wanted = run(graph, x)
    checks, clean = [], torch.ones(answers.shape[1], dtype=torch.bool)
    for name, steps in fired.items():
        unequal = torch.stack(steps).reshape(wanted[name].shape) != wanted[name]
        clean &= ~unequal.transpose(0, 1).flatten(1).any(1)
        checks.append(NeuronCheck(name, unequal.numel(), int(wanted[name].sum()), int(unequal.sum())))
    true = scores(wanted[graph.outputs[0]].numpy(), graph)
    if any("T" in str(dim) for dim in graph[graph.outputs[0]].shape):
        true = true.mean(axis=1)
    got = answers.mean(0).numpy().reshape(true.shape)
    worst = float(np.abs(got - true)[clean.numpy()].max(initial=0))
    changed = int((got.argmax(-1) != true.argmax(-1)).reshape(len(true), -1).any(axis=1).sum())
    verdict = Verification("nir", runtime, len(true), worst, changed, tuple(checks), tolerance=FOREIGN)
    return replace(verdict, reference="the captured model")


def _recorded(
    twin: nn.Module, graph: Graph, file: Any, x: np.ndarray, runtime: str
) -> tuple[dict[str, list[Tensor]], Tensor]:
    """Spikes per step of the neurons that an importer keeps as modules, and its answers (T, B, …)."""
    renamed = json.loads(_text(file.metadata.get(RENAMED, "{}")))
    modules, hooks = dict(twin.named_modules()), []
    fired: dict[str, list[Tensor]] = {}
    for node in graph.neurons:
        at = renamed.get(node.name, key(node.name))
        if at in modules:
            steps = fired.setdefault(node.name, [])

            def record(module: Any, args: Any, output: Any, to: list[Tensor] = steps) -> None:
                to.append(tensor_of(output))

            hooks.append(modules[at].register_forward_hook(record))
    try:
        with torch.no_grad():
            return fired, in_steps(twin, frames(graph, x).float())
    except Exception as error:
        said = " ".join(str(error).split())
        raise VerificationError(f"{runtime} does not run the file: {said}") from error
    finally:
        for hook in hooks:
            hook.remove()


def read_file(path: Path) -> Any:
    """The graph in a .nir file; a file with marked parts is read without nir's type check."""
    try:
        return nir_package().read(str(path), type_check=False)
    except Exception as error:  # h5py and nir have many
        raise DataError(f"cannot read {path}: {error}") from error


def compare(graph: Graph, file: Any, x: np.ndarray, y: Any = None) -> Verification:
    """Hold a NIR file against the graph that it was written from, both in float64."""
    renamed = json.loads(_text(file.metadata.get(RENAMED, "{}")))
    counts: dict[str, list[int]] = {}
    differences: list[Difference] = []
    worst, changed, correct, blocked = 0.0, 0, 0, set()
    for start, part in batches(x, graph.batch_axis, BATCH):
        wanted = run(graph, part, dtype=torch.float64)
        done = NirRun(file, frames(graph, part))
        blocked = done.blocked
        count = part.shape[graph.batch_axis]
        clean = np.ones(count, bool)
        unequal: dict[str, Tensor] = {}
        for node in graph.neurons:
            at = renamed.get(node.name, key(node.name))
            if at in done.held:
                got = done.held[at].reshape(wanted[node.name].shape)
                unequal[node.name] = got != wanted[node.name]
                numbers = (got.numel(), int(wanted[node.name].sum()), int(unequal[node.name].sum()))
                old = counts.setdefault(node.name, [0, 0, 0])
                counts[node.name] = [a + b for a, b in zip(old, numbers, strict=True)]
                clean &= ~unequal[node.name].transpose(0, 1).flatten(1).any(1).numpy()
        differences += _first(graph, wanted, done, renamed, unequal, start)
        if "output" in done.blocked:
            continue
        answer, true = _answers(graph, done, wanted)
        if clean.any():
            worst = max(worst, float(np.abs(answer - true)[clean].max()))
        given = answer.argmax(-1).reshape(count, -1)
        changed += int((given != true.argmax(-1).reshape(count, -1)).any(axis=1).sum())
        if y is not None and given.shape[1] == 1:
            correct += int((given[:, 0] == np.asarray(y)[start : start + BATCH]).sum())
    samples = x.shape[graph.batch_axis]
    form = "model.nir up to the marked parts" if "output" in blocked else "model.nir"
    checks = tuple(NeuronCheck(name, *numbers) for name, numbers in counts.items())
    told = NirPart(tuple(sorted(blocked)), in_spikingjelly(file, x, graph))
    verdict = Verification("nir", form, samples, worst, changed, checks, tuple(differences), parts=(told,))
    accuracy = {} if y is None or "output" in blocked else {"file": correct / samples}
    return replace(verdict, accuracy=accuracy, reference="the captured model in float64")


def frames(graph: Graph, x: np.ndarray) -> Tensor:
    """Samples as the network takes them -> (T, B, …), every step of them."""
    first = torch.as_tensor(samples_first(x, graph), dtype=torch.float64)
    if graph.takes_frames:
        return first.transpose(0, 1)
    return first.expand(graph.time_steps, *first.shape)


def _answers(graph: Graph, done: NirRun, wanted: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """(N, …, K) of the file, its mean over steps, and of the model."""
    true = scores(wanted[graph.outputs[0]].numpy(), graph)
    if any("T" in str(dim) for dim in graph[graph.outputs[0]].shape):
        true = true.mean(axis=1)
    return done.held["output"].mean(0).numpy().reshape(true.shape), true


def _first(
    graph: Graph,
    wanted: dict[str, Tensor],
    done: NirRun,
    renamed: dict[str, str],
    unequal: dict[str, Tensor],
    offset: int,
) -> Iterator[Difference]:
    """Per differing sample, the first spike that differs, with the model's membrane there."""
    if not any(bool(mask.any()) for mask in unequal.values()):
        return
    samples = next(iter(unequal.values())).shape[1]
    for sample in range(samples):
        for node in graph.neurons:
            if node.name not in unequal or not len(places := unequal[node.name][:, sample].nonzero()):
                continue
            step, *index = (int(i) for i in places[0])
            current = wanted[node.inputs[0]]
            h, threshold = membrane(node, current, wanted[node.name])
            at, error = renamed.get(node.name, key(node.name)), 0.0
            if at in done.heard:
                got = done.heard[at].reshape(current.shape)[: step + 1, sample]
                true = current[: step + 1, sample]
                error = float(((got - true).abs() / true.abs().clamp(min=1)).max())
            where = (offset + sample, node.name, step, tuple(index))
            yield Difference(*where, float(h[(step, sample, *index)]), threshold, error)
            break


def in_spikingjelly(file: Any, x: np.ndarray, graph: Graph) -> str:
    """Run the file through SpikingJelly's importer; say what came out, or why it could not.

    Raises `VerificationError` where it answers otherwise.
    """
    try:
        from spikingjelly.activation_based.nir_exchange import import_from_nir
    except ImportError as error:
        return f"not run: {error}"
    x = take(x, slice(KEPT), graph.batch_axis)
    try:
        twin = import_from_nir(file, dt=DT, dtype=torch.float64)
        state, total = None, torch.zeros(())
        with torch.no_grad():
            for frame in frames(graph, x):
                out, state = twin(frame, state)
                total = total + out
    except Exception as error:
        return f"not run: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    answers = run(graph, x, dtype=torch.float64)[graph.outputs[0]].numpy()
    wanted = classes(scores(answers, graph), graph)
    result = (total / graph.time_steps).numpy()
    differ = int((result.argmax(-1).reshape(wanted.shape) != wanted).reshape(len(wanted), -1).any(1).sum())
    if differ:
        raise VerificationError(
            f"SpikingJelly's reading of the NIR file differs in {differ} of {len(wanted)} predictions"
        )
    true = scores(answers, graph)
    if any("T" in str(dim) for dim in graph[graph.outputs[0]].shape):
        true = true.mean(axis=1)
    within = float(np.abs(result.reshape(true.shape) - true).max())
    return f"{len(wanted)} of {len(wanted)} predictions equal, logits within {within:.1e}"


def _text(value: Any) -> str:
    value = np.asarray(value).item() if not isinstance(value, str | bytes) else value
    return value.decode() if isinstance(value, bytes) else str(value)
