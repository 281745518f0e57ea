"""`snn-energy sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snn_energy.cli.options import Device
from snn_energy.cli.out import echo
from snn_energy.files import try_folder

if TYPE_CHECKING:
    from snn_energy.sweep import Outcome
    from snn_energy.training import Step


def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (snn-energy list recipes) or a YAML file.")],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=A,B,C…",
            help="lr=0.01,0.03 T=2,4; with --trials also ranges, lr=0.001..0.1; epochs=3",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for runs, table and figure. Default: runs/RECIPE-sweep."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials", min=1, help="Draw so many (Optuna, accuracy and energy). Default: all combinations."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            help="Where the study lives, for several machines: mysql://…, postgresql://…, journal:FILE on a "
            "shared folder. Default: sqlite in --out.",
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="The study's name. Default: the recipe's.")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, help="Measure energy on the first N test samples. Default: all."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Train a recipe with many settings; compare accuracy and energy; sweep.csv and pareto.svg.

    The same command again goes on where it stopped; elsewhere, with the same --storage, it shares the work.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from snn_energy.sweep import Sweep, read_space
    from snn_energy.sweep.table import as_table, write

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    folder = out or Path("runs") / f"{Path(recipe).stem}-sweep"
    space = read_space(tuple(settings))
    try_folder(folder)
    this = Sweep(
        recipe, space, folder, storage=storage, study=study, trials=trials, samples=samples, device=device
    )

    def told(outcome: Outcome) -> None:
        words = " ".join(f"{key}={value}" for key, value in outcome.settings.items())
        if outcome.accuracy is None or outcome.nanojoules is None:
            echo(f"trial {outcome.number}: {words}: {outcome.state}: {outcome.note}", err=True)
        else:
            echo(f"trial {outcome.number}: {words}: {outcome.accuracy:.2%}, {outcome.nanojoules:.1f} nJ")
        write(this.outcomes(), folder, f"{recipe}: accuracy against energy")

    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def on_step(number: int, step: Step) -> None:
            progress.update(
                task, description=f"trial {number}, epoch {step.epoch}", completed=step.done, total=step.total
            )

        this.run(told, on_step)
    outcomes = this.outcomes()
    table, figure = write(outcomes, folder, f"{recipe}: accuracy against energy")
    Console().print(as_table(outcomes))
    left = sum(outcome.state in ("running", "waiting") for outcome in outcomes)
    if left:
        echo(f"note: {left} more run elsewhere; the same command shows them when they are done", err=True)
    echo(f"{table}\n{figure}")
