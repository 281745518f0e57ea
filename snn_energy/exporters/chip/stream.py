"""A netlist and its network over many samples, some at a time: only the first ones' spikes are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from snn_energy.exporters.c.engine import simulator
from snn_energy.exporters.chip.reference import reference
from snn_energy.exporters.netlist.compare import NeuronDifference, compare_activities
from snn_energy.exporters.netlist.record import Netlist
from snn_energy.exporters.netlist.simulate import Activity
from snn_energy.exporters.verification import Difference, NeuronCheck
from snn_energy.graph.graph import Graph

CHUNK = 512
"""Samples whose spikes are held in memory."""


def compare_streamed(
    netlist: Netlist, graph: Graph, messages: np.ndarray, x: np.ndarray, engine: str = "auto"
) -> tuple[NeuronDifference, Activity, Activity]:
    """What the netlist's run of `messages` and that of `graph`, in float64 on `x`, have in common.

    Returns the comparison, the graph's run and the netlist's: logits and counts of all samples, spikes of the
    first `CHUNK`.  `engine`: see `c.engine.simulator`.
    """
    found: list[NeuronDifference] = []
    wanted: list[Activity] = []
    got: list[Activity] = []
    with simulator(netlist, engine, len(messages)) as run:
        for start in range(0, len(messages), CHUNK):
            some = slice(start, start + CHUNK)
            ours, theirs = run(messages[some]), reference(graph, netlist, x[some])
            found.append(compare_activities(netlist, theirs, ours, messages[some]))
            got.append(ours if start == 0 else dataclasses.replace(ours, outputs={}))
            wanted.append(theirs if start == 0 else dataclasses.replace(theirs, outputs={}))
    return _all(found), _whole(wanted), _whole(got)


def _all(found: list[NeuronDifference]) -> NeuronDifference:
    differences: list[Difference] = []
    for number, part in enumerate(found):
        start = number * CHUNK
        differences += [dataclasses.replace(d, sample=d.sample + start) for d in part.differences]
    checks = tuple(_summed(column) for column in zip(*(part.checks for part in found), strict=True))
    return NeuronDifference(checks, tuple(differences), np.concatenate([part.clean for part in found]))


def _summed(checks: Iterable[NeuronCheck]) -> NeuronCheck:
    first, *others = checks
    for check in others:
        first = NeuronCheck(
            first.name,
            first.compared + check.compared,
            first.spikes + check.spikes,
            first.mismatches + check.mismatches,
        )
    return first


def _whole(parts: list[Activity]) -> Activity:
    first = parts[0]
    logits = {name: np.concatenate([part.logits[name] for part in parts]) for name in first.logits}
    counts = {n: sum((part.counts[n] for part in parts[1:]), first.counts[n]) for n in first.counts}
    return Activity(first.outputs, logits, counts, sum(part.samples for part in parts))
