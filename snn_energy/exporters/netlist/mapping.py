"""Does a netlist fit a chip?  Demands per population, a greedy partition onto cores, and the obstacles.

The limits are data (`chips.yaml`), each with its source, and can be overridden.  The partition is first-fit
in the order of time: a population fills the core that is open until a limit is met, then the next one.  It is
an upper bound on cores, not an optimum.  Nothing here says that a vendor's compiler would accept the network.
"""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from snn_energy.errors import ConfigError, suggest
from snn_energy.exporters.netlist.check import message_bits
from snn_energy.exporters.netlist.record import (
    OWN_PROCESSES,
    SYNAPSES,
    Conv,
    Delay,
    GradedMaxPool,
    Input,
    Netlist,
    Node,
    Population,
    Readout,
    Relay,
    SpikeAttention,
    StaaLif,
    Synapses,
    time_offsets,
    width,
)
from snn_energy.exporters.netlist.synapses import fan_out

WEIGHT_BITS = 8
NO_CHIP_FORM = {
    GradedMaxPool: "synapses add, they take no maximum of currents: needs microcode or an embedded core",
    StaaLif: "its gates multiply and normalise membranes: needs microcode or an embedded core",
    SpikeAttention: "products of spikes with spikes are no synapses: needs microcode or an embedded core",
}


@dataclass(frozen=True)
class Chip:
    """Limits of a chip by name, and where each number comes from."""

    name: str
    title: str
    limits: Mapping[str, Any]
    sources: Mapping[str, str]

    def __getitem__(self, key: str) -> Any:
        return self.limits[key]


@dataclass(frozen=True)
class Demand:
    """What one population asks of a chip."""

    population: str
    neurons: int
    synapses: int
    fan_in: int  # source neurons that reach it
    weight_bits: int
    graded: bool


@dataclass(frozen=True)
class Slice:
    """Neurons `start` to `stop` of a population, on core `core` of chip `chip`."""

    population: str
    start: int
    stop: int
    chip: int
    core: int


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
    """The answer; `fits` is true if no population exceeds a limit and no process lacks a form on the chip."""

    chip: Chip
    demands: tuple[Demand, ...]
    slices: tuple[Slice, ...]
    cores: tuple[CoreUse, ...]
    problems: tuple[str, ...]
    off_chip: Mapping[str, str]

    @property
    def chips(self) -> int:
        return 1 + max((c.chip for c in self.cores), default=0)

    @property
    def fits(self) -> bool:
        return not self.problems and not self.off_chip

    def utilisation(self) -> dict[str, float]:
        """Mean share of each resource that is used on the cores that are used."""
        pairs = {"neurons": "neurons_per_core", "weight_bits": "synapse_bits_per_core",
                 "in_axons": "in_axons_per_core", "out_axons": "out_axons_per_core"}  # fmt: skip
        return {what: float(np.mean([getattr(c, what) for c in self.cores] or [0])) / self.chip[limit]
                for what, limit in pairs.items()}  # fmt: skip

    def summary(self) -> str:
        """A few lines for a terminal."""
        used = ", ".join(
            f"{what.replace('_', ' ')} {share:.0%}" for what, share in self.utilisation().items()
        )
        lines = [
            f"{self.chip.title}: {len(self.cores)} cores on {self.chips} chips; mean use of a core: {used}"
        ]
        lines += [f"does not fit: {problem}" for problem in self.problems]
        lines += [f"no form on the chip: {name}: {why}" for name, why in self.off_chip.items()]
        return "\n".join(lines)

    def to_html(self) -> str:
        """A fragment for a report: the verdict, the limits with their sources, the use of every core."""
        rows = "".join(
            f"<tr><td>{c.chip}.{c.core}</td><td>{_bar(c.neurons, self.chip['neurons_per_core'])}</td>"
            f"<td>{_bar(c.weight_bits, self.chip['synapse_bits_per_core'])}</td>"
            f"<td>{_bar(c.in_axons, self.chip['in_axons_per_core'])}</td>"
            f"<td>{_bar(c.out_axons, self.chip['out_axons_per_core'])}</td>"
            f"<td>{html.escape(', '.join(c.populations))}</td></tr>"
            for c in self.cores
        )
        limits = "".join(
            f"<tr><td>{key}</td><td>{value}</td><td>{html.escape(self.chip.sources[key])}</td></tr>"
            for key, value in self.chip.limits.items()
        )
        summary = "<br>".join(html.escape(line) for line in self.summary().splitlines())
        titles = ("core", "neurons", "weights", "axons in", "axons out", "")
        head = f"<tr>{''.join(f'<th>{title}</th>' for title in titles)}</tr>"
        return (
            f'<section class="mapping"><h3>{html.escape(self.chip.title)}</h3><p>{summary}</p>'
            f"<table>{head}{rows}</table><table><tr><th>limit</th><th>value</th><th>source</th></tr>{limits}</table>"
            "</section>"
        )

    def to_json(self) -> dict[str, Any]:
        record = {key: value for key, value in dataclasses.asdict(self).items() if key != "chip"}
        chip = {"name": self.chip.name, "title": self.chip.title, "limits": dict(self.chip.limits),
                "sources": dict(self.chip.sources)}  # fmt: skip
        return {
            "chip": chip,
            "fits": self.fits,
            "chips": self.chips,
            "utilisation": self.utilisation(),
        } | record

    def save(self, path: str | Path) -> None:
        """Write the JSON report."""
        from snn_energy.files import write_text

        write_text(path, json.dumps(self.to_json(), indent=1) + "\n")


