"""Labelled images in memory: 8-bit as stored, float and normalised as they are handed out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from snn_energy.data.parts import order_of, share_of
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (C, H, W) or (T, C, H, W)."""
        return tuple(self.pixels.shape[1:])

    def some(self, index: torch.Tensor | slice) -> Images:
        """Those samples, in that order."""
        labels = None if self.labels is None else self.labels[index]
        return replace(self, pixels=self.pixels[index], labels=labels)

    def take(self, count: int) -> Images:
        """The first `count` samples."""
        return self.some(slice(count))

    def batch(self, index: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Normalised float32 samples (B, C, H, W) or (B, T, C, H, W), and labels (B,), or None for them."""
        x = self.pixels[index].float() / self.scale
        x = (x - self._channels(self.mean)) / self._channels(self.std)
        return x, None if self.labels is None else self.labels[index]

    def batches(
        self,
        size: int,
        shuffle: torch.Generator | None = None,
        *,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple]:
        """All samples once, in order or, with a generator, shuffled; the last batch may be smaller.

        `start`: leave out that many batches.  `share` (k, n): of every batch what `parts.share_of` gives.
        """
        if shuffle is None and share == (0, 1):
            for first in range(start * size, len(self), size):
                yield self.batch(slice(first, first + size))
        else:
            for index in order_of(len(self), shuffle).split(size)[start:]:
                yield self.batch(share_of(index, share))

    @staticmethod
    def _channels(values: tuple[float, ...]) -> torch.Tensor:
        """Per-channel constants, shaped to broadcast over (B, [T,] C, H, W)."""
        return torch.tensor(values).reshape(-1, 1, 1)
