"""Exports as the page shows them: a verdict, what was compared, and what every chip answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_energy.exporters.mcu.parts import BoardRun, Fit
from snn_energy.exporters.verification import read_verification
from snn_energy.records import record_from
from snn_energy.reports.words import many, percent, picojoules

RECORD = "verification.json"


@dataclass(frozen=True)
class Chip:
    """One chip's answer; `obstacles` as (node, what is asked, way out)."""

    title: str
    fits: bool
    size: str
    obstacles: tuple[tuple[str, str, str], ...] = ()

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
    from snn_energy.errors import SnnEnergyError

    try:
        source = read_verification(folder / RECORD)["parts"].get("source", {})
    except SnnEnergyError:
        return None
    origin = source.get("origin")
    return origin.get("checkpoint_sha256") if isinstance(origin, dict) else None


def _card(folder: Path) -> Card:
    verdict = read_verification(folder / RECORD if folder.is_dir() else folder)
    parts = verdict["parts"]
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
        facts=told | _ran(parts),
        chips=tuple(_chip(answer) for answer in parts.get("mapping", {}).get("answers", ())),
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
    if "chip_energy" in parts:
        chip = parts["chip_energy"]
        beside = "".join(f", without {what}" for what in chip["unpriced"])
        said[f"energy of the netlist ({chip['label']})"] = picojoules(chip["total_mj"] * 1e9) + beside
    return said


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


def _chip(answer: Mapping[str, Any]) -> Chip:
    size = f"{many(answer['cores'], 'core')} on {many(answer['chips'], 'chip')}"
    stand = tuple((o["node"], o["what"], o["way_out"]) for o in answer["obstacles"])
    return Chip(answer["title"], answer["fits"], size, stand)


def _scalars(table: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that fit a cell: single values, and lists of them joined."""
    cells = {key: value for key, value in table.items() if not isinstance(value, dict | list)}
    for key, value in table.items():
        if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
            cells[key] = ", ".join(map(str, value)) or "none"
    return cells