def _bar(used: float, limit: float) -> str:
    """The share used as a bar (inline SVG) with its percentage; red above the limit."""
    share = used / limit
    colour = "#c0392b" if share > 1 else "#2c7fb8"
    return (
        f'<svg width="60" height="10" role="img"><rect width="60" height="10" fill="#eee"/>'
        f'<rect width="{60 * min(share, 1):.1f}" height="10" fill="{colour}"/></svg> {share:.0%}'
    )


def load_chip(name: str) -> Chip:
    """A chip of `chips.yaml`, or `file.yaml:name` of a file of the same form; gaps are Loihi 2's."""
    file, _, chip = name.rpartition(":")
    known = yaml.safe_load(Path(__file__).with_name("chips.yaml").read_text(encoding="utf-8"))
    own: dict[str, Any] = {}
    if file:
        try:
            own = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"cannot read chips from {file}: {error}") from error
    chips = known | (own if isinstance(own, dict) else {})
    if chip not in chips:
        raise ConfigError(f"unknown chip {chip!r}; {suggest(chip, chips)}")
    entry = known["loihi2"] | chips[chip]
    title = str(entry.pop("title"))
    unknown = set(entry) - set(known["loihi2"])
    if unknown:
        raise ConfigError(
            f"chip {chip!r}: no limit {min(unknown)!r}; {suggest(min(unknown), known['loihi2'])}"
        )
    try:
        limits = {key: limit["value"] for key, limit in entry.items()}
        sources = {key: str(limit["source"]) for key, limit in entry.items()}
    except (TypeError, KeyError) as error:
        raise ConfigError(f"chip {chip!r}: every limit needs a value and a source") from error
    return Chip(chip, title, limits, sources)


def map_netlist(netlist: Netlist, chip: str | Chip = "loihi2") -> MappingReport:
    """Place `netlist` on `chip`.  Raises ConfigError for an unknown chip."""
    chip = load_chip(chip) if isinstance(chip, str) else chip
    offsets = time_offsets(netlist)
    placed = sorted((n for n, node in netlist.nodes.items() if isinstance(node, Population | Relay)),
                    key=lambda n: offsets[n])  # fmt: skip
    demands = {name: demand(netlist, name, chip) for name in placed}
    slices = _partition(demands, chip)
    problems = [text for name in placed for text in _problems(netlist, demands[name], chip)]
    off_chip = {
        name: NO_CHIP_FORM[type(node)] for name, node in netlist.nodes.items() if type(node) in NO_CHIP_FORM
    }
    return MappingReport(
        chip,
        tuple(demands.values()),
        tuple(slices),
        tuple(_cores(netlist, demands, slices)),
        tuple(problems),
        off_chip,
    )


def demand(netlist: Netlist, name: str, chip: Chip) -> Demand:
    """Resources of one population: its synapses are stored where it lies."""
    incoming = list(_projections(netlist, name))
    synapses = sum(int(fan_out(node).sum()) for node, _ in incoming)
    shared = chip["shared_convolutions"]
    stored = 0
    for node, _ in incoming:
        if shared and isinstance(node, Conv):
            stored += int(np.count_nonzero(node.weight))
        else:
            stored += int(fan_out(node).sum())
    fan_in = sum(width(netlist.nodes[source]) for _, source in incoming)
    target = netlist.nodes[name]
    graded = isinstance(target, Relay) or any(message_bits(netlist, source) for _, source in incoming)
    bits = stored * (WEIGHT_BITS + chip["synapse_overhead_bits"])
    return Demand(name, width(target), synapses, fan_in, bits, graded)


