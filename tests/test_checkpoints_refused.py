"""Files that are no checkpoints, damaged or hostile: one line each, and nothing in them is run."""

from __future__ import annotations

import io
import os
import pickle
import random
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import official, refusal, refusal_without_warnings, same_weights, saved, small_statten
from torch import nn

from snn_energy.checkpoints import load, save_checkpoint
from snn_energy.errors import CheckpointError


@pytest.fixture
def model() -> nn.Module:
    return small_statten()


def test_a_tiny_file_cannot_ask_for_much_memory(model: nn.Module, tmp_path: Path) -> None:
    wide = saved(tmp_path / "a.pth", {"head.weight": torch.zeros(1).expand(10**12)})
    assert "not a plain dense tensor" in refusal(wide)
    boast = saved(tmp_path / "b.pth", official(model.state_dict(), dim=8 * 10**8))
    assert "cannot build statten" in refusal(boast)
    deep = saved(tmp_path / "d.pth", official(model.state_dict(), layer=10**9))
    assert "depths = 1000000000, but the file holds 112 tensors in all" in refusal(deep)
    long = saved(tmp_path / "t.pth", official(model.state_dict(), time_steps=100_000))
    assert "T = 100000: at most 4,096 steps" in refusal(long)
    large = saved(tmp_path / "c.pth", official(model.state_dict(), dim=2**20))
    assert "has shape (2, 3, 3, 3), statten expects (131072, 3, 3, 3)" in refusal(large)


def test_values_of_the_wrong_kind_do_not_get_through(model: nn.Module, tmp_path: Path) -> None:
    """Tensors where numbers and names belong, which compare element by element."""
    odd = torch.zeros(2)
    state = model.state_dict()
    plain = {"dim": 16, "layer": 2, "num_classes": 5, "in_channels": 3, "num_heads": 2, "mlp_ratio": 3}
    for key in ("model", "dataset", "attention_mode", *plain, "spike_mode"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert same_weights(load(saved(tmp_path / "m", official(state, **{key: odd}))), model)
    for key in ("time_steps", "chunk_size", "pooling_stat"):
        assert "neither the file" in refusal_without_warnings(
            saved(tmp_path / "m", official(state, **{key: odd}))
        )
    save_checkpoint(tmp_path / "ours", model, name="statten")
    content = torch.load(tmp_path / "ours", weights_only=True)
    for key in ("version", "model", "config", "epoch", "recipe"):
        refusal(saved(tmp_path / "ours", content | {key: odd}))
    for key in content["config"]:
        refusal(saved(tmp_path / "ours", content | {"config": content["config"] | {key: odd}}))
    scalar = state | {"head.weight": torch.zeros(())}
    assert "head.weight has shape (): must have 2 axes" in refusal(saved(tmp_path / "s", official(scalar)))


class Hostile:
    """Touches a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("archive", [True, False])
def test_nothing_in_a_file_is_run(model: nn.Module, tmp_path: Path, protocol: int, archive: bool) -> None:
    target, path = tmp_path / "touched", tmp_path / "m.pth"
    content = official(model.state_dict()) | {"extra": Hostile(target)}
    if archive:
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(Hostile(target), protocol=protocol))
    message = refusal(path)
    assert not target.exists()
    if archive and protocol in (2, 3):
        assert "refused: it asks to import posix.mkdir" in message
    pickle.loads(pickle.dumps(Hostile(target), protocol=protocol))  # the pickle does what it says elsewhere
    assert target.exists()


def test_other_types_are_refused_by_name(tmp_path: Path) -> None:
    assert "asks to import torch.nn.modules.linear.Linear" in refusal(saved(tmp_path / "a", nn.Linear(2, 3)))
    assert "asks to import numpy" in refusal(saved(tmp_path / "b", {"metric": np.float64(1)}))
    assert "holds a list, must hold a dict" in refusal(saved(tmp_path / "c", [1, 2]))
    assert "holds a Tensor" in refusal(saved(tmp_path / "d", torch.zeros(2)))
    assert "holds no weights" in refusal(saved(tmp_path / "e", {}))
    assert "give --model or --config" in refusal(saved(tmp_path / "f", nn.Linear(2, 3).state_dict()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 3), torch.zeros(1, 2)), tmp_path / "g")
        assert "TorchScript" in refusal(tmp_path / "g")


def test_files_that_are_something_else(tmp_path: Path) -> None:
    def written(content: bytes) -> str:
        (tmp_path / "m.pth").write_bytes(content)
        return refusal(tmp_path / "m.pth")

    assert "No such file" in refusal(tmp_path / "absent.pth")
    assert "is a directory" in refusal(tmp_path)
    assert "is empty" in written(b"")
    assert "is a web page" in written(b"\n<!DOCTYPE html><html><body>404</body></html>")
    assert "Git LFS pointer" in written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "is not a checkpoint" in written(random.Random(0).randbytes(5000))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not one written by torch.save" in written(stream.getvalue())


@pytest.mark.parametrize(
    "field",
    [
        {"version": 2},
        {"model": "unheard"},
        {"config": None},
        {"epoch": "seven"},
        {"config": {"T": "many"}},
        {"config": {"warp": 9}},
        {"state_dict": []},
    ],
)
def test_ours_with_a_wrong_header(model: nn.Module, tmp_path: Path, field: dict[str, Any]) -> None:
    save_checkpoint(tmp_path / "m.pt", model, name="statten")
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    refusal(saved(tmp_path / "m.pt", content | field))


def test_damage_anywhere_is_found(model: nn.Module, tmp_path: Path) -> None:
    """Cut or flipped at 300 random places, a file is refused in one line or gives exactly what it held."""
    path, whole = tmp_path / "m.pt", tmp_path / "whole.pt"
    save_checkpoint(whole, model, name="statten")
    raw, chance, refused = whole.read_bytes(), random.Random(1), 0
    for trial in range(300):
        damaged = bytearray(raw[: chance.randrange(len(raw))] if trial % 3 == 0 else raw)
        if trial % 3:
            damaged[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            assert same_weights(load(path), model)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 250


def test_archives_without_checksums_are_read(model: nn.Module, tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        save_checkpoint(tmp_path / "m.pt", model, name="statten")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same_weights(load(tmp_path / "m.pt"), model)
