"""`snn-energy demo`: from nothing to a report, with the command lines that do it."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Annotated

import typer

from snn_energy.cli.out import echo
from snn_energy.errors import MissingDependency
from snn_energy.files import try_folder

RECIPE = "digits-statten"
SAMPLES = 60
"""Of the test part, on which exports are verified."""

EXPORTS = {"onnx": ("onnx", "onnxruntime"), "lava": ("h5py",)}
"""Targets that the demo exports to, and what each needs."""


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything.")] = Path("demo"),
    train: Annotated[bool, typer.Option("--train", help="Train the network first (minutes).")] = False,
) -> None:
    """Profile a small trained network, export it, verify the exports, report: each step by its command.

    A target whose packages are not installed is left out, and said.
    """
    try_folder(out)
    checkpoint = RECIPE
    if train:
        _step("Train", "train", RECIPE, "--out", out / "run")
        checkpoint = str(out / "run" / "best.pth")
    _step("Profile", "profile", checkpoint, "--out", out / "profile", "--overwrite")
    verified: list[object] = []
    for target, packages in EXPORTS.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            echo(f"\n== {MissingDependency(', '.join(missing), target, f'Export to {target}')}")
            continue
        _step(
            f"Export to {target} and verify",
            *("export", checkpoint, "--target", target, "--samples", SAMPLES),
            *("--out", out / target, "--overwrite"),
        )
        verified += ["--exports", out / target]
    _step("Report", "report", out / "profile", "--out", out / "report.html", *verified)


def _step(title: str, *arguments: object) -> None:
    """Print a command line and run it in this process."""
    from snn_energy.cli.app import app

    words = [str(argument) for argument in arguments]
    echo(f"\n== {title}\n$ snn-energy {shlex.join(words)}")
    app(words, standalone_mode=False)
