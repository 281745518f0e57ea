"""A user's samples in memory, as the network takes them: one array, or several by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn_energy.arrays import read_npz
from snn_energy.errors import DataError

MOST_CLASSES = 1_000_000
Inputs = torch.Tensor | dict[str, torch.Tensor]


@dataclass(frozen=True)
class Arrays:
    """N samples along `axis` of `inputs`, and their classes `labels`, (N,) int64 or None.

    Of several inputs, one without that axis has its samples along axis 0, and a number belongs to all of
    them.  Raises `DataError` for inputs of different numbers of samples, or of none.
    """

    inputs: Inputs
    labels: torch.Tensor | None = None
    axis: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, x in self._named():
            if self._axis(x) is None and x.dim():
                raise DataError(
                    f"{name} has shape {tuple(x.shape)}: must have {len(self)} samples along axis {self.axis}"
                )
        if not len(self):
            raise DataError(f"there are no samples along axis {self.axis}")

    def __len__(self) -> int:
        if self.labels is not None:
            return len(self.labels)
        sizes = [x.shape[self.axis] for _, x in self._named() if x.dim() > self.axis]
        return sizes[0] if sizes else 0

    def take(self, count: int) -> Arrays:
        """The first `count` samples."""
        inputs, labels = self.batch(slice(count))
        return replace(self, inputs=inputs, labels=labels)

    def batch(self, index: torch.Tensor | slice) -> tuple[Any, torch.Tensor | None]:
        """Some samples, the others' axes as they are, and their labels, or None for them."""

        def some(x: torch.Tensor) -> torch.Tensor:
            axis = self._axis(x)
            return x if axis is None else x[(slice(None),) * axis + (index,)]

        inputs = self.inputs
        chosen = {k: some(x) for k, x in inputs.items()} if isinstance(inputs, dict) else some(inputs)
        return chosen, None if self.labels is None else self.labels[index]

    def batches(self, size: int) -> Iterator[tuple[Any, torch.Tensor | None]]:
        """All samples once, in order; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def _named(self) -> list[tuple[str, torch.Tensor]]:
        return list(self.inputs.items()) if isinstance(self.inputs, dict) else [("x", self.inputs)]

    def _axis(self, x: torch.Tensor) -> int | None:
        return next((a for a in (self.axis, 0) if x.dim() > a and x.shape[a] == len(self)), None)


def read_input(
    path: str | Path,
    *,
    allow_nonfinite: bool = False,
    batch_axis: int | None = None,
    integers: bool = False,
) -> Arrays:
    """The user's samples: an .npz file with `x` of any shape, as the network takes it, and optionally `y`.

    Without an `x` every array but `y` is an input of that name.  Samples lie along `batch_axis`, else along
    the first axis, or the second where only that is as long as `y`.  Numbers become float32; with `integers`
    whole numbers stay whole, as networks take token ids.  `y` (N,) or (N, 1) are classes.

    Raises `DataError` for anything else, and for NaN or infinity unless `allow_nonfinite`.
    """
    path = Path(path)
    arrays, others = _read(path)
    y = arrays.pop("y", None)
    inputs = {name: _numbers(path, name, x, integers, allow_nonfinite) for name, x in arrays.items()}
    first = next(iter(inputs.values()))
    axis = batch_axis or 0
    labels = None if y is None else _labels(path, y)
    if labels is not None and first.dim():
        axis = _labelled_axis(path, arrays, labels, batch_axis)
    notes = (f"{path.name}: arrays besides x and y are not read: {', '.join(others)}",) if others else ()
    try:
        return Arrays(inputs["x"] if list(inputs) == ["x"] else inputs, labels, axis, notes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_labelled(path: str | Path, x: str = "x", y: str = "y") -> tuple[torch.Tensor, torch.Tensor]:
    """The arrays called `x`, (N, …) as float32, and `y`, (N,) of classes, of an .npz file.

    Raises `DataError` where one is missing, and for anything that `read_input` would not take.
    """
    path = Path(path)
    names, arrays = _load(path, lambda names: [name for name in (x, y) if name in names])
    if len(arrays) < 2:
        missing = x if x not in arrays else y
        raise DataError(f"{path}: has no array {missing!r}; it holds {', '.join(names) or 'none'}")
    samples, labels = _numbers(path, x, arrays[x], False, False), _labels(path, arrays[y], y)
    if not samples.dim() or len(samples) != len(labels):
        raise DataError(
            f"{path}: {x} has shape {tuple(samples.shape)}, {y} has {tuple(labels.shape)}: must be as many "
            "along the first axis"
        )
    return samples, labels


def _read(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """`x` or all inputs, and `y`; the names of arrays beside an `x`."""

    def choose(names: list[str]) -> list[str]:
        inputs = ["x"] if "x" in names else [name for name in names if name != "y"]
        return [*inputs, *(["y"] if "y" in names else [])]

    names, arrays = _load(path, choose)
    if not arrays.keys() - {"y"}:
        raise DataError(f"{path}: has no array 'x' of samples, and none of another name but 'y'")
    return arrays, [name for name in names if name not in arrays]


def _load(path: Path, choose: Callable[[list[str]], list[str]]) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of all arrays in the file, and those arrays that `choose` names.  Raises `DataError`."""
    return read_npz(path, "file of samples", choose)


def _numbers(path: Path, name: str, x: np.ndarray, integers: bool, allow_nonfinite: bool) -> torch.Tensor:
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: {name} must hold finite numbers; its type is {x.dtype}")
    if name == "x" and (not x.ndim or not x.size):
        raise DataError(f"{path}: x has shape {x.shape}; must be samples, N ≥ 1 of them along one axis")
    if integers and x.dtype.kind in "iub":
        return torch.from_numpy(x if x.dtype.kind == "b" else x.astype(np.int64))
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite as the network takes it
        x = x.astype(np.float32)
    if not allow_nonfinite and not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(x))
        what = f"{x[tuple(bad[0])]} at index {tuple(map(int, bad[0]))}"
        raise DataError(
            f"{path}: {name} must hold finite numbers; {len(bad)} of {x.size} are not, the first {what} "
            "(profile --allow-nonfinite goes on all the same)"
        )
    return torch.from_numpy(x)


def _labels(path: Path, y: np.ndarray, name: str = "y") -> torch.Tensor:
    if y.ndim not in (1, 2) or (y.ndim == 2 and y.shape[1] != 1) or y.dtype.kind not in "iu":
        raise DataError(f"{path}: {name} has shape {y.shape} of {y.dtype}; must be (N,) of whole numbers")
    if y.size and y.max() >= MOST_CLASSES:  # which classes there are, the network says later
        raise DataError(
            f"{path}: {name} holds labels {y.min()} to {y.max()}; must be 0 to {MOST_CLASSES - 1:,} at most"
        )
    return torch.from_numpy(y.reshape(-1).astype(np.int64))


def _labelled_axis(path: Path, arrays: Mapping[str, np.ndarray], y: torch.Tensor, told: int | None) -> int:
    """The axis along which there are as many samples as labels.  Raises `DataError` where there is none."""
    name, x = next((item for item in arrays.items() if item[1].ndim), ("x", np.zeros(0)))
    axes = (0, 1) if told is None else (told,)
    for axis in axes:
        if x.ndim > axis and x.shape[axis] == len(y):
            return axis
    words = " or ".join(f"({x.shape[a]},)" for a in axes if x.ndim > a)
    said = "" if told is None else f", as many as samples along axis {told} of {name} {x.shape}"
    raise DataError(
        f"{path}: y has shape ({len(y)},) of {str(y.dtype)[6:]}; must be {words} of whole numbers{said}"
    )
