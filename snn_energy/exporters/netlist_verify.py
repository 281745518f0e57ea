"""Compare two runs of a netlist population by population; name the first spike that differs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from snn_energy.exporters.netlist import Array, Netlist, Population
from snn_energy.exporters.simulate import Activity
from snn_energy.exporters.verify import Difference, NeuronCheck


@dataclass(frozen=True)
class NeuronDifference:
    """What a comparison found.  `clean` (B,): samples in which every spike is equal."""

    checks: tuple[NeuronCheck, ...]
    differences: tuple[Difference, ...]
    clean: Array


def compare_activities(netlist: Netlist, wanted: Activity, got: Activity) -> NeuronDifference:
    """Hold every population that both runs recorded against each other, in network order."""
    names = [n for n in netlist.order() if isinstance(netlist.nodes[n], Population)]
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
                first[int(sample)] = _difference(netlist, name, int(sample), step, tuple(index))
        clean &= ~unequal.reshape(len(unequal), -1).any(axis=1)
    return NeuronDifference(tuple(checks), tuple(first[s] for s in sorted(first)), clean)


def _difference(netlist: Netlist, name: str, sample: int, step: int, index: tuple[int, ...]) -> Difference:
    """A differing spike of integers is never a tie: its margin is a whole unit of the membrane."""
    node = netlist.nodes[name]
    assert isinstance(node, Population)
    threshold = float(node.threshold << 6)
    return Difference(sample, name, step, index, threshold + 1.0, threshold)