def _projections(netlist: Netlist, name: str) -> list[tuple[Synapses, str]]:
    """(projection, its source) of everything that reaches a population, through delays."""
    found: list[tuple[Synapses, str]] = []
    for edge in netlist.inputs_of(name):
        node: Node = netlist.nodes[edge.source]
        if isinstance(node, SYNAPSES):
            found.append((node, netlist.inputs_of(edge.source)[0].source))
        elif isinstance(node, Delay):
            found += _projections(netlist, edge.source)
    return found


def _partition(demands: Mapping[str, Demand], chip: Chip) -> list[Slice]:
    """First fit: each population takes what the open core has left, then opens the next."""
    slices: list[Slice] = []
    core = neurons = axons = groups = 0
    bits = 0.0
    for name, need in demands.items():
        per_neuron = 0 if chip["shared_convolutions"] else need.weight_bits / need.neurons
        fixed = need.weight_bits if chip["shared_convolutions"] else 0
        start = 0
        while start < need.neurons:
            room = chip["neurons_per_core"] - neurons
            memory = chip["synapse_bits_per_core"] - bits - fixed
            if per_neuron:
                room = min(room, int(memory // per_neuron))
            fits = room >= 1 and memory >= 0 and groups < chip["groups_per_core"]
            fits = fits and axons + need.fan_in <= chip["in_axons_per_core"]
            empty = neurons == 0
            if not fits and not empty:
                core, neurons, axons, groups, bits = core + 1, 0, 0, 0, 0.0
                continue
            count = min(max(room, 1), need.neurons - start)  # an empty core takes what it must; see _problems
            slices.append(
                Slice(
                    name, start, start + count, core // chip["cores_per_chip"], core % chip["cores_per_chip"]
                )
            )
            start, neurons, groups = start + count, neurons + count, groups + 1
            axons, bits = axons + need.fan_in, bits + fixed + per_neuron * count
    return slices


def _cores(netlist: Netlist, demands: Mapping[str, Demand], slices: list[Slice]) -> list[CoreUse]:
    places: dict[str, set[tuple[int, int]]] = {}
    for piece in slices:
        places.setdefault(piece.population, set()).add((piece.chip, piece.core))
    cores: dict[tuple[int, int], list[Slice]] = {}
    for piece in slices:
        cores.setdefault((piece.chip, piece.core), []).append(piece)
    used = []
    for (chip, core), pieces in cores.items():
        bits = sum(
            demands[p.population].weight_bits * (p.stop - p.start) / demands[p.population].neurons
            for p in pieces
        )
        routes = sum((p.stop - p.start) * _fan_out_cores(netlist, p.population, places) for p in pieces)
        axons = sum(demands[p.population].fan_in for p in pieces)
        names = tuple(dict.fromkeys(p.population for p in pieces))
        used.append(
            CoreUse(chip, core, names, sum(p.stop - p.start for p in pieces), round(bits), axons, routes)
        )
    return used


def _fan_out_cores(netlist: Netlist, name: str, places: Mapping[str, set[tuple[int, int]]]) -> int:
    """Cores that a neuron of `name` must reach: at most all cores of the populations it feeds."""
    reached: set[tuple[int, int]] = set()
    waiting = [e.target for e in netlist.targets_of(name)]
    while waiting:
        target = waiting.pop()
        if target in places:
            reached |= places[target]
        elif not isinstance(netlist.nodes[target], (*OWN_PROCESSES, Readout, Input)):
            waiting += [e.target for e in netlist.targets_of(target)]
    return len(reached)


def _problems(netlist: Netlist, need: Demand, chip: Chip) -> list[str]:
    found = []
    if need.fan_in > chip["in_axons_per_core"]:
        axons = chip["in_axons_per_core"]
        found.append(f"{need.population}: {need.fan_in} source neurons, a core has {axons} input axons")
    smallest = need.weight_bits if chip["shared_convolutions"] else need.weight_bits / need.neurons
    if smallest > chip["synapse_bits_per_core"]:
        found.append(
            f"{need.population}: {smallest:.0f} bits of weights that cannot be split, a core has "
            f"{chip['synapse_bits_per_core']}"
        )
    if need.graded and not chip["graded_spikes"]:
        found.append(f"{need.population}: graded spikes, which {chip.title} does not have")
    return found
