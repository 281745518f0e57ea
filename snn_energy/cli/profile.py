"""`snn-energy profile`."""

from __future__ import annotations

import dataclasses
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
from snn_energy.cli.origin import origin
from snn_energy.errors import ConfigError
from snn_energy.files import try_folder, write_text
from snn_energy.text import csv_cell, plain

if TYPE_CHECKING:
    from snn_energy.energy import Energy
    from snn_energy.profiling import Profile
    from snn_energy.profiling.maps import SampleMaps
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
    strict: Annotated[bool, typer.Option("--strict", help="Fail if any operation is not counted.")] = False,
    allow_nonfinite: AllowNonfinite = False,
    input_kind: InputKind = None,
    maps: Maps = 0,
) -> None:
    """Count what one inference does and price it; write profile.json, layers.csv and report.html."""
    names = convention_names(convention)  # before the work, so that a typo costs no time
    from snn_energy.energy import load_costs

    load_costs(costs)
    folder = out or Path("profile")
    try_folder(folder)
    from snn_energy.profiling import profile as measure
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
    with running(loaded), progress_bar("profiling", len(chosen.images)) as advance:
        measured = measure(
            loaded.model,
            chosen.batches(batch_size),
            strict=strict,
            allow_nonfinite=allow_nonfinite,
            input_kind="events" if input_kind == "events" else "",
            **contract,
            device=choose_device(device),
            progress=advance,
            data=chosen.name,
            class_names=chosen.class_names or loaded.class_names,
        )
    with running(loaded), prints_aside():
        measured = crosschecked(loaded.model, chosen, measured, contract)
    measured = dataclasses.replace(
        measured,
        model=loaded.name or measured.model,
        notes=(*loaded.notes, *chosen.notes, *measured.notes),
        environment={
            **measured.environment,
            **loaded.origin,
            **origin(choose_device(device), input_file, loaded.recipe),
        },
        history=loaded.history,
    )
    energies = [measured.energy(name, costs) for name in names]
    measured.save(folder / "profile.json")
    write_text(folder / "layers.csv", measured.ops.map(csv_cell).to_csv(index=False))
    shown = maps_of(loaded, chosen, contract, min(maps, len(chosen.images)))
    write_report(measured, folder / "report.html", energies=energies, maps=shown)
    print_tables(measured, energies, by, format)
    typer.echo(str(folder / "report.html"), err=format != "text")


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


def print_tables(measured: Profile, energies: list[Energy], by: str, format: str) -> None:
    """The chosen table on standard output; as text, headline and spread too."""
    from snn_energy.reports import tables

    table = {
        "layer": lambda: tables.layer_table(measured, energies),
        "block": lambda: tables.block_table(energies),
        "step": lambda: tables.step_table(measured, energies),
    }[by]()
    if measured.contract:  # the first line says how the network was run, and whether neurons were found
        typer.echo(f"{measured.contract}\n", err=format != "text")
    typer.echo(tables.render(table, format).rstrip())
    if format != "text":
        for note in measured.notes:
            typer.echo(f"note: {plain(note)}", err=True)
        return
    if len(energies) > 1:
        typer.echo("\n" + tables.render(tables.convention_table(energies)).rstrip())
    first = energies[0]
    accuracy = "no labels" if measured.accuracy is None else f"{measured.accuracy:.2%}"
    typer.echo(
        f"\n{measured.samples} samples of {plain(measured.data)}, T = {measured.time_steps}: "
        f"accuracy {accuracy}, "
        f"{first.mj:.6g} mJ per inference ({first.convention.name}, {first.costs.name})"
    )
    typer.echo(_against_twins(measured, first))
    for row in measured.uncounted:
        typer.echo(plain(f"not counted: {row.name or '(model)'}: {row.note}, {row.calls} calls"))
    for note in measured.notes:
        typer.echo(f"note: {plain(note)}")


def _against_twins(measured: Profile, energy: Energy) -> str:
    """The headline's ratios: to the dense ANN, and to the quantised one with data movement."""
    from snn_energy.energy.analysis import TwinComparison, times
    from snn_energy.energy.estimate import estimate
    from snn_energy.energy.quantised import compare_with_quantised
    from snn_energy.energy.twin import dense_twin

    compared = TwinComparison(energy, estimate(dense_twin(measured), "exact", energy.costs))
    quantised = compare_with_quantised(measured)
    if quantised is None:
        return compared.words
    even = ""
    if quantised.break_even is not None:
        below = quantised.break_even <= 0  # it costs more even if nothing fires
        even = ", even at no rate" if below else f", even at a rate of {quantised.break_even:.2%}"
    return (
        f"{compared.words}; {times(quantised.ratio)} the {quantised.bits}-bit ANN with data movement"
        f" ({quantised.prices.node}; rate {quantised.rate:.2%}{even})"
    )
