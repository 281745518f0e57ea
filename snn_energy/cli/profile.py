"""`snn-energy profile`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from snn_energy.cli.loading import Loaded, prepare, running
from snn_energy.cli.options import (
    AllowNonfinite,
    BatchSize,
    Checkpoint,
    DataName,
    Device,
    InputFile,
    InputKind,
    SampleCount,
    prints_aside,
    progress_bar,
    with_contract_flags,
    with_model_flags,
)
from snn_energy.cli.origin import Fingerprint, origin
from snn_energy.cli.out import echo, echo_json
from snn_energy.cli.tables import print_profile, profile_record
from snn_energy.cli.waiting import import_torch, waiting
from snn_energy.errors import ConfigError, DataError
from snn_energy.files import try_folder, write_text

if TYPE_CHECKING:
    from snn_energy.energy import Energy
    from snn_energy.profiling import Profile
    from snn_energy.profiling.maps import SampleMaps
    from snn_energy.reports.render import Table
    from snn_energy.samples import Samples

Conventions = Annotated[
    str,
    typer.Option(
        "--convention", help="Counting conventions, comma-separated names or YAML files; all: every one."
    ),
]
Costs = Annotated[
    str, typer.Option("--costs", help="Cost table: a name (snn-energy list costs) or a YAML file.")
]
Format = Annotated[
    Literal["text", "csv", "json", "markdown", "latex"], typer.Option("--format", help="How to print.")
]
By = Annotated[Literal["layer", "block", "step"], typer.Option("--by", help="Rows of the printed table.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON record: model, samples, totals, prices, layers.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the profile of another network.")]
All = Annotated[
    bool, typer.Option("--all", help="Print every row, and every column where no terminal is too narrow.")
]
Top = Annotated[
    int | None, typer.Option("--top", min=1, help="Print the first N rows and the sum of the rest.")
]
Depth = Annotated[
    int | None, typer.Option("--depth", min=1, help="Sum over all below N parts of a module's path.")
]
Sort = Annotated[
    Literal["energy", "ac", "mac", "rate", "name", "network"],
    typer.Option("--sort", help="Order of the rows; network: as they run."),
]
Maps = Annotated[
    int, typer.Option("--maps", min=0, help="Show spike maps and Grad-CAM of the first N samples.")
]


@with_contract_flags
@with_model_flags
def profile(
    overrides: dict[str, Any],
    declared: dict[str, Any],
    checkpoint: Checkpoint = None,
    data: DataName = None,
    input_file: InputFile = None,
    samples: SampleCount = None,
    batch_size: BatchSize = 32,
    out: Annotated[Path | None, typer.Option("--out", help="Folder. Default: profile/ here.")] = None,
    device: Device = "auto",
    convention: Conventions = "exact",
    costs: Costs = "45nm-fp32",
    format: Format = "text",
    by: By = "layer",
    show_all: All = False,
    top: Top = None,
    depth: Depth = None,
    sort: Sort = "energy",
    as_json: AsJson = False,
    overwrite: Overwrite = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if any operation is not counted.")] = False,
    allow_nonfinite: AllowNonfinite = False,
    input_kind: InputKind = None,
    maps: Maps = 0,
) -> None:
    """Count what one inference does and price it; write profile.json, layers.csv and report.html."""
    names = convention_names(convention)  # before the work, so that a typo costs no time
    from snn_energy.energy import load_costs

    load_costs(costs)
    check_choice_of_rows(by, format, as_json, show_all=show_all, top=top, depth=depth)
    folder = out or Path("profile")
    try_folder(folder)
    import_torch()
    from snn_energy.profiling import profile as measure
    from snn_energy.profiling.tables import ops_csv
    from snn_energy.reports import report as write_report
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
    replaced = () if overwrite else replacing(folder, loaded)
    passed = Fingerprint(chosen.axis)
    with running(loaded), progress_bar("profiling", len(chosen.images)) as advance:
        measured = measure(
            loaded.model,
            passed.passing(chosen.batches(batch_size)),
            strict=strict,
            allow_nonfinite=allow_nonfinite,
            input_kind="events" if input_kind == "events" else "",
            **contract,
            device=choose_device(device),
            progress=advance,
            data=chosen.name,
            class_names=chosen.class_names or loaded.class_names,
        )
    with running(loaded), prints_aside(), waiting("comparing with fvcore"):
        measured = crosschecked(loaded.model, chosen, measured, contract)
    measured = dataclasses.replace(
        measured,
        model=loaded.name or measured.model,
        notes=(*loaded.notes, *chosen.notes, *measured.notes),
        environment={
            **measured.environment,
            **loaded.origin,
            **origin(choose_device(device), passed, input_file, loaded.recipe),
        },
        history=loaded.history,
    )
    energies = [measured.energy(name, costs) for name in names]
    files = [folder / name for name in WRITTEN]
    shown = maps_of(loaded, chosen, contract, min(maps, len(chosen.images)))
    with waiting("writing the report"):
        measured.save(files[0])
        write_text(files[1], ops_csv(measured))
        write_report(measured, files[2], energies=energies, maps=shown)
    table = rows_of(
        measured, energies, by, format=format, show_all=show_all or as_json, top=top, depth=depth, sort=sort
    )
    for note in replaced:
        echo(f"note: {note}", err=True)
    if as_json:
        echo_json(profile_record(measured, energies, table, files))
        return
    print_profile(measured, energies, table, format=format, whole=show_all)
    echo(files[2], err=format != "text")


WRITTEN = ("profile.json", "layers.csv", "report.html")


def check_choice_of_rows(by: str, format: str, as_json: bool, **rows: Any) -> None:
    """Refuse options that do not go together.  Raises `ConfigError`."""
    told = [f"--{name.removeprefix('show_')}" for name, value in rows.items() if value]
    if by != "layer" and told:
        raise ConfigError(f"{told[0]} chooses layers; with --by {by} every row is printed")
    if rows["show_all"] and rows["top"]:
        raise ConfigError("--all and --top: one of them")
    if as_json and format not in ("text", "json"):
        raise ConfigError(f"--json and --format {format}: one output at a time")


def rows_of(
    measured: Profile,
    energies: list[Energy],
    by: str,
    *,
    format: str,
    show_all: bool,
    top: int | None,
    depth: int | None,
    sort: str,
) -> Table:
    """The table that was asked for; machine formats have every layer in the network's order unless told."""
    from snn_energy.reports import tables, terminal

    if by == "block":
        return tables.block_table(energies)
    if by == "step":
        return tables.step_table(measured, energies)
    if format != "text" and top is None and depth is None and sort == "energy":
        return tables.layer_table(measured, energies)
    whole = show_all or format != "text"
    return terminal.layers(
        measured, energies, top=top or (None if whole else terminal.TOP), depth=depth, sort=sort
    )


