"""What a verification of a netlist says besides its verdict; plain values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from snn_energy.exporters.verification import Part


@dataclass(frozen=True)
class NetlistPart(Part):
    """The netlist: its size, the kinds of its own processes, what was approximated, what set its scales."""

    key: ClassVar[str] = "netlist"
    neurons: int
    own_processes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    calibration: str = ""


@dataclass(frozen=True)
class ChipEnergyPart(Part):
    """Energy of the simulated netlist per inference at published figures; `label` says whose.

    `unpriced`: what happened as well and has no published price.
    """

    key: ClassVar[str] = "chip_energy"
    total_mj: float
    label: str
    synaptic_events: float
    spikes: float
    pj_by_population: dict[str, float]
    unpriced: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateError:
    """An integer STAA neuron against the float one on the same currents: what fixed point alone changes.

    Spikes compared, those of the float neuron, those that differ; `membrane`: largest |ΔV| / threshold in
    samples without differing spikes.
    """

    compared: int
    spikes: int
    differ: int
    membrane: float


@dataclass(frozen=True)
class StaaPart(Part):
    """Integer STAA neurons against float64 gates on the same currents."""

    key: ClassVar[str] = "staa"
    samples: int
    gate_products: int
    by_neuron: Mapping[str, GateError]
    spikes_compared: int
    spikes_differ: int
    largest_membrane_error: float
    reference: str = "float64 gates on the same currents"


@dataclass(frozen=True)
class Obstacle:
    """Why a node does not fit a chip: what it asks, what the chip has, and the nearest change that helps."""

    node: str
    what: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.node}: {self.what}; {self.way_out}"


@dataclass(frozen=True)
class ChipAnswer:
    """Does the netlist fit a chip: how many cores of how many chips, and what stands in the way."""

    chip: str
    title: str
    fits: bool
    cores: int
    chips: int
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def words(self) -> str:
        """`fits` or `does not fit`."""
        return "fits" if self.fits else "does not fit"


@dataclass(frozen=True)
class MappingPart(Part):
    """The answer of every chip that was asked, and the page in the folder that shows every core."""

    key: ClassVar[str] = "mapping"
    answers: tuple[ChipAnswer, ...]
    page: str = ""


@dataclass(frozen=True)
class RuntimePart(Part):
    """The same package in another runtime: its own verdict on the first samples."""

    key: ClassVar[str] = "lava"
    verdict: str
    summary: str
    samples: int
    reference: str
