"""What a netlist is held against: its network in PyTorch with the registers' numbers, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based.neuron import BaseNode
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.exporters.chip import staa
from snn_energy.exporters.chip.calibrate import BATCH
from snn_energy.exporters.lowering.lower import Lowering
from snn_energy.exporters.netlist.record import Input, Netlist, Readout
from snn_energy.exporters.netlist.simulate import Activity, encode
from snn_energy.exporters.network import Network, as_taken, scores
from snn_energy.graph import nodes as gn
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import run
from snn_energy.models.at_rest import at_rest
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
            if not isinstance(neuron, BaseNode):
                raise ConfigError(f"{node.name}: no neuron module of SpikingJelly's; compare with the graph")
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
    """Samples (N, …) or (N, T, …) as the chip's input sees them: messages divided by their scale, float64."""
    (name,) = netlist.named(Input)
    node = netlist.nodes[name]
    assert isinstance(node, Input)
    return encode(netlist, x) / node.scale


def fed(graph: Graph, netlist: Netlist, x: np.ndarray) -> np.ndarray:
    """Samples (N, …) or (N, T, …) rounded as the chip's, in the layout that the network takes."""
    values = rounded(netlist, x)
    inner = [d for i, d in enumerate(graph.inputs[0].shape) if i != graph.batch_axis and "T" not in str(d)]
    lead = values.shape[: 1 + graph.takes_frames]
    return as_taken(values.reshape(*lead, *map(int, inner)), graph)


def reference(graph: Graph, netlist: Netlist, x: np.ndarray) -> Activity:
    """The de-quantized graph in PyTorch, float64, reported as by the simulator: spikes (B, T, C, H, W).

    `x`: (N, …) or (N, T, …).  STAA neurons are their integer selves there, too: what this compares is all
    that lies between them.
    """
    outputs: dict[str, list[np.ndarray]] = {}
    logits: list[np.ndarray] = []
    populations = [n.name for n in graph.neurons if n.name in netlist.nodes]
    functions = staa.functions(netlist)
    for start in range(0, len(x), BATCH):
        values = fed(graph, netlist, x[start : start + BATCH])
        held = run(graph, values, dtype=torch.float64, functions=functions)
        for name in populations:
            spikes = held[name].transpose(0, 1).numpy()
            shape = (*spikes.shape[:2], *netlist.nodes[name].shape)
            outputs.setdefault(name, []).append(spikes.reshape(shape).astype(np.int8))
        logits.append(_over_steps(held[graph.outputs[0]].numpy(), graph))
    (readout,) = netlist.named(Readout)
    recorded = {name: np.concatenate(parts) for name, parts in outputs.items()}
    return Activity(recorded, {readout: np.concatenate(logits)}, {}, len(x))


def _over_steps(answers: np.ndarray, graph: Graph) -> np.ndarray:
    """(N, K): the mean over steps of answers that stand for each."""
    found = scores(answers, graph)
    return found.mean(axis=1) if found.ndim == 3 else found


def accuracies(
    network: Network,
    twin: nn.Module | None,
    lowering: Lowering,
    x: np.ndarray,
    y: np.ndarray | None,
    activity: Activity,
) -> tuple[dict[str, float], int]:
    """Accuracy of model, de-quantized twin and netlist; in how many predictions twin and netlist differ.

    `x`: (N, …) or (N, T, …).  Where the model cannot hold the registers' numbers, `twin` is None and the
    de-quantized graph stands for it.
    """
    graph, netlist = network.graph, lowering.netlist
    given: dict[str, tuple[Network, torch.dtype, Callable[[np.ndarray], np.ndarray]]] = {
        "model": (network, torch.float32, lambda part: as_taken(part, graph))
    }
    predicted = {"netlist": activity.predictions()}
    if twin is None:
        predicted["dequantized"] = reference(lowering.dequantized, netlist, x).predictions()
    else:
        exact = Network(twin, graph, network.place)
        given["dequantized"] = (exact, torch.float64, lambda part: fed(graph, netlist, part))
    for who, (net, dtype, feed) in given.items():
        found = []
        with at_rest(net.model) as rest:
            for start in range(0, len(x), BATCH):
                answers = net.answer(feed(x[start : start + BATCH]), rest, dtype)
                found.append(_over_steps(answers.double().numpy(), graph))
        predicted[who] = np.concatenate(found).argmax(1)
    differ = int((predicted["dequantized"] != predicted["netlist"]).sum())
    if y is None:
        return {}, differ
    order = ("model", "dequantized", "netlist")
    return {name: float((predicted[name] == np.asarray(y)).mean()) for name in order}, differ
