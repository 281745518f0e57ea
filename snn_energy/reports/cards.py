"""Exports as the page shows them: a verdict, what was compared, and what every chip answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_energy.errors import DataError, SnnEnergyError
from snn_energy.exporters.chip.cards import chip_cards
from snn_energy.exporters.chip.mapping import CoreUse
from snn_energy.exporters.chip.parts import ChipAnswer, ChipEnergyPart
from snn_energy.exporters.mcu.parts import BoardRun, Fit
from snn_energy.exporters.verification import read_verification
from snn_energy.reading import read_json
from snn_energy.records import record_from
from snn_energy.reports.words import many, percent, picojoules

RECORD = "verification.json"
RESOURCES = (
    ("neurons", "neurons", "neurons_per_core"),
    ("weights", "weight_bits", "synapse_bits_per_core"),
    ("axons in", "in_axons", "in_axons_per_core"),
    ("axons out", "out_axons", "out_axons_per_core"),
)


@dataclass(frozen=True)
class Core:
    """A core's use: what lies on it, and the share of each resource that is taken."""

    name: str
    populations: str
    shares: Mapping[str, float]

    @property
    def fullest(self) -> float:
        """The share of the resource that is nearest to its limit."""
        return max(self.shares.values(), default=0.0)


@dataclass(frozen=True)
class Chip:
    """One chip's answer; `obstacles` as (node, what is asked, way out); `cores` where a map was written."""

    title: str
    fits: bool
    size: str
    obstacles: tuple[tuple[str, str, str], ...] = ()
    cores: tuple[Core, ...] = ()

    @property
    def short(self) -> str:
        """`Loihi 2: does not fit, 3 reasons`."""
        if self.fits:
            return f"{self.title}: fits"
        reasons = f", {many(len(self.obstacles), 'reason')}" if self.obstacles else ""
        return f"{self.title}: does not fit{reasons}"


@dataclass(frozen=True)
class Card:
    """One export: its verdict and summary, accuracies, further facts, chips."""

    folder: str
    target: str
    verdict: str
    summary: str
    ok: bool
    accuracy: Mapping[str, str]
    facts: Mapping[str, Any]
    chips: tuple[Chip, ...] = ()


def cards(folders: Iterable[Path]) -> list[Card]:
    """A card for each exported folder.  Raises `DataError` for one without a record."""
    return [_card(folder) for folder in folders]


def exports_beside(folder: Path, checkpoint: str | None) -> list[Path]:
    """Exports of the same checkpoint (by its SHA-256) in `folder` and in the folders beside and below it."""
    if checkpoint is None:
        return []
    near = [folder, *_folders(folder), *_folders(folder.absolute().parent)]
    found = {path.resolve(): path for path in near if (path / RECORD).is_file()}
    return sorted(path for path in found.values() if _made_from(path) == checkpoint)


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_dir())


def _made_from(folder: Path) -> str | None:
    """The hash of the checkpoint that an export says it was made from; None where it cannot be read."""
    try:
        source = read_verification(folder / RECORD)["parts"].get("source", {})
    except SnnEnergyError:
        return None
    origin = source.get("origin")
    return origin.get("checkpoint_sha256") if isinstance(origin, dict) else None


def _card(folder: Path) -> Card:
    path = folder / RECORD if folder.is_dir() else folder
    verdict = read_verification(path)
    try:
        return _told(verdict, folder)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: damaged: its parts are not what an export writes ({what})") from None


def _told(verdict: Mapping[str, Any], folder: Path) -> Card:
    parts, chips = verdict["parts"], chip_cards(folder)
    told = {
        key: value for key, value in _scalars(verdict).items() if key not in ("schema", "verdict", "summary")
    }
    for key in ("source", "onnx", "nir", "netlist", "int8"):
        told |= {name: value for name, value in _scalars(parts.get(key, {})).items() if value is not None}
    told |= parts.get("source", {}).get("origin", {})
    return Card(
        folder=str(folder),
        target=str(verdict.get("target", "")),
        verdict=verdict["verdict"],
        summary=verdict["summary"],
        ok=verdict["verdict"].startswith("identical"),
        accuracy={who: percent(share) for who, share in verdict.get("accuracy", {}).items()},
        facts=told | _ran(parts) | _energy(chips.energy),
        chips=tuple(_chip(answer, folder) for answer in chips.answers),
    )


