"""What every data set is made of: parts that hand out batches, in memory or read as they are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from snn_energy.errors import ConfigError, DataError


class Part(Protocol):
    """N labelled samples of one shape, (C, H, W), or (T, C, H, W) where they are frames.

    `data.Images` holds them in memory, `data.Stream` reads them when a batch is asked for.
    """

    @property
    def labels(self) -> torch.Tensor | None:
        """(N,) int64, or None where they are not known."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""

    def __len__(self) -> int: ...

    def some(self, index: torch.Tensor | slice) -> Part:
        """Those samples, in that order."""

    def take(self, count: int) -> Part:
        """The first `count` samples."""

    def batch(self, index: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Normalised float32 samples (B, *shape), without anything random, and their labels (B,)."""

    def batches(
        self,
        size: int,
        shuffle: torch.Generator | None = None,
        *,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Any, Any]]:
        """All samples once, in order or, with a generator, shuffled; the last batch may be smaller.

        Whatever else is random about them comes from that generator, too: the same state of it gives the
        same batches.  `start`: leave out that many batches, unread.  `share` (k, n): of every batch only what
        `share_of` gives.
        """


@dataclass(frozen=True)
class Data:
    """A data set: its name as given, a training and a test part, the names of its classes.

    All parts have labels, 0 … K - 1 for K class names, and samples of one shape: images, or frames of T
    steps.  `validation`: samples taken out of the training part, to choose by; `notes`: what a person should
    be told.  Raises `DataError` for parts of which that is not true.
    """

    name: str
    train: Part
    test: Part
    class_names: tuple[str, ...]
    validation: Part | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, part in (("training", self.train), ("test", self.test), ("validation", self.validation)):
            if part is not None:
                _check_part(f"{self.name}: the {what} part", part, len(self.class_names))
        if self.train.shape != self.test.shape:
            raise DataError(
                f"{self.name}: training samples of shape {self.train.shape}, "
                f"test samples of {self.test.shape}"
            )

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W), or (T, C, H, W)."""
        return self.test.shape

    @property
    def steps(self) -> int | None:
        """T where samples are frames, None for still images."""
        return self.sample_shape[0] if len(self.sample_shape) == 4 else None

    @property
    def channels(self) -> int:
        """C."""
        return self.sample_shape[-3]

    def with_validation(self, fraction: float) -> Data:
        """The same with `fraction` of every class of the training part, rounded, as the validation part.

        Which samples those are depends on their labels alone, so that runs with other seeds, and a resumed
        one, choose by the same.  0: no validation part.  Raises `ConfigError` for a fraction outside [0, 1),
        or one that leaves a part empty.
        """
        if not 0 <= fraction < 1:
            raise ConfigError(f"val_fraction = {fraction}: must be in [0, 1)")
        if not fraction:
            return self
        chosen = validation_mask(self.train.labels, fraction)
        held, count = int(chosen.sum()), len(chosen)
        if held in (0, count):
            raise ConfigError(f"val_fraction = {fraction}: takes {held} of {count} samples of {self.name}")
        rest = self.train.some((~chosen).nonzero().flatten())
        return dataclasses.replace(self, train=rest, validation=self.train.some(chosen.nonzero().flatten()))


def validation_mask(labels: torch.Tensor | None, fraction: float) -> torch.Tensor:
    """(N,) bool: `fraction` of every class, drawn by a generator of its own."""
    if labels is None:
        raise DataError("a validation part needs labels")
    generator = torch.Generator().manual_seed(0)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        index = (labels == label).nonzero().flatten()
        order = torch.randperm(len(index), generator=generator)
        chosen[index[order[: round(fraction * len(index))]]] = True
    return chosen


def index_of(index: torch.Tensor | slice, count: int) -> torch.Tensor:
    """The whole numbers that `index` means among `count` samples."""
    return torch.arange(count)[index]


def order_of(count: int, shuffle: torch.Generator | None) -> torch.Tensor:
    """0 … count - 1, in order or as the generator shuffles them."""
    return torch.arange(count) if shuffle is None else torch.randperm(count, generator=shuffle)


def share_of(items: Any, share: tuple[int, int]) -> Any:
    """Every n-th of `items` from number k on, for `share` (k, n); the first one where there is none."""
    return items[share[0] :: share[1]] if len(items) > share[0] else items[:1]


def _check_part(where: str, part: Part, classes: int) -> None:
    """Raise `DataError` unless `part` has samples, and a class of `classes` for each of them."""
    count, labels = len(part), part.labels
    if len(part.shape) not in (3, 4) or not count:
        shape = (count, *part.shape)
        raise DataError(f"{where} has pixels {shape}; must be (N, C, H, W) or (N, T, C, H, W) with N ≥ 1")
    if labels is None or labels.shape != (count,) or labels.dtype != torch.int64:
        found = "no labels" if labels is None else f"labels {tuple(labels.shape)} of {labels.dtype}"
        raise DataError(f"{where} has {found}; must be ({count},) of torch.int64")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{where} has labels {low} to {high}; must be 0 to {classes - 1} for {classes} class names"
        )
