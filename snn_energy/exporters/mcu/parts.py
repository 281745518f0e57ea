"""What a verification says of C and of microcontrollers; plain values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from snn_energy.errors import ConfigError, DoesNotFit, suggest
from snn_energy.exporters.verification import Part


@dataclass(frozen=True)
class BuildCheck:
    """One build of the program on this machine, and its spikes against the integer simulator's."""

    compiler: str
    flags: str
    samples: int
    compared: int
    mismatches: int

    def more(self, samples: int, compared: int, mismatches: int) -> BuildCheck:
        """The same build after further samples."""
        return BuildCheck(
            self.compiler,
            self.flags,
            self.samples + samples,
            self.compared + compared,
            self.mismatches + mismatches,
        )


@dataclass(frozen=True)
class EngineChoice:
    """How a projection is computed, and the share of its messages that were not zero."""

    projection: str
    engine: str
    rate: float


@dataclass(frozen=True)
class CPart(Part):
    """The C program: its builds, sizes in bytes, engines; `event_share`: of all synaptic events, those that
    event-driven projections compute; `note`: why something was not run."""

    key: ClassVar[str] = "c"
    builds: tuple[BuildCheck, ...]
    constant_bytes: int
    static_bytes: int
    engines: tuple[EngineChoice, ...]
    event_share: float
    note: str = ""


@dataclass(frozen=True)
class Fit:
    """Whether a part holds the program: bytes of flash and of RAM (static and stack), had and needed.

    `whole`: the program was built for its CPU; otherwise the network's constants, state and buffers count.
    """

    part: str
    title: str
    fits: bool
    flash: int
    flash_needed: int
    ram: int
    ram_needed: int
    whole: bool = True

    def __str__(self) -> str:
        flash = f"flash {kilobytes(self.flash_needed)} of {kilobytes(self.flash)}"
        ram = f"RAM {kilobytes(self.ram_needed)} of {kilobytes(self.ram)}"
        alone = "" if self.whole else " (without code and stack)"
        return f"{self.title}: {'fits' if self.fits else 'does not fit'}, {flash}, {ram}{alone}"


@dataclass(frozen=True)
class BoardRun:
    """One microcontroller under QEMU.

    `flash`, `ram`: bytes of the program, from `size`; `stack`: most that an inference took, painted;
    `instructions`: of one inference, mean and most over the samples, counted in steps of `step`;
    `classes`: its answers, `pytorch`: those of the de-quantized network in PyTorch.
    """

    board: str
    compiler: str
    emulator: str
    samples: int
    compared: int
    mismatches: int
    flash: int
    ram: int
    stack: int
    instructions: float
    most_instructions: int
    step: int
    counted: str
    classes: tuple[int, ...] = ()
    pytorch: tuple[int, ...] = ()

    def __str__(self) -> str:
        equal = (
            f"{self.compared - self.mismatches:,} of {self.compared:,} spikes equal on {self.samples} samples"
        )
        memory = f"flash {kilobytes(self.flash)}, RAM {kilobytes(self.ram)} and {self.stack:,} B of stack"
        return f"{self.board}: {equal}; {memory}; {self.instructions:,.0f} instructions per inference"

    def answers(self) -> str:
        """Its classes beside PyTorch's."""
        if len(self.pytorch) != len(self.classes):
            return f"{self.board} answers {' '.join(map(str, self.classes))}"
        said, wanted = (" ".join(map(str, which)) for which in (self.classes, self.pytorch))
        equal = sum(a == b for a, b in zip(self.classes, self.pytorch, strict=True))
        return f"{self.board} answers {said}; PyTorch {wanted}: {equal} of {len(self.classes)} equal"


@dataclass(frozen=True)
class BoardPart(Part):
    """Microcontrollers that ran the program, and parts whose memory was asked."""

    key: ClassVar[str] = "microcontrollers"
    runs: tuple[BoardRun, ...]
    fits: tuple[Fit, ...]
    note: str = ""


def kilobytes(count: int) -> str:
    """12.3 KiB"""
    return f"{count / 1024:,.1f} KiB"


def _shipped() -> dict[str, Any]:
    known: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("parts.yaml").read_text(encoding="utf-8"))
    return known


def part_names() -> tuple[str, ...]:
    """The parts whose memory is known."""
    return tuple(_shipped())


def fit(flash: Mapping[str, int], ram: Mapping[str, int], network: tuple[int, int]) -> tuple[Fit, ...]:
    """Every known part against the bytes that a program takes on its CPU.

    `network`: (constants, state and buffers), for parts whose CPU was not run.
    """
    found = []
    for name, entry in _shipped().items():
        code = flash.get(entry["cpu"], network[0])
        needed = ram.get(entry["cpu"], network[1])
        has, holds = entry["flash"]["value"], entry["ram"]["value"]
        fits = code <= has and needed <= holds
        found.append(Fit(name, entry["title"], fits, has, code, holds, needed, entry["cpu"] in flash))
    return tuple(found)


def require_fit(fits: Iterable[Fit], name: str) -> None:
    """Raise `DoesNotFit` with the numbers where part `name` cannot hold the program."""
    known = {found.part: found for found in fits}
    if name not in known:
        raise ConfigError(f"part {name!r} was not asked; {suggest(name, known)}")
    if not known[name].fits:
        raise DoesNotFit(str(known[name]))
