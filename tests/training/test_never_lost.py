"""A run that is interrupted at any moment ends as one that never was; a folder holds one run."""

from __future__ import annotations

import csv
import errno
import os
import random
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forks import FORKS, in_a_child, same
from PIL import Image
from torch import nn

from snn_energy.checkpoints import read_checkpoint
from snn_energy.errors import CheckpointError, ConfigError, FileError, Interrupted, SnnEnergyError
from snn_energy.safe_load import safe_load
from snn_energy.safe_load import save as saving
from snn_energy.training import Recipe, Step, run, train
from snn_energy.training.folder import BEST, LAST, LOCK, LOG, RECIPE, STATE, claimed, newest
from snn_energy.training.losses import EnergyPenalty
from snn_energy.training.recipe import recipe_from_dict
from snn_energy.training.watch import Watch


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Eight steps of a very small network, with all that has a state: average, warm-up, moves, parts."""
    rng = np.random.default_rng(0)
    data = tmp_path_factory.mktemp("data") / "small.npz"
    x = {
        f"x_{part}": rng.normal(size=(n, 2, 8, 6)).astype(np.float32)
        for part, n in (("train", 46), ("test", 9))
    }
    y = {f"y_{part}": rng.integers(0, 3, n) for part, n in (("train", 46), ("test", 9))}
    np.savez(data, **x, **y)
    fields = {"in_channels": 2, "num_classes": 3, "img_size_h": 8, "img_size_w": 6, "embed_dims": 8}
    config = fields | {"num_heads": 2, "depths": 1, "T": 2, "chunk_size": 2, "pooling_stat": "0000"}
    return recipe_from_dict(
        {
            "name": "small", "model": "statten", "data": f"npz:{data}", "config": config, "epochs": 2,
            "batch_size": 6, "accumulate": 2, "lr": 0.02, "ema_decay": 0.9, "random_affine": 0.1,
            "val_fraction": 0.2, "clip_grad": 1.0,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupted."""
    return train(recipe, tmp_path_factory.mktemp("whole") / "run", device="cpu").out


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / LOG).open() as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def assert_same(folder: Path, whole: Path) -> None:
    for name in (BEST, LAST, STATE):
        assert same(safe_load(folder / name), safe_load(whole / name)), name
    assert rows(folder) == rows(whole)
    assert sorted(p.name for p in folder.iterdir()) == sorted((BEST, LAST, LOG, RECIPE, STATE))


