"""CIFAR-10 and CIFAR-100 as published, in either format: https://www.cs.toronto.edu/~kriz/cifar.html."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn_energy.data.images import Images
from snn_energy.data.parts import Data
from snn_energy.data.pickles import read_pickle
from snn_energy.errors import DataError

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
WHERE = "https://www.cs.toronto.edu/~kriz/cifar.html"


@dataclass(frozen=True)
class Release:
    """What tells the two apart: names of files, where labels are, and the statistics to normalise by.

    `label_bytes`: before each image of the binary format, the last of them the label.
    """

    name: str
    python: str
    binary: str
    train: tuple[str, ...]
    test: str
    binary_suffix: str
    labels: str
    label_bytes: int
    names_file: str
    names_key: str
    binary_names: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


# Means and deviations: those of the official STAtten configurations.
CIFAR10 = Release(
    "cifar10", "cifar-10-batches-py", "cifar-10-batches-bin",
    tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", ".bin", "labels", 1,
    "batches.meta", "label_names", "batches.meta.txt", 10,
    (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
)  # fmt: skip
CIFAR100 = Release(
    "cifar100", "cifar-100-python", "cifar-100-binary",
    ("train",), "test", ".bin", "fine_labels", 2,
    "meta", "fine_label_names", "fine_label_names.txt", 100,
    (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761),
)  # fmt: skip

Read = Callable[[Path, Release], tuple[np.ndarray, np.ndarray]]


def load_cifar(name: str, folder: Path, release: Release) -> Data:
    """The data set in `folder`, which holds the files or the folder that the archive unpacks to.

    Test and training part are the published ones.  Files other than the published ones are noted, not
    refused.  Raises `DataError` for what is missing, damaged, or no such file.
    """
    place, binary = _find(name, folder, release)
    suffix, read = (release.binary_suffix, _read_binary) if binary else ("", _read_python)
    train = [place / f"{stem}{suffix}" for stem in release.train]
    test = place / f"{release.test}{suffix}"
    names = _binary_names(place, release) if binary else _python_names(place, release)
    notes = () if binary else _differences([*train, test, place / release.names_file], release)
    return Data(name, _part(train, read, release), _part([test], read, release), names, notes=notes)


def _find(name: str, folder: Path, release: Release) -> tuple[Path, bool]:
    """Where the files are, and whether they are of the binary format."""
    for binary, inner in ((False, release.python), (True, release.binary)):
        suffix = release.binary_suffix if binary else ""
        files = [f"{stem}{suffix}" for stem in (*release.train, release.test)]
        for place in (folder, folder / inner):
            missing = [file for file in files if not (place / file).is_file()]
            if not missing:
                return place, binary
            if len(missing) < len(files):
                raise DataError(f"{name}: {place / missing[0]} is missing; get the whole archive: {WHERE}")
    raise DataError(
        f"{name}: no {release.train[0]} or {release.train[0]}{release.binary_suffix} in {folder}; get the "
        f"python or the binary version from {WHERE} and unpack it there ({folder / release.python})"
    )


def _part(files: list[Path], read: Read, release: Release) -> Images:
    pixels, labels = zip(*(_checked(file, *read(file, release), release) for file in files), strict=True)
    x = torch.from_numpy(np.concatenate(pixels).reshape(-1, *SHAPE))
    return Images(x, torch.from_numpy(np.concatenate(labels)), 255.0, release.mean, release.std)


def _checked(
    file: Path, pixels: np.ndarray, labels: np.ndarray, release: Release
) -> tuple[np.ndarray, np.ndarray]:
    if not len(labels):
        raise DataError(f"{file}: holds no images")
    wrong = np.flatnonzero((labels < 0) | (labels >= release.classes))
    if len(wrong):
        raise DataError(
            f"{file}: image {wrong[0]} has label {labels[wrong[0]]}; must be 0 to {release.classes - 1}"
        )
    return pixels, labels.astype(np.int64)


def _read_python(file: Path, release: Release) -> tuple[np.ndarray, np.ndarray]:
    content = read_pickle(file)
    pixels, labels = (_entry(file, content, key) for key in ("data", release.labels))
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise DataError(f"{file}: data is {_described(pixels)}; must be uint8 (N, {PIXELS})")
    if pixels.dtype != np.uint8:
        raise DataError(f"{file}: data is {_described(pixels)}; must be uint8 (N, {PIXELS})")
    try:
        numbers = np.asarray(labels)
    except ValueError:
        numbers = np.zeros(0)
    if numbers.shape != (len(pixels),) or numbers.dtype.kind not in "iu":
        found = _described(labels)
        raise DataError(f"{file}: {release.labels} is {found}; must be {len(pixels)} whole numbers")
    return pixels, numbers


def _read_binary(file: Path, release: Release) -> tuple[np.ndarray, np.ndarray]:
    raw, record = np.fromfile(file, np.uint8), release.label_bytes + PIXELS
    if len(raw) % record:
        raise DataError(f"{file}: holds {len(raw)} bytes; must be a multiple of {record}, one image each")
    rows = raw.reshape(-1, record)
    return rows[:, release.label_bytes :], rows[:, release.label_bytes - 1]


def _entry(file: Path, content: Any, key: str) -> Any:
    """`content[key]`, where Python 3 wrote its keys as text, or as bytes."""
    if isinstance(content, dict):
        for spelling in (key, key.encode()):
            if spelling in content:
                return content[spelling]
    raise DataError(f"{file}: has no entry {key!r}; is it a batch of this data set?")


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if hasattr(value, "__len__") else "")


def _python_names(place: Path, release: Release) -> tuple[str, ...]:
    file = place / release.names_file
    if not file.is_file():
        return _numbered(release)
    names = _entry(file, read_pickle(file), release.names_key)
    return _names(file, [n.decode() if isinstance(n, bytes) else n for n in names], release)


def _binary_names(place: Path, release: Release) -> tuple[str, ...]:
    file = place / release.binary_names
    if not file.is_file():
        return _numbered(release)
    return _names(file, file.read_text(encoding="latin1").split(), release)


def _names(file: Path, names: list[Any], release: Release) -> tuple[str, ...]:
    if len(names) != release.classes or not all(isinstance(n, str) for n in names):
        raise DataError(f"{file}: holds {len(names)} names of classes; must be {release.classes}")
    return tuple(names)


def _numbered(release: Release) -> tuple[str, ...]:
    return tuple(str(i) for i in range(release.classes))


def _differences(files: list[Path], release: Release) -> tuple[str, ...]:
    """A note on files that are not the published ones, by the MD5 sums that torchvision keeps of them."""
    from torchvision.datasets import CIFAR10 as THEIRS10
    from torchvision.datasets import CIFAR100 as THEIRS100

    theirs = THEIRS10 if release is CIFAR10 else THEIRS100
    sums = {**dict((*theirs.train_list, *theirs.test_list)), theirs.meta["filename"]: theirs.meta["md5"]}
    other = [
        f.name
        for f in files
        if not f.is_file() or hashlib.md5(f.read_bytes(), usedforsecurity=False).hexdigest() != sums[f.name]
    ]
    if not other:
        return ()
    return (f"{release.name}: not the published files, by their MD5 sums: {', '.join(other)}",)
