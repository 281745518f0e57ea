"""Which runtimes a network can be exported for; `export` and `verify` for each of them.

`register_target` adds one; an installed package offers a `Target` by an entry point of the group
`snn_energy.targets`: docs/extending.md.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snn_energy.errors import ConfigError, DataError, SnnEnergyError, UnsupportedOp, suggest
from snn_energy.exporters.folder import filled
from snn_energy.exporters.kept_samples import KEPT, SAMPLES_FILE, kept, read_arrays, write_arrays
from snn_energy.exporters.verification import (
    VERIFICATION_FILE,
    Source,
    TimePart,
    Verification,
    check_files,
    exported_files,
)
from snn_energy.plugins import Registry

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Target:
    """A runtime to export for: a function that exports and one that verifies again.

    `export(model, folder, x, y, *, …)` writes into `folder`, `verify(folder, x, y, *, …)` runs what it wrote;
    both return a `Verification`.  Keywords behind the star are the target's own options.  `alone`: what it
    writes must not lie among other files.  Ours are given as "module:function".
    """

    export: str | Callable[..., Verification]
    verify: str | Callable[..., Verification]
    summary: str = ""
    alone: bool = False


_OURS = {
    "onnx": Target("onnx.export:export_onnx", "onnx.export:verify_dir", "ONNX, verified in onnxruntime"),
    "nir": Target("nir.export:export_nir", "nir.export:verify_dir", "NIR, read back and run"),
    "lava": Target(
        "lava.export:export_lava", "lava.export:verify_dir", "Lava: a Loihi-style netlist in integers", True
    ),
    "netlist": Target(
        "chip.export:export_netlist", "chip.export:verify_dir", "that netlist alone, run in the simulator"
    ),
    "c": Target(
        "mcu.export:export_c",
        "mcu.export:verify_dir",
        "C11 of integers, run here and on microcontrollers in QEMU",
    ),
    "sanafe": Target(
        "sanafe.export:export_sanafe",
        "sanafe.export:verify_dir",
        "that netlist in SANA-FE: energy and latency on its Loihi",
    ),
}


def _accept(name: str, target: Any) -> Target:
    if not isinstance(target, Target):
        raise ConfigError(f"target {name!r}: {target!r} is no snn_energy.exporters.targets.Target")
    for what, count in (("export", 4), ("verify", 3)):
        function = getattr(target, what)
        if not callable(function):
            raise ConfigError(f"target {name!r}: {what} = {function!r}: must be a function")
        try:
            inspect.signature(function).bind(*range(count))
        except TypeError:
            wanted = ("model", "folder", "x", "y")[4 - count :]
            raise ConfigError(f"target {name!r}: {what} must be callable as ({', '.join(wanted)})") from None
    return target


TARGETS: Registry[Target] = Registry("target", "snn_energy.targets", _OURS, _accept)


def register_target(
    name: str,
    export: Callable[..., Verification],
    verify: Callable[..., Verification],
    summary: str = "",
) -> Target:
    """Make a runtime known as `name` to `export`, `verify` and the command line.

    `Target` says what both functions take.  The door gives `export` an empty folder, writes
    `verification.json` after, and raises `VerificationError` where a verdict is "different":
    they need not.
    Raises `ConfigError` for a name of ours, and for functions that cannot be called so.
    """
    TARGETS.register(name, Target(export, verify, summary))
    return TARGETS[name]


def export(
    model: nn.Module,
    target: str,
    out: str | os.PathLike[str],
    *,
    x: Any,
    y: Any = None,
    overwrite: bool = False,
    source: Source | None = None,
    time_steps: int | None = None,
    **options: Any,
) -> Verification:
    """Write `model` for `target` into the folder `out` and verify it there on the samples `x`.

    `x` are images (N, C, H, W) or event frames (N, T, C, H, W); `y` (N,) are classes, for accuracies.
    `options` are those of the target's own function (`exporters.onnx.export.export_onnx`, …); `source` names
    network and samples in the record.  A network that makes one step per call is called `time_steps` times,
    or as often as its samples have steps.  A folder that holds another export is refused, unless `overwrite`.

    The folder is filled at the end, all at once: an export that fails leaves nothing, one that differs from
    its model leaves its files with the verdict.  Returns what the verification found: `ok`, or "vacuous"
    where nothing fired (on which `require()` raises).  Raises `VerificationError` on a mismatch,
    `UnsupportedOp` for what cannot be lowered.
    """
    entry = _target(target, ConfigError)
    run = _function(entry.export)
    _check_options(run, target, options)
    from snn_energy.exporters.in_time import in_time

    with (
        filled(Path(out), overwrite=overwrite, alone=entry.alone) as folder,
        in_time(model, x, layout=options.get("layout"), time_steps=time_steps) as given,
    ):
        if given.layout is not None and "layout" in _keywords(run):
            options["layout"] = given.layout
        verdict = _checked(_run(run, model, folder, given.x, y, given.also(options)), target)
        verdict = verdict.with_parts(*(part for part in (source, given.part) if part is not None))
        if not (folder / SAMPLES_FILE).exists():
            write_arrays(folder, kept(np.asarray(given.x)[:KEPT], y))
        verdict = dataclasses.replace(verdict, files=exported_files(folder))
        verdict.save(folder / VERIFICATION_FILE)
    return _unless_different(verdict)


def _run(function: Any, model: nn.Module, folder: Path, x: Any, y: Any, options: dict[str, Any]) -> Any:
    """What a target's function returns; its refusals in words of the neuron that they are about."""
    try:
        return function(model, folder, x, y, **options)
    except UnsupportedOp as error:
        from snn_energy.exporters.equations import explained
        from snn_energy.exporters.network import KNOWN

        told = explained(error, model, KNOWN)
        if told is error:
            raise
        raise told from error


def verify(folder: str | os.PathLike[str], *, x: Any = None, y: Any = None, **options: Any) -> Verification:
    """Run what `export` wrote into `folder` again on `x`, and compare it with what its model computes.

    `x`: by default the samples that the export keeps.  Raises `DataError` where a file is missing or is not
    the one that was exported, `VerificationError` where the file disagrees.
    """
    folder = Path(folder)
    record = check_files(folder)
    name = record["target"]
    run = _function(_target(name, DataError).verify)
    _check_options(run, name, options)
    if x is None:
        arrays = read_arrays(folder / SAMPLES_FILE)
        if "real" not in arrays:
            raise DataError(f"{folder} has no samples of its own: name some with --data or --input")
        x, y = arrays["real"], arrays.get("y") if y is None else y
    elif steps := record["parts"].get(TimePart.key, {}).get("folded"):
        from snn_energy.exporters.in_time import unfolded

        x = unfolded(x, steps)
    return _unless_different(_checked(run(folder, x, y, **options), name))


def _unless_different(verdict: Verification) -> Verification:
    return verdict if verdict.verdict == "vacuous" else verdict.require()


def _checked(verdict: Any, target: str) -> Verification:
    """What a target's function returned, under the target's name."""
    if not isinstance(verdict, Verification):
        raise ConfigError(
            f"target {target!r}: its function returned {type(verdict).__name__}, must return a Verification"
        )
    return dataclasses.replace(verdict, target=target)


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


def _function(path: str | Callable[..., Verification]) -> Any:
    if not isinstance(path, str):
        return path
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"snn_energy.exporters.{module}"), name)
