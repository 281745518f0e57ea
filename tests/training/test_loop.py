"""The training loop on a tiny network: it learns, repeats itself, writes whole files or none."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from snn_energy.checkpoints import load, read_checkpoint
from snn_energy.data import load_data
from snn_energy.errors import ConfigError, DataError, SnnEnergyError
from snn_energy.training import load_recipe, train
from snn_energy.training.device import choose_device
from snn_energy.training.loop import evaluate, random_shift

TINY = (
    "embed_dims=16",
    "num_heads=2",
    "depths=1",
    "T=2",
    "pooling_stat=0110",
    "epochs=2",
    "batch_size=96",
    "lr=0.02",
)


def test_a_run_learns_and_its_checkpoint_gives_the_accuracy_that_it_says(tmp_path: Path) -> None:
    recipe = load_recipe("digits-statten", TINY)
    steps = []
    result = train(recipe, tmp_path, device="cpu", on_step=steps.append)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.pth", "last.pth", "log.csv", "recipe.yaml"]
    assert [s.done for s in steps] == list(range(1, 31))
    assert {s.total for s in steps} == {30}
    assert steps[-1].loss < 0.97 * steps[0].loss
    with (tmp_path / "log.csv").open() as stream:
        log = list(csv.DictReader(stream))
    assert max(float(row["test_accuracy"]) for row in log) == pytest.approx(result.accuracy, abs=1e-6)
    model = load(result.best)
    assert evaluate(model, load_data("digits").test, 64, torch.device("cpu")) == result.accuracy
    stored = read_checkpoint(result.best)
    assert stored.recipe is not None
    assert stored.recipe["data"] == "digits"
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe

    again = train(recipe, tmp_path / "again", device="cpu")
    ours, theirs = load(tmp_path / "last.pth").state_dict(), load(again.out / "last.pth").state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (("T=3",), ConfigError, "chunk_size = 2: must divide T = 3"),
        (("in_channels=3",), ConfigError, "in_channels = 3: digits has 1"),
        (("num_classes=9",), ConfigError, "num_classes = 9: digits has 10"),
        (("data=digit",), DataError, "did you mean 'digits'"),
    ],
)
def test_a_run_that_cannot_be_writes_nothing(
    tmp_path: Path, overrides: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(load_recipe("digits-statten", overrides), tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_diverging_run_says_so(tmp_path: Path) -> None:
    recipe = replace(load_recipe("digits-statten", TINY), lr=1e30, warmup_epochs=0, optimizer="sgd")
    with pytest.raises(SnnEnergyError, match="loss became nan in epoch"):
        train(recipe, tmp_path, device="cpu")


def test_tet_trains_on_logits_per_step(tmp_path: Path) -> None:
    recipe = load_recipe("digits-statten", (*TINY, "epochs=1", "TET=true", "loss=tet"))
    assert train(recipe, tmp_path, device="cpu").accuracy >= 0


def test_random_shift_moves_whole_images() -> None:
    x = torch.randn(9, 2, 5, 4)
    moved = random_shift(x, 1, torch.Generator().manual_seed(0))
    seen = set()
    for image, result in zip(x, moved, strict=True):
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
        places = [
            (i, j) for i in range(3) for j in range(3) if torch.equal(padded[:, i : i + 5, j : j + 4], result)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 2


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    choose_device("auto")
    with pytest.raises(ConfigError, match="device = 'gpu'"):
        choose_device("gpu")
