"""Options that several commands share."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_energy.models.flags import FLAGS

if TYPE_CHECKING:
    from torch import nn

    from snn_energy.checkpoints import Checkpoint as StoredCheckpoint

Checkpoint = Annotated[
    Path, typer.Argument(help="A checkpoint: ours, the official STAtten release's, or a state dict.")
]
DataName = Annotated[
    str | None, typer.Option("--data", help="Data set (snn-energy list data). Default: the checkpoint's own.")
]
InputFile = Annotated[
    Path | None, typer.Option("--input", help="Samples of yours: an .npz file with x and optionally y.")
]
SampleCount = Annotated[int | None, typer.Option("--samples", help="Use the first N samples. Default: all.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Samples per forward pass.")]
AllowNonfinite = Annotated[
    bool,
    typer.Option(
        "--allow-nonfinite", help="Go on where weights, samples or activations are NaN or infinite."
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps …")]

_MODEL_HELP = "Model (win over what the checkpoint says)"


def with_model_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--model`, `--config`, `--ema` and a flag for each field in `FLAGS` to a command.

    They arrive together, without those not given, as the command's keyword `overrides`.
    """

    def option(kind: Any, *names: str, text: str) -> Any:
        return Annotated[kind | None, typer.Option(*names, help=text, rich_help_panel=_MODEL_HELP)]

    extra = {
        "model": option(str, "--model", text="Registry name of the network."),
        "config": option(Path, "--config", text="An official YAML configuration."),
        "dt": option(float, "--dt", text="Seconds per step of a NIR file."),
        "ema": option(bool, "--ema/--no-ema", text="Use the averaged weights."),
    }
    extra |= {flag.field: option(flag.type, flag.name, text=flag.help) for flag in FLAGS}

    @functools.wraps(command)
    def wrapped(**given: Any) -> Any:
        overrides = {key: value for key in extra if (value := given.pop(key, None)) is not None}
        return command(**given, overrides=overrides)

    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "overrides"]
    added = [
        inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=a)
        for k, a in extra.items()
    ]
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    wrapped.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
    return wrapped


def load_model(
    path: Path, overrides: dict[str, Any], *, allow_nonfinite: bool = False
) -> tuple[nn.Module, StoredCheckpoint]:
    """The model in a checkpoint with the user's flags, and what the file says; its notes are printed."""
    from snn_energy.checkpoints import build, notes_of, read_checkpoint
    from snn_energy.models.official import read_yaml

    overrides = dict(overrides)
    stored = read_checkpoint(path, ema=overrides.pop("ema", False), allow_nonfinite=allow_nonfinite)
    told = read_yaml(overrides["config"], beside=overrides).notes if "config" in overrides else ()
    model = build(stored, **overrides)
    for note in (*notes_of(stored, model), *told):
        typer.echo(f"note: {note}", err=True)
    return model, stored


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while the block runs; what it yields takes the number done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)
