"""Recipes: reading, overriding, and one clear line for everything that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from snn_energy.errors import ConfigError
from snn_energy.models.zoo import create_model
from snn_energy.training import list_recipes, load_recipe


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
