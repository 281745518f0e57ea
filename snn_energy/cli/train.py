"""`snn-energy train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snn_energy.cli.options import Device
from snn_energy.files import try_folder


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (snn-energy list recipes) or a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="epochs=3 T=6 lr=1e-3 …")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for checkpoints and log. Default: runs/RECIPE.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train a network from a recipe; write best.pth, last.pth, log.csv and recipe.yaml."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from snn_energy.training import Step, load_recipe
    from snn_energy.training import train as run

    loaded = load_recipe(recipe, tuple(overrides or ()))
    try_folder(out or Path("runs") / loaded.name)
    part = "validation" if loaded.val_fraction else "test"
    console = Console()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[scores]}"), TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=None, scores="")
        shown = 0

        def on_step(step: Step) -> None:
            nonlocal shown
            test = "" if step.test_accuracy is None else f" {part} {step.test_accuracy:.2%}"
            scores = f"loss {step.loss:.3f} train {step.accuracy:.2%}{test}"
            if step.epoch > shown + 1 and not console.is_terminal:
                console.print(f"epoch {step.epoch - 1}/{loaded.total_epochs}:{test}")
            shown = step.epoch - 1
            description = f"epoch {step.epoch}/{loaded.total_epochs}"
            progress.update(
                task, completed=step.done, total=step.total, description=description, scores=scores
            )

        result = run(loaded, out or Path("runs") / loaded.name, device=device, on_step=on_step)
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    if result.chosen_by == "test":
        typer.echo(
            f"best test accuracy {result.accuracy:.2%} in epoch {result.epoch}; {result.seconds:.0f} s"
        )
        typer.echo(
            "note: the epoch was chosen on the test part, as papers do; val_fraction=0.1 would not", err=True
        )
    else:
        best = f"best {result.chosen_by} accuracy {result.chosen_accuracy:.2%} in epoch {result.epoch}"
        typer.echo(f"{best}, test accuracy {result.accuracy:.2%}; {result.seconds:.0f} s")
    typer.echo(f"{result.best}")
