"""Does a netlist fit a chip?  What populations ask, a partition onto cores, obstacles with ways out.

The limits are data (`chips.yaml`), each with its source, and can be overridden.  Nothing here says that a
vendor's compiler would accept the network.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snn_energy.exporters.chip.chips import Chip, load_chip
from snn_energy.exporters.chip.demand import Asks, Demand, demand, projections
from snn_energy.exporters.chip.pack import Packer, Slice, by_columns, excess
from snn_energy.exporters.chip.parts import ChipAnswer, Obstacle
from snn_energy.exporters.netlist.record import (
    OWN_PROCESSES,
    GradedMaxPool,
    Input,
    Netlist,
    Population,
    Readout,
    Relay,
    SpikeAttention,
    StaaLif,
    time_offsets,
)
from snn_energy.files import write_text

NO_CHIP_FORM = {
    GradedMaxPool: (
        "synapses add, they take no maximum of currents: needs microcode or an embedded core",
        "put the neuron in front of the pool (STAtten: pooling_stat=0010), which makes it an OR of spikes",
    ),
    StaaLif: (
        "its gates multiply and normalise membranes: needs microcode or an embedded core",
        "train with its gates off (gc, pe and sa), which makes it a plain LIF",
    ),
    SpikeAttention: (
        "products of spikes with spikes are no synapses: needs microcode or an embedded core",
        "train with attention_mode=SDT, whose attention is ANDs and sums of spikes",
    ),
}


@dataclass(frozen=True)
class CoreUse:
    """One core: how many of each resource are taken."""

    chip: int
    core: int
    populations: tuple[str, ...]
    neurons: int
    weight_bits: int
    in_axons: int
    out_axons: int


@dataclass(frozen=True)
class MappingReport:
    """The answer; `fits` is true if no population exceeds a limit and no process lacks a form on the chip.

    `splits`: what was cut so that sums have to be relayed, one line each.
    """

    chip: Chip
    demands: tuple[Demand, ...]
    slices: tuple[Slice, ...]
    cores: tuple[CoreUse, ...]
    obstacles: tuple[Obstacle, ...]
    splits: tuple[str, ...] = ()

    @property
    def chips(self) -> int:
        return 1 + max((c.chip for c in self.cores), default=0)

    @property
    def fits(self) -> bool:
        return not self.obstacles

    @property
    def problems(self) -> tuple[str, ...]:
        """The obstacles as lines."""
        return tuple(map(str, self.obstacles))

    def answer(self) -> ChipAnswer:
        """The verdict for a record: does it fit, and what stands in the way."""
        chip = self.chip
        return ChipAnswer(chip.name, chip.title, self.fits, len(self.cores), self.chips, self.obstacles)

    def utilisation(self) -> dict[str, float]:
        """Mean share of each resource that is used on the cores that are used."""
        pairs = {"neurons": "neurons_per_core", "weight_bits": "synapse_bits_per_core",
                 "in_axons": "in_axons_per_core", "out_axons": "out_axons_per_core"}  # fmt: skip
        return {what: float(np.mean([getattr(c, what) for c in self.cores] or [0])) / self.chip[limit]
                for what, limit in pairs.items()}  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        record = {key: value for key, value in dataclasses.asdict(self).items() if key != "chip"}
        chip = {"name": self.chip.name, "title": self.chip.title, "limits": dict(self.chip.limits),
                "sources": dict(self.chip.sources)}  # fmt: skip
        return {
            "chip": chip,
            "fits": self.fits,
            "chips": self.chips,
            "problems": list(self.problems),
            "utilisation": self.utilisation(),
        } | record

    def save(self, path: str | Path) -> None:
        """Write the JSON report."""
        write_text(path, json.dumps(self.to_json(), indent=1) + "\n")


def map_netlist(netlist: Netlist, chip: str | Chip = "loihi2") -> MappingReport:
    """Place `netlist` on `chip`.  Raises ConfigError for an unknown chip."""
    chip = load_chip(chip) if isinstance(chip, str) else chip
    offsets = time_offsets(netlist)
    placed = sorted((n for n, node in netlist.nodes.items() if isinstance(node, Population | Relay)),
                    key=lambda n: offsets[n])  # fmt: skip
    demands = {name: demand(netlist, name, chip) for name in placed}
    packer, obstacles, splits = Packer(chip), list(_without_form(netlist)), []
    for name in placed:
        asks = Asks(netlist.nodes[name].shape, [node for node, _ in projections(netlist, name)], chip)
        beyond = excess(asks, chip)
        parts = by_columns(asks, chip) if beyond else None
        if parts is not None:
            for index, part in enumerate(parts[0]):
                packer.place(f"{name}.columns{index}", part)
            asks, beyond = parts[1], {}
            splits.append(
                f"{name}: cut by columns into {len(parts[0])} parts, whose sums are relayed as graded spikes "
                "one step later"
            )
        packer.place(name, asks)
        obstacles += _obstacles(demands[name], beyond, chip)
    cores = _cores(netlist, packer.slices)
    return MappingReport(
        chip, tuple(demands.values()), tuple(packer.slices), cores, tuple(obstacles), tuple(splits)
    )


def _without_form(netlist: Netlist) -> list[Obstacle]:
    return [
        Obstacle(name, f"{type(node).__name__}: {NO_CHIP_FORM[type(node)][0]}", NO_CHIP_FORM[type(node)][1])
        for name, node in netlist.nodes.items()
        if type(node) in NO_CHIP_FORM
    ]


def _obstacles(need: Demand, beyond: Mapping[str, int], chip: Chip) -> list[Obstacle]:
    name, found = need.population, []
    if axons := beyond.get("axons"):
        limit = chip["in_axons_per_core"]
        what = f"{axons} source neurons into one neuron, a core has {limit} input axons"
        found.append(Obstacle(name, what, f"pool or stride in front of it until {limit} are left"))
    if bits := beyond.get("bits"):
        limit = chip["synapse_bits_per_core"]
        what = f"{bits} bits of weights that cannot be split, a core has {limit}"
        found.append(Obstacle(name, what, "split the layer in two, or use groups or a smaller kernel"))
    if need.graded and not chip["graded_spikes"]:
        what = f"graded spikes, which {chip.title} does not have"
        found.append(Obstacle(name, what, "feed binary spikes, or take a chip with graded spikes (loihi2)"))
    return found


def _cores(netlist: Netlist, slices: list[Slice]) -> tuple[CoreUse, ...]:
    places: dict[str, set[tuple[int, int]]] = {}
    cores: dict[tuple[int, int], list[Slice]] = {}
    for piece in slices:
        places.setdefault(piece.population, set()).add((piece.chip, piece.core))
        cores.setdefault((piece.chip, piece.core), []).append(piece)
    reached = {name: _fan_out_cores(netlist, name, places) for name in places}
    return tuple(
        CoreUse(
            chip,
            core,
            tuple(dict.fromkeys(p.population for p in pieces)),
            sum(p.neurons for p in pieces),
            sum(p.weight_bits for p in pieces),
            sum(p.in_axons for p in pieces),
            sum(p.neurons * reached[p.population] for p in pieces),
        )
        for (chip, core), pieces in cores.items()
    )


def _fan_out_cores(netlist: Netlist, name: str, places: Mapping[str, set[tuple[int, int]]]) -> int:
    """Cores that a neuron of `name` must reach: at most all cores of the populations it feeds."""
    whole, _, part = name.rpartition(".columns")
    if part and name not in netlist.nodes:
        return len(places[whole])
    reached: set[tuple[int, int]] = set()
    waiting = [e.target for e in netlist.targets_of(name)]
    while waiting:
        target = waiting.pop()
        if target in places:
            split = [place for place in places if place.startswith(f"{target}.columns")]
            reached |= set().union(*(places[place] for place in split or [target]))
        elif not isinstance(netlist.nodes[target], (*OWN_PROCESSES, Readout, Input)):
            waiting += [e.target for e in netlist.targets_of(target)]
    return len(reached)
