"""What a run says of itself: energy and firing rates per epoch, TensorBoard, what is printed."""

from __future__ import annotations

import builtins
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command import refused, run
from spikingjelly.activation_based import functional, neuron
from torch import nn

import snn_energy
from snn_energy.checkpoints import load, read_checkpoint
from snn_energy.data import load_data
from snn_energy.errors import MissingDependency
from snn_energy.training import Recipe, Step, train
from snn_energy.training.folder import BOARD, LAST, LOG, STATE
from snn_energy.training.measured import cost_of
from snn_energy.training.recipe import recipe_from_dict


class Spikes(nn.Module):
    """(B, 1, 2, 3) -> (B, 2): a layer, a neuron that fires in every or in no step, a head; three steps."""

    Config = type("Config", (), {"T": 3, "in_channels": 1, "num_classes": 2})

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.config: Any = {"T": 3, "in_channels": 1, "num_classes": 2}
        self.fc, self.lif, self.head = nn.Linear(6, 4), neuron.IFNode(step_mode="m"), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        current = self.fc(x.flatten(1))
        return self.head(self.lif(current.expand(3, *current.shape))).mean(0)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    rng = np.random.default_rng(0)
    parts = {"train": 20, "test": 7}
    x = {f"x_{part}": rng.normal(size=(n, 2, 8, 6)).astype(np.float32) for part, n in parts.items()}
    y = {f"y_{part}": rng.integers(0, 3, n) for part, n in parts.items()}
    np.savez(tmp_path / "small.npz", **x, **y)
    fields = {"in_channels": 2, "num_classes": 3, "img_size_h": 8, "img_size_w": 6, "embed_dims": 8}
    config = fields | {"num_heads": 2, "depths": 1, "T": 2, "chunk_size": 2, "pooling_stat": "0000"}
    told = {"name": "small", "model": "statten", "data": f"npz:{tmp_path / 'small.npz'}", "config": config}
    return recipe_from_dict(told | {"epochs": 2, "batch_size": 8, "lr": 0.02})


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG).open() as stream:
        return list(csv.DictReader(stream))


def test_energy_per_epoch_is_the_profiles(recipe: Recipe, tmp_path: Path) -> None:
    """On the first samples of the part that chooses; beside accuracy in the log and in every checkpoint."""
    recipe = replace(recipe, energy_samples=5, val_fraction=0.3)
    plain = train(replace(recipe, energy_samples=0), tmp_path / "plain", device="cpu")
    out = train(recipe, tmp_path / "run", device="cpu").out
    rows, stored = table(out), read_checkpoint(out / LAST)
    model, data = load(out / LAST), load_data(recipe.data, val_fraction=0.3)
    assert data.validation is not None
    x, _ = data.validation.take(5).batch(slice(None))
    profile = snn_energy.profile(model, [x])
    expected = profile.energy("exact", "45nm-fp32").mj * 1e3
    assert float(rows[1]["energy_uj_exact"]) == pytest.approx(expected, rel=1e-5)
    assert [row["epoch"] for row in stored.history] == [1, 2]
    assert stored.history[1]["energy_uj_exact"] == stored.metrics["energy_uj_exact"]
    assert stored.metrics["energy_convention"] == "exact"
    for row, line in zip(stored.history, rows, strict=True):
        for key, value in row.items():
            assert float(line[key]) == pytest.approx(value, rel=1e-5), key
    assert "energy_uj_exact" not in table(plain.out)[0]
    ours, theirs = model.state_dict(), load(plain.out / LAST).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)  # looking changes nothing


def test_rates_are_spikes_per_neuron_and_step() -> None:
    """Two of four neurons fire in every step, for every sample."""
    net = Spikes()
    with torch.no_grad():
        net.fc.weight.zero_()
        net.fc.bias.copy_(torch.tensor([1.0, -1.0, 2.0, 0.0]))
    from snn_energy.data import Images

    part = Images(torch.ones(6, 1, 2, 3), torch.zeros(6, dtype=torch.int64))
    cost = cost_of(net, part, 4, torch.device("cpu"))
    assert cost.rates == {"lif": 0.5}
    assert cost.energy_uj > 0 and net.training


