"""Exports: a trained network in the form that another runtime takes, verified there."""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.errors import ConfigError, DataError, suggest

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Target:
    """Where a target's code lives: functions `export` and `verify` of a module in this package."""

    module: str
    export: str
    verify: str
    summary: str


TARGETS = {
    "onnx": Target("onnx", "export_onnx", "verify_dir", "ONNX, checked in onnxruntime"),
}


def export(model: nn.Module, target: str, out: str | os.PathLike[str], *, x: Any, y: Any = None, **options: Any) -> Any:
    """Write `model` (eval mode) for `target` into the folder `out` and verify it on the samples `x` (N, C, H, W).

    `y` (N,) are classes, for accuracies.  `options` are those of the target's own function.  Returns what the
    verification found; raises `VerificationError` on a mismatch, `UnsupportedOp` for what cannot be lowered.
    """
    if target not in TARGETS:
        raise ConfigError(f"unknown target {target!r}; {suggest(target, TARGETS)}")
    return _function(target, "export")(model, Path(out), x, y, **options)


def verify(folder: str | os.PathLike[str], *, x: Any = None, y: Any = None, **options: Any) -> Any:
    """Run an exported folder again on samples `x` and compare it with what its model did."""
    path = Path(folder) / "verification.json"
    try:
        target = json.loads(path.read_text(encoding="utf-8"))["target"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not an exported folder: {path.name} cannot be read ({error})") from None
    if target not in TARGETS:
        raise DataError(f"{path}: names the target {target!r}; {suggest(str(target), TARGETS)}")
    return _function(target, "verify")(Path(folder), x=x, y=y, **options)


def _function(target: str, what: str) -> Any:
    entry = TARGETS[target]
    return getattr(importlib.import_module(f"snn_energy.exporters.{entry.module}"), getattr(entry, what))
