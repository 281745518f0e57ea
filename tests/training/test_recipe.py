"""Recipes: reading, overriding, and one clear line for everything that cannot be."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.models.zoo import ZOO, Entry, create_model
from snn_energy.training import Recipe, list_recipes, load_recipe
from snn_energy.training.recipe import about_recipe
from snn_energy.training.spelling import text_fields


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_loads_and_builds(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    create_model(recipe.model, **recipe.config)


def test_overrides_reach_recipe_and_model() -> None:
    recipe = load_recipe(
        "digits-statten", ("epochs=3", "lr=1e-2", "config.T=6", "chunk_size=3", "pooling_stat=0011")
    )
    assert (recipe.epochs, recipe.lr) == (3, 0.01)
    assert (recipe.config["T"], recipe.config["chunk_size"], recipe.config["pooling_stat"]) == (6, 3, "0011")
    assert load_recipe("digits-statten").config["T"] == 4


def test_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: statten\ndata: digits\nlr: 3e-4\nmin_lr: 1e-5\n")
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.lr, recipe.min_lr) == ("mine", 3e-4, 1e-5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "must be key=value"),
        ("=3", "must be key=value"),
        ("epochs=x", "epochs = 'x': must be int"),
        ("epochs=true", "epochs = True: must be int"),
        ("epochs=0", "at least 1"),
        ("lr=-1", "must not be negative"),
        ("label_smoothing=1", r"must be in \[0, 1\)"),
        ("optimizer=adam", "did you mean 'adamw'"),
        ("chunk=2", "did you mean chunk_size"),
        ("config.depth=2", "did you mean depths"),
        ("lr=[1", "not YAML"),
    ],
)
def test_an_override_that_cannot_be(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("digits-statten", (override,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2\n", "table of keys"),
        ("data: digits\n", "'model' is missing"),
        ("model: statten\n", "'data' is missing"),
        ("model: statten\ndata: digits\nepoch: 3\n", "did you mean 'epochs'"),
        ("model: [\n", "not YAML"),
    ],
)
def test_a_file_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(path))


def test_unknown_recipes() -> None:
    with pytest.raises(ConfigError, match="did you mean 'digits-statten'"):
        load_recipe("digit-statten")
    with pytest.raises(ConfigError, match="no such file; a recipe"):
        load_recipe("nowhere.yaml")


TEXTS = ("on", "off", "yes", "no", "null", "true", "~", "0011", "1e3", "2020-01-01")


@dataclass(frozen=True)
class WordsConfig:
    """A network's fields of every kind that can hold text, and some that cannot."""

    anything: str = ""
    mode: Literal["on", "off", "no"] = "on"
    maybe: Literal["yes", "null"] | None = None
    either: Literal["off", "layer"] | bool = False
    free: str | None = None
    both: int | str = 0
    flag: bool = False
    count: int = 0