def replacing(folder: Path, loaded: Loaded) -> tuple[str, ...]:
    """A note on a profile of the same network that will be replaced.

    Raises `ConfigError` where what would be written would replace a profile of another, or no profile.
    """
    from snn_energy.profiling.profile import Profile
    from snn_energy.profiling.summary import config_of

    there = [folder / name for name in WRITTEN if (folder / name).exists()]
    way_out = "--out FOLDER writes elsewhere, --overwrite replaces it"
    if not there:
        return ()
    if there[0].name != WRITTEN[0]:
        raise ConfigError(f"{there[0]} is there already, without a {WRITTEN[0]}: {way_out}")
    try:
        old = Profile.load(there[0])
    except DataError as error:
        raise ConfigError(f"{error}: {way_out}") from None
    told = ("checkpoint_sha256", "code", "settings")
    config = json.loads(json.dumps(config_of(loaded.model), default=str))  # as its file has it
    new = [loaded.name or old.model, config, *(loaded.origin.get(key, "") for key in told)]
    if new != [
        old.model,
        json.loads(json.dumps(old.config)),
        *(old.environment.get(key, "") for key in told),
    ]:
        whose = old.environment.get("checkpoint") or old.environment.get("code") or "random weights"
        raise ConfigError(f"{folder} holds the profile of another network ({old.model}, {whose}): {way_out}")
    return (f"the profile of {old.samples} samples of {old.data} that was in {folder} is replaced",)


def maps_of(loaded: Loaded, chosen: Samples, contract: dict[str, Any], count: int) -> tuple[SampleMaps, ...]:
    """Spike maps and Grad-CAM of the first `count` samples."""
    if not count:
        return ()
    from snn_energy.profiling.maps import sample_maps

    x, y = next(chosen.first(count).batches(count))
    if contract.get("layout") is None:
        contract = contract | {"batch_dim": chosen.axis}
    with running(loaded), prints_aside():
        return sample_maps(loaded.model, x, y, **contract)


def crosschecked(model: Any, chosen: Samples, measured: Profile, contract: dict[str, Any]) -> Profile:
    """The profile with fvcore's dense MACs beside ours, where fvcore is installed."""
    from snn_energy.errors import MissingDependency
    from snn_energy.profiling.crosscheck import fvcore

    if contract.get("layout") is None:
        contract = contract | {"batch_dim": chosen.axis}
    try:
        records = fvcore(model, next(chosen.batches(1))[0], measured, **contract)
    except MissingDependency:
        return measured
    return dataclasses.replace(measured, crosscheck=records)


def convention_names(text: str) -> list[str]:
    """The conventions that a comma-separated option names, checked."""
    from snn_energy.energy import conventions, load_convention

    names = (
        list(conventions()) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    )
    if not names:
        raise ConfigError(f"--convention {text!r}: give at least one name, such as exact")
    for name in names:
        load_convention(name)
    return names
