"""The training loop on a tiny network: what it does step by step, that it repeats itself, its whole files."""

from __future__ import annotations

import copy
import csv
import dataclasses
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from trained_statten import TRAINED

from snn_energy.checkpoints import load, read_checkpoint, save_checkpoint
from snn_energy.data import Data, Images, load_data
from snn_energy.errors import ConfigError, DataError, SnnEnergyError
from snn_energy.models.zoo import create_model
from snn_energy.safe_load import safe_load
from snn_energy.training import load_recipe, train
from snn_energy.training.augment import random_affine
from snn_energy.training.device import choose_device
from snn_energy.training.diverged import first_nonfinite
from snn_energy.training.folder import BEST, LAST, LOG, RECIPE, STATE
from snn_energy.training.recipe import Recipe
from snn_energy.training.scores import check_fit, evaluate

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


def test_the_channels_of_frames_stand_behind_their_steps() -> None:
    """Samples (T, C, H, W): a network for C channels fits, one for T does not."""
    frames = Images(torch.zeros(6, 3, 2, 8, 8, dtype=torch.uint8), torch.arange(6))
    data = Data("frames", frames, frames, tuple("abcdef"))
    cpu = torch.device("cpu")
    fields = {"width": 1 / 64, "num_heads": 1, "T": 3, "num_classes": 6}
    check_fit(create_model("decoupled", in_channels=2, **fields), data, cpu)
    with pytest.raises(ConfigError, match="in_channels = 3: frames has 2"):
        check_fit(create_model("decoupled", in_channels=3, **fields), data, cpu)


