"""What the terminal says after an export: the verdict, the accuracies, the chips' answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from snn_energy.cli.out import echo, echo_json
from snn_energy.errors import ConfigError, suggest

if TYPE_CHECKING:
    from snn_energy.exporters.mcu.parts import BoardPart, CPart
    from snn_energy.exporters.verification import Verification

MAPPED = ("netlist", "lava", "sanafe")  # the targets that make a netlist


def check_require_fit(target: str, chip: str | None) -> None:
    """Refuse, before any work, a chip that nobody knows, or a target that makes no netlist."""
    if chip is None:
        return
    if target == "c":
        from snn_energy.exporters.mcu.parts import part_names

        if chip not in part_names():
            raise ConfigError(f"--require-fit: unknown part {chip!r}; {suggest(chip, part_names())}")
        return
    from snn_energy.exporters.chip.chips import chip_names

    if target not in MAPPED:
        raise ConfigError(
            f"--require-fit {chip}: target {target} has no chip; {', '.join((*MAPPED, 'c'))} have"
        )
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
    from snn_energy.exporters.mcu.parts import BoardPart, CPart
    from snn_energy.exporters.mcu.parts import require_fit as require_part
    from snn_energy.exporters.sanafe.export import SanafePart

    mapping = verdict.part(MappingPart)
    boards = verdict.part(BoardPart)
    answers = mapping.answers if mapping else ()
    if as_json:
        chips = [dataclasses.asdict(answer) for answer in answers]
        said = {"verdict": verdict.verdict, "summary": verdict.summary(), "accuracy": verdict.accuracy}
        for part in (verdict.part(CPart), boards):
            said |= {part.key: dataclasses.asdict(part)} if part else {}
        echo_json(said | {"folder": str(folder), "chips": chips})
    else:
        echo(verdict.summary())
        for who, share in verdict.accuracy.items():
            echo(f"accuracy ({who}): {share:.2%}")
        if chip := verdict.part(ChipEnergyPart):
            beside = "".join(f", without {what}" for what in chip.unpriced)
            echo(f"chip energy ({chip.label}): {chip.total_mj * 1e3:.4g} µJ per inference{beside}")
        if ran := verdict.part(SanafePart):
            figures = f"{ran.joules_per_inference * 1e6:.4g} µJ and {ran.seconds_per_inference * 1e6:.4g} µs"
            echo(f"{ran.architecture}: {figures} per inference; {ran.error}")
        for line in c_lines(verdict.part(CPart), boards):
            echo(line)
        echo(folder)
        if answers:
            echo(f"Does it fit the chip?  (page: {folder / MAPPING_PAGE})")
            echo(table(answers))
    verdict.require()
    if require_fit is not None:
        if boards:
            require_part(boards.fits, require_fit)
        else:
            require(answers, require_fit)


def c_lines(part: CPart | None, boards: BoardPart | None) -> Iterator[str]:
    """The C program's builds and sizes, microcontrollers, and which parts hold it."""
    for build in part.builds if part else ():
        equal = f"{build.compared - build.mismatches:,} of {build.compared:,} spikes equal"
        yield f"{build.compiler} {build.flags}: {equal} on {build.samples} samples"
    if part and part.note:
        yield part.note
    if part:
        sizes = f"constants {part.constant_bytes:,} B, state and buffers {part.static_bytes:,} B"
        yield f"{sizes}; {part.event_share:.1%} of the synaptic events are event-driven"
    if boards is None:
        return
    for run in boards.runs:
        yield str(run)
        yield run.answers()
    for found in boards.fits:
        yield str(found)
    if boards.note:
        yield f"({boards.note})"
