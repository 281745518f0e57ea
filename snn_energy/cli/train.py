"""`snn-energy train`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_energy.cli.official import official_recipe, with_official_flags
from snn_energy.cli.options import Device
from snn_energy.cli.out import echo
from snn_energy.cli.waiting import import_torch
from snn_energy.errors import ConfigError, Interrupted, SnnEnergyError
from snn_energy.files import try_folder

if TYPE_CHECKING:
    from snn_energy.training import Recipe, Result, Step

RUNS = Path("runs")


@with_official_flags
def train(
    official: dict[str, Any],
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe's name (snn-energy list recipes) or a YAML file; after --resume a run's folder.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="epochs=3 T=6 lr=1e-3 …")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for checkpoints and log. Default: runs/RECIPE.")
    ] = None,
    device: Device = "auto",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in the folder. Without RECIPE: with the newest below --out, or runs.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    save_every: Annotated[
        str,
        typer.Option("--save-every", help="Save within epochs, too: after a time (90s, 10m) or steps (500)."),
    ] = "10m",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves for TensorBoard into the folder.")
    ] = False,
) -> None:
    """Train a network from a recipe; write best.pth, last.pth, resume.pth, log.csv and recipe.yaml.

    Ctrl-C saves the run; --resume goes on with it, also after a crash, and it ends with the same weights.
    Several processes: torchrun --nproc-per-node 2 -m snn_energy train RECIPE.
    """
    import_torch()
    from snn_energy.training import train as run
    from snn_energy.training.processes import joined

    if resume and overwrite:
        raise ConfigError("--resume goes on with a run, --overwrite replaces it: give one of them")
    with joined(device) as (group, _), _spoken_once(group.rank):
        loaded, folder = group.each(
            lambda: _what(recipe, tuple(overrides or ()), out, resume, official, quiet=not group.first)
        )
        group.each(lambda: try_folder(folder))
        with _bars(loaded, quiet=not group.first) as (on_step, on_epoch):
            result = run(
                loaded,
                folder,
                device=device,
                resume=resume,
                overwrite=overwrite,
                save_every=save_every,
                tensorboard=tensorboard,
                on_step=on_step,
                on_epoch=on_epoch,
            )
        if group.first:
            _tell(result)


def _what(
    recipe: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
    resume: bool,
    official: dict[str, Any],
    *,
    quiet: bool,
) -> tuple[Recipe, Path]:
    """What is to be trained, and where: of a run that is there, what it began as."""
    from snn_energy.training.folder import STATE, newest
    from snn_energy.training.loop import recipe_in
    from snn_energy.training.recipe import list_recipes, load_recipe

    if (told := official_recipe(recipe, overrides, official, quiet=quiet)) is not None:
        return told, out or RUNS / told.name
    if recipe is None:
        if not resume:
            raise ConfigError("give a recipe (snn-energy list recipes), or --resume to go on with a run")
        folder = newest(out or RUNS)
        return recipe_in(folder), folder
    if resume and Path(recipe).is_dir() and recipe not in list_recipes():
        if out is not None or overrides:
            raise ConfigError(f"--resume {recipe}: goes on with that run as it is: no --out, no KEY=VALUE")
        if not (Path(recipe) / STATE).is_file():
            raise ConfigError(f"--resume {recipe}: holds no {STATE} to go on from")
        return recipe_in(Path(recipe)), Path(recipe)
    loaded = load_recipe(recipe, overrides)
    return loaded, out or RUNS / loaded.name


@contextlib.contextmanager
def _spoken_once(rank: int) -> Iterator[None]:
    """What all processes raise is printed by the first; so is that another process has ended."""
    from snn_energy.training.processes import AGREED, lost_a_process

    try:
        yield
    except SnnEnergyError as error:
        if rank and (getattr(error, AGREED, False) or isinstance(error, Interrupted)):
            raise typer.Exit(error.exit_code) from None
        raise
    except RuntimeError as error:
        if not lost_a_process(error):
            raise
        if rank:
            raise typer.Exit(SnnEnergyError.exit_code) from None
        raise SnnEnergyError(
            "another process of this run has ended; --resume goes on from what was saved last"
        ) from None


@contextlib.contextmanager
def _bars(
    recipe: Recipe, *, quiet: bool
) -> Iterator[tuple[Callable[[Step], None], Callable[[Mapping[str, float]], None]]]:
    """A line per epoch and, on a terminal, bars of run and epoch.  Yields what is to be called."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Left

    console = Console(quiet=quiet)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[scores]}"), TimeElapsedColumn(), TextColumn("left"), Left(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        whole = bars.add_task("all", total=None, scores="")
        epoch = bars.add_task("starting", total=None, scores="")

        def on_step(step: Step) -> None:
            steps = step.total // recipe.total_epochs
            scores = f"loss {step.loss:.3f} train {step.accuracy:.2%}"
            bars.update(whole, completed=step.done, total=step.total)
            done = step.done - (step.epoch - 1) * steps
            label = f"epoch {step.epoch}/{recipe.total_epochs}"
            bars.update(epoch, completed=done, total=steps, description=label, scores=scores)

        def on_epoch(row: Mapping[str, float]) -> None:
            console.print(_line(row, recipe.total_epochs), highlight=False, soft_wrap=True)

        yield on_step, on_epoch


def _line(row: Mapping[str, float], epochs: int) -> str:
    """`epoch 3/10: loss 1.234 train 56.78% test 50.00% 1.23 µJ (exact)`."""
    from snn_energy.training.measured import CONVENTION, ENERGY

    said = [f"epoch {row['epoch']:.0f}/{epochs}: loss {row['loss']:.3f}"]
    for name in ("train", "validation", "test"):
        if f"{name}_accuracy" in row:
            said.append(f"{name} {row[f'{name}_accuracy']:.2%}")
    if ENERGY in row:
        said.append(f"{row[ENERGY]:.4g} µJ ({CONVENTION})")
    return " ".join(said)


def _tell(result: Result) -> None:
    """What came out."""
    for note in result.notes:
        echo(f"note: {note}", err=True)
    if result.chosen_by == "test":
        echo(f"best test accuracy {result.accuracy:.2%} in epoch {result.epoch}; {result.seconds:.0f} s")
        echo(
            "note: the epoch was chosen on the test part, as papers do; val_fraction=0.1 would not", err=True
        )
    else:
        best = f"best {result.chosen_by} accuracy {result.chosen_accuracy:.2%} in epoch {result.epoch}"
        echo(f"{best}, test accuracy {result.accuracy:.2%}; {result.seconds:.0f} s")
    echo(f"{result.best}")
