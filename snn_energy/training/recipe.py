"""A recipe: everything that decides a training run, as a YAML file with `key=value` overrides."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from snn_energy.errors import ConfigError, suggest
from snn_energy.reading import read_text
from snn_energy.records import short
from snn_energy.training.spelling import Text, as_spelt, respelt, spellings, text_fields
from snn_energy.values import parse_yaml

LARGEST = {int: 2**63, float: math.inf, bool: 2}  # an int: what PyTorch takes as a seed
RECIPES = resources.files("snn_energy") / "recipes"
CHOICES = {
    "optimizer": ("adamw", "sgd", "lamb"),
    "loss": ("cross_entropy", "tet"),
    "quantize": ("none", "loihi"),
}


@dataclass(frozen=True)
class Recipe:
    """One training run.

    `model` is a registry name and `config` the fields of its configuration; `data` a name for
    `snn_energy.data.load_data`.  The learning rate warms up linearly over `warmup_epochs` and falls to
    `min_lr` along a cosine, per step.  `random_affine` turns, shears, scales and moves training images: each
    entry of the affine matrix by up to that much.  With `ema_decay` above 0 the network that is tested and
    saved is the exponential moving average of the weights over steps.  `init` is a checkpoint to start from;
    `quantize: loihi` trains with weights rounded as for a Loihi netlist (`snn_energy.training.quantize`).
    With `val_fraction` above 0, that much of the training part chooses the best epoch instead of the test
    part.  `energy_weight` times the share of synapses that events reach (`profiling.accumulates`) is added to
    the loss, as far as an inference takes more than `energy_target` accumulates.  `workers` processes read
    data that does not stay in memory; -1: as many as there are processors.
    """

    name: str
    model: str
    data: str
    config: dict[str, Any] = field(default_factory=dict)
    init: str = ""
    quantize: str = "none"
    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 1e-3
    min_lr: float = 1e-5
    warmup_epochs: float = 1
    weight_decay: float = 0.06
    momentum: float = 0.9
    clip_grad: float | None = None
    loss: str = "cross_entropy"
    label_smoothing: float = 0.1
    tet_means: float = 1.0
    tet_lamb: float = 1e-3
    regularization: float = 0.0
    energy_weight: float = 0.0
    energy_target: float = 0.0
    ema_decay: float = 0.0
    random_affine: float = 0.0
    seed: int = 0
    val_fraction: float = 0.0
    workers: int = -1
    amp: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            _check_type(spec, getattr(self, spec.name))
        for key, least in (("epochs", 1), ("batch_size", 1), ("seed", 0), ("workers", -1)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key} = {getattr(self, key)}: must be at least {least}")
        for key in (
            "lr",
            "min_lr",
            "warmup_epochs",
            "weight_decay",
            "regularization",
            "energy_weight",
            "energy_target",
            "random_affine",
            "tet_lamb",
        ):
            if getattr(self, key) < 0:
                raise ConfigError(f"{key} = {getattr(self, key)}: must not be negative")
        if self.clip_grad is not None and self.clip_grad <= 0:
            raise ConfigError(f"clip_grad = {self.clip_grad}: must be above 0, or null for no clipping")
        for key in ("label_smoothing", "ema_decay", "momentum", "val_fraction"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(f"{key} = {getattr(self, key)}: must be in [0, 1)")
        if self.energy_target and not self.energy_weight:
            raise ConfigError(f"energy_target = {self.energy_target}: needs an energy_weight above 0")
        if self.energy_weight and self.compile:
            raise ConfigError("energy_weight: spikes cannot be counted in a compiled network; compile=false")
        for key, known in CHOICES.items():
            if getattr(self, key) not in known:
                raise ConfigError(f"{key} = {getattr(self, key)!r}; {suggest(getattr(self, key), known)}")


def list_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    files = RECIPES.iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def load_recipe(source: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe called `source`, or in the YAML file `source`, with `key=value` overrides.

    A key is a field of `Recipe` (`epochs=3`), or of the model's configuration, with or without the prefix
    (`config.T=6`, `T=6`).  Fields that hold text take it as written: `pe: off` is no truth value.  Raises
    `ConfigError` naming what is unknown or of the wrong type.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        text, name = read_text(path, "recipe", "yaml", ConfigError), path.stem
    elif source in list_recipes():
        text, name = (
            RECIPES.joinpath(f"{source}.yaml").read_text("utf-8"),
            source,
        )
    else:
        raise ConfigError(
            f"unknown recipe {source!r} (a name or a .yaml file); {suggest(source, list_recipes())}"
        )
    values = parse_yaml(text, source)
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: a recipe is a table of keys, not {type(values).__name__}")
    written = spellings(text)
    values = respelt({"name": name, "config": {}, **values}, written, text_fields(Recipe))
    for key in ("model", "data"):
        if key not in values:
            raise ConfigError(f"{source}: the key {key!r} is missing")
    config, config_written = values["config"], written.get("config")
    if not isinstance(config, dict):
        raise ConfigError(f"{source}: config = {config!r}: must be a table")
    if isinstance(config_written, dict):
        values["config"] = respelt(config, config_written, _model_texts(values["model"]))
    _apply(values, overrides)
    return recipe_from_dict(values)


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """A `Recipe` from plain values, an unknown key refused by name."""
    known = [f.name for f in dataclasses.fields(Recipe)]
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown recipe key {short(key)}; {suggest(str(key), known)}")
    return Recipe(**values)


def _apply(values: dict[str, Any], overrides: tuple[str, ...]) -> None:
    """Write each `key=value` into `values`."""
    fields = [f.name for f in dataclasses.fields(Recipe)]
    texts = text_fields(Recipe)
    for item in overrides:
        key, sep, text = item.partition("=")
        if not sep or not key:
            raise ConfigError(f"override {item!r}: must be key=value, such as epochs=3")
        if key in fields and key != "config":
            values[key] = _override(texts.get(key), text, item)
            continue
        model_fields = _model_fields(values["model"])
        name = key.removeprefix("config.")
        if name not in model_fields:
            raise ConfigError(f"unknown key {key!r}; {_nearest(name, [*fields, *model_fields])}")
        words = _model_texts(values["model"]).get(name)
        values["config"] = {**values["config"], name: _override(words, text, item)}


def _override(field: Text | None, text: str, item: str) -> Any:
    """The value of `text` for a field; any text is taken as it is, YAML or not."""
    any_text = field is not None and field.words is None and not field.optional
    return text if any_text else as_spelt(field, text, parse_yaml(text, item))


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"


def _config_class(model: str) -> type:
    """The configuration of a registered model.  Raises `ConfigError` for any other name."""
    from snn_energy.models.zoo import find

    config: type = find(model).resolve().Config
    return config


def _model_fields(model: str) -> list[str]:
    """The fields of a registered model's configuration."""
    return [f.name for f in dataclasses.fields(_config_class(model))]


def _model_texts(model: Any) -> dict[str, Text]:
    """Those of them that hold text; nothing for a model that is none, which is refused when it is built."""
    from snn_energy.models.zoo import ZOO

    return text_fields(_config_class(model)) if isinstance(model, str) and model in ZOO else {}


def _check_type(spec: dataclasses.Field, value: Any) -> None:
    kinds: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "int": (int,),
        "float": (int, float),
        "bool": (bool,),
        "float | None": (int, float, type(None)),
        "dict[str, Any]": (dict,),
    }
    expected = kinds[str(spec.type)]
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        raise ConfigError(
            f"{spec.name} = {short(value)}: must be {str(spec.type).replace('dict[str, Any]', 'a table')}"
        )
    if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) < LARGEST[type(value)]):
        raise ConfigError(f"{spec.name} = {short(value)}: must be a finite number, not as large as this")
