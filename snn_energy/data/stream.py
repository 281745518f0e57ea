"""A part of a data set that is read from files when a batch is asked for."""

from __future__ import annotations

import contextlib
import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from snn_energy.data.parts import index_of, order_of, share_of
from snn_energy.errors import DataError

MOST = 4 << 30
"""Bytes that one batch may have: 4 GiB."""
FEW = 4
"""Batches for which no worker is started."""


class Reader(Protocol):
    """How one sample is read.  It is pickled into the workers, so it must be made of plain values."""

    def __call__(self, path: str, random: bool) -> torch.Tensor:
        """The sample (*shape), normalised float32; `random`: as it is varied in training.

        Whatever it draws comes from the global generators of torch, NumPy and Python, which are seeded for
        every sample.  Raises `DataError` for a file that cannot be read.
        """


@dataclass(frozen=True)
class Stream:
    """N samples in files: `paths` and `labels` (N,), each read by `reader` to `shape`.

    `workers` processes read ahead; none for 0 or a few batches.  What is random about a sample depends on
    the shuffling generator alone, not on the number of workers.  Memory: two batches per worker.
    """

    paths: tuple[str, ...]
    labels: torch.Tensor
    shape: tuple[int, ...]
    reader: Reader
    workers: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    def some(self, index: torch.Tensor | slice) -> Stream:
        """Those samples, in that order."""
        chosen = index_of(index, len(self)).tolist()
        return replace(self, paths=tuple(self.paths[i] for i in chosen), labels=self.labels[index])

    def take(self, count: int) -> Stream:
        """The first `count` samples."""
        return self.some(slice(count))

    def batch(self, index: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples (B, *shape) without anything random, and labels (B,).

        Raises `DataError` for more than `MOST` bytes of them, and for a file that cannot be read.
        """
        chosen = index_of(index, len(self))
        size = len(chosen) * math.prod(self.shape) * 4
        if size > MOST:
            fit = MOST // (math.prod(self.shape) * 4)
            raise DataError(
                f"{len(chosen)} samples of {self.shape} at once are {size / 2**30:.0f} GiB: take at most "
                f"{fit} (--samples N)"
            )
        return self._read([(i, None) for i in chosen.tolist()])

    def batches(
        self,
        size: int,
        shuffle: torch.Generator | None = None,
        *,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All samples once, in order or, with a generator, shuffled and varied; the last may be smaller.

        `start`: leave out that many batches, unread.  `share` (k, n): of every batch what `parts.share_of`
        gives, the others unread.
        """
        order = order_of(len(self), shuffle)
        seeds: Sequence[int | None] = [None] * len(order)
        if shuffle is not None:
            seeds = torch.randint(2**31, (len(order),), generator=shuffle).tolist()
        samples = list(zip(order.tolist(), seeds, strict=True))
        firsts = range(start * size, len(samples), size)
        groups = [share_of(samples[i : i + size], share) for i in firsts]
        if not self.workers or len(groups) < FEW:
            yield from map(self._read, groups)
            return
        loader = torch.utils.data.DataLoader(
            _Samples(self),
            batch_sampler=groups,
            collate_fn=_together,
            num_workers=min(self.workers, len(groups)),
            generator=torch.Generator(),  # or it would draw from the global one
        )
        for found in loader:
            if isinstance(found, DataError):
                raise found
            yield found

    def _read(self, samples: Sequence[tuple[int, int | None]]) -> tuple[torch.Tensor, torch.Tensor]:
        found = _together([self._one(self.paths[i], self.labels[i], seed) for i, seed in samples])
        if isinstance(found, DataError):
            raise found
        return found

    def _one(
        self, path: str, label: torch.Tensor, seed: int | None
    ) -> tuple[torch.Tensor, torch.Tensor] | DataError:
        """The sample and its label, or the error of its file; `seed`: of what is random about it."""
        try:
            with contextlib.nullcontext() if seed is None else seeded(seed, devices=False):
                x = self.reader(path, random=seed is not None)
        except DataError as error:
            return error
        except OSError as error:
            return DataError(f"{path}: cannot be read ({error.strerror or error})")
        if tuple(x.shape) != self.shape:
            return DataError(f"{path}: has shape {tuple(x.shape)}; the other samples have {self.shape}")
        return x, label


class _Samples(torch.utils.data.Dataset):
    """What workers read: (index, seed or None) -> a sample and its label, or the `DataError` of its file.

    Paths are one array here: a worker that counted references to a million strings would copy all of them.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = replace(stream, paths=())
        self.paths = np.array([os.fsencode(path) for path in stream.paths])

    def __getitem__(self, item: tuple[int, int | None]) -> tuple[torch.Tensor, torch.Tensor] | DataError:
        index, seed = item
        path = os.fsdecode(bytes(self.paths[index]))
        return self.stream._one(path, self.stream.labels[index], seed)


def _together(samples: list[Any]) -> Any:
    """One batch of samples, or the first error among them: as a value, since a worker's is pages long."""
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    x, y = zip(*samples, strict=True)
    return torch.stack(x), torch.stack(y)


@contextlib.contextmanager
def seeded(seed: int, *, devices: bool = True) -> Iterator[None]:
    """The global generators of torch (CPU), NumPy and Python start from `seed`; put back afterwards.

    `devices`: those of torch's other devices start from it, too, and are not put back; where nothing runs on
    them, that is a third of a millisecond for nothing.
    """
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    if devices:
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def default_workers() -> int:
    """As many as this process may use processors, at most 8."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
