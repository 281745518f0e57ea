"""Hold an ONNX file against the model or the Graph it was made from."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import numpy as np
import torch

from snn_energy.exporters.network import Network, batches, classes, scores
from snn_energy.exporters.onnx.lif import DOMAIN
from snn_energy.exporters.onnx.run import OnnxModel
from snn_energy.exporters.verification import Difference, NeuronCheck, Verification
from snn_energy.graph.dims import values
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import membrane, run
from snn_energy.graph.nodes import Heaviside, Node
from snn_energy.models.at_rest import at_rest

BATCH = 16


def compare(
    graph: Graph,
    model_bytes: bytes,
    x: np.ndarray,
    y: np.ndarray | None = None,
    *,
    network: Network | None = None,
    form: str,
) -> Verification:
    """Run reference and file on the same samples `x`, as the network takes them.

    `model_bytes`: the file with the spikes and currents of `graph.neurons` among its outputs (`with_debug`).
    The reference is the model of `network`, or the interpreter on `graph` where none is given.
    """
    runner = OnnxModel(model_bytes)
    counts: dict[str, list[int]] = {node.name: [0, 0, 0] for node in graph.spiking}
    differences: list[Difference] = []
    worst, changed, correct, samples = 0.0, 0, [0, 0], x.shape[graph.batch_axis]
    for start, part in batches(x, graph.batch_axis, BATCH):
        expected, spikes = reference(graph, network, part)
        out = runner.run(part)
        wanted, answer = scores(expected, graph), scores(out[runner.outputs[0]], graph)
        found = {name: torch.from_numpy(out[name]).reshape(s.shape) for name, s in spikes.items()}
        clean = np.ones(len(wanted), bool)
        unequal = {name: found[name] != s for name, s in spikes.items()}
        for name, mask in unequal.items():
            check = (mask.numel(), int(spikes[name].sum()), int(mask.sum()))
            counts[name] = [a + b for a, b in zip(counts[name], check, strict=True)]
            clean &= ~mask.transpose(0, 1).flatten(1).any(1).numpy()
        if not clean.all():
            differences += first_differences(graph, part, spikes, unequal, out, start)
        if clean.any():
            worst = max(worst, float(np.abs(answer - wanted)[clean].max()))
        given = [classes(each, graph) for each in (wanted, answer)]
        changed += int((given[0] != given[1]).reshape(len(wanted), -1).any(axis=1).sum())
        if y is not None and given[0].ndim == 1:
            for i in (0, 1):
                correct[i] += int((given[i] == y[start : start + BATCH]).sum())
    accuracy = {} if y is None else {"model": correct[0] / samples, "file": correct[1] / samples}
    neurons = tuple(NeuronCheck(name, *count) for name, count in counts.items())
    return Verification(
        target="onnx",
        form=form,
        samples=samples,
        logits_difference=worst if np.isfinite(worst) else float("inf"),
        predictions_differ=changed,
        neurons=neurons,
        differences=tuple(differences),
        accuracy=accuracy,
        versions=versions(),
    )


def reference(
    graph: Graph, network: Network | None, x: np.ndarray
) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    """The answer in the network's own layout, and every neuron's spikes (T, B, ...), of the model itself."""
    if network is None:
        return _in_the_graph(graph, x)
    fired: dict[str, list[torch.Tensor]] = defaultdict(list)
    hooks = []
    for path in dict.fromkeys(node.module for node in graph.neurons):
        hook = _recorder(fired[path])
        hooks.append(network.model.get_submodule(path).register_forward_hook(hook))
    try:
        with at_rest(network.model) as rest:
            answer = network.answer(x, rest)
    finally:
        for handle in hooks:
            handle.remove()
    calls = {path: iter(outputs) for path, outputs in fired.items()}
    spikes = {node.name: next(calls[node.module], None) for node in graph.neurons}
    batch = x.shape[graph.batch_axis]
    known = {
        node.name: s
        for node in graph.neurons
        if (s := spikes[node.name]) is not None and s.shape == values(node.shape, graph.time_steps, batch)
    }
    if len(known) < len(graph.spiking):  # neurons that are written out in the forward are no modules
        known = _in_the_graph(graph, x)[1] | known
    return answer.numpy(), known


def _in_the_graph(graph: Graph, x: np.ndarray) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    held = run(graph, x)
    return held[graph.outputs[0]].numpy(), {n.name: _steps(held[n.name], n) for n in graph.spiking}


def _steps(spikes: torch.Tensor, node: Node) -> torch.Tensor:
    """Spikes as (T, B, …): those of a step function without a time axis are one step."""
    return spikes if node.shape[:2] == ("T", "B") else spikes[None]


def _recorder(outputs: list[torch.Tensor]) -> Any:
    def record(module: Any, args: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            outputs.append(output.detach().clone())

    return record


def first_differences(
    graph: Graph,
    x: np.ndarray,
    spikes: dict[str, torch.Tensor],
    unequal: dict[str, torch.Tensor],
    out: dict[str, np.ndarray],
    offset: int,
) -> Iterator[Difference]:
    """Per differing sample, the first spike that differs, with the membrane in float64.

    All spikes before it are equal, so the file's currents into that layer must be the true ones.
    """
    forced = {name: s if graph[name].shape[:2] == ("T", "B") else s[0] for name, s in spikes.items()}
    exact = run(graph, x, dtype=torch.float64, forced=forced)
    for sample in range(x.shape[graph.batch_axis]):
        for node in graph.spiking:
            if node.name not in unequal:
                continue
            places = unequal[node.name][:, sample].nonzero()
            if len(places):
                step, *index = (int(i) for i in places[0])
                current = _steps(exact[node.inputs[0]], node)
                h, threshold = membrane(node, current, spikes[node.name])
                value = float(h[(step, sample, *index)])
                got = every_step(out[f"{node.name}.current"], current.shape)[: step + 1, sample]
                true = current[: step + 1, sample]
                error = (got - true).abs() / true.abs().clamp(min=1)
                where = (offset + sample, node.name, step, tuple(index))
                yield Difference(*where, value, threshold, float(error.max()))
                break


def every_step(current: np.ndarray, shape: torch.Size) -> torch.Tensor:
    """Currents (T·B, ...), or (B, ...) held for several steps, as (T, B, ...)."""
    parts = torch.from_numpy(current).reshape(-1, *shape[1:])
    return parts.repeat_interleave(shape[0] // len(parts), dim=0)


def with_debug(model: Any, graph: Graph) -> bytes:
    """The file with the spikes of every neuron and what it received, `<name>.current`, as further outputs."""
    from onnx import helper

    copy = type(model)()
    copy.CopyFrom(model)
    held = {v.name for v in copy.graph.output}
    calls = {node.output[0]: node for node in copy.graph.node if node.domain == DOMAIN}
    flat = {tensor: node.input[0] for node in copy.graph.node for tensor in node.output}
    makes = {tensor: node for node in copy.graph.node for tensor in node.output}
    for neuron in graph.spiking:
        name = f"{neuron.name}.current"
        if isinstance(neuron, Heaviside):
            received = makes[makes[neuron.name].input[0]].input[0]  # Cast(Greater(current, threshold))
        else:
            call = calls.get(neuron.name) or calls[flat[neuron.name]]
            received = call.input[0]
        copy.graph.node.append(helper.make_node("Identity", [received], [name], name=name))
        for output in {neuron.name, name} - held:
            copy.graph.output.append(helper.make_tensor_value_info(output, 1, None))
    return copy.SerializeToString()


def versions() -> dict[str, str]:
    """What took part, by version."""
    names = ("snn-energy", "torch", "spikingjelly", "numpy", "onnx", "onnxruntime")
    return {name: metadata.version(name) for name in names}


def weights_hash(graph: Graph) -> str:
    """sha256 over all weights in order: names the trained network, whatever the form of the file."""
    digest = hashlib.sha256()
    for name, value in graph.weights():
        digest.update(json.dumps([name, str(value.dtype), value.shape]).encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