def test_curves_for_tensorboard(recipe: Recipe, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = train(recipe, tmp_path / "run", device="cpu", tensorboard=True).out
    found = EventAccumulator(str(out / BOARD)).Reload()
    curves = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert [step for step, _ in curves["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in curves["epoch/test_accuracy"]] == [3, 6]
    history = read_checkpoint(out / LAST).history
    assert [v for _, v in curves["epoch/loss"]] == pytest.approx([row["loss"] for row in history], rel=1e-6)
    assert {"train/lr", "train/accuracy", "epoch/lr", "epoch/energy_uj_exact"} <= set(curves)
    rates = {tag: values for tag, values in curves.items() if tag.startswith("rate/")}
    assert len(rates) > 4 and all(0 <= v <= 1 for values in rates.values() for _, v in values)
    assert "energy_uj_exact" not in table(out)[0]  # the recipe does not ask for it


def test_curves_go_on_where_the_run_does(recipe: Recipe, tmp_path: Path) -> None:
    """What was drawn after the last state is drawn again, and shown once."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def fail(step: Step) -> None:
        if step.done == 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(recipe, tmp_path / "run", device="cpu", tensorboard=True, on_step=fail)
    train(recipe, tmp_path / "run", device="cpu", tensorboard=True, resume=True)
    curves = EventAccumulator(str(tmp_path / "run" / BOARD)).Reload()
    assert [event.step for event in curves.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]


def test_without_tensorboard(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependency, match=r"pip install 'snn-energy\[tensorboard\]'"):
        train(recipe, tmp_path / "run", device="cpu", tensorboard=True)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def written(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**vars(recipe), "energy_samples": 3}))
    monkeypatch.chdir(tmp_path)
    return path


def test_the_command_trains_says_so_and_goes_on(written: Path, tmp_path: Path) -> None:
    done = run("train", written, "--save-every", "1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("epoch 1/2: loss ") and "µJ (exact)" in lines[0] and "test " in lines[0]
    assert lines[1].startswith("epoch 2/2: ") and lines[-1] == "runs/small/best.pth"
    assert "a run (best.pth" not in done.stderr
    assert "holds a run (resume.pth, best.pth, last.pth, log.csv); --resume" in refused("train", written)
    for spelling in ([], ["runs/small"], [written], ["--out", "runs/small"]):
        again = run("train", "--resume", *spelling)
        assert again.returncode == 0 and again.stdout.splitlines()[-1] == "runs/small/best.pth", again.stderr
    assert run("train", written, "--overwrite", "epochs=1").returncode == 0
    assert len(table(tmp_path / "runs" / "small")) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "give a recipe (snn-energy list recipes), or --resume"),
        (["--resume"], "runs: no run to go on with (resume.pth)"),
        (["--resume", "."], "holds no resume.pth to go on from"),
        (["--resume", ".", "lr=1"], "goes on with that run as it is: no --out, no KEY=VALUE"),
        (["--resume", "--overwrite", "digits-statten"], "give one of them"),
        (["digits-statten", "--save-every", "soon"], "save_every = 'soon': must be a time"),
        (["digits-statten", "accumulate=0"], "accumulate = 0: must be at least 1"),
        (["digits-statten", "energy_samples=-1"], "energy_samples = -1: must be at least 0"),
    ],
)
def test_mistakes_are_one_line(given: list[str], words: str, written: Path, tmp_path: Path) -> None:
    assert words in refused("train", *given)
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_says_how_to_go_on(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    from snn_energy.training import loop

    told = loop._Session._told

    def heard(self: Any, step: Any) -> None:
        told(self, step)
        if step.done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Session, "_told", heard)
        line = refused("train", written)
    assert line == (
        "error: interrupted in epoch 1 of 2 after step 2 of 3; nothing is lost: "
        "snn-energy train --resume runs/small"
    )
    assert run(*line.rpartition("snn-energy ")[2].split()).returncode == 0
    assert len(table(Path("runs/small"))) == 2 and Path("runs/small", STATE).exists()


def test_the_forgotten(tmp_path: Path) -> None:
    """Files from before runs had a state: their folder is not overwritten either."""
    (tmp_path / "best.pth").write_bytes(b"old")
    said = refused("train", "digits-statten", "--out", tmp_path)
    assert said == f"error: {tmp_path}: holds a run (best.pth); --overwrite begins anew"
