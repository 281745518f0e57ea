"""The networks that come with the package: known by name, small, safe, as good as the index says."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import command
import pytest
import torch

import snn_energy
from snn_energy.checkpoints import read_checkpoint
from snn_energy.data import load_data
from snn_energy.errors import CheckpointError
from snn_energy.packaged import FOLDER, checkpoint_path, packaged
from snn_energy.training import load_recipe

MOST = 1_000_000  # bytes
NAMES = sorted(packaged())


def test_every_file_has_an_entry() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.pth")) == NAMES
    assert {"digits-statten", "digits-dvs-statten"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_small_and_holds_tensors_and_the_recipe_that_made_it(name: str) -> None:
    trained = packaged()[name]
    assert trained.path.stat().st_size < MOST
    assert isinstance(torch.load(trained.path, weights_only=True), dict)
    stored = read_checkpoint(name)
    program, verb, recipe, *overrides = shlex.split(trained.command)
    assert (program, verb) == ("snn-energy", "train")
    made_by = load_recipe(recipe, tuple(overrides))
    assert stored.recipe is not None
    assert stored.optimizer is None
    for field in ("model", "data", "config", "epochs", "lr", "batch_size", "seed"):
        assert stored.recipe[field] == getattr(made_by, field), field
    assert stored.metrics["test_accuracy"] == pytest.approx(trained.accuracy, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("digits")])
def test_it_is_as_good_as_the_index_says(name: str, tmp_path: Path) -> None:
    """Weights are fixed: rounding on another processor moves a spike, and that an image or two."""
    done = command.run("evaluate", name, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    share = record["accuracy"] if "accuracy" in record else record["top1"]
    assert share == pytest.approx(packaged()[name].accuracy, abs=3 / 360)


def test_a_name_stands_where_a_path_does(tmp_path: Path) -> None:
    done = command.run("profile", "digits-statten", "--samples", 2, "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    profile = snn_energy.Profile.load(tmp_path / "p/profile.json")
    assert profile.data == "digits (test), first 2"
    assert profile.environment["checkpoint"] == "digits-statten.pth"
    model = snn_energy.load("digits-statten", T=2, chunk_size=1)
    assert model.config.T == 2
    x, _ = load_data("digits").test.batch(slice(0, 3))
    assert model(x).shape == (3, 10)


def test_a_file_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits-sdt").mkdir()  # a folder is no checkpoint
    assert checkpoint_path("digits-sdt") == packaged()["digits-sdt"].path
    Path("digits-statten").write_text("mine")
    assert checkpoint_path("digits-statten") == Path("digits-statten")
    with pytest.raises(CheckpointError, match="digits-statten: is not a checkpoint"):
        snn_energy.load("digits-statten")


@pytest.mark.parametrize("given", ["digits-staten", "nothing-like-it"])
def test_what_is_neither_is_one_line_with_near_names(given: str) -> None:
    said = command.refused("profile", given)
    assert f"{given}: no such file, and no packaged network" in said
    assert ("did you mean 'digits-statten'?" in said) == (given == "digits-staten")
    assert f"known: {', '.join(NAMES)}" in said


@pytest.mark.parametrize("given", ["runs/digits-statten", "digits-statten.pth"])
def test_a_path_is_a_path(given: str) -> None:
    assert checkpoint_path(given) == Path(given)
    assert "No such file" in command.refused("profile", given)
    assert checkpoint_path(f".{os.sep}digits-statten") == Path("digits-statten")


def test_they_are_listed_with_the_command_that_made_them() -> None:
    said = command.run("list", "trained").stdout
    for name in NAMES:
        assert name in said
        assert packaged()[name].command in said
