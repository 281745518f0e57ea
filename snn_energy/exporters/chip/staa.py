"""STAA neurons between PyTorch and the netlist: their parameters, and their integers as a torch function."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from snn_energy.errors import VerificationError
from snn_energy.exporters.chip.energy import gate_products
from snn_energy.exporters.chip.parts import GateError, StaaPart
from snn_energy.exporters.lowering.staa import StaaParameters, read_module
from snn_energy.exporters.netlist import staa_lif
from snn_energy.exporters.netlist.record import Netlist, StaaLif
from snn_energy.graph import nodes as gn
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import membrane, run

KIND = "STAALIF"  # of the graph's neuron nodes
WHOLE = 1e-3  # how far from a whole number a current may be that float64 computed


def parameters_of(model: nn.Module, graph: Graph) -> dict[str, StaaParameters]:
    """The parameters of every STAA neuron of `graph`, captured from `model`, by node name."""
    found = [n for n in graph.neurons if isinstance(n, gn.Neuron) and n.kind == KIND]
    return {node.name: read_module(model.get_submodule(node.module)) for node in found}


def membrane_peak(node: gn.Neuron, current: Tensor) -> float:
    """Largest |value| of a whole map anywhere inside a neuron for its currents (T, B, C, H, W)."""
    inside = run(node.body, current)
    return max(float(v.abs().max()) for v in inside.values() if v.shape[-3:] == current.shape[-3:])


def spikes(node: StaaLif, current: Tensor) -> Tensor:
    """What the integer neuron fires for real currents (T, B, ...) that are whole in its unit, bias included.

    Raises `VerificationError` where they are not: then the network in front of it is not de-quantized.
    """
    return (integer_membrane(node, current) >= node.threshold).to(current.dtype)


def integer_membrane(node: StaaLif, current: Tensor) -> Tensor:
    """V of the integer neuron for real currents (T, B, ...): int64, in membrane units, of the same shape."""
    units = current.double().transpose(0, 1).numpy() * node.scale
    whole = np.rint(units)
    if np.abs(units - whole).max() > WHOLE:
        raise VerificationError(f"a current of {units.ravel()[np.abs(units - whole).argmax()]:.6f} units")
    arrived = whole.reshape(*units.shape[:2], *node.shape).astype(np.int64) - node.bias
    v = staa_lif.run(vars(node), arrived, np)
    return torch.from_numpy(v.reshape(units.shape)).transpose(0, 1)


def functions(netlist: Netlist) -> dict[str, Callable[[Tensor], Tensor]]:
    """For `run`: each STAA neuron of a graph fires what its integers fire."""

    def fires(node: StaaLif) -> Callable[[Tensor], Tensor]:
        return lambda current: spikes(node, current)

    return {name: fires(node) for name, node in netlist.nodes.items() if isinstance(node, StaaLif)}


class IntegerStaa(nn.Module):
    """Takes the place of a STAA module in the de-quantized model."""

    def __init__(self, node: StaaLif) -> None:
        super().__init__()
        self.node = node

    def forward(self, x: Tensor) -> Tensor:
        return spikes(self.node, x)


def gate_errors(graph: Graph, netlist: Netlist, x: np.ndarray) -> dict[str, GateError]:
    """Every STAA neuron of the de-quantized `graph` for inputs `x`, rounded as the chip's."""
    held = run(graph, x, dtype=torch.float64, functions=functions(netlist))
    nodes = {name: node for name, node in netlist.nodes.items() if isinstance(node, StaaLif)}
    return {name: _gate_error(graph[name], node, held) for name, node in nodes.items()}


def _gate_error(neuron: gn.Node, node: StaaLif, held: Mapping[str, Tensor]) -> GateError:
    assert isinstance(neuron, gn.Neuron)
    current = held[neuron.inputs[0]]
    wanted = run(neuron.body, current, dtype=torch.float64)[neuron.body.outputs[0]]
    v, threshold = membrane(neuron, current, wanted)
    unequal = wanted != held[neuron.name]
    unit = node.scale * (1 << staa_lif.FRACTION_BITS)
    margin = (integer_membrane(node, current) - node.threshold) / unit
    off = (v - threshold - margin)[:, ~unequal.flatten(2).any(2).any(0)].abs()
    worst = float(off.max()) * unit / node.threshold if off.numel() else 0.0
    return GateError(wanted.numel(), int(wanted.sum()), int(unequal.sum()), worst)


def report(graph: Graph, netlist: Netlist, x: np.ndarray) -> StaaPart | None:
    """What a verification says of STAA neurons: nothing where there are none."""
    errors = gate_errors(graph, netlist, x)
    if not errors:
        return None
    return StaaPart(
        samples=len(x),
        gate_products=gate_products(netlist),
        by_neuron=errors,
        spikes_compared=sum(e.compared for e in errors.values()),
        spikes_differ=sum(e.differ for e in errors.values()),
        largest_membrane_error=max(e.membrane for e in errors.values()),
    )