def test_a_run_writes_whole_files_and_its_checkpoint_gives_the_accuracy_that_it_says(tmp_path: Path) -> None:
    recipe = load_recipe("digits-statten", TINY)
    steps = []
    result = train(recipe, tmp_path, device="cpu", on_step=steps.append)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((BEST, LAST, LOG, RECIPE, STATE))
    assert [s.done for s in steps] == list(range(1, 31))
    assert {s.total for s in steps} == {30}
    assert all(math.isfinite(s.loss) and 0 <= s.accuracy <= 1 for s in steps)
    with (tmp_path / "log.csv").open() as stream:
        log = list(csv.DictReader(stream))
    assert [row["epoch"] for row in log] == ["1", "2"]
    assert max(float(row["test_accuracy"]) for row in log) == pytest.approx(result.accuracy, abs=1e-6)
    model, test = load(result.best), load_data("digits").test
    assert evaluate(model, test, 4 * recipe.batch_size, torch.device("cpu")) == result.accuracy
    stored = read_checkpoint(result.best)
    assert stored.recipe is not None
    assert stored.recipe["data"] == "digits"
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe

    again = train(recipe, tmp_path / "again", device="cpu")
    ours, theirs = load(tmp_path / "last.pth").state_dict(), load(again.out / "last.pth").state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def written_out(recipe: Recipe) -> tuple[nn.Module, nn.Module, list[float]]:
    """The recipe's run as its equations: initial and final network, loss of every step; no average, AdamW."""
    data, losses = load_data("digits").train, []
    torch.manual_seed(recipe.seed)
    initial = create_model(recipe.model, **recipe.config)
    model, order = copy.deepcopy(initial).train(), torch.Generator().manual_seed(recipe.seed)
    model.to(memory_format=torch.channels_last)  # as the run has it: both round alike
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": plain, "weight_decay": 0.0},
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": recipe.weight_decay},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr)
    per_epoch = -(-len(data) // recipe.batch_size)
    warmup = round(recipe.warmup_epochs * per_epoch)
    for epoch in range(recipe.epochs):
        for i, index in enumerate(torch.randperm(len(data), generator=order).split(recipe.batch_size)):
            step, span = epoch * per_epoch + i, recipe.lr - recipe.min_lr
            angle = math.pi * (step - warmup) / (recipe.epochs * per_epoch - warmup)
            share = step / warmup if step < warmup else (1 + math.cos(angle)) / 2
            for group in optimizer.param_groups:
                group["lr"] = recipe.min_lr + share * span
            x, y = data.batch(index)
            logits = model(x)
            steps = logits if recipe.loss == "tet" else logits.unsqueeze(0)
            smooth = recipe.label_smoothing
            loss = sum(F.cross_entropy(z, y, label_smoothing=smooth) for z in steps) / len(steps)
            if recipe.loss == "tet":
                weight = recipe.tet_lamb
                loss = (1 - weight) * loss + weight * (logits - recipe.tet_means).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return initial, model, losses


@pytest.mark.parametrize("loss", [(), ("loss=tet", "TET=true", "tet_lamb=0.2", "tet_means=0.7")], ids=str)
def test_a_run_is_its_equations_written_out(loss: tuple[str, ...], tmp_path: Path) -> None:
    """Order of samples, warm-up and cosine, loss, decay of weights alone, in five steps of a plain loop.

    Both round alike on any one processor.  What a whole run comes to is another figure on each.
    """
    overrides = ("epochs=1", "batch_size=320", "warmup_epochs=0.4", "weight_decay=0.3", "ema_decay=0")
    recipe = load_recipe("digits-statten", (*TINY, *overrides, "random_affine=0", *loss))
    initial, model, losses = written_out(recipe)
    steps = []
    result = train(recipe, tmp_path, device="cpu", on_step=steps.append)
    sizes = torch.tensor([320.0] * 4 + [157.0])
    means = (sizes * torch.tensor(losses)).cumsum(0) / sizes.cumsum(0)
    torch.testing.assert_close(torch.tensor([s.loss for s in steps]), means, rtol=1e-3, atol=0)
    found, was = load(result.out / "last.pth").state_dict(), initial.state_dict()
    for name, value in model.named_parameters():
        if not name.endswith("conv.bias"):  # a norm takes that out again: its gradient is rounding alone
            moved = (value.detach() - was[name]).norm()
            assert (found[name] - value.detach()).norm() <= 0.1 * moved, name
            assert moved > 0 or value.grad is None, name


def test_a_run_learns(tmp_path: Path) -> None:
    """A trained network without its head starts at log 10; its features are there, so the loss must fall."""
    beheaded = load(TRAINED)
    with torch.no_grad():
        beheaded.head.weight.zero_()
        beheaded.head.bias.zero_()
    save_checkpoint(tmp_path / "init.pth", beheaded, name="statten")
    overrides = ("epochs=2", "batch_size=96", "lr=1e-2", "warmup_epochs=0", "ema_decay=0", "random_affine=0")
    recipe = replace(load_recipe("digits-statten", overrides), init=str(tmp_path / "init.pth"))
    recipe = replace(recipe, config=dataclasses.asdict(beheaded.config))
    steps = []
    train(recipe, tmp_path / "out", device="cpu", on_step=steps.append)
    assert steps[0].loss == pytest.approx(math.log(10), rel=1e-6)
    assert steps[-1].loss < 0.9 * steps[0].loss


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
    """In one line; the state before it is whole."""
    recipe = replace(load_recipe("digits-statten", TINY), lr=1e30, warmup_epochs=0, optimizer="sgd")
    with pytest.raises(
        SnnEnergyError, match=r"(loss became (nan|inf)|weights diverged) in epoch 1, step \d of 15: "
    ):
        train(recipe, tmp_path, device="cpu", save_every="1")
    assert safe_load(tmp_path / STATE)["updates"] < 15


def test_where_a_loss_stopped_being_finite() -> None:
    """The first layer in the order of computing, not of declaring; a weight; the samples."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late = nn.Linear(3, 2)
            self.early = nn.Sequential(nn.Linear(4, 3), nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.late(self.early(x) * torch.tensor([1e30, 1.0, 1.0]))

    net, x = Net(), torch.ones(5, 4)
    assert first_nonfinite(net, x) == ""
    nn.init.constant_(net.late.weight, 1e20)
    nn.init.constant_(net.early[0].weight, 1.0)
    assert first_nonfinite(net, x) == "late (Linear) is the first layer whose output is not finite"
    nn.init.constant_(net.early[0].weight, 3e38)
    said = "early.0 (Linear) is the first layer whose output is not finite"
    assert first_nonfinite(net, x) == said
    assert not any(module._forward_hooks for module in net.modules())
    net.early[0].bias.data[1] = math.nan
    assert first_nonfinite(net, x) == "early.0.bias is not finite since the step before"
    assert first_nonfinite(net, x / 0) == "the training samples are not finite"


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


EVENTS = (
    "data=digits-dvs",
    "img_size_h=16",
    "img_size_w=16",
    "in_channels=2",
    "pooling_stat=1111",
    "TET=true",
)


def test_frames_train_and_a_validation_part_chooses(tmp_path: Path) -> None:
    """As many frames as the network has steps; the test part is looked at in the best epochs only."""
    overrides = (*TINY, *EVENTS, "T=4", "loss=tet", "epochs=3", "batch_size=480", "val_fraction=0.2")
    recipe = load_recipe("digits-statten", overrides)
    seen = []
    result = train(recipe, tmp_path, device="cpu", on_step=seen.append)
    with (tmp_path / "log.csv").open() as stream:
        log = list(csv.DictReader(stream))
    scores = [float(row["validation_accuracy"]) for row in log]
    assert seen[-1].total == 3 * 3  # 1437 less a fifth of each class: three batches
    best = 0.0
    for row, score in zip(log, scores, strict=True):
        assert bool(row["test_accuracy"]) == (score > best or row["epoch"] == "1")
        best = max(best, score)
    assert (result.chosen_by, result.epoch) == ("validation", 1 + scores.index(max(scores)))
    stored = read_checkpoint(tmp_path / "best.pth")
    assert stored.metrics["best_epoch_chosen_by"] == "validation_accuracy"
    data = load_data("digits-dvs", frames=4, val_fraction=0.2)
    assert data.validation is not None and len(data.validation) == 1437 - len(data.train) == 287
    model, device = load(result.best), torch.device("cpu")
    assert evaluate(model, data.validation, 100, device) == pytest.approx(result.chosen_accuracy, abs=1e-6)
    assert evaluate(model, data.test, 100, device) == pytest.approx(result.accuracy, abs=1e-6)


def test_without_a_validation_part_the_checkpoint_says_what_chose(tmp_path: Path) -> None:
    train(load_recipe("digits-statten", (*TINY, "epochs=1", "batch_size=480")), tmp_path, device="cpu")
    assert read_checkpoint(tmp_path / "best.pth").metrics["best_epoch_chosen_by"] == "test_accuracy"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data=digits-dvs?T=6",), r"T = 4: digits-dvs\?T=6 has 6 frames"),
        (("in_channels=1",), "in_channels = 1: digits-dvs has 2"),
        (("val_fraction=1",), r"val_fraction = 1: must be in \[0, 1\)"),
        (("val_fraction=0.0001",), "val_fraction = 0.0001: takes 0 of 1437 samples"),
        (("workers=-2",), "workers = -2: must be at least -1"),
    ],
)
def test_frames_that_do_not_fit_write_nothing(
    tmp_path: Path, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(
            load_recipe("digits-statten", (*TINY, *EVENTS, "T=4", *overrides)), tmp_path / "out", device="cpu"
        )
    assert not (tmp_path / "out").exists()


def test_frames_of_a_sample_move_together() -> None:
    x = torch.randn(3, 4, 2, 5, 6)
    moved = random_affine(x, 0.3, torch.Generator().manual_seed(1))
    for t in range(4):
        frame = random_affine(x[:, t], 0.3, torch.Generator().manual_seed(1))
        torch.testing.assert_close(moved[:, t], frame, rtol=1e-5, atol=1e-5)


def test_pictures_in_files_train_and_workers_change_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 5), ("val", 1)):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), np.uint8))
                picture.save(tmp_path / part / name / f"{i}.png")
    size = (
        "img_size_h=16",
        "img_size_w=16",
        "in_channels=3",
        "pooling_stat=1111",
        "batch_size=2",
        "epochs=1",
    )
    data = f"data=imagenet:{tmp_path}?size=16"
    results = []
    for workers in (0, 2):
        recipe = load_recipe("digits-statten", (*TINY, *size, data, f"workers={workers}", "random_affine=0"))
        results.append(train(recipe, tmp_path / f"run{workers}", device="cpu"))
    ours, theirs = (load(result.out / "last.pth").state_dict() for result in results)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert read_checkpoint(results[0].best).class_names == ["ant", "bee"]
