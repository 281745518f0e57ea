"""What a netlist is held against: its network in PyTorch with the registers' numbers, in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.exporters.chip import staa
from snn_energy.exporters.chip.calibrate import BATCH
from snn_energy.exporters.lowering.lower import Lowering
from snn_energy.exporters.netlist.record import Netlist
from snn_energy.exporters.netlist.simulate import Activity, encode
from snn_energy.graph import nodes as gn
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import run
from snn_energy.models.neurons import LIF
from snn_energy.models.staa_neuron import STAALIF


def dequantized_model(model: nn.Module, lowering: Lowering) -> nn.Module:
    """A copy of `model` in float64 whose weights, thresholds and time constants are those of the registers.

    Norms are folded into the layers before them, so they become identities.  Its inputs must be rounded as
    the chip's (see `rounded`).  Raises `ConfigError` where a layer of the graph is no module of its own.
    """
    twin = copy.deepcopy(model).double().eval()
    modules = dict(twin.named_modules())

    def put(path: str, module: nn.Module) -> None:
        parent, _, child = path.rpartition(".")
        setattr(modules[parent], child, module)

    for node in lowering.dequantized:
        if isinstance(node, gn.Conv | gn.Linear) and node.name in lowering.registers.weights:
            module = modules.get(node.module)
            if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                raise ConfigError(
                    f"{node.name}: its weights are not those of a module; compare with the graph"
                )
            module.weight = nn.Parameter(torch.as_tensor(node.weight, dtype=torch.float64))
            if node.bias is not None:
                module.bias = nn.Parameter(torch.as_tensor(node.bias, dtype=torch.float64))
        elif isinstance(node, gn.Neuron) and node.name in lowering.registers.staa:
            put(node.module, staa.IntegerStaa(lowering.registers.staa[node.name]))
        elif isinstance(node, gn.Lif) and isinstance(modules[node.module], STAALIF):
            put(node.module, LIF(node.v_threshold, node.tau))
        elif isinstance(node, gn.Lif | gn.If):
            neuron: Any = modules[node.module]
            neuron.v_threshold = node.v_threshold
            if isinstance(node, gn.Lif) and hasattr(neuron, "w"):
                neuron.w = nn.Parameter(torch.tensor(-np.log(node.tau - 1.0), dtype=torch.float64))
            elif isinstance(node, gn.Lif):
                neuron.tau = node.tau
    for name, module in modules.items():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            put(name, nn.Identity())
    return twin


def rounded(netlist: Netlist, x: np.ndarray) -> np.ndarray:
    """Samples as the chip's input sees them: messages divided by their scale, float64."""
    (name,) = (n for n, node in netlist.nodes.items() if type(node).__name__ == "Input")
    return encode(netlist, x) / netlist.nodes[name].scale  # type: ignore[union-attr]


def reference(graph: Graph, netlist: Netlist, x: np.ndarray) -> Activity:
    """The de-quantized graph in PyTorch, float64, reported as by the simulator: spikes (B, T, C, H, W).

    STAA neurons are their integer selves there, too: what this compares is all that lies between them.
    """
    outputs: dict[str, list[np.ndarray]] = {}
    logits: list[np.ndarray] = []
    populations = [n.name for n in graph.neurons if n.name in netlist.nodes]
    functions = staa.functions(netlist)
    for start in range(0, len(x), BATCH):
        messages = rounded(netlist, x[start : start + BATCH])
        held = run(graph, messages, dtype=torch.float64, functions=functions)
        for name in populations:
            spikes = held[name].transpose(0, 1).numpy()
            shape = (*spikes.shape[:2], *netlist.nodes[name].shape)
            outputs.setdefault(name, []).append(spikes.reshape(shape).astype(np.int8))
        result = held[graph.outputs[0]]
        logits.append((result.mean(0) if graph[graph.outputs[0]].shape[0] == "T" else result).numpy())
    (readout,) = (n for n, node in netlist.nodes.items() if type(node).__name__ == "Readout")
    recorded = {name: np.concatenate(parts) for name, parts in outputs.items()}
    return Activity(recorded, {readout: np.concatenate(logits)}, {}, len(x))


def accuracies(
    model: nn.Module,
    twin: nn.Module,
    lowering: Lowering,
    x: np.ndarray,
    y: np.ndarray | None,
    activity: Activity,
) -> tuple[dict[str, float], int]:
    """Accuracy of model, de-quantized twin and netlist; in how many predictions twin and netlist differ."""
    floats, doubles = [], []
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            part = np.asarray(x[start : start + BATCH])
            floats.append(_logits(model, torch.as_tensor(part, dtype=torch.float32)))
            doubles.append(_logits(twin, torch.as_tensor(rounded(lowering.netlist, part))))
    predicted = {"model": np.concatenate(floats).argmax(1), "dequantized": np.concatenate(doubles).argmax(1)}
    predicted["netlist"] = activity.predictions()
    differ = int((predicted["dequantized"] != predicted["netlist"]).sum())
    if y is None:
        return {}, differ
    return {name: float((p == np.asarray(y)).mean()) for name, p in predicted.items()}, differ


def _logits(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    from snn_energy.models.neurons import reset

    reset(model)
    logits = model(x)
    reset(model)
    return np.asarray((logits.mean(0) if logits.dim() == 3 else logits).double())
