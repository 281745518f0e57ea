"""Labelled images in memory: 8-bit as stored, float and normalised as they are handed out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from snn_energy.errors import DataError


@dataclass(frozen=True)
class Images:
    """Images with labels.

    `pixels` (N, C, H, W) or (N, T, C, H, W), uint8 or float; `labels` (N,) int64 or None.  A sample handed
    out is (pixels / scale - mean) / std as float32; mean and std are per channel.
    """

    pixels: torch.Tensor
    labels: torch.Tensor | None
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Raise `DataError` for a scale or deviation that makes NaN or infinity of every pixel."""
        for what, values in (("scale", (self.scale,)), ("std", self.std)):
            if not all(value > 0 and math.isfinite(value) for value in values):
                raise DataError(f"images with {what} = {values}: must be above 0 and finite to divide by")

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, count: int) -> Images:
        """The first `count` samples."""
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, pixels=self.pixels[:count], labels=labels)

    def batch(self, index: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Normalised float32 images (B, C, H, W) and labels (B,), or None for them."""
        x = self.pixels[index].float() / self.scale
        x = (x - self._channels(self.mean, x)) / self._channels(self.std, x)
        return x, None if self.labels is None else self.labels[index]

    def batches(self, size: int, shuffle: torch.Generator | None = None) -> Iterator[tuple]:
        """All samples once, in order or, with a generator, shuffled; the last batch may be smaller."""
        if shuffle is None:
            for start in range(0, len(self), size):
                yield self.batch(slice(start, start + size))
        else:
            for index in torch.randperm(len(self), generator=shuffle).split(size):
                yield self.batch(index)

    @staticmethod
    def _channels(values: tuple[float, ...], x: torch.Tensor) -> torch.Tensor:
        """Per-channel constants, shaped to broadcast over (B, [T,] C, H, W)."""
        return torch.tensor(values).reshape(-1, 1, 1)


@dataclass(frozen=True)
class Data:
    """A data set: its name as given, a training and a test part, the names of its classes.

    Both parts have labels, 0 … K - 1 for K class names, and samples of one shape: images, or frames of T
    steps.  Raises `DataError` for parts of which that is not true.
    """

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for what, part in (("training", self.train), ("test", self.test)):
            _check_part(f"{self.name}: the {what} part", part, len(self.class_names))
        train, test = (tuple(part.pixels.shape[1:]) for part in (self.train, self.test))
        if train != test:
            raise DataError(f"{self.name}: training samples of shape {train}, test samples of {test}")

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.test.pixels.shape[1:])


def _check_part(where: str, part: Images, classes: int) -> None:
    """Raise `DataError` unless `part` has samples, and a class of `classes` for each of them."""
    pixels, labels = part.pixels, part.labels
    if pixels.dim() not in (4, 5) or not len(pixels):
        shape = tuple(pixels.shape)
        raise DataError(f"{where} has pixels {shape}; must be (N, C, H, W) or (N, T, C, H, W) with N ≥ 1")
    if labels is None or labels.shape != (len(pixels),) or labels.dtype != torch.int64:
        found = "no labels" if labels is None else f"labels {tuple(labels.shape)} of {labels.dtype}"
        raise DataError(f"{where} has {found}; must be ({len(pixels)},) of torch.int64")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{where} has labels {low} to {high}; must be 0 to {classes - 1} for {classes} class names"
        )
