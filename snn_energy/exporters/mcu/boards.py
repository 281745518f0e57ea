"""Microcontrollers under QEMU: cross-compile a written folder, run it, measure it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snn_energy.errors import ConfigError, DataError, DoesNotFit, MissingTool, suggest
from snn_energy.exporters.c.build import SPIKES, as_file, call, frames_of, parsed, version
from snn_energy.exporters.c.write import Program
from snn_energy.exporters.mcu.parts import BoardRun
from snn_energy.exporters.netlist.record import Array
from snn_energy.exporters.netlist.simulate import Activity

COMMON = (
    "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffunction-sections", "-fdata-sections",
    "-nostartfiles", "-Wl,--gc-sections",
)  # fmt: skip
QEMU = (
    "-nographic", "-monitor", "none", "-serial", "none", "-chardev", "stdio,id=out,signal=off",
    "-semihosting-config", "enable=on,target=native,chardev=out",
)  # fmt: skip
COUNTING = ("-icount", "shift=0")
RISCV = ("--specs=picolibc.specs", "-misa-spec=2.2", "-march=rv32imac", "-mabi=ilp32")
TIMER = "a timer of 25 MHz under QEMU's -icount shift=0, one instruction to a nanosecond"
RETIRED = "rdinstret under QEMU's -icount shift=0"


@dataclass(frozen=True)
class Board:
    """A CPU, what builds for it, the QEMU machine that runs it; `step`: instructions to a count."""

    compiler: str
    flags: tuple[str, ...]
    start: str
    libraries: tuple[str, ...]
    emulator: str
    machine: tuple[str, ...]
    step: int
    counted: str
    packages: tuple[str, str]


def _arm(cpu: str, machine: str) -> Board:
    flags = ("-mthumb", f"-mcpu={cpu}", "-nostdlib", "-T", "mcu/cortex-m.ld")
    packages = ("gcc-arm-none-eabi libnewlib-arm-none-eabi", "qemu-system-arm")
    return Board(
        "arm-none-eabi-gcc", flags, "mcu/cortex_m.c", ("-lc", "-lgcc"), "qemu-system-arm", ("-M", machine),
        40, TIMER, packages,
    )  # fmt: skip


BOARDS = {
    "cortex-m4": _arm("cortex-m4", "mps2-an386"),
    "cortex-m7": _arm("cortex-m7", "mps2-an500"),
    "riscv32": Board(
        "riscv64-unknown-elf-gcc",
        (*RISCV, "-T", "mcu/riscv32.ld"),
        "mcu/riscv32.c", (), "qemu-system-riscv32", ("-M", "virt", "-bios", "none"), 1, RETIRED,
        ("gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf", "qemu-system-misc"),
    ),
}  # fmt: skip


def board(name: str) -> Board:
    """A board by name.  Raises `ConfigError` for an unknown one, `MissingTool` where a tool is missing."""
    if name not in BOARDS:
        raise ConfigError(f"mcu {name!r}: {suggest(name, BOARDS)}")
    found = BOARDS[name]
    for tool, package in zip((found.compiler, found.emulator), found.packages, strict=True):
        if shutil.which(tool) is None:
            raise MissingTool(tool, package, f"running on {name}")
    return found


def run_board(
    name: str,
    folder: Path,
    program: Program,
    x: Array,
    wanted: Activity,
    pytorch: Sequence[int] = (),
) -> tuple[BoardRun, Activity]:
    """Build the sources in `folder` for a board, run them on messages `x`, and hold them against `wanted`.

    `pytorch`: the classes that PyTorch gives.  Two builds run: one prints every spike, one is measured.
    Returns also what it computed.  Raises `DoesNotFit` where the emulated board's memory is too small.
    """
    found = board(name)
    frames = f"-DFRAMES={frames_of(program, x)}"
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "samples.bin").write_bytes(as_file(program, x))
        _link(name, found, folder, place / "spikes.elf", (*SPIKES, frames))
        got = parsed(program, _emulate(found, place, "spikes.elf"), len(x))
        _link(name, found, folder, place / "plain.elf", (frames,))
        counts, stacks = _measured(_emulate(found, place, "plain.elf", *COUNTING).decode())
        flash, ram = _size(found, place / "plain.elf")
    taken = np.array(counts, np.int64) * found.step
    run = BoardRun(
        board=name,
        compiler=version(found.compiler),
        emulator=version(found.emulator),
        samples=len(x),
        compared=sum(array.size for array in got.outputs.values()),
        mismatches=sum(int((array != wanted.outputs[n]).sum()) for n, array in got.outputs.items()),
        flash=flash,
        ram=ram,
        stack=max(stacks),
        instructions=float(taken.mean()),
        most_instructions=int(taken.max()),
        step=found.step,
        counted=found.counted,
        classes=tuple(map(int, got.predictions())) if len(got.logits) == 1 else (),
        pytorch=tuple(map(int, pytorch)),
    )
    return run, got


def _link(name: str, found: Board, folder: Path, out: Path, more: tuple[str, ...]) -> None:
    sources = ["network.c", "weights.c", "mcu/main.c", found.start]
    command = [found.compiler, *COMMON, *found.flags, *more, *sources, *found.libraries, "-o", str(out)]
    try:
        call(command, "the cross compiler", cwd=folder)
    except DataError as error:
        if over := re.search(r"region `(\w+)' overflowed by (\d+) bytes", str(error)):
            raise DoesNotFit(
                f"{name}: the program is {int(over[2]):,} bytes larger than the {over[1]} of QEMU's board "
                f"({' '.join(found.machine)})"
            ) from error
        raise


def _emulate(found: Board, place: Path, elf: str, *more: str) -> bytes:
    return call([found.emulator, *found.machine, *QEMU, *more, "-kernel", elf], "QEMU", cwd=place)


def _measured(printed: str) -> tuple[list[int], list[int]]:
    """Counts and bytes of stack of every sample."""
    rows = [line.split()[1:] for line in printed.splitlines() if line.startswith("measured")]
    if not rows:
        raise DataError(f"QEMU printed no measurement: {printed[:80]!r}")
    return [int(row[0]) for row in rows], [int(row[1]) for row in rows]


def _size(found: Board, elf: Path) -> tuple[int, int]:
    """(flash, RAM) in bytes: text and data, data and bss."""
    tool = found.compiler.removesuffix("gcc") + "size"
    text, data, bss = map(int, call([tool, str(elf)], "size").decode().splitlines()[1].split()[:3])
    return text + data, data + bss
