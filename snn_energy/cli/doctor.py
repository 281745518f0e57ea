"""`snn-energy doctor`: what is here, what is missing, and the command that brings it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from snn_energy import __version__
from snn_energy.cli.out import echo, echo_json
from snn_energy.cli.tables import on_terminal
from snn_energy.cli.waiting import import_torch, waiting

NAME = "snn-energy"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    `found`: its version or place, None where it is not there; `brings`: the command that brings it;
    `needed`: nothing works without it; `of`: the heading under which it stands.
    """

    of: str
    name: str
    found: str | None
    what_for: str = ""
    brings: str = ""
    needed: bool = False


TOOLS = (
    ("gcc", ("gcc", "cc"), "runs exported C on this machine", "apt-get install gcc"),
    ("arm-none-eabi-gcc", ("arm-none-eabi-gcc",), "C for Cortex-M", "apt-get install gcc-arm-none-eabi"),
    ("qemu-system-arm", ("qemu-system-arm",), "runs it without a board", "apt-get install qemu-system-arm"),
    (
        "riscv64-unknown-elf-gcc",
        ("riscv64-unknown-elf-gcc",),
        "C for RISC-V",
        "apt-get install gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
    ),
    ("qemu-system-riscv32", ("qemu-system-riscv32",), "runs it", "apt-get install qemu-system-misc"),
    (
        "chromium",
        ("chromium", "chromium-browser", "google-chrome"),
        "tests of the report page",
        "apt-get install chromium chromium-driver",
    ),
)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is installed, which extras and tools are missing, and what brings them.

    Exit code 1 where something is missing that snn-energy cannot do without.
    """
    with waiting("looking around"):
        findings = [*packages(), *tools()]
    import_torch()
    findings += devices()
    if as_json:
        echo_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if any(finding.needed and finding.found is None for finding in findings):
        raise typer.Exit(1)


def packages() -> Iterator[Finding]:
    """This package, Python, what it requires, and its extras, each package with its version."""
    yield Finding("Python", "python", platform.python_version(), sys.executable, needed=True)
    yield Finding("Python", NAME, __version__, str(Path(__file__).parents[1]), needed=True)
    try:
        requirements = importlib.metadata.requires(NAME) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "Required", f"{NAME} itself", None, "the list of what it needs", "pip install .", needed=True
        )
        return
    for line in requirements:
        name, extra = _requirement(line)
        if name == NAME or extra in ("dev", "docs", "all"):
            continue
        brings = f"pip install '{NAME}[{extra}]'" if extra else f"pip install {name}"
        yield Finding(f"Extra {extra}" if extra else "Required", name, _version(name), "", brings, not extra)


def _requirement(line: str) -> tuple[str, str]:
    """`onnx>=1.17; extra == "onnx"` -> ("onnx", "onnx"); no extra: ""."""
    match = re.match(r"[A-Za-z0-9._-]+", line)
    extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
    return (match.group() if match else line), (extra.group(1) if extra else "")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def tools() -> Iterator[Finding]:
    """Programs beside Python: compilers, emulators, the Lava environment, a browser."""
    for name, programs, what_for, brings in TOOLS:
        found = next((path for program in programs if (path := shutil.which(program))), None)
        yield Finding("Tools", name, found, what_for, brings)
    yield Finding("Tools", "Lava environment", _lava(), "runs exports in Lava itself", "make lava-env")


def _lava() -> str | None:
    from snn_energy.errors import SnnEnergyError
    from snn_energy.exporters.lava.package import lava_python

    try:
        return str(lava_python(None))
    except SnnEnergyError:
        return None


def devices() -> Iterator[Finding]:
    """What PyTorch computes on."""
    import torch

    yield Finding("Devices", "cpu", f"{torch.get_num_threads()} threads", platform.processor())
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for i in range(count):
        yield Finding("Devices", f"cuda:{i}", torch.cuda.get_device_name(i))
    if not count:
        yield Finding("Devices", "cuda", None, "trains and profiles faster")
    if torch.backends.mps.is_available():
        yield Finding("Devices", "mps", "Apple")


def _print(findings: list[Finding]) -> None:
    wide = max(len(finding.name) for finding in findings)
    heading = ""
    for finding in findings:
        if finding.of != heading:
            echo(("\n" if heading else "") + finding.of)
            heading = finding.of
        mark = "ok" if finding.found is not None else "missing" if finding.needed else "-"
        words = finding.found or finding.brings or "none"
        note = f"  ({finding.what_for})" if finding.what_for else ""
        color = {"ok": typer.colors.GREEN, "missing": typer.colors.RED}.get(mark) if on_terminal() else None
        echo(f"  {mark:8}{finding.name:{wide}}  {words}{note}", color=color)
    missing = [finding for finding in findings if finding.needed and finding.found is None]
    echo()
    echo(
        f"{len(missing)} needed and not there: {missing[0].brings}"
        if missing
        else "Everything that is needed is there; lines with - say what brings the rest."
    )
