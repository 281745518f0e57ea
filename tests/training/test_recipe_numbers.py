"""Numbers of a recipe that cannot be: refused before any work, from a file and from the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from snn_energy import load_recipe
from snn_energy.errors import ConfigError
from snn_energy.training.recipe import Recipe

NUMBERS = [f.name for f in dataclasses.fields(Recipe) if str(f.type) in ("float", "float | None", "int")]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e999", "true", "9" * 80, "[1]", "{a: 1}"])
def test_no_number(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe("digits-statten", (f"{name}={value}",))
    path = tmp_path / "mine.yaml"
    path.write_text(f"model: statten\ndata: digits\n{name}: {value}\n")
    with pytest.raises(ConfigError) as other:
        load_recipe(str(path))
    assert "\n" not in str(error.value) + str(other.value)


@pytest.mark.parametrize(
    "setting", ["clip_grad=-1", "clip_grad=0", "momentum=-0.1", "momentum=1", "tet_lamb=-1"]
)
def test_out_of_range(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.split("=")[0]):
        load_recipe("digits-statten", (setting,))
