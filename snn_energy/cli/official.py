"""`snn-energy train -c OFFICIAL.yml`: the official trainers' own file, and the most used of their flags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_energy.cli.options import Command, _with_flags
from snn_energy.cli.out import echo
from snn_energy.errors import ConfigError

if TYPE_CHECKING:
    from snn_energy.training import Recipe

_PANEL = "Official files (their command line's flags; win over the file)"
# official argument -> type, flags as there and with hyphens, help
FLAGS: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "config": (Path, ("-c", "--config"), "An official YAML file, run as it is, in place of RECIPE."),
    "data_dir": (str, ("--data-dir", "-data-dir"), "Where the data lies; also of a RECIPE's data."),
    "attention_mode": (str, ("--attention-mode", "--attention_mode"), "STAtten or SDT; obeyed here."),
    "model": (str, ("--model",), "sdt, the only one there is."),
    "dataset": (str, ("--dataset", "-d"), "torch/cifar10, imagenet, cifar10-dvs …"),
    "time_steps": (int, ("--time-steps",), "Time steps."),
    "chunk_size": (int, ("--chunk-size",), "Time steps that attend jointly."),
    "pooling_stat": (str, ("--pooling-stat",), "Which stages of the patch embedding pool."),
    "spike_mode": (str, ("--spike-mode",), "lif or plif."),
    "batch_size": (int, ("--batch-size", "-b"), "Samples per step."),
    "val_batch_size": (int, ("--val-batch-size", "-vb"), "Samples per step of evaluation."),
    "epochs": (int, ("--epochs",), "Epochs of the schedule."),
    "lr": (float, ("--lr",), "Learning rate."),
    "opt": (str, ("--opt",), "adamw, sgd or lamb."),
    "seed": (int, ("--seed",), "Random seed."),
    "workers": (int, ("--workers", "-j"), "Processes that read."),
    "TET": (bool, ("--TET/--no-TET",), "A loss per time step."),
    "dvs_aug": (bool, ("--dvs-aug",), "Cut a square of 16 out of event frames."),
    "dvs_trival_aug": (bool, ("--dvs-trival-aug",), "One of five changes of event frames."),
    "amp": (bool, ("--amp",), "Mixed precision."),
}


def with_official_flags(command: Command) -> Command:
    """Add the flags in `FLAGS`; those given arrive together as the command's keyword `official`."""
    extra = {
        key: Annotated[kind | None, typer.Option(*names, help=text, rich_help_panel=_PANEL)]
        for key, (kind, names, text) in FLAGS.items()
    }
    return _with_flags(command, "official", extra)


def official_recipe(
    recipe: str | None, overrides: tuple[str, ...], official: dict[str, Any], *, quiet: bool = False
) -> Recipe | None:
    """The run that `-c FILE` and its flags mean, or RECIPE with its data in `--data-dir`; None for neither.

    What the keys of the file do is said once, on standard error.  Raises `ConfigError` for a RECIPE beside a
    file, and for flags of official files without one.
    """
    from snn_energy.training.official import read_official, with_folder
    from snn_energy.training.recipe import load_recipe

    flags = {key: value for key, value in official.items() if value is not False or key == "TET"}
    file = flags.pop("config", None)
    if file is None:
        others = [key for key in flags if key != "data_dir"]
        if others:
            name = FLAGS[others[0]][1][0].split("/")[0]
            raise ConfigError(
                f"{name}: is a flag of official files (-c FILE.yml); for a recipe write KEY=VALUE"
            )
        if not flags or recipe is None:
            return None
        return with_folder(load_recipe(recipe, overrides), flags["data_dir"])
    words = ((recipe,) if recipe is not None else ()) + overrides
    if any("=" not in word for word in words):
        raise ConfigError(f"-c {file}: is run in place of a recipe; {words[0]!r} is one too many")
    found = read_official(file, flags, words)
    for note in () if quiet else found.notes:
        echo(f"note: {note}", err=True)
    return found.recipe
