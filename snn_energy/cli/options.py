"""Options that several commands share."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
InputKind = Annotated[
    Literal["events", "tokens"] | None,
    typer.Option(
        "--input-kind", help="events: event counts of any size; tokens: whole numbers that stay integers."
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


def neurons_in(items: Sequence[str]) -> dict[str, str]:
    """`("lib.LIFSpike=lif",)` -> `{"lib.LIFSpike": "lif"}`.  Raises `ConfigError` for anything else."""
    found = {}
    for item in items:
        name, _, op = item.rpartition("=")
        if not op or not name or not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(
                f"--neuron {item!r}: must be MODULE.CLASS=lif, such as --neuron net.LIFSpike=lif"
            )
        found[name] = op
    return found


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network, its registered `name` or None, and what its checkpoint says of data and classes.

    `notes`: what a profile should say of it; `origin`: where it came from, for the record; `time_steps`: T as
    declared for a network of the user's own (those of the registry are built for it).
    """

    model: nn.Module
    name: str | None = None
    recipe: dict[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    origin: dict[str, str] = dataclasses.field(default_factory=dict)
    time_steps: int | None = None


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
    names, steps = tuple(own.class_names or ()), overrides.get("T")
    return Loaded(own.module, class_names=names, notes=own.notes, origin=origin, time_steps=steps)


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


def batch_axis(declared: dict[str, Any]) -> int | None:
    """The axis of samples under the layout that the user declared."""
    layout = declared.get("layout")
    return None if layout is None else int(layout == "TB")


def contract_of(declared: dict[str, Any], loaded: Loaded) -> dict[str, Any]:
    """What `profile` takes of what the user declared of the network."""
    neurons_in(declared.get("neuron", ()))
    return {"time_steps": loaded.time_steps, "batch_dim": batch_axis(declared)}


def takes_integers(model: nn.Module) -> bool:
    """Does the network look things up by whole numbers, as those of token ids do?"""
    from torch import nn

    return any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules())


@contextlib.contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while the block runs; what it yields takes the number done."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)
