"""What a data name means: `digits`, `idx:DIR`, a data set that a user added, or the user's own file."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import zipfile
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


def read_input(path: str | Path, *, allow_nonfinite: bool = False, time_first: bool = False) -> Images:
    """The user's samples: an .npz file with `x` (N, C, H, W) or (N, T, C, H, W), as the network takes them,
    and optionally `y` (N,) or (N, 1), the classes.  `time_first`: x is (T, N, …), of any shape; the images
    are (N, T, …).  Raises `DataError` for anything else, and for NaN or
    infinity in `x` unless `allow_nonfinite`.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("x", "y") if key in file}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path}: not an .npz file of plain arrays ({error})") from error
    if "x" not in arrays:
        raise DataError(f"{path}: has no array 'x' of samples, (N, C, H, W) or (N, T, C, H, W)")
    x, y = arrays["x"], arrays.get("y")
    if time_first and x.ndim > 1:
        x = x.swapaxes(0, 1)
    if (x.ndim < 2 if time_first else x.ndim not in (4, 5)) or not x.size:
        wanted = "(T, N, …) with T" if time_first else "(N, C, H, W) or (N, T, C, H, W) with N"
        raise DataError(f"{path}: x has shape {arrays['x'].shape}; must be {wanted} ≥ 1")
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: x must hold finite numbers; its type is {x.dtype}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite as the network takes it
        x = x.astype(np.float32)
    if not allow_nonfinite and not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(x))
        what = f"{x[tuple(bad[0])]} at index {tuple(map(int, bad[0]))}"
        raise DataError(
            f"{path}: x must hold finite numbers; {len(bad)} of {x.size} are not, the first {what} "
            "(profile --allow-nonfinite goes on all the same)"
        )
    if y is not None and (y.shape not in ((len(x),), (len(x), 1)) or y.dtype.kind not in "iu"):
        raise DataError(f"{path}: y has shape {y.shape} of {y.dtype}; must be ({len(x)},) of whole numbers")
    labels = None if y is None else torch.from_numpy(y.reshape(-1).astype(np.int64))
    return Images(torch.from_numpy(x), labels)


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
