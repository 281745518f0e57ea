"""What the terminal says after an export: the verdict, the accuracies, the chips' answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from snn_energy.errors import ConfigError, suggest

if TYPE_CHECKING:
    from snn_energy.exporters.verification import Verification

MAPPED = ("netlist", "lava", "sanafe")  # the targets that make a netlist


def check_require_fit(target: str, chip: str | None) -> None:
    """Refuse, before any work, a chip that nobody knows, or a target that makes no netlist."""
    if chip is None:
        return
    from snn_energy.exporters.chip.chips import chip_names

    if target not in MAPPED:
        raise ConfigError(f"--require-fit {chip}: target {target} has no chip; {', '.join(MAPPED)} have")
    if chip not in chip_names():
        raise ConfigError(f"--require-fit: unknown chip {chip!r}; {suggest(chip, chip_names())}")


def show(
    verdict: Verification, folder: Path, *, require_fit: str | None = None, as_json: bool = False
) -> None:
    """Print it.

    Last, raises `VerificationError` where nothing fired, `DoesNotFit` where it does not fit `require_fit`.
    """
    from snn_energy.exporters.chip.answer import require_fit as require
    from snn_energy.exporters.chip.answer import table
    from snn_energy.exporters.chip.export import MAPPING_PAGE
    from snn_energy.exporters.chip.parts import ChipEnergyPart, MappingPart
    from snn_energy.exporters.sanafe.export import SanafePart

    mapping = verdict.part(MappingPart)
    answers = mapping.answers if mapping else ()
    if as_json:
        chips = [dataclasses.asdict(answer) for answer in answers]
        said = {"verdict": verdict.verdict, "summary": verdict.summary(), "accuracy": verdict.accuracy}
        typer.echo(json.dumps(said | {"folder": str(folder), "chips": chips}, indent=1))
    else:
        typer.echo(verdict.summary())
        for who, share in verdict.accuracy.items():
            typer.echo(f"accuracy ({who}): {share:.2%}")
        if chip := verdict.part(ChipEnergyPart):
            beside = "".join(f", without {what}" for what in chip.unpriced)
            typer.echo(f"chip energy ({chip.label}): {chip.total_mj * 1e3:.4g} µJ per inference{beside}")
        if ran := verdict.part(SanafePart):
            figures = f"{ran.joules_per_inference * 1e6:.4g} µJ and {ran.seconds_per_inference * 1e6:.4g} µs"
            typer.echo(f"{ran.architecture}: {figures} per inference; {ran.error}")
        typer.echo(str(folder))
        if answers:
            typer.echo(f"Does it fit the chip?  (page: {folder / MAPPING_PAGE})")
            typer.echo(table(answers))
    verdict.require()
    if require_fit is not None:
        require(answers, require_fit)
