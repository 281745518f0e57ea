"""Lower a model: capture it, see its currents on samples, choose registers."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from snn_energy.exporters.chip import staa
from snn_energy.exporters.lowering.lower import Lowering, lower
from snn_energy.exporters.lowering.quantize import Calibration
from snn_energy.exporters.network import Network, batches, see, take
from snn_energy.graph import nodes as gn
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import run
from snn_energy.graph.simplify import fold_norms

CALIBRATION_SAMPLES = 256  # as many set the scales of a netlist
BATCH = 32


def calibrate(graph: Graph, x: np.ndarray) -> Calibration:
    """Largest input and largest current of every neuron over samples `x`, in the real-valued network."""
    folded = fold_norms(graph)
    currents: dict[str, float] = {}
    membranes: dict[str, float] = {}
    for _, part in batches(x, graph.batch_axis, BATCH):
        held = run(folded, part)
        for node in folded.neurons:
            peak = float(held[node.inputs[0]].abs().max())
            currents[node.name] = max(currents.get(node.name, 0.0), peak)
            if isinstance(node, gn.Neuron):
                inside = staa.membrane_peak(node, held[node.inputs[0]])
                membranes[node.name] = max(membranes.get(node.name, 0.0), inside)
    x = np.asarray(x)
    whole = bool(np.all(x == np.rint(x)) and x.min() >= 0)
    return Calibration(float(np.abs(x).max()), whole, currents, membranes)


def lower_model(model: nn.Module, x: np.ndarray, *, bits: int = 8, **options: Any) -> Lowering:
    """Capture `model` for samples `x`, and `lower_network`."""
    return lower_network(see(model, np.asarray(x, np.float32)), x, bits=bits, **options)


def lower_network(network: Network, x: np.ndarray, *, bits: int = 8, **options: Any) -> Lowering:
    """Calibrate on the first 256 of `x`, samples as the network takes them, and lower.

    Raises `UnsupportedOp` by node and operation.
    """
    graph = network.graph
    calibration = calibrate(graph, take(np.asarray(x), slice(CALIBRATION_SAMPLES), graph.batch_axis))
    parameters = staa.parameters_of(network.model, graph)
    return lower(graph, calibration, bits=bits, staa=parameters, **options)
