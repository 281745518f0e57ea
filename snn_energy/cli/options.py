"""Options that several commands share."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_energy.errors import ConfigError
from snn_energy.files import sha256
from snn_energy.models.flags import FLAGS, flag_of
from snn_energy.values import parse_settings

if TYPE_CHECKING:
    from torch import nn

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
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps …")]

_MODEL_HELP = "Model (win over what the checkpoint says)"


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


def with_model_flags(command: Command) -> Command:
    """Add `--model`, `--set`, `--weights-key`, `--config`, `--ema` and a flag for each field in `FLAGS`.

    They arrive together, without those not given, as the command's keyword `overrides`.
    """

    def option(kind: Any, *names: str, text: str) -> Any:
        return Annotated[kind | None, typer.Option(*names, help=text, rich_help_panel=_MODEL_HELP)]

    extra = {
        "model": option(
            str,
            "--model",
            text="A registered network, or your own: FILE.py:CALLABLE, PACKAGE.MODULE:CALLABLE.",
        ),
        "settings": option(
            list[str], "--set", text="NAME=VALUE for the callable of --model; may be given again."
        ),
        "weights_key": option(
            str, "--weights-key", text="Where in the checkpoint the weights are: state_dict, ema.model …"
        ),
        "config": option(Path, "--config", text="An official YAML configuration."),
        "ema": option(bool, "--ema/--no-ema", text="Use the averaged weights."),
    }
    extra |= {flag.field: option(flag.type, flag.name, text=flag.help) for flag in FLAGS}
    return _with_flags(command, "overrides", extra)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network, its registered `name` or None, and what its checkpoint says of data and classes.

    `notes`: what a profile should say of it; `origin`: where it came from, for the record.
    """

    model: nn.Module
    name: str | None = None
    recipe: dict[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    origin: dict[str, str] = dataclasses.field(default_factory=dict)
    own: bool = False


def load_model(path: Path | None, overrides: dict[str, Any], *, allow_nonfinite: bool = False) -> Loaded:
    """The network that the user means: in a checkpoint, by name, or by the code that `--model` names.

    Notes on how a checkpoint was read are printed; those in `Loaded.notes` are for the command to show.
    Raises `ConfigError` where neither a checkpoint nor a model is given, or flags do not go together.
    """
    from snn_energy.own import names_own

    overrides = dict(overrides)
    settings = parse_settings(overrides.pop("settings", ()))
    weights_key = overrides.pop("weights_key", None)
    if names_own(overrides.get("model")):
        loaded = _load_own(path, overrides, settings, weights_key, allow_nonfinite)
    elif path is None:
        loaded = _untrained(overrides, settings)
    else:
        loaded = _load_ours(path, overrides | settings, weights_key, allow_nonfinite)
    origin = {} if path is None else {"checkpoint": path.name, "checkpoint_sha256": sha256(path)}
    return dataclasses.replace(loaded, origin=origin | loaded.origin)


def _load_own(
    path: Path | None,
    overrides: dict[str, Any],
    settings: dict[str, Any],
    weights_key: str | None,
    allow_nonfinite: bool,
) -> Loaded:
    from snn_energy.own import load_own

    spec = overrides.pop("model")
    for field in overrides.keys() - {"T"}:  # T, --time-steps, is of the contract, not of the builder
        if field == "ema":
            raise ConfigError(
                f"--ema is for networks of the registry; for {spec}: --weights-key state_dict_ema"
            )
        flag = flag_of(field)
        raise ConfigError(f"{flag} is for networks of the registry; for {spec}: --set NAME=VALUE")
    own = load_own(spec, settings, path, weights_key=weights_key, allow_nonfinite=allow_nonfinite)
    origin = {"code": spec} | ({"settings": str(settings)} if settings else {})
    names = tuple(own.class_names or ())
    return Loaded(own.module, class_names=names, notes=own.notes, origin=origin, own=True)


def _load_ours(
    path: Path, overrides: dict[str, Any], weights_key: str | None, allow_nonfinite: bool
) -> Loaded:
    from snn_energy.checkpoints import build, read_checkpoint
    from snn_energy.models.official import read_yaml

    ema = overrides.pop("ema", False)
    stored = read_checkpoint(path, ema=ema, allow_nonfinite=allow_nonfinite, weights_key=weights_key)
    told = read_yaml(overrides["config"]).notes if "config" in overrides else ()
    for note in (*stored.notes, *told):
        typer.echo(f"note: {note}", err=True)
    model = build(stored, **overrides)
    return Loaded(model, stored.model, stored.recipe, tuple(stored.class_names or ()))


def _untrained(overrides: dict[str, Any], settings: dict[str, Any]) -> Loaded:
    """A network of the registry without a checkpoint."""
    from snn_energy.models.zoo import create_model
    from snn_energy.own import RANDOM, seeded

    overrides.pop("ema", None)
    name, config = overrides.pop("model", None), overrides.pop("config", None)
    if name is None and config is None:
        raise ConfigError(
            "give a checkpoint, or --model for a network with random weights (FILE.py:CALLABLE, or a name "
            "from snn-energy list models)"
        )
    with seeded():
        model = create_model(name, config=config, **{**overrides, **settings}).eval()
    return Loaded(model, name or "statten", notes=(RANDOM,))


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while the block runs; what it yields takes the number done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)
