"""Two processes train what one does with the doubled batch; they agree on errors, ends and states."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from forks import GROUPS, in_processes, same
from torch import nn

from snn_energy.checkpoints import load
from snn_energy.data import Images, Stream, load_data
from snn_energy.errors import ConfigError, DataError, Interrupted
from snn_energy.models.zoo import ZOO, register_model
from snn_energy.safe_load import safe_load
from snn_energy.training import Recipe, Step, train
from snn_energy.training.folder import BEST, LAST, LOG, STATE
from snn_energy.training.processes import AGREED, Group
from snn_energy.training.recipe import recipe_from_dict
from snn_energy.training.scores import evaluate

pytestmark = GROUPS
COUNT = {"train": 25, "test": 7}
"""With batches of 8 the last one has a sample for one of two processes only."""


@dataclass(frozen=True)
class SmoothConfig:
    in_channels: int = 2
    num_classes: int = 3


class Smooth(nn.Module):
    """Without norms, whose statistics differ between processes, and without spikes, which jump."""

    Config = SmoothConfig

    def __init__(self, config: SmoothConfig) -> None:
        super().__init__()
        self.config = config
        self.conv = nn.Conv2d(config.in_channels, 5, 3, stride=2)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(5 * 3 * 2, config.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.conv(x)).flatten(1))

    def regularization(self) -> torch.Tensor:
        return self.head.weight.square().sum()


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register_model("smooth")(Smooth)
    yield
    ZOO._added.clear()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    rng = np.random.default_rng(0)
    data = tmp_path_factory.mktemp("data") / "small.npz"
    x = {f"x_{part}": rng.normal(size=(n, 2, 7, 6)).astype(np.float32) for part, n in COUNT.items()}
    np.savez(data, **x, **{f"y_{part}": rng.integers(0, 3, n) for part, n in COUNT.items()})
    fields = {"model": "smooth", "data": f"npz:{data}", "epochs": 2, "batch_size": 8}
    return recipe_from_dict(
        {"name": "small", "optimizer": "sgd", "lr": 0.3, "clip_grad": 0.5, "regularization": 0.01, **fields}
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load(folder / LAST).state_dict()


@pytest.mark.parametrize(
    ("processes", "batch_size", "accumulate"), [(2, 4, 1), (1, 2, 4), (2, 2, 2)], ids=str
)
def test_parameters_are_those_of_one_process_with_the_whole_batch(
    recipe: Recipe, processes: int, batch_size: int, accumulate: int, tmp_path: Path
) -> None:
    """To 1e-5 of what training moved: sums in another order round otherwise, and that is all."""
    train(recipe, tmp_path / "whole", device="cpu")
    parts = replace(recipe, batch_size=batch_size, accumulate=accumulate)
    done = in_processes(processes, lambda rank: train(parts, tmp_path / "parts", device="cpu"), tmp_path)
    assert done == [0] * processes
    torch.manual_seed(recipe.seed)
    began = Smooth(SmoothConfig()).state_dict()
    whole, found = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in whole.items():
        moved = (value - began[name]).abs().max()
        assert moved > 0.01 or name.startswith("unused")
        assert (found[name] - value).abs().max() <= 1e-5 * moved, name
    state = safe_load(tmp_path / "parts" / STATE)
    assert state["updates"] == 2 * 4 and state["processes"] == processes
    losses = [safe_load(tmp_path / name / STATE)["history"] for name in ("whole", "parts")]
    for ours, theirs in zip(*losses, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)


def test_two_processes_stop_together_and_go_on(recipe: Recipe, tmp_path: Path) -> None:
    """A signal that one of them hears ends both, with one state; resumed, they end with the same bits."""
    recipe = replace(recipe, batch_size=4, random_affine=0.1, ema_decay=0.8)

    def interrupted(rank: int) -> None:
        def hear(step: Step) -> None:
            if rank == 1 and step.done == 2:
                for number in (signal.SIGINT, signal.SIGTERM):  # from the terminal, and from torchrun
                    os.kill(os.getpid(), number)

        with pytest.raises(Interrupted, match="after step 3 of 4"):
            train(recipe, tmp_path / "cut", device="cpu", on_step=hear)

    def go_on(rank: int) -> None:
        train(recipe, tmp_path / "cut", device="cpu", resume=True)

    def whole(rank: int) -> None:
        train(recipe, tmp_path / "whole", device="cpu")

    for work in (interrupted, go_on, whole):
        assert in_processes(2, work, tmp_path) == [0, 0]
    for name in (BEST, LAST, STATE):
        assert same(safe_load(tmp_path / "cut" / name), safe_load(tmp_path / "whole" / name)), name
    assert len((tmp_path / "cut" / LOG).read_text().splitlines()) == 3
    with pytest.raises(ConfigError, match=r"1 processes: the run in .* began with 2; resume it with as many"):
        train(recipe, tmp_path / "cut", device="cpu", resume=True)


def test_an_error_of_one_is_raised_by_all_and_told_once(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample that one process cannot read ends both, in the same step, with one line."""
    from snn_energy.__main__ import main

    batch = Images.batch

    def broken(self: Images, index: torch.Tensor | slice) -> tuple:
        if dist.get_rank() == 1 and len(self) == COUNT["train"]:
            raise DataError("7.png: cannot be read")
        return batch(self, index)

    def command(rank: int) -> None:
        monkeypatch.setattr(Images, "batch", broken)
        monkeypatch.setattr(sys, "argv", ["snn-energy", "train", str(path), "--out", str(tmp_path / "run")])
        with (tmp_path / f"err{rank}").open("w") as stream:
            monkeypatch.setattr(sys, "stderr", stream)
            main()

    path = tmp_path / "small.yaml"
    path.write_text(
        "\n".join(f"{k}: {v!r}" for k, v in vars(recipe).items() if v is not None and k != "init")
    )
    assert in_processes(2, command, tmp_path) == [2, 2]
    said = [(tmp_path / f"err{rank}").read_text() for rank in range(2)]
    assert said == ["error: 7.png: cannot be read\n", ""]
    path.write_text("model: smooth")
    assert in_processes(2, command, tmp_path) == [2, 2]
    said = [(tmp_path / f"err{rank}").read_text() for rank in range(2)]
    assert re.fullmatch(r"error: .*the key 'data' is missing\n", said[0]) and said[1] == ""


