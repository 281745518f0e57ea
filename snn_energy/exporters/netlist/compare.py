"""Compare two runs of a netlist population by population; name the first spike that differs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snn_energy.exporters.netlist import int_ops
from snn_energy.exporters.netlist.record import SPIKING, VOLTAGE_LIMIT, Array, Netlist, StaaLif
from snn_energy.exporters.netlist.simulate import Activity, simulate, staa_membrane
from snn_energy.exporters.verification import Difference, NeuronCheck


@dataclass(frozen=True)
class NeuronDifference:
    """What a comparison found.  `clean` (B,): samples in which every spike is equal."""

    checks: tuple[NeuronCheck, ...]
    differences: tuple[Difference, ...]
    clean: Array


def compare_activities(
    netlist: Netlist, wanted: Activity, got: Activity, messages: Array
) -> NeuronDifference:
    """Hold every population that both runs recorded against each other, in network order.

    `messages`: the samples of both runs, to compute the netlist's membrane where spikes differ.
    """
    names = [n for n in netlist.order() if isinstance(netlist.nodes[n], SPIKING)]
    names = [n for n in names if n in wanted.outputs and n in got.outputs]
    checks, clean = [], np.ones(got.samples, bool)
    first: dict[int, Difference] = {}
    for name in names:
        unequal = wanted.outputs[name] != got.outputs[name]
        spikes = int(wanted.outputs[name].sum())
        checks.append(NeuronCheck(name, unequal.size, spikes, int(unequal.sum())))
        for sample in np.flatnonzero(unequal.reshape(len(unequal), -1).any(axis=1)):
            if int(sample) not in first:
                step, *index = (int(i) for i in np.argwhere(unequal[sample])[0])
                first[int(sample)] = _difference(netlist, name, int(sample), step, tuple(index), messages)
        clean &= ~unequal.reshape(len(unequal), -1).any(axis=1)
    return NeuronDifference(tuple(checks), tuple(first[s] for s in sorted(first)), clean)


def membrane(netlist: Netlist, name: str, sample: Array) -> Array:
    """V (T, C, H, W) of a neuron layer just before it fires, in integers, for one sample of messages."""
    node = netlist.nodes[name]
    assert isinstance(node, SPIKING)
    sources = tuple(edge.source for edge in netlist.inputs_of(name))
    heard = simulate(netlist, sample[None], probes=sources).outputs
    current = sum(heard[s][0].astype(np.float64) for s in sources)
    if isinstance(node, StaaLif):
        return np.asarray(staa_membrane(node, current, 1, np))
    u = v = np.zeros(node.shape)
    charged = []
    for a in np.asarray(current).reshape(-1, *node.shape):
        u = int_ops.decay(u, node.current_decay, np) + 64 * a
        v = np.clip(
            int_ops.decay(v, node.voltage_decay, np) + u + node.bias, 1 - VOLTAGE_LIMIT, VOLTAGE_LIMIT - 1
        )
        charged.append(v)
        v = np.where(v > node.threshold << 6, 0.0, v)
    return np.stack(charged)


def _difference(
    netlist: Netlist, name: str, sample: int, step: int, index: tuple[int, ...], messages: Array
) -> Difference:
    """Where, and the netlist's own membrane there, in membrane units (64 to a unit of current).

    The half unit between firing and not makes that no tie: integers have none.
    """
    node = netlist.nodes[name]
    assert isinstance(node, SPIKING)
    v = float(membrane(netlist, name, messages[sample])[(step, *index)])
    fires_at = node.threshold if isinstance(node, StaaLif) else (node.threshold << 6) + 1
    return Difference(sample, name, step, index, v, fires_at - 0.5)
