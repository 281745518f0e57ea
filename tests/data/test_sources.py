"""The embedded digits, the user's own files, and the choice between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from snn_energy.data import Images, list_data, load_data, read_input
from snn_energy.errors import ConfigError, DataError
from snn_energy.samples import choose_samples


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip(
        "sklearn.datasets", reason="scikit-learn is the oracle here: pip install scikit-learn"
    )
    theirs, data = datasets.load_digits(), load_data("digits")
    ours = torch.cat([data.train.pixels, data.test.pixels])[:, 0].numpy()
    labels = torch.cat([data.train.labels, data.test.labels]).numpy()
    key = lambda images, y: sorted((int(c), i.tobytes()) for c, i in zip(y, images, strict=True))  # noqa: E731
    assert key(ours.astype(np.uint8), labels) == key(theirs.images.astype(np.uint8), theirs.target)


def test_the_split_is_fixed_and_balanced() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.test.labels.bincount().tolist() == [36] * 10
    x, _ = data.train.batch(slice(None))
    assert x.shape == (1437, 1, 8, 8)
    assert x.mean().abs() < 1e-4
    assert abs(x.std() - 1) < 1e-3


def test_batches_cover_every_sample_once() -> None:
    images = load_data("digits").test
    generator = torch.Generator().manual_seed(3)
    shuffled = [y for _, y in images.batches(50, generator)]
    assert [len(y) for y in shuffled] == [50] * 7 + [10]
    assert torch.cat(shuffled).bincount().tolist() == [36] * 10
    assert not torch.equal(torch.cat(shuffled), images.labels)
    assert torch.equal(torch.cat([y for _, y in images.batches(50)]), images.labels)


@pytest.mark.parametrize(
    "shape", [(5,), (5, 7), (5, 2, 3), (5, 2, 4, 3), (5, 6, 2, 4, 3), (5, 2, 3, 4, 2, 6)]
)
def test_a_users_file_is_taken_as_it_is(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    np.savez(tmp_path / "mine.npz", x=x, y=np.arange(5))
    batch, labels = read_input(tmp_path / "mine.npz").batch(slice(None))
    assert torch.equal(batch, torch.from_numpy(x).float())
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no array 'x'"),
        ({"y": np.zeros(3, int)}, "no array 'x'"),
        ({"x": np.zeros(())}, r"shape \(\)"),
        ({"x": np.zeros((0, 1, 2, 3))}, "N ≥ 1"),
        ({"x": np.full((1, 1, 2, 3), np.nan)}, "finite"),
        ({"x": np.zeros((2, 1, 2, 3)), "y": np.zeros(3, int)}, r"y has shape \(3,\)"),
        ({"x": np.zeros((2, 1, 2, 3)), "y": np.zeros(2)}, "whole numbers"),
        ({"x": np.array([[[["a"]]]], dtype=object)}, "plain arrays"),
    ],
)
def test_a_users_file_that_cannot_be_used(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message):
        read_input(path)


def test_a_users_file_may_hold_nan_where_that_is_allowed(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(3, 2, 5, 4))
    x[1, 0, 4, 2], x[2, 1, 0, 3] = np.nan, 1e200  # the second is no float32
    np.savez(tmp_path / "x.npz", x=x, y=np.array([[4], [0], [2]]))
    with pytest.raises(DataError, match=r"2 of 120 are not, the first nan at index \(1, 0, 4, 2\)"):
        read_input(tmp_path / "x.npz")
    images = choose_samples(None, input_file=tmp_path / "x.npz", allow_nonfinite=True).images
    batch, labels = images.batch(slice(None))
    assert (~batch.isfinite()).nonzero().tolist() == [[1, 0, 4, 2], [2, 1, 0, 3]]
    assert labels is not None and labels.tolist() == [4, 0, 2]


@pytest.mark.parametrize(
    ("part", "pixels", "message"),
    [
        ("train", np.full((4, 5, 3), 7, np.uint8), "all pixels of the training part are 7: constant images"),
        ("train", np.zeros((0, 5, 3), np.uint8), r"training part holds no pixels; its shape is \(0, 5, 3\)"),
        ("t10k", np.zeros((0, 5, 3), np.uint8), "test part holds no pixels"),
        ("train", np.full((4, 5, 3), np.nan, np.float32), "training part holds pixels that are NaN"),
    ],
)
def test_images_that_cannot_be_normalised_are_refused(
    tmp_path: Path, part: str, pixels: np.ndarray, message: str
) -> None:
    good = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    for name in ("train", "t10k"):
        images = pixels if name == part else good
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte", np.arange(len(images), dtype=np.uint8))
    with pytest.raises(DataError, match=message):
        load_data(f"idx:{tmp_path}")


def write_idx(path: Path, array: np.ndarray) -> None:
    code = {"uint8": 0x08, "float32": 0x0D}[array.dtype.name]
    header = bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.astype(array.dtype.newbyteorder(">")).tobytes())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"std": (0.5, 0.0)}, "std"),
        ({"std": (float("nan"),)}, "std"),
        ({"scale": 0.0}, "scale = "),
        ({"scale": -1.0}, "scale"),
    ],
)
def test_images_are_divided_by_something(fields: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Images(torch.rand(2, 2, 3, 4), None, **fields)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not an \.npz"):
        read_input(path)


def test_which_samples_are_chosen(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=np.zeros((3, 1, 8, 8)))
    assert len(choose_samples({"data": "digits"}).images) == 360
    assert len(choose_samples(None, data="digits", count=7).images) == 7
    assert len(choose_samples({"data": "digits"}, input_file=tmp_path / "mine.npz").images) == 3
    training = choose_samples(None, data="digits", count=7).training
    assert training is not None and training.take(5).name == "digits (train), first 5"
    assert len(training.images) == 1437 and len(training.take(5).images) == 5
    assert choose_samples({"data": "digits"}, input_file=tmp_path / "mine.npz").training is None
    with pytest.raises(DataError, match="--data NAME or --input"):
        choose_samples(None)
    with pytest.raises(ConfigError, match="give one of them"):
        choose_samples(None, data="digits", input_file=tmp_path / "mine.npz")
    with pytest.raises(ConfigError, match="has 360"):
        choose_samples(None, data="digits", count=361)
    with pytest.raises(ConfigError, match="at least 1"):
        choose_samples(None, data="digits", count=0)
    with pytest.raises(DataError, match="did you mean 'digits'"):
        choose_samples(None, data="digit")
    with pytest.raises(DataError, match="no such file"):
        choose_samples(None, input_file=tmp_path / "none.npz")


def test_a_users_arrays_are_a_data_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.normal(size=(n, 3, 2, 5, 4)) for part, n in (("train", 6), ("test", 3))}
    labels = {"y_train": np.array([0, 1, 2, 0, 1, 4]), "y_test": np.array([[3], [1], [0]])}
    np.savez(tmp_path / "both.npz", **arrays, **labels)
    for part in ("train", "test"):
        np.savez(tmp_path / f"{part}.npz", x=arrays[f"x_{part}"], y=labels[f"y_{part}"])
    for name in (f"npz:{tmp_path}/both.npz", f"npz:{tmp_path}/train.npz,{tmp_path}/test.npz"):
        data = load_data(name)
        assert data.class_names == ("0", "1", "2", "3", "4") and data.sample_shape == (3, 2, 5, 4)
        x, y = data.test.batch(slice(None))
        assert y is not None and y.tolist() == [3, 1, 0]
        assert torch.equal(x, torch.from_numpy(arrays["x_test"]).float())
        assert len(data.train) == 6 and data.steps == 3 and data.channels == 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "has no array 'x_train'; it holds none"),
        ({"x": np.zeros((2, 1, 3, 4)), "y": np.zeros(2, int)}, "has no array 'x_train'; it holds x, y"),
        (
            {"x_train": np.zeros((2, 1, 3, 4)), "y_train": np.zeros(3, int)},
            r"x_train has shape \(2, 1, 3, 4\), y_train has \(3,\): must be as many",
        ),
        ({"x_train": np.zeros((2, 1, 3, 4)), "y_train": np.zeros(2)}, r"y_train has shape \(2,\) of float64"),
        ({"x_train": np.full((2, 1, 3, 4), np.nan), "y_train": np.zeros(2, int)}, "finite"),
        ({"x_train": np.zeros((2, 1, 3, 4)), "y_train": np.array([0, -1])}, "labels -1 to 0; must be 0 to"),
        ({"x_train": np.zeros((2, 5)), "y_train": np.zeros(2, int)}, r"has pixels \(2, 5\); must be"),
    ],
)
def test_arrays_that_are_no_data_set(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    more = {"x_test": arrays["x_train"], "y_test": arrays["y_train"]} if "x_train" in arrays else {}
    np.savez(tmp_path / "mine.npz", **arrays, **more)
    with pytest.raises(DataError, match=message):
        load_data(f"npz:{tmp_path}/mine.npz")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", "give its place, cifar10:DIR"),
        ("npz", "give its place, npz:FILE"),
        ("digits:there", "takes no place after a colon"),
        ("digits?T=3", r"unknown option 'T' \(it has none\)"),
        ("digits-dvs?T=0", "T = 0, must be above 0"),
        ("digits-dvs?T=2.5", "T = '2.5', must be int"),
        ("cifar:x", "did you mean"),
        ("", "unknown data ''"),
        ("npz:/nowhere/x.npz", "/nowhere/x.npz: no such file"),
    ],
)
def test_names_that_mean_nothing(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(name)


@pytest.mark.parametrize("kind", [0x09, 0x0D])
def test_labels_of_an_idx_folder_are_classes(tmp_path: Path, kind: int) -> None:
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
        values = np.array([0, 1, 2, -1] if kind == 0x09 else [0, 1, 2.5, 1], {9: ">i1", 13: ">f4"}[kind])
        header = bytes([0, 0, kind, 1]) + (4).to_bytes(4, "big")
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(header + values.tobytes())
    with pytest.raises(
        DataError, match=r"train labels (are -1 to 2; must not be negative|must be whole numbers)"
    ):
        load_data(f"idx:{tmp_path}")


def test_a_validation_part_is_of_every_class_and_of_the_labels_alone() -> None:
    whole, data = load_data("digits"), load_data("digits", val_fraction=0.1)
    again = load_data("digits", val_fraction=0.1)
    assert data.validation is not None and again.validation is not None
    counts = [round(0.1 * n) for n in whole.train.labels.bincount().tolist()]
    assert data.validation.labels.bincount().tolist() == counts
    assert torch.equal(data.validation.batch(slice(None))[0], again.validation.batch(slice(None))[0])
    rows = [p.batch(slice(None))[0].flatten(1) for p in (data.train, data.validation)]
    key = lambda x: sorted(map(tuple, x.tolist()))  # noqa: E731
    assert key(torch.cat(rows)) == key(whole.train.batch(slice(None))[0].flatten(1))
    assert torch.equal(data.test.labels, whole.test.labels)
    order = torch.Generator().manual_seed(5)
    batches = list(data.train.batches(100, order))
    order.manual_seed(5)
    rest = list(data.train.batches(100, order, start=10))
    assert len(rest) == len(batches) - 10 and torch.equal(rest[0][0], batches[10][0])


def test_frames_of_the_recipe_are_frames_of_the_samples() -> None:
    recipe = {"data": "digits-dvs", "config": {"T": 3}}
    assert choose_samples(recipe).images.shape == (3, 2, 16, 16)
    assert choose_samples(recipe, frames=5).images.shape[0] == 5
    x, _ = next(choose_samples(recipe, time_first=True).batches(4))
    assert x.shape == (3, 4, 2, 16, 16)


def test_every_name_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    named = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert named == set(list_data())
