"""What a data name means: `digits`, `idx:DIR`, or a data set that a user added."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn_energy.data.idx import read_idx_folder
from snn_energy.data.images import Data, Images
from snn_energy.errors import ConfigError, DataError, suggest
from snn_energy.plugins import Registry

NAMES = ("digits", "idx:DIR")
Loader = Callable[..., Data]


def _accept(name: str, load: Any) -> Loader:
    if not callable(load):
        raise ConfigError(f"data set {name!r}: {load!r} is no function; register one that gives a Data")
    return load


DATASETS: Registry[Loader] = Registry("data set", "snn_energy.datasets", {}, _accept)


def register_dataset(name: str, load: Loader | None = None) -> Any:
    """Make a data set known as `name` to `load_data`, and so to `--data`, recipes and training.

    `load()` gives a `Data`; for names with a place in them, `name:PLACE`, it is called as `load("PLACE")`.
    It runs when the data is asked for.  Also a decorator: `@register_dataset("mine")`.

    Raises `ConfigError` for a name of ours, or for what is no function.
    """
    if load is None:
        return functools.partial(register_dataset, name)
    if name in ("digits", "idx"):
        raise ConfigError(f"data set {name!r} comes with snn-energy: choose another name")
    DATASETS.register(name, load)
    return load


def list_data() -> tuple[str, ...]:
    """The names that `load_data` understands."""
    return (*NAMES, *DATASETS)


def load_data(name: str) -> Data:
    """The data set called `name`.

    `digits`: 1,797 handwritten digits of 1×8×8 (inside this package; 1,437 to train, 360 to test).
    `idx:DIR`: a folder in MNIST's format, such as Debian's `idx:/usr/share/datasets/fashion-mnist`.
    A name that `register_dataset` or an installed package added: what its function gives.
    Raises `DataError` for anything else, or files that are not what they should be.
    """
    kind, _, where = name.partition(":")
    if kind == "digits" and not where:
        return _digits()
    if kind == "idx" and where:
        return _idx(Path(where).expanduser(), name)
    if kind in DATASETS:
        return _registered(kind, where, name)
    raise DataError(f"unknown data {name!r}; {suggest(name, list_data())}")


def _registered(kind: str, where: str, name: str) -> Data:
    """What a user's function gives, checked and called `name`."""
    load = DATASETS[kind]
    try:
        inspect.signature(load).bind(*([where] if where else []))
    except TypeError:
        way_out = "takes no place after a colon" if where else f"give its place, {name}:PLACE"
        raise DataError(f"data {name!r}: {way_out}") from None
    except ValueError:
        pass  # a builtin without a signature
    try:
        found = load(where) if where else load()
    except OSError as error:
        raise DataError(f"data {name!r}: {error}") from error
    if not isinstance(found, Data):
        given = type(found).__name__
        raise DataError(f"data {name!r}: its function gave {given}, must give snn_energy.data.Data")
    return dataclasses.replace(found, name=name)


def _digits() -> Data:
    with (
        resources.files("snn_energy.data").joinpath("digits.npz").open("rb") as stream,
        np.load(stream) as file,
    ):
        images, labels, test = file["images"], file["labels"], file["test"]
    return _data("digits", images[~test], labels[~test], images[test], labels[test], scale=16.0)


def _idx(folder: Path, name: str) -> Data:
    arrays = read_idx_folder(folder)
    return _data(
        name, *(arrays[f"{p}_{w}"] for p in ("train", "test") for w in ("images", "labels")), scale=255.0
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
