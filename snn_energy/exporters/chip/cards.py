"""What an exported folder says of chips, read from its record: for reports, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from snn_energy.exporters.chip.parts import ChipAnswer, ChipEnergyPart, MappingPart
from snn_energy.exporters.verification import VERIFICATION_FILE, read_verification
from snn_energy.records import record_from


@dataclass(frozen=True)
class ChipCards:
    """The answer of every chip that was asked, the page that shows each core, and the netlist's energy.

    `page`: None where that file is not there; `energy`: None where the record has none.
    """

    answers: tuple[ChipAnswer, ...]
    page: Path | None = None
    energy: ChipEnergyPart | None = None


def chip_cards(folder: str | Path) -> ChipCards:
    """The cards of an export, or of its `verification.json`; no answers where its target makes no netlist.

    Raises `DataError` for a record that is missing or damaged.
    """
    path = Path(folder)
    path = path / VERIFICATION_FILE if path.is_dir() else path
    parts = read_verification(path)["parts"]
    if MappingPart.key not in parts:
        return ChipCards(())
    mapping = record_from(MappingPart, parts[MappingPart.key], f"{path}: damaged: mapping")
    energy = parts.get(ChipEnergyPart.key)
    page = path.parent / Path(mapping.page).name if mapping.page else None
    return ChipCards(
        mapping.answers,
        page if page is not None and page.is_file() else None,
        None if energy is None else record_from(ChipEnergyPart, energy, f"{path}: damaged: chip_energy"),
    )
