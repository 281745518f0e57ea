"""`snn-energy evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_energy.cli.loading import choose, contract_of, load_model, running
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
from snn_energy.cli.out import echo, echo_json
from snn_energy.cli.waiting import import_torch
from snn_energy.errors import ConfigError
from snn_energy.files import write_text
from snn_energy.text import plain

if TYPE_CHECKING:
    from snn_energy.evaluation import Evaluation


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
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Height and width of pictures: 288 instead of 224.")
    ] = None,
    val_crop: Annotated[
        float | None, typer.Option("--val-crop", help="Share of the shorter side that is kept: 1.0, not .95.")
    ] = None,
    rates: Annotated[bool, typer.Option("--rates", help="Print each layer's firing rate per step.")] = False,
    confusion: Annotated[
        Path | None, typer.Option("--confusion", help="Write the confusion matrix to this CSV file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record.")] = False,
) -> None:
    """Compare what a network answers with the classes of its samples: accuracy, loss, rates, confusion."""
    import_torch()
    from snn_energy.evaluation import evaluate as measure
    from snn_energy.training.device import choose_device

    loaded = load_model(checkpoint, overrides, allow_nonfinite=allow_nonfinite)
    contract = contract_of(declared, loaded)
    if size is not None or val_crop is not None:
        data = resized(data or (loaded.recipe or {}).get("data"), input_file, size, val_crop)
    chosen = choose(
        loaded,
        contract,
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
            class_names=chosen.class_names,
        )
    notes = (*loaded.notes, *chosen.notes, *found.notes)
    if confusion is not None:
        write_text(confusion, found.confusion_table())
    if as_json:
        record = found.to_json() | {"model": loaded.name or found.model, "notes": notes} | loaded.origin
        echo_json(record)
        return
    _show(found, rates)
    echo(found.contract, err=True)
    for note in notes:
        echo(f"note: {note}", err=True)


def resized(name: str | None, input_file: Path | None, size: int | None, crop: float | None) -> str:
    """A data set's name with its options `size` and `crop` set.  Raises `ConfigError` for no data set."""
    if name is None or input_file is not None:
        raise ConfigError("--size and --val-crop: change how a data set is read (--data NAME), not --input")
    kind, _, query = name.partition("?")
    told = {"size": size, "crop": crop}
    kept = [item for item in query.split("&") if item and told.get(item.partition("=")[0]) is None]
    new = [f"{key}={value}" for key, value in told.items() if value is not None]
    return f"{kind}?{'&'.join([*kept, *new])}"


def _show(found: Evaluation, rates: bool) -> None:
    """What a person wants to know first; every layer's rates if asked for."""
    echo(f"{found} of {found.data}")
    if found.accuracy_after:
        after = ", ".join(f"{t}: {share:.2%}" for t, share in enumerate(found.accuracy_after, 1))
        echo(f"top-1 after T steps: {after}")
    taken = [f"{true} for {wrong}: {n} of {of}" for true, wrong, n, of in found.confused()]
    if taken:
        echo(plain(f"most often mistaken: {'; '.join(taken)}"))
    means = {path: sum(steps) / len(steps) for path, steps in found.rates.items()}
    if rates:
        for path, steps in found.rates.items():
            shares = " ".join(f"{100 * rate:6.2f}" for rate in steps)
            echo(plain(f"{path:32} {100 * means[path]:6.2f} %  per step: {shares}"))
    elif means:
        low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
        ends = f"{means[low]:.2%} ({low}) to {means[high]:.2%} ({high})"
        echo(plain(f"firing rates of {len(means)} layers: {ends}; --rates prints all, per step"))
