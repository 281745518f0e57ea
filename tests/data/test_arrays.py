"""What a user's .npz file may hold: any shape, token ids, several inputs, samples along any axis."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_energy.data import Arrays, read_input
from snn_energy.errors import ConfigError, DataError
from snn_energy.samples import choose_samples


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_batches_run_along_the_axis_of_the_samples(tmp_path: Path, axis: int) -> None:
    x = numbers(4, 7, 3)
    count = x.shape[axis]
    path = saved(tmp_path / "x.npz", x=x, y=np.arange(count))
    read = read_input(path, batch_axis=axis)
    assert len(read) == count and read.axis == axis
    found = list(read.batches(3))
    assert [b.shape[axis] for b, _ in found] == [min(3, count - i) for i in range(0, count, 3)]
    assert torch.equal(torch.cat([b for b, _ in found], axis), torch.from_numpy(x).float())
    assert torch.equal(torch.cat([y for _, y in found]), torch.arange(count))
    first = read.take(2)
    assert len(first) == 2 and np.array_equal(first.inputs, x.take(range(2), axis))
    some, labels = read.batch(torch.tensor([2, 0]))
    assert np.array_equal(some, x.take([2, 0], axis)) and labels.tolist() == [2, 0]


def test_labels_tell_the_axis_where_nobody_says(tmp_path: Path) -> None:
    x = numbers(4, 7, 3)
    assert read_input(saved(tmp_path / "a.npz", x=x, y=np.arange(7))).axis == 1
    assert read_input(saved(tmp_path / "b.npz", x=x, y=np.arange(4))).axis == 0
    assert read_input(saved(tmp_path / "c.npz", x=numbers(5, 5, 2), y=np.arange(5))).axis == 0
    with pytest.raises(DataError, match=r"y has shape \(3,\) of int64; must be \(4,\) or \(7,\) of whole"):
        read_input(saved(tmp_path / "d.npz", x=x, y=np.arange(3)))
    with pytest.raises(DataError, match=r"y has shape \(4,\).*must be \(7,\).*along axis 1 of x \(4, 7, 3\)"):
        read_input(saved(tmp_path / "e.npz", x=x, y=np.arange(4)), batch_axis=1)


def test_whole_numbers_stay_whole_where_they_are_token_ids(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.int64):
        path = saved(tmp_path / "x.npz", x=numbers(3, 5).astype(dtype))
        assert read_input(path, integers=True).inputs.dtype == torch.int64
        assert read_input(path).inputs.dtype == torch.float32
        assert np.array_equal(read_input(path, integers=True).inputs, numbers(3, 5))
    both = saved(
        tmp_path / "b.npz", ids=np.arange(6).reshape(2, 3), mask=np.ones((2, 3), bool), v=numbers(2, 1)
    )
    read = read_input(both, integers=True)
    assert {k: v.dtype for k, v in read.inputs.items()} == {
        "ids": torch.int64, "mask": torch.bool, "v": torch.float32,
    }  # fmt: skip


def test_several_arrays_are_inputs_by_name(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "d.npz", frames=numbers(4, 7, 3), mask=numbers(7), scale=np.array(2.0), y=np.arange(7)
    )
    read = read_input(path, batch_axis=1)
    batches = list(read.batches(4))
    assert [{k: tuple(v.shape) for k, v in x.items()} for x, _ in batches] == [
        {"frames": (4, 4, 3), "mask": (4,), "scale": ()},
        {"frames": (4, 3, 3), "mask": (3,), "scale": ()},
    ]
    assert torch.equal(torch.cat([x["mask"] for x, _ in batches]), torch.arange(7.0))
    assert all(x["scale"] == 2 for x, _ in batches)
    one = read_input(saved(tmp_path / "one.npz", images=numbers(3, 2)))
    assert isinstance(one.inputs, dict) and list(one.inputs) == ["images"] and len(one) == 3
    with pytest.raises(DataError, match=r"b has shape \(5, 2\): must have 3 samples along axis 0"):
        read_input(saved(tmp_path / "odd.npz", a=numbers(3, 2), b=numbers(5, 2)))
    with pytest.raises(DataError, match="no samples along axis 0"):
        read_input(saved(tmp_path / "none.npz", a=numbers(0, 2)))


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", x=numbers(3, 2), mask=numbers(3), names=numbers(3))
    chosen = choose_samples(None, input_file=path, count=2)
    assert chosen.notes == ("x.npz: arrays besides x and y are not read: mask, names",)
    assert isinstance(chosen.images, Arrays) and len(chosen.images) == 2
    with pytest.raises(ConfigError, match=r"--samples 4: x\.npz has 3"):
        choose_samples(None, input_file=path, count=4)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_anywhere_is_found(tmp_path: Path, save: Callable[..., None]) -> None:
    """Cut or changed at 200 random places, a file is refused in one line or holds what it held."""
    whole, path = tmp_path / "whole.npz", tmp_path / "x.npz"
    x, y = numbers(7, 3) % 5, np.arange(7)
    save(whole, x=x, y=y)
    raw, chance, refused = whole.read_bytes(), random.Random(2), 0
    for trial in range(200):
        damaged = bytearray(raw[: chance.randrange(len(raw))] if trial % 4 == 0 else raw)
        if trial % 4:
            damaged[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            read = read_input(path)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
        else:
            assert np.array_equal(read.inputs, x)
            assert read.labels is None or read.labels.tolist() == y.tolist()
    assert refused > 100


def test_every_input_is_checked_by_name(tmp_path: Path) -> None:
    bad = numbers(3, 2)
    bad[1, 1] = np.nan
    with pytest.raises(
        DataError, match=r"b must hold finite numbers; 1 of 6 are not, the first nan at index \(1, 1\)"
    ):
        read_input(saved(tmp_path / "x.npz", a=numbers(3, 2), b=bad))
    for wrong in (np.array(["a", "b"]), np.zeros(2, complex), np.zeros(2, "datetime64[s]")):
        with pytest.raises(DataError, match="a must hold finite numbers; its type is"):
            read_input(saved(tmp_path / "x.npz", a=wrong))
