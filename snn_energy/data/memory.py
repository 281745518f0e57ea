"""Data sets that stay in memory: the embedded digits, still and as events, IDX folders, a user's arrays."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import torch

from snn_energy.data.arrays import MOST_CLASSES, read_labelled
from snn_energy.data.idx import read_idx_folder
from snn_energy.data.images import Images
from snn_energy.data.parts import Data
from snn_energy.data.saccades import FINE, PITCH, frames_by_number, saccades
from snn_energy.errors import DataError

EVENT_FRAMES = 8
"""T of `digits-dvs`, unless it is said."""


def load_digits(name: str) -> Data:
    """1,437 + 360 grey digits of 1×8×8."""
    images, labels, test = _digits()
    return _data(name, images[~test], labels[~test], images[test], labels[test], scale=16.0)


def load_digits_dvs(name: str, steps: int | None = None) -> Data:
    """The digits as a moving camera sees them: T frames of 2×16×16 counts, T = `steps` or `EVENT_FRAMES`."""
    images, labels, test = _digits()
    rows, columns = (n * FINE // PITCH for n in images.shape[1:])
    frames = frames_by_number(saccades(images), steps or EVENT_FRAMES, rows, columns)
    x, y = torch.from_numpy(frames), torch.from_numpy(labels.astype(np.int64))
    where = torch.from_numpy(test)
    train, held = (Images(x[part], y[part]) for part in (~where, where))
    return Data(name, train, held, tuple(map(str, range(10))))


def load_idx(name: str, folder: Path) -> Data:
    """A folder in MNIST's format, normalised by its training part."""
    arrays = read_idx_folder(folder)
    parts = [arrays[f"{part}_{what}"] for part in ("train", "test") for what in ("images", "labels")]
    for part in ("train", "test"):
        _check_labels(f"{name}: the {part} labels", arrays[f"{part}_labels"])
    return _data(name, *parts, scale=255.0)


def load_npz(name: str, file: Path) -> Data:
    """A user's samples, as the network takes them: `x_train`, `y_train`, `x_test`, `y_test` in one file.

    Or two files, `npz:TRAIN.npz,TEST.npz`, with `x` and `y` in each.  Nothing is normalised.
    """
    first, comma, second = str(file).partition(",")
    if comma and not file.is_file():
        train, test = (Images(*read_labelled(Path(path).expanduser())) for path in (first, second))
    else:
        train, test = (Images(*read_labelled(file, f"x_{p}", f"y_{p}")) for p in ("train", "test"))
    most = max(int(part.labels.max()) for part in (train, test) if part.labels is not None)
    return Data(name, train, test, tuple(map(str, range(max(most, 0) + 1))))


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (N, 8, 8), labels, and which of them are the test part."""
    with (
        resources.files("snn_energy.data").joinpath("digits.npz").open("rb") as stream,
        np.load(stream) as file,
    ):
        return file["images"], file["labels"], file["test"]


def _check_labels(where: str, labels: np.ndarray) -> None:
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.floor(labels))).all():
        raise DataError(f"{where} must be whole numbers")
    if labels.size and (labels.min() < 0 or labels.max() >= MOST_CLASSES):
        raise DataError(
            f"{where} are {labels.min()} to {labels.max()}; must not be negative, and below {MOST_CLASSES:,}"
        )


def _data(
    name: str,
    train_images: np.ndarray,
    train_labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    *,
    scale: float,
) -> Data:
    """Grey images (N, H, W), normalised by the training part's mean and standard deviation.

    Raises `DataError` where a part is empty, or where all training pixels are equal: they have no deviation.
    """
    for part_name, array in (("training", train_images), ("test", test_images)):
        if not array.size:
            raise DataError(f"{name}: the {part_name} part holds no pixels; its shape is {array.shape}")
        if not np.isfinite(array).all():
            raise DataError(f"{name}: the {part_name} part holds pixels that are NaN or infinite")
    if train_images.min() == train_images.max():
        raise DataError(
            f"{name}: all pixels of the training part are {train_images.flat[0]}: constant images cannot be "
            "normalised, their standard deviation is 0"
        )
    mean, std = float(train_images.mean()) / scale, float(train_images.std()) / scale

    def part(images: np.ndarray, labels: np.ndarray) -> Images:
        x, y = torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))
        return Images(x, y, scale, (mean,), (std,))

    classes = tuple(str(c) for c in range(int(max(train_labels.max(), test_labels.max())) + 1))
    return Data(name, part(train_images, train_labels), part(test_images, test_labels), classes)
