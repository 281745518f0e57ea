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
from torch import nn

from snn_energy.exporters.onnx.lif import DOMAIN
from snn_energy.exporters.onnx.run import OnnxModel
from snn_energy.exporters.verification import Difference, NeuronCheck, Verification
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import membrane, run

BATCH = 16


def compare(
    graph: Graph,
    model_bytes: bytes,
    x: np.ndarray,
    y: np.ndarray | None = None,
    *,
    model: nn.Module | None = None,
    form: str,
) -> Verification:
    """Run reference and file on the same samples x (N, ...).

    `model_bytes`: the file with the spikes and currents of `graph.neurons` among its outputs (`with_debug`).
    The reference is `model`, or the interpreter on `graph` where no model is given.
    """
    runner = OnnxModel(model_bytes)
    counts: dict[str, list[int]] = {node.name: [0, 0, 0] for node in graph.neurons}
    differences: list[Difference] = []
    worst, changed, correct = 0.0, 0, [0, 0]
    for start in range(0, len(x), BATCH):
        part = x[start : start + BATCH]
        logits, spikes = reference(graph, model, part)
        out = runner.run(part)
        answer = out[runner.outputs[0]]
        found = {name: torch.from_numpy(out[name]).reshape(s.shape) for name, s in spikes.items()}
        clean = np.ones(len(part), bool)
        unequal = {name: found[name] != s for name, s in spikes.items()}
        for name, mask in unequal.items():
            check = (mask.numel(), int(spikes[name].sum()), int(mask.sum()))
            counts[name] = [a + b for a, b in zip(counts[name], check, strict=True)]
            clean &= ~mask.transpose(0, 1).flatten(1).any(1).numpy()
        if not clean.all():
            differences += first_differences(graph, part, spikes, unequal, out, start)
        if clean.any():
            worst = max(worst, float(np.abs(answer - logits)[clean].max()))
        changed += int((answer.argmax(-1) != logits.argmax(-1)).sum())
        if y is not None:
            for i, given in enumerate((logits, answer)):
                correct[i] += int((given.argmax(-1) == y[start : start + BATCH]).sum())
    accuracy = {} if y is None else {"model": correct[0] / len(x), "file": correct[1] / len(x)}
    neurons = tuple(NeuronCheck(name, *count) for name, count in counts.items())
    return Verification(
        target="onnx",
        form=form,
        samples=len(x),
        logits_difference=worst if np.isfinite(worst) else float("inf"),
        predictions_differ=changed,
        neurons=neurons,
        differences=tuple(differences),
        accuracy=accuracy,
        versions=versions(),
    )


def reference(
    graph: Graph, model: nn.Module | None, x: np.ndarray
) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    """Logits (B, K) and every neuron's spikes (T, B, ...) of the model itself."""
    if model is None:
        held = run(graph, x)
        return held[graph.outputs[0]].numpy(), {node.name: held[node.name] for node in graph.neurons}
    fired: dict[str, list[torch.Tensor]] = defaultdict(list)
    hooks = []
    for path in dict.fromkeys(node.module for node in graph.neurons):
        hook = _recorder(fired[path])
        hooks.append(model.get_submodule(path).register_forward_hook(hook))
    try:
        from spikingjelly.activation_based import functional

        functional.reset_net(model)
        with torch.no_grad():
            logits = model(torch.from_numpy(x))
        functional.reset_net(model)
    finally:
        for handle in hooks:
            handle.remove()
    calls = {path: iter(outputs) for path, outputs in fired.items()}
    return logits.numpy(), {node.name: next(calls[node.module]) for node in graph.neurons}


def _recorder(outputs: list[torch.Tensor]) -> Any:
    return lambda module, args, output: outputs.append(output.detach().clone())


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
    exact = run(graph, x, dtype=torch.float64, forced=spikes)
    for sample in range(len(x)):
        for node in graph.neurons:
            places = unequal[node.name][:, sample].nonzero()
            if len(places):
                step, *index = (int(i) for i in places[0])
                current = exact[node.inputs[0]]
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
    for neuron in graph.neurons:
        call = calls.get(neuron.name) or calls[flat[neuron.name]]
        name = f"{neuron.name}.current"
        copy.graph.node.append(helper.make_node("Identity", [call.input[0]], [name], name=name))
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
