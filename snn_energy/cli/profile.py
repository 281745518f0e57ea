"""`snn-energy profile` and `snn-energy report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from snn_energy.cli.options import (
    BatchSize,
    Checkpoint,
    DataName,
    Device,
    InputFile,
    SampleCount,
    load_model,
    with_model_flags,
)
from snn_energy.errors import ConfigError

if TYPE_CHECKING:
    from snn_energy.energy import Energy
    from snn_energy.profiling import Profile

Conventions = Annotated[
    str, typer.Option("--convention", help="Counting conventions, comma-separated names or YAML files; all: every one.")
]
Costs = Annotated[str, typer.Option("--costs", help="Cost table: a name (snn-energy list costs) or a YAML file.")]
Format = Annotated[Literal["text", "csv", "json", "markdown", "latex"], typer.Option("--format", help="How to print.")]
By = Annotated[Literal["layer", "block", "step"], typer.Option("--by", help="Rows of the printed table.")]


@with_model_flags
def profile(
    checkpoint: Checkpoint,
    overrides: dict[str, Any],
    data: DataName = None,
    input_file: InputFile = None,
    samples: SampleCount = None,
    batch_size: BatchSize = 32,
    out: Annotated[Path | None, typer.Option("--out", help="Folder. Default: profile/ beside the checkpoint.")] = None,
    device: Device = "auto",
    convention: Conventions = "exact",
    costs: Costs = "45nm-fp32",
    format: Format = "text",
    by: By = "layer",
    strict: Annotated[bool, typer.Option("--strict", help="Fail if any operation is not counted.")] = False,
) -> None:
    """Count what one inference does, layer by layer, and price it; write profile.json, layers.csv, report.html."""
    names = convention_names(convention)  # before the work, so that a typo costs no time
    from snn_energy.energy import load_costs

    load_costs(costs)
    from snn_energy.profiling import profile as measure
    from snn_energy.samples import choose_samples
    from snn_energy.training.device import choose_device

    model, stored = load_model(checkpoint, overrides)
    where = choose_device(device)
    chosen = choose_samples(stored.recipe, data=data, input_file=input_file, count=samples)
    measured = measure(
        model.to(where),
        _progress(chosen.images.batches(batch_size), len(chosen.images), batch_size),
        strict=strict,
        device=where,
        data=chosen.name,
        class_names=chosen.class_names or tuple(stored.class_names or ()),
        name=stored.model or "",
        source=checkpoint,
    )
    folder = out or checkpoint.parent / "profile"
    measured.save(folder / "profile.json")
    energies = [measured.energy(name, costs) for name in names]
    _write(measured, energies, folder)
    _print(measured, energies, by, format)
    typer.echo(f"{folder / 'report.html'}", err=format != "text")


def report(
    profile: Annotated[Path, typer.Argument(help="A profile.json, or the folder that holds it.")],
    out: Annotated[Path | None, typer.Option("--out", help="Default: report.html beside the profile.")] = None,
    verification: Annotated[
        list[Path] | None, typer.Option("--verification", help="An exported folder whose verdict the report shows.")
    ] = None,
    convention: Conventions = "exact",
    costs: Costs = "45nm-fp32",
) -> None:
    """Write the HTML report of a saved profile again; needs neither the model nor torch."""
    from snn_energy.profiling.profile import Profile
    from snn_energy.reports import report as write

    path = profile / "profile.json" if profile.is_dir() else profile
    measured = Profile.load(path)
    energies = [measured.energy(name, costs) for name in convention_names(convention)]
    target = out or path.parent / "report.html"
    write(measured, target, energies=energies, verifications=tuple(verification or ()))
    typer.echo(str(target))


def convention_names(text: str) -> list[str]:
    """The conventions that a comma-separated option names, checked."""
    from snn_energy.energy import conventions, load_convention

    names = list(conventions()) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"--convention {text!r}: give at least one name, such as exact")
    for name in names:
        load_convention(name)
    return names


def _progress(batches: Any, samples: int, batch_size: int) -> Any:
    from rich.console import Console
    from rich.progress import track

    total = -(-samples // batch_size)
    return track(batches, "profiling", total=total, console=Console(stderr=True), transient=True)


def _write(measured: Profile, energies: list[Energy], folder: Path) -> None:
    from snn_energy.files import write_text
    from snn_energy.reports import report as write

    write_text(folder / "layers.csv", measured.ops.to_csv(index=False))
    write(measured, folder / "report.html", energies=energies)


def _print(measured: Profile, energies: list[Energy], by: str, format: str) -> None:
    raise NotImplementedError
