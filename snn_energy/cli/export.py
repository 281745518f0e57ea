"""`snn-energy export` and `snn-energy verify`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from snn_energy.cli.options import Checkpoint, DataName, InputFile, SampleCount, load_model, with_model_flags
from snn_energy.errors import ConfigError, suggest


@with_model_flags
def export(
    checkpoint: Checkpoint,
    overrides: dict[str, Any],
    target: Annotated[str, typer.Option("--target", help="snn-energy list targets")] = "onnx",
    data: DataName = None,
    input_file: InputFile = None,
    samples: SampleCount = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder. Default: TARGET/ beside the checkpoint.")
    ] = None,
) -> None:
    """Export a network and verify it on real samples in the runtime that will run it."""
    from snn_energy.exporters.targets import TARGETS
    from snn_energy.exporters.targets import export as run

    if target not in TARGETS:
        raise ConfigError(f"unknown target {target!r}; {suggest(target, TARGETS)}")
    from snn_energy.samples import choose_samples

    model, stored = load_model(checkpoint, overrides)
    chosen = choose_samples(stored.recipe, data=data, input_file=input_file, count=samples)
    x, y = chosen.images.batch(slice(None))
    folder = out or checkpoint.parent / target
    verdict = run(model, target, folder, x=x, y=y)
    remembered = verdict.details | {"data": (stored.recipe or {}).get("data"), "checkpoint": checkpoint.name}
    verdict = dataclasses.replace(verdict, details=remembered)
    verdict.save(folder / "verification.json")
    typer.echo(verdict.summary())
    typer.echo(str(folder))


def verify(
    folder: Annotated[Path, typer.Argument(help="What `snn-energy export` wrote.")],
    data: DataName = None,
    input_file: InputFile = None,
    samples: SampleCount = None,
) -> None:
    """Verify an exported folder again, on new samples if you like."""
    from snn_energy.exporters.targets import verify as run
    from snn_energy.exporters.verify import read_verification
    from snn_energy.samples import choose_samples

    remembered = read_verification(folder / "verification.json")["details"]
    chosen = choose_samples(remembered, data=data, input_file=input_file, count=samples)
    x, y = chosen.images.batch(slice(None))
    typer.echo(run(folder, x=x, y=y).summary())