class Words(nn.Module):
    Config = WordsConfig


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(ZOO._added, "words", Entry(Words))
    return "words"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("anything: off", {"anything": "off"}),
        ("anything: null", {"anything": "null"}),
        ("anything: 0011", {"anything": "0011"}),
        ("anything:", {"anything": ""}),
        ("mode: off", {"mode": "off"}),
        ("mode: 'no'", {"mode": "no"}),
        ("mode: yes", {"mode": "yes"}),  # none of its words: as spelt, for the network to refuse
        ("maybe: yes", {"maybe": "yes"}),
        ("maybe: null", {"maybe": None}),
        ("either: off", {"either": "off"}),
        ("either: true", {"either": True}),
        ("either: no", {"either": False}),
        ("free: on", {"free": "on"}),
        ("free: ~", {"free": None}),
        ("both: 12", {"both": 12}),
        ("both: off", {"both": False}),  # the type does not say which is meant: YAML's reading stands
        ("flag: off\ncount: 010", {"flag": False, "count": 8}),
        ("flag: yes\nanything: yes", {"flag": True, "anything": "yes"}),
    ],
)
def test_text_is_taken_as_written_in_files_and_overrides(
    text: str, expected: dict, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    lines = text.split("\n")
    path.write_text("model: words\ndata: digits\nconfig:\n" + "".join(f"  {line}\n" for line in lines))
    assert load_recipe(str(path)).config == expected
    path.write_text("data: digits\nmodel: words\n")
    overrides = tuple(line.replace(": ", "=").replace(":", "=") for line in lines)
    assert load_recipe(str(path), overrides).config == expected
    assert load_recipe(str(path), tuple(f"config.{o}" for o in overrides)).config == expected


def test_merged_and_quoted_values_are_as_written(words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model: words\ndata: no\nloss: &l cross_entropy\nname: *l\n"
        "config:\n  <<: {mode: off, anything: on}\n  anything: 'null'\n  ? flag\n  : on\n"
    )
    recipe = load_recipe(str(path))
    assert recipe.config == {"mode": "off", "anything": "null", "flag": True}
    assert (recipe.data, recipe.name) == ("no", "cross_entropy")


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Recipe) if f.type == "str"])
def test_the_text_fields_of_a_recipe_hold_any_text(field: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    rest = {"model": "statten", "data": "digits"}
    path.write_text("".join(f"{k}: {v}\n" for k, v in {**rest, field: text}.items()))
    for source, overrides in ((str(path), ()), ("digits-statten", (f"{field}={text}",))):
        try:
            assert getattr(load_recipe(source, overrides), field) == text
        except ConfigError as error:
            assert f"{text!r}" in str(error), "refused for what it says, under that spelling"


def models_with_text() -> list[tuple[str, str]]:
    classes = {
        ZOO[name].target: name for name in ("statten", "spikformer", "qkformer", "staa-resnet20", "decoupled")
    }
    return [(n, field) for n in classes.values() for field in text_fields(ZOO[n].resolve().Config)]


@pytest.mark.parametrize(("model", "field"), models_with_text())
def test_no_text_field_of_a_network_takes_a_truth_value_for_a_word(
    model: str, field: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    truths = text_fields(ZOO[model].resolve().Config)[field].truth
    for text in TEXTS[:5]:
        path.write_text(f"model: {model}\ndata: digits\nconfig:\n  {field}: {text}\n")
        for source, overrides in ((str(path), ()), ("digits-statten", (f"model={model}", f"{field}={text}"))):
            value = load_recipe(source, overrides).config[field]
            assert value == text or (truths and isinstance(value, bool))


DOCS = Path(__file__).parents[2] / "docs"


def ablation_rows() -> list[tuple[str, tuple[str, ...], int]]:
    """The table "Ablations as overrides" of docs/staa.md: experiment, overrides, parameters."""
    text = (DOCS / "staa.md").read_text().split("### Ablations as overrides")[1].split("\n#")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([\d,]+) \|$", text, flags=re.MULTILINE)
    assert len(rows) > 20
    return [(what, tuple(o.strip("`—").split()), int(n.replace(",", ""))) for what, o, n in rows]


@pytest.mark.parametrize(("what", "overrides", "parameters"), ablation_rows())
def test_every_row_of_the_ablations_runs_as_documented(
    what: str, overrides: tuple[str, ...], parameters: int
) -> None:
    """Its overrides reach the recipe, and the paper's network then has the parameters that the table says."""
    full = ("T=4", "width=1.0", "in_channels=3")
    recipe = load_recipe("digits-staa-resnet20", (*overrides, *full))
    with torch.device("meta"):
        model = create_model(recipe.model, **recipe.config)
    assert sum(p.numel() for p in model.parameters()) == parameters
    narrow = load_recipe("digits-staa-resnet20", overrides)
    images = torch.rand(2, 1, 8, 8)
    assert create_model(narrow.model, **narrow.config)(images).isfinite().all()


def test_a_recipe_builds_on_another(tmp_path: Path) -> None:
    """Its own fields over the base's, of the configuration one by one; a file is looked for beside it."""
    (tmp_path / "one.yaml").write_text("base: digits-statten\nlr: 1e-2\nconfig: {T: 6, chunk_size: 3}\n")
    (tmp_path / "two.yaml").write_text(
        "base: one.yaml\nepochs: 3\nconfig: {chunk_size: 2}\nsource: me\nparameters: 7\n"
        "published: {accuracy: 97.5, where: Table 9}\n"
    )
    base, two = load_recipe("digits-statten"), load_recipe(str(tmp_path / "two.yaml"), ("seed=4",))
    assert (two.name, two.lr, two.epochs, two.seed) == ("two", 1e-2, 3, 4)
    assert two.config == {**base.config, "T": 6, "chunk_size": 2}
    assert dataclasses.replace(two, name="", lr=0, epochs=1, seed=0, config={}) == dataclasses.replace(
        base, name="", lr=0, epochs=1, seed=0, config={}
    )
    about = about_recipe(str(tmp_path / "two.yaml"))
    assert (about.said.source, about.said.parameters, about.said.published.where) == ("me", 7, "Table 9")
    assert str(about) == "digits, T 6, 0.00 M, 97.50 % (Table 9)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: digits-stattn\n", "unknown recipe 'digits-stattn'"),
        ("base: nowhere.yaml\n", "no such file"),
        ("base: [1]\n", "must be the name of a recipe"),
        ("base: mine.yaml\n", "in a circle"),
        ("base: digits-statten\npublished: {accuracy: high}\n", "published: accuracy"),
        ("base: digits-statten\npublished: {top1: 3}\n", "unknown key 'top1'"),
        ("base: digits-statten\nparameters: many\n", "parameters"),
        ("base: digits-statten\nconfig: 3\n", "config = 3: must be a table"),
    ],
)
def test_a_base_that_cannot_be(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        about_recipe(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("auto_augment=rnd-m9", "known: 3a, augmix-m3-w3"),
        ("crop_scale=[0.5]", "must be two numbers"),
        ("crop_scale=[0.9, 0.1]", "must be two numbers"),
        ("crop_scale=0.5", "must be a list of numbers"),
        ("opt_betas=[0.9, 2]", "must be two numbers"),
        ("hflip=1.5", r"hflip = 1.5: must be in \[0, 1\]"),
        ("schedule_per=week", "known: epoch, step"),
        ("mix_mode=bach", "did you mean 'batch'"),
        ("cooldown_epochs=-1", "must not be negative"),
        ("val_batch_size=0", "at least 1"),
    ],
)
def test_settings_that_cannot_be(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("digits-statten", (override,))