def _ran(parts: Mapping[str, Any]) -> dict[str, str]:
    """What runtimes and simulators said."""
    said = {}
    if "lava" in parts:
        said["in the Lava runtime"] = parts["lava"]["summary"]
    if "sanafe" in parts:
        ran = parts["sanafe"]
        where = f"per inference ({ran['architecture']})"
        said["in SANA-FE"] = ran["summary"]
        said[f"energy {where}"] = picojoules(ran["joules_per_inference"] * 1e12)
        said[f"latency {where}"] = f"{ran['seconds_per_inference'] * 1e6:.4g} µs"
        said["how far SANA-FE is from the chip"] = ran["error"]
    said |= _in_c(parts)
    return said


def _energy(chip: ChipEnergyPart | None) -> dict[str, str]:
    """The netlist's energy at a chip's published figures, and what has none."""
    if chip is None:
        return {}
    beside = "".join(f", without {what}" for what in chip.unpriced)
    return {f"energy of the netlist ({chip.label})": picojoules(chip.total_mj * 1e9) + beside}


def _in_c(parts: Mapping[str, Any]) -> dict[str, str]:
    """The C program: how it was built, what microcontrollers measured, which parts hold it."""
    said = {}
    for build in parts.get("c", {}).get("builds", ()):
        equal = f"{build['compared'] - build['mismatches']:,} of {build['compared']:,} spikes equal"
        said[f"C by {build['compiler']} {build['flags']}"] = equal
    boards = parts.get("microcontrollers", {})
    runs = [record_from(BoardRun, run, "microcontrollers") for run in boards.get("runs", ())]
    fits = [record_from(Fit, found, "microcontrollers") for found in boards.get("fits", ())]
    said |= {f"C on {run.board} in QEMU": f"{run}; {run.answers()}" for run in runs}
    return said | {f"memory of {found.title}": str(found) for found in fits}


def _chip(answer: ChipAnswer, folder: Path) -> Chip:
    size = f"{many(answer.cores, 'core')} on {many(answer.chips, 'chip')}"
    stand = tuple((o.node, o.what, o.way_out) for o in answer.obstacles)
    named = answer.chip.replace("-", "").isalnum()  # part of a file's name
    cores = _cores(folder / f"mapping-{answer.chip}.json") if folder.is_dir() and named else ()
    return Chip(answer.title, answer.fits, size, stand, cores)


def _cores(path: Path) -> tuple[Core, ...]:
    """The use of every core, from the map that an export writes; none where it wrote none.

    Raises `DataError` for a file that is no such map.
    """
    if not path.is_file():
        return ()
    record = read_json(path, "core map")
    where = f"{path}: not a core map"
    chip, listed = record.get("chip"), record.get("cores")
    limits = chip.get("limits") if isinstance(chip, dict) else None
    if not isinstance(limits, dict) or not isinstance(listed, list):
        raise DataError(f"{where}: it must have the chip's limits and a list of cores")
    cores = [record_from(CoreUse, core, where) for core in listed]
    known = {name: (what, limits[limit]) for name, what, limit in RESOURCES if _positive(limits.get(limit))}
    return tuple(
        Core(
            f"{core.chip}.{core.core}",
            ", ".join(core.populations),
            {name: getattr(core, what) / most for name, (what, most) in known.items()},
        )
        for core in cores
    )


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _scalars(table: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that fit a cell: single values, and lists of them joined."""
    cells = {key: value for key, value in table.items() if not isinstance(value, dict | list)}
    for key, value in table.items():
        if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
            cells[key] = ", ".join(map(str, value)) or "none"
    return cells
