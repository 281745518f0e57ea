"""The network and the samples that a command line means."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.cli.options import prints_aside
from snn_energy.cli.out import echo
from snn_energy.cli.waiting import waiting
from snn_energy.errors import ConfigError, SnnEnergyError
from snn_energy.files import sha256
from snn_energy.models.flags import flag_of
from snn_energy.packaged import checkpoint_path
from snn_energy.values import parse_settings

if TYPE_CHECKING:
    from torch import nn

    from snn_energy.samples import Samples


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network, its registered `name` or None, and what its checkpoint says of data and classes.

    `notes`: what a profile should say of it; `origin`: where it came from, for the record; `time_steps`: T as
    declared for a network of the user's own (those of the registry are built for it); `history`: of its
    training, a row per epoch.
    """

    model: nn.Module
    name: str | None = None
    recipe: dict[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    origin: dict[str, str] = dataclasses.field(default_factory=dict)
    time_steps: int | None = None
    history: tuple[dict[str, Any], ...] = ()


def load_model(path: Path | None, overrides: dict[str, Any], *, allow_nonfinite: bool = False) -> Loaded:
    """The network that the user means: in a checkpoint, by name, or by the code that `--model` names.

    Notes on how a checkpoint was read are printed; those in `Loaded.notes` are for the command to show.
    Raises `ConfigError` where neither a checkpoint nor a model is given, or flags do not go together.
    """
    from snn_energy.own import names_own

    path = None if path is None else checkpoint_path(path)
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
    from snn_energy.checkpoints import build, notes_of, read_checkpoint
    from snn_energy.models.official import read_yaml

    ema = overrides.pop("ema", False)
    stored = read_checkpoint(path, ema=ema, allow_nonfinite=allow_nonfinite, weights_key=weights_key)
    told = read_yaml(overrides["config"], beside=overrides).notes if "config" in overrides else ()
    model = build(stored, **overrides)
    for note in (*notes_of(stored, model), *told):
        echo(f"note: {note}", err=True)
    history = tuple(dict(row) for row in stored.history)
    return Loaded(model, stored.model, stored.recipe, tuple(stored.class_names or ()), history=history)


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
def running(loaded: Loaded) -> Iterator[None]:
    """What a network of the user's own raises while it runs in the block is an error of one line."""
    try:
        yield
    except SnnEnergyError:
        raise
    except Exception as error:
        if "code" not in loaded.origin:
            raise
        from snn_energy.own import failure

        raise failure(loaded.origin["code"], error) from None


# --- what the user declared, and samples ------------------------------------------------------------------


def contract_of(declared: dict[str, Any], loaded: Loaded) -> dict[str, Any]:
    """The options of `profile` and `evaluate` for what the user declared of the network."""
    told = dict(declared)
    return {"neurons": neurons_in(told.pop("neuron", ())), "time_steps": loaded.time_steps, **told}


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


def prepare(
    checkpoint: Path | None,
    overrides: dict[str, Any],
    declared: dict[str, Any],
    *,
    allow_nonfinite: bool = False,
    **samples: Any,
) -> tuple[Loaded, dict[str, Any], Samples]:
    """The network, what was declared of it, and its samples (`choose`), for a command that runs it."""
    with waiting("reading the network"):
        loaded = load_model(checkpoint, overrides, allow_nonfinite=allow_nonfinite)
    contract = contract_of(declared, loaded)
    with waiting("reading samples"):
        return loaded, contract, choose(loaded, contract, allow_nonfinite=allow_nonfinite, **samples)


def choose(
    loaded: Loaded,
    contract: dict[str, Any],
    *,
    data: str | None,
    input_file: Path | None,
    count: int | None,
    allow_nonfinite: bool = False,
    input_kind: str | None = None,
) -> Samples:
    """The samples for a network.

    Those of a file lie along the axis that the layout or the labels say; without either, along the one that a
    look at the network with the first of them shows.
    """
    from snn_energy.data import Arrays
    from snn_energy.profiling.contract import Declared
    from snn_energy.profiling.settle import samples_along
    from snn_energy.samples import choose_samples

    declared = Declared(**contract)
    time_first = getattr(loaded.model, "time_axis", None) == 0  # a network of a NIR file says so
    chosen = choose_samples(
        loaded.recipe,
        data=data,
        input_file=input_file,
        allow_nonfinite=allow_nonfinite,
        batch_axis=declared.batch_axis,
        integers=input_kind == "tokens" or takes_integers(loaded.model),
        time_first=time_first,
        frames=frames_of(loaded),
    )
    images = chosen.images
    unsaid = declared.batch_axis is None and not time_first
    if isinstance(images, Arrays) and images.labels is None and unsaid:
        with prints_aside(), running(loaded):
            axis = samples_along(loaded.model, images.batch(slice(LOOK))[0], declared)
        if axis != images.axis:
            chosen = dataclasses.replace(chosen, images=dataclasses.replace(images, axis=axis))
    return chosen.first(count)


def frames_of(loaded: Loaded) -> int | None:
    """How many frames of event data the network takes, where that is known."""
    return loaded.time_steps or getattr(getattr(loaded.model, "config", None), "T", None)


LOOK = 32  # samples for a look


def takes_integers(model: nn.Module) -> bool:
    """Does the network look things up by whole numbers, as those of token ids do?"""
    from torch import nn

    return any(isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in model.modules())
