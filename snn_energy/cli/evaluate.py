"""`snn-energy evaluate`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from snn_energy.cli.loading import prepare, running
from snn_energy.cli.options import (
    AllowNonfinite,
    BatchSize,
    Checkpoint,
    DataName,
    Device,
    InputFile,
    InputKind,
    SampleCount,
    progress_bar,
    with_contract_flags,
    with_model_flags,
)
from snn_energy.cli.waiting import import_torch


@with_contract_flags
@with_model_flags
def evaluate(
    overrides: dict[str, Any],
    declared: dict[str, Any],
    checkpoint: Checkpoint = None,
    data: DataName = None,
    input_file: InputFile = None,
    samples: SampleCount = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    allow_nonfinite: AllowNonfinite = False,
    input_kind: InputKind = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record.")] = False,
) -> None:
    """Compare what a network answers with the classes of its samples: accuracy and loss."""
    import_torch()
    from snn_energy.evaluation import evaluate as measure
    from snn_energy.training.device import choose_device

    loaded, contract, chosen = prepare(
        checkpoint,
        overrides,
        declared,
        data=data,
        input_file=input_file,
        count=samples,
        allow_nonfinite=allow_nonfinite,
        input_kind=input_kind,
    )
    with running(loaded), progress_bar("evaluating", len(chosen.images)) as advance:
        found = measure(
            loaded.model,
            chosen.batches(batch_size),
            **contract,
            device=choose_device(device),
            progress=advance,
            data=chosen.name,
        )
    notes = (*loaded.notes, *chosen.notes, *found.notes)
    if as_json:
        record = found.to_json() | {"model": loaded.name or found.model, "notes": notes} | loaded.origin
        typer.echo(json.dumps(record, indent=1))
        return
    typer.echo(f"{found} of {chosen.name}")
    if found.accuracy_after:
        steps = ", ".join(f"{t}: {share:.2%}" for t, share in enumerate(found.accuracy_after, 1))
        typer.echo(f"top-1 after T steps: {steps}")
    typer.echo(found.contract, err=True)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
