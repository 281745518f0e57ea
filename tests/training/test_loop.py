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
from snn_energy.models.zoo import create_model
from snn_energy.training import load_recipe, train
from snn_energy.training.device import choose_device
from snn_energy.training.loop import evaluate, random_affine

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


def test_random_affine_samples_where_the_matrix_points() -> None:
    """Against a plain bilinear look-up with the same matrices."""
    x, most = torch.randn(3, 2, 5, 4, dtype=torch.float32), 0.3
    moved = random_affine(x, most, torch.Generator().manual_seed(0))
    moves = most * (2 * torch.rand(3, 2, 3, generator=torch.Generator().manual_seed(0)) - 1)
    assert moves.abs().max() > most / 2
    for b in range(3):
        (a, s, dx), (r, e, dy) = (torch.eye(2, 3) + moves[b]).tolist()
        for i in range(5):
            for j in range(4):
                u, v = (2 * j + 1) / 4 - 1, (2 * i + 1) / 5 - 1  # centre of the pixel, in [-1, 1]
                column = min(max(((a * u + s * v + dx + 1) * 4 - 1) / 2, 0), 3)
                row = min(max(((r * u + e * v + dy + 1) * 5 - 1) / 2, 0), 4)
                top, left = min(int(row), 3), min(int(column), 2)
                p, q = row - top, column - left
                patch = x[b, :, top : top + 2, left : left + 2]
                weights = torch.tensor([[(1 - p) * (1 - q), (1 - p) * q], [p * (1 - q), p * q]])
                torch.testing.assert_close(
                    moved[b, :, i, j], (patch * weights).sum((1, 2)), rtol=1e-4, atol=1e-5
                )


def test_no_move_is_no_change() -> None:
    x = torch.randn(3, 2, 5, 4)
    torch.testing.assert_close(
        random_affine(x, 0.0, torch.Generator().manual_seed(0)), x, rtol=1e-5, atol=1e-5
    )


def test_what_is_tested_and_saved_is_the_average(tmp_path: Path) -> None:
    """With so slow an average that training cannot reach it, the saved weights are the initial ones."""
    recipe = load_recipe("digits-statten", (*TINY, "epochs=1", "ema_decay=0.9999999", "warmup_epochs=0"))
    torch.manual_seed(recipe.seed)
    initial = create_model(recipe.model, **recipe.config).head.weight
    kept = load(train(recipe, tmp_path / "a", device="cpu").best).head.weight
    moved = load(train(replace(recipe, ema_decay=0.0), tmp_path / "b", device="cpu").best).head.weight
    torch.testing.assert_close(kept, initial, rtol=0, atol=1e-4)
    assert (moved - initial).abs().max() > 1e-2


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    choose_device("auto")
    with pytest.raises(ConfigError, match="device = 'gpu'"):
        choose_device("gpu")
