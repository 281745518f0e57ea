"""Which runtimes a network can be exported for; `export` and `verify` for each of them."""

from __future__ import annotations

import importlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.errors import ConfigError, DataError, SnnEnergyError, suggest

if TYPE_CHECKING:
    from torch import nn

    from snn_energy.exporters.verify import Verification


@dataclass(frozen=True)
class Target:
    """A runtime to export for: which `module:function` here exports, and which verifies again.

    Both return a `Verification`; `verify(folder, x, y, **options)` is what the second takes.
    """

    export: str
    verify: str
    summary: str


CALIBRATION_SAMPLES = 256  # as many set the scales of a netlist

TARGETS = {
    "onnx": Target("onnx.export:export_onnx", "onnx.export:verify_dir", "ONNX, verified in onnxruntime"),
    "nir": Target("nir.export:export_nir", "nir.export:verify_dir", "NIR, read back and run"),
    "lava": Target(
        "lava.export:export_lava", "lava.export:verify_dir", "Lava: a Loihi-style netlist in integers"
    ),
    "netlist": Target(
        "lava.export:export_netlist", "lava.export:verify_dir", "that netlist alone, run in the simulator"
    ),
    "sanafe": Target(
        "sanafe.export:export_sanafe",
        "sanafe.export:verify_dir",
        "that netlist in SANA-FE: energy and latency on its Loihi",
    ),
}


def export(
    model: nn.Module, target: str, out: str | os.PathLike[str], *, x: Any, y: Any = None, **options: Any
) -> Verification:
    """Write `model` for `target` into the folder `out` and verify it there on the samples `x`.

    `x` are images (N, C, H, W) or event frames (N, T, C, H, W); `y` (N,) are classes, for accuracies.
    `options` are those of the target's own function (`exporters.onnx.export.export_onnx`, …).  Returns
    what the verification found; raises `VerificationError` on a mismatch, `UnsupportedOp` for what cannot be
    lowered.
    """
    run = _function(_target(target, ConfigError).export)
    _check_options(run, target, options)
    return run(model, Path(out), x, y, **options)


def verify(folder: str | os.PathLike[str], *, x: Any, y: Any = None, **options: Any) -> Verification:
    """Run what `export` wrote into `folder` again on `x`, and compare it with what its model computes."""
    from snn_energy.exporters.verify import read_verification

    name = str(read_verification(Path(folder) / "verification.json").get("target"))
    run = _function(_target(name, DataError).verify)
    _check_options(run, name, options)
    return run(Path(folder), x, y, **options)


def options(target: str) -> tuple[str, ...]:
    """What `export` takes for `target` besides samples: the keywords of the target's own function."""
    return _keywords(_function(_target(target, ConfigError).export))


def _keywords(function: Any) -> tuple[str, ...]:
    return tuple(p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY)


def _check_options(function: Any, target: str, options: dict[str, Any]) -> None:
    """Refuse options that belong to another target."""
    known = _keywords(function)
    for name in options:
        if name not in known:
            raise ConfigError(f"option {name!r} is not one of target {target}; {suggest(name, known)}")


def _target(name: str, error: type[SnnEnergyError]) -> Target:
    if name not in TARGETS:
        raise error(f"unknown target {name!r}; {suggest(str(name), TARGETS)}")
    return TARGETS[name]


def _function(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"snn_energy.exporters.{module}"), name)
