"""A recipe: everything that decides a training run, as a YAML file with `key=value` overrides."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from snn_energy.errors import ConfigError, suggest
from snn_energy.reading import read_text
from snn_energy.records import record_from, short
from snn_energy.training.settings import Augmentation, Optimization, Task, check
from snn_energy.training.spelling import Text, as_spelt, respelt, spellings, text_fields
from snn_energy.values import parse_yaml

RECIPES = resources.files("snn_energy") / "recipes"


@dataclass(frozen=True)
class Recipe(Augmentation, Optimization, Task):
    """One training run: the fields of `settings`, which says what each means."""

    def __post_init__(self) -> None:
        check(self)


ABOUT = ("base", "source", "published", "parameters")
"""Keys of a recipe's file that say something about it: no fields of the run."""
DEEPEST = 8  # recipes that a recipe builds on


@dataclass(frozen=True)
class Published:
    """What a paper prints of a run: top-1 accuracy in percent, parameters in millions, and where it does."""

    accuracy: float | None = None
    parameters_m: float | None = None
    where: str = ""


@dataclass(frozen=True)
class Said:
    """What a recipe's file says besides the run itself.

    `source`: where its values are from; `parameters`: of its network, counted on the network itself.
    """

    source: str = ""
    published: Published = Published()
    parameters: int | None = None


@dataclass(frozen=True)
class About:
    """A recipe in a line: what it trains on, T of its network, and what its file says besides."""

    name: str
    data: str
    steps: int | None
    said: Said

    def __str__(self) -> str:
        """Data, T, parameters, published accuracy and where it is printed: a line of `list recipes`."""
        said = self.said.published
        words = [self.data.partition(":")[0], f"T {self.steps}"]
        if self.said.parameters is not None:
            words.append(f"{self.said.parameters / 1e6:.2f} M")
        if said.accuracy is not None:
            words.append(f"{said.accuracy:.2f} % ({said.where})")
        return ", ".join(words)


@functools.cache
def _names() -> tuple[str, ...]:
    files = RECIPES.iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def list_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return list(_names())


def load_recipe(source: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe called `source`, or in the YAML file `source`, with `key=value` overrides.

    A key is a field of `Recipe` (`epochs=3`), or of the model's configuration, with or without the prefix
    (`config.T=6`, `T=6`).  Fields that hold text take it as written: `pe: off` is no truth value.  A recipe
    that says `base: NAME` is that recipe with what it says itself over it, field by field of `config`, too.
    Raises `ConfigError` naming what is unknown or of the wrong type.
    """
    values, _ = _read(source)
    return overridden(values, overrides)


def overridden(values: dict[str, Any], overrides: tuple[str, ...]) -> Recipe:
    """The recipe of these fields, with `key=value` overrides.  Raises `ConfigError` as `load_recipe` does."""
    _apply(values, overrides)
    return recipe_from_dict(values)


def about_recipe(source: str) -> About:
    """What a recipe's file says about it.  Raises `ConfigError` for what is no recipe.

    The network is not looked at, so that a list of recipes does not wait for PyTorch.
    """
    values, about = _read(source, spelt=False)
    told = {key: about[key] for key in ("source", "published", "parameters") if key in about}
    said = record_from(Said, told, source, ConfigError)
    steps = values["config"].get("T") or _default_steps(values["model"])
    return About(values["name"], str(values["data"]), steps, said)


def _read(source: str, depth: int = 0, *, spelt: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a recipe, those of its base under its own, and what it says about itself.

    `spelt`: words of the network's configuration as they are written; which of its fields hold words, the
    network's class says, and that takes PyTorch.
    """
    own, written, name = copy.deepcopy((_ours if source in list_recipes() else _parsed)(source))
    about = {key: own.pop(key) for key in ABOUT if key in own}
    base: dict[str, Any] = {}
    if "base" in about:
        if depth == DEEPEST:
            raise ConfigError(f"{source}: base = {about['base']!r}: recipes build on one another in a circle")
        base, _ = _read(_beside(source, about["base"]), depth + 1, spelt=spelt)
    values = {**base, **respelt({"name": name, **own}, written, text_fields(Recipe))}
    for key in ("model", "data"):
        if key not in values:
            raise ConfigError(f"{source}: the key {key!r} is missing")
    config, config_written = own.get("config", {}), written.get("config")
    if not isinstance(config, dict):
        raise ConfigError(f"{source}: config = {config!r}: must be a table")
    if spelt and isinstance(config_written, dict):
        config = respelt(config, config_written, _model_texts(values["model"]))
    return {**values, "config": {**base.get("config", {}), **config}}, about


def _parsed(source: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """What the file of a recipe says, how it spells that, and its name."""
    text, name = _text_of(source)
    values = parse_yaml(text, source)
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: a recipe is a table of keys, not {type(values).__name__}")
    return values, spellings(text), name


_ours = functools.cache(_parsed)  # those of this package, on which others build


def _text_of(source: str) -> tuple[str, str]:
    """What the file of a recipe holds, and its name."""
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        return read_text(path, "recipe", "yaml", ConfigError), path.stem
    if source in list_recipes():
        return RECIPES.joinpath(f"{source}.yaml").read_text("utf-8"), source
    close = difflib.get_close_matches(source, list_recipes(), n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"unknown recipe {source!r} (a name or a .yaml file); {guess}snn-energy list recipes names all"
    )


def _beside(source: str, base: Any) -> str:
    """The recipe that another builds on: a name of ours, or a file, looked for beside it."""
    if not isinstance(base, str) or not base:
        raise ConfigError(f"{source}: base = {short(base)}: must be the name of a recipe, or a .yaml file")
    file = Path(base).suffix in (".yaml", ".yml")
    return str(Path(source).parent / base) if file else base


def _default_steps(model: str) -> Any:
    """T of a registered model, where a recipe leaves it to that."""
    from snn_energy.models.zoo import find

    entry = find(model)
    return entry.fields.get("T") or getattr(entry.resolve().Config, "T", None)


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
