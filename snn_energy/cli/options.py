"""Options that several commands share."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from snn_energy.cli.waiting import quiet_about_progress, shown
from snn_energy.models.flags import FLAGS

Checkpoint = Annotated[
    Path | None,
    typer.Argument(
        help="A checkpoint: ours, the official STAtten release's, or a state dict. None: random weights."
    ),
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
InputKind = Annotated[
    Literal["events", "tokens"] | None,
    typer.Option(
        "--input-kind", help="events: event counts of any size; tokens: whole numbers that stay integers."
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Print nothing but errors, and JSON or another --format if asked for."
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps …")]

_MODEL_HELP = "Model (win over what the checkpoint says)"
_CONTRACT_HELP = "What the network takes and gives (where it cannot be seen)"


Command = Callable[..., Any]


def _with_flags(command: Command, keyword: str, extra: dict[str, Any]) -> Command:
    """Add options to a command; those given arrive together as the dict `keyword`, the others not at all."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> Any:
        told = {key: value for key in extra if (value := given.pop(key, None)) is not None}
        return command(**given, **{keyword: told})

    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != keyword]
    added = [
        inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=a)
        for k, a in extra.items()
    ]
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    wrapped.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
    return wrapped


def _option(panel: str, kind: Any, *names: str, text: str) -> Any:
    return Annotated[kind | None, typer.Option(*names, help=text, rich_help_panel=panel)]


def with_model_flags(command: Command) -> Command:
    """Add `--model`, `--set`, `--weights-key`, `--config`, `--ema` and a flag for each field in `FLAGS`.

    They arrive together, without those not given, as the command's keyword `overrides`.
    """

    extra = {
        "model": _option(
            _MODEL_HELP,
            str,
            "--model",
            text="A registered network, or your own: FILE.py:CALLABLE, PACKAGE.MODULE:CALLABLE.",
        ),
        "settings": _option(
            _MODEL_HELP,
            list[str],
            "--set",
            text="NAME=VALUE for the callable of --model; may be given again.",
        ),
        "weights_key": _option(
            _MODEL_HELP,
            str,
            "--weights-key",
            text="Where in the checkpoint the weights are: state_dict, ema.model …",
        ),
        "config": _option(_MODEL_HELP, Path, "--config", text="An official YAML configuration."),
        "dt": _option(_MODEL_HELP, float, "--dt", text="Seconds per step of a NIR file."),
        "ema": _option(_MODEL_HELP, bool, "--ema/--no-ema", text="Use the averaged weights."),
    }
    extra |= {flag.field: _option(_MODEL_HELP, flag.type, flag.name, text=flag.help) for flag in FLAGS}
    return _with_flags(command, "overrides", extra)


def with_contract_flags(command: Command) -> Command:
    """Add `--layout`, `--output`, `--neuron` and `--no-check`: what the user declares of a network.

    They arrive together, without those not given, as the command's keyword `declared`.
    """

    extra = {
        "layout": _option(
            _CONTRACT_HELP,
            Literal["TB", "BT", "BT-last", "B"],
            "--layout",
            text="Axes of the input: (T, B, …), (B, T, …), (B, …, T) or (B, …) without time.",
        ),
        "output": _option(
            _CONTRACT_HELP,
            str,
            "--output",
            text="Which output holds the class scores: INDEX or KEY, :mean-T for its mean over T.",
        ),
        "neuron": _option(
            _CONTRACT_HELP,
            list[str],
            "--neuron",
            text="MODULE.CLASS=lif: that class is a neuron; may be given again.",
        ),
        "check": _option(
            _CONTRACT_HELP,
            bool,
            "--check/--no-check",
            text="Whether to look if what was found holds (it does).",
        ),
    }
    return _with_flags(command, "declared", extra)


def with_quiet(command: Command) -> Command:
    """Add `--quiet`: nothing on standard error but errors, on standard output only what a program reads."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> Any:
        if not given.pop("quiet"):
            return command(**given)
        read = given.get("json") or given.get("as_json") or given.get("format", "text") != "text"
        with contextlib.ExitStack() as stack:
            stack.enter_context(quiet_about_progress())
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            if not read:
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            return command(**given)

    signature = inspect.signature(command, eval_str=True)
    quiet = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    wrapped.__signature__ = inspect.Signature([*own, quiet])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in (*own, quiet)}
    return wrapped


@contextlib.contextmanager
def prints_aside() -> Iterator[None]:
    """What a user's network prints goes to standard error, so that tables on standard output stay clean."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while the block runs a network; what it yields takes the number done."""
    if not shown():
        with prints_aside():
            yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with prints_aside(), Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)