@FORKS
def test_a_run_killed_at_twenty_moments_ends_with_the_same_bits(
    recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    """Killed and resumed again and again: at any time, and right before or after a file is put in place."""
    out = tmp_path / "run"

    def go_on() -> None:
        train(recipe, out, device="cpu", resume=True, save_every="2")

    def killed_at(count: int) -> None:
        replace_file, seen = Path.replace, []

        def replaced(path: Path, target: Path) -> Path:
            seen.append(target)
            if len(seen) == count // 2 and count % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            found = replace_file(path, target)
            if len(seen) == count // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", replaced)
            go_on()

    began = time.monotonic()
    assert in_a_child(lambda: train(recipe, tmp_path / "alone", device="cpu", save_every="2")) == 0
    took, moments = time.monotonic() - began, random.Random(0)
    assert_same(tmp_path / "alone", whole)
    for kill in range(20):
        if kill % 2:
            code = in_a_child(lambda at=kill // 2 + 2: killed_at(at))
        else:
            code = in_a_child(go_on, moments.uniform(0.02, 0.7 * took))
        assert code in (0, -signal.SIGKILL)
        if code == 0:  # it had finished
            assert_same(out, whole)
            shutil.rmtree(out)
    assert in_a_child(go_on) == 0
    assert_same(out, whole)


def test_every_place_in_a_run_is_one_to_go_on_from(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    """Stopped by Ctrl-C after each of its steps, in turn, and in the middle of testing."""
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background
    out = tmp_path / "run"
    for step in range(1, 8):

        def interrupt(now: Step, step: int = step) -> None:
            if now.done == step:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(Interrupted, match=rf"after step .*--resume {re.escape(str(out))}$"):
            train(recipe, out, device="cpu", resume=True, on_step=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    train(recipe, out, device="cpu", resume=True)
    assert_same(out, whole)
    again = train(recipe, out, device="cpu", resume=True)  # nothing is left to do
    assert_same(out, whole)
    stored = read_checkpoint(whole / BEST)
    assert (again.epoch, again.chosen_accuracy) == (stored.epoch, stored.metrics["validation_accuracy"])


def test_the_next_ctrl_c_ends_at_once(recipe: Recipe, tmp_path: Path) -> None:
    def twice(now: Step) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", device="cpu", on_step=twice)
    assert not (tmp_path / "run" / LOCK).exists()


def test_the_energy_penalty_has_seen_the_network_as_it_began(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is an event is found by a look at the network: a resumed run looks at the same one."""
    look, seen = EnergyPenalty.look, []

    def looked(self: EnergyPenalty, x: torch.Tensor) -> None:
        seen.append((x.clone(), self.counter.model.head.weight.detach().clone()))
        look(self, x)

    monkeypatch.setattr(EnergyPenalty, "look", looked)
    sparing = replace(recipe, energy_weight=0.1)
    whole = train(sparing, tmp_path / "whole", device="cpu").out

    def interrupt(now: Step) -> None:
        if now.done == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(sparing, tmp_path / "cut", device="cpu", on_step=interrupt)
    train(sparing, tmp_path / "cut", device="cpu", resume=True)
    assert_same(tmp_path / "cut", whole)
    assert len(seen) == 3 and same(seen[0], seen[1]) and same(seen[0], seen[2])


def test_what_a_run_began_from_may_be_gone(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    """The checkpoint `init` is read once: a run goes on without it, with the configuration that it gave."""
    init = shutil.copyfile(whole / LAST, tmp_path / "init.pth")
    tuned = replace(recipe, init=str(init), config={}, epochs=1)
    train(tuned, tmp_path / "whole", device="cpu")

    def interrupt(now: Step) -> None:
        if now.done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(tuned, tmp_path / "cut", device="cpu", on_step=interrupt)
    init.unlink()
    train(tuned, tmp_path / "cut", device="cpu", resume=True)
    assert_same(tmp_path / "cut", tmp_path / "whole")


def test_a_run_is_not_overwritten_by_accident(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ConfigError, match=r"holds a run \(.*\); --resume goes on with it, --overwrite"):
        train(recipe, out, device="cpu")
    for changed, words in (
        (replace(recipe, lr=0.5), r"lr = 0.5: the run in .* began with 0.02"),
        (replace(recipe, config={**recipe.config, "T": 4}), "config = .*began with"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(changed, out, device="cpu", resume=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / STATE).unlink()
    with pytest.raises(ConfigError, match=rf"no {STATE} to go on from; --overwrite begins anew"):
        train(recipe, out, device="cpu", resume=True)
    short = replace(recipe, epochs=1, val_fraction=0.0)
    train(short, out, device="cpu", overwrite=True)
    assert len(rows(out)) == 1 and read_checkpoint(out / LAST).recipe["epochs"] == 1  # type: ignore[index]


def test_two_runs_in_one_folder_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    with claimed(out):
        with pytest.raises(ConfigError, match=rf"a run is writing there \(process {os.getpid()} on .*since"):
            train(recipe, out, device="cpu", overwrite=True)
        assert [path.name for path in out.iterdir()] == [LOCK]
    assert not (tmp_path / "new").exists()  # nothing was written
    out.mkdir(parents=True)
    (out / LOCK).write_text("process 1 on a machine that was switched off")
    (out / f".{STATE}.abc.pth").write_text("half of it")
    with claimed(out):
        assert [path.name for path in out.iterdir()] == [LOCK]


@FORKS
def test_a_worker_that_outlives_its_run_does_not_hold_the_lock(tmp_path: Path) -> None:
    pipe = os.pipe()
    with claimed(tmp_path / "run"):
        worker = os.fork()
        if worker == 0:
            os.read(pipe[0], 1)
            os._exit(0)
    with claimed(tmp_path / "run"):
        pass
    os.write(pipe[1], b"x")
    assert os.waitpid(worker, 0)[1] == 0


@FORKS
def test_a_full_disk_leaves_the_last_state(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    """The system refuses to write more than so many bytes into one file: as a disk does that is full."""
    import resource

    out = tmp_path / "run"

    def on_a_small_disk() -> None:
        def full(step: Step) -> None:
            if step.done == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

        with pytest.raises(FileError, match=rf"{STATE}: File too large; the state before it stays: make"):
            train(recipe, out, device="cpu", save_every="1", on_step=full)

    assert in_a_child(on_a_small_disk) == 0
    assert sorted(path.name for path in out.iterdir()) == [LOG, RECIPE, STATE]
    assert safe_load(out / STATE)["updates"] == 1
    train(recipe, out, device="cpu", resume=True)
    assert_same(out, whole)


def test_no_space_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, data: bytes) -> int:
        self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # type: ignore[attr-defined]
        raise self.error

    (tmp_path / "a.pth").write_bytes(b"old")
    monkeypatch.setattr(saving._Sink, "write", full)
    with pytest.raises(FileError, match=r"a\.pth: No space left on device$"):
        saving.safe_save(tmp_path / "a.pth", {"x": torch.zeros(3)})
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK nonsense", "damaged or truncated"),
        ({"format": "snn-energy"}, "is not the state of a run"),
        ({"format": "snn-energy run", "version": 9}, "format version 9; this snn-energy reads version 1"),
        ({"format": "snn-energy run", "version": 1}, "recipe, processes, samples, torch, config, at missing"),
    ],
)
def test_a_state_that_is_none(recipe: Recipe, content: Any, words: str, tmp_path: Path) -> None:
    if isinstance(content, bytes):
        (tmp_path / STATE).write_bytes(content)
    else:
        torch.save(content, tmp_path / STATE)
    with pytest.raises(CheckpointError, match=words):
        train(recipe, tmp_path, device="cpu", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_a_state_of_other_data_or_processes(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    state = safe_load(whole / STATE)
    for changed, words in (
        ({"samples": 5}, "has 37 training samples, had 5"),
        ({"processes": 2}, "1 processes: the run in .* began with 2; resume it with as many"),
        ({"model": {}}, "is no state of this run"),
    ):
        out = shutil.copytree(whole, tmp_path / str(len(words)))
        saving.safe_save(out / STATE, {**state, **changed})
        with pytest.raises(SnnEnergyError, match=words):
            train(recipe, out, device="cpu", resume=True)


def test_seeds_of_any_size_and_generators_put_back(recipe: Recipe, tmp_path: Path) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    large = replace(recipe, seed=2**63 - 1, epochs=1)
    train(large, tmp_path / "run", device="cpu")
    train(large, tmp_path / "run", device="cpu", resume=True)
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]


def test_the_newest_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to go on with"):
        newest(tmp_path)
    for age, name in enumerate(("b", "c", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / STATE).touch()
        os.utime(tmp_path / name / STATE, (age, age))
    assert newest(tmp_path) == tmp_path / "a"
    assert newest(tmp_path / "b") == tmp_path / "b"


@pytest.mark.parametrize("every", ["", "0", "0s", "ten", "5x", "-1", "1.5"])
def test_when_to_save_is_a_time_or_steps(every: str) -> None:
    with pytest.raises(ConfigError, match="save_every = "):
        Watch(every)


def test_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    steps, minutes = Watch("3"), Watch("1.5m")
    assert [steps.due(n) for n in (1, 2, 3, 4, 6)] == [False, False, True, False, True]
    now[0] += 89
    assert not minutes.due(1)
    now[0] += 1
    assert minutes.due(1)
    minutes.saved()
    assert not minutes.due(1)


@FORKS
def test_workers_and_files_are_read_on_where_it_stopped(recipe: Recipe, tmp_path: Path) -> None:
    """Pictures, varied as they are read, by two workers or none: the same from any place in an epoch."""
    rng = np.random.default_rng(1)
    for part, count in (("train", 7), ("val", 2)):
        for name in ("ant", "bee", "cat"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), np.uint8))
                picture.save(tmp_path / part / name / f"{i}.png")
    config = {**recipe.config, "in_channels": 3, "img_size_h": 16, "img_size_w": 16}
    pictures = replace(
        recipe, data=f"imagenet:{tmp_path}?size=16", config=config, workers=0, val_fraction=0.0, batch_size=2,
        epochs=1,
    )  # fmt: skip
    whole = train(pictures, tmp_path / "whole", device="cpu").out

    def ctrl_c(now: Step) -> None:
        if now.done == 2:
            os.killpg(0, signal.SIGINT)  # a terminal sends it to the workers, too

    def interrupted() -> None:
        os.setsid()
        with pytest.raises(Interrupted):
            train(replace(pictures, workers=2), tmp_path / "cut", device="cpu", on_step=ctrl_c)

    assert in_a_child(interrupted) == 0
    train(pictures, tmp_path / "cut", device="cpu", resume=True)
    ours, theirs = (safe_load(out / LAST)["state_dict"] for out in (whole, tmp_path / "cut"))
    assert same(ours, theirs)


class Grid:
    """Stands for `quantize.Quantization`, which takes seconds: what an epoch begins with decides."""

    def __init__(self, model: nn.Module) -> None:
        self.scale = 1.0
        model.register_forward_pre_hook(lambda _, args: (args[0] * self.scale,))

    def refresh(self, model: Any, *others: nn.Module) -> None:
        self.scale = model.head.weight.detach().abs().mean().item() * 100

    def rounded(self, model: nn.Module) -> nn.Module:
        return model


def test_what_a_netlists_numbers_follow_from_is_kept(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "quantization", lambda recipe, model, images: Grid(model))
    plain = replace(recipe, ema_decay=0.0)
    whole = train(plain, tmp_path / "whole", device="cpu").out

    def interrupt(now: Step) -> None:
        if now.done == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="epoch 2 of 2 after step 2 of 4"):
        train(plain, tmp_path / "cut", device="cpu", on_step=interrupt)
    train(plain, tmp_path / "cut", device="cpu", resume=True)
    assert_same(tmp_path / "cut", whole)
    monkeypatch.setattr(Grid, "refresh", lambda self, model, *others: None)
    train(plain, tmp_path / "other", device="cpu")
    assert not same(safe_load(tmp_path / "other" / STATE), safe_load(whole / STATE))