def test_every_sample_is_tested_once(tmp_path: Path) -> None:
    """Seven samples in three processes, none twice.  Answers are exact: the class is the pixel."""

    class Reader(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.extend(x[:, 0, 0, 0].tolist())
            return nn.functional.one_hot(x[:, 0, 0, 0].long(), 10).float()

    seen: list[float] = []
    x = torch.arange(7, dtype=torch.float32).reshape(7, 1, 1, 1).expand(7, 1, 2, 3)
    images = Images(x, torch.tensor([0, 1, 2, 9, 4, 9, 6]))

    def work(rank: int) -> None:
        group, place = Group(rank, 3), torch.device("cpu")
        assert evaluate(Reader(), images, 2, place, group) == 5 / 7
        assert seen == [[0, 3, 6], [1, 4], [2, 5]][rank]
        assert evaluate(Reader(), images.take(2), 2, place, group) == 1

    assert in_processes(3, work, tmp_path) == [0, 0, 0]


def test_shares_of_batches() -> None:
    """Together, each sample of a batch once; what a process without one gets is the batch's first."""
    whole = Images(torch.arange(11.0).reshape(11, 1, 1, 1), torch.arange(11))
    for shuffle in (None, 3):
        make = lambda: None if shuffle is None else torch.Generator().manual_seed(shuffle)  # noqa: B023, E731
        batches = [y.tolist() for _, y in whole.batches(5, make())]
        shares = [[y.tolist() for _, y in whole.batches(5, make(), share=(k, 2))] for k in range(2)]
        for number, batch in enumerate(batches):
            assert shares[0][number] == batch[0::2]
            assert shares[1][number] == (batch[1::2] or batch[:1])
    files = Stream(tuple("abcdefgh"), torch.arange(8), (1, 1, 1), lambda path, random: torch.zeros(1, 1, 1))
    parts = [[y.tolist() for _, y in files.batches(5, share=(k, 3), start=1)] for k in range(3)]
    assert parts == [[[5]], [[6]], [[7]]]


def test_errors_keep_their_kind(tmp_path: Path) -> None:
    from snn_energy.errors import MissingDependency

    def work(rank: int) -> None:
        def fail() -> None:
            if rank == 0:
                raise MissingDependency("tensorboard", "tensorboard", "this")
            if rank == 1:
                raise OSError(2, "No such file", "x.npz")

        group = Group(rank, 2)
        with pytest.raises(MissingDependency, match="this needs tensorboard") as found:
            group.each(fail)
        assert getattr(found.value, AGREED)
        assert group.from_first(lambda: [rank]) == [0]
        assert group.sums(rank, 1) == (1, 2) and group.all(rank) == [0, 1]

    assert in_processes(2, work, tmp_path) == [0, 0]


def test_batch_norms_of_all_processes_are_for_gpus(recipe: Recipe, tmp_path: Path) -> None:
    def work(rank: int) -> None:
        with pytest.raises(ConfigError, match=r"sync_bn = true: PyTorch has it for GPUs only, .* is cpu"):
            train(replace(recipe, sync_bn=True), tmp_path / "run", device="cpu")
        assert not (tmp_path / "run" / STATE).exists()

    assert in_processes(2, work, tmp_path) == [0, 0]
    train(replace(recipe, sync_bn=True, epochs=1), tmp_path / "alone", device="cpu")  # one process has all


def test_digits_by_name_are_the_same_in_all(tmp_path: Path) -> None:
    """Which sample a process takes follows from the generator alone."""
    data = load_data("digits").train
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    pairs = zip(*(data.batches(700, g, share=(k, 2)) for k, g in enumerate(generators)), strict=True)
    assert [len(a[1]) + len(b[1]) for a, b in pairs] == [700, 700, 37]
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
