"""Events of a camera that moves over a still image, in whole numbers: the embedded `digits-dvs`.

Made as N-MNIST was (Orchard et al., Frontiers in Neuroscience 2015): three saccades along a triangle before
each image.  A pixel sends an ON or OFF event for every `THRESHOLD` by which its brightness has risen or
fallen since its last event; there is no noise, so the same images give the same events everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FINE = 4
"""Positions of the camera per pixel of the image, along each axis."""
PITCH = 2
"""Such positions between neighbouring pixels of the camera: it has FINE / PITCH pixels per pixel."""
LEG = 6
"""Positions along one side of the triangle."""
THRESHOLD = 40
"""Of brightness; a pixel of value v has brightness v · FINE², so 256 for the brightest of a digit, 16."""


@dataclass(frozen=True)
class Events:
    """All events of `count` samples: sample, time step, row, column, and 1 for ON or 0 for OFF, (E,) each.

    They are ordered by sample, then time, then place in the raster.
    """

    count: int
    sample: np.ndarray
    t: np.ndarray
    y: np.ndarray
    x: np.ndarray
    p: np.ndarray


def path() -> list[tuple[int, int]]:
    """Where the camera is, (rows, columns) in fine positions: from a corner along three sides, and back."""
    down = [(s, s // 2) for s in range(LEG)]
    up = [(LEG - s, (LEG + s) // 2) for s in range(LEG)]
    back = [(0, LEG - s) for s in range(LEG + 1)]
    return [(y - LEG // 2, x - LEG // 2) for y, x in down + up + back]


def enlarged(images: np.ndarray) -> np.ndarray:
    """(N, H, W) of whole numbers -> (N, FINE·H, FINE·W), bilinear between centres, times FINE²; 0 outside."""
    image = np.pad(images.astype(np.int32), ((0, 0), (1, 1), (1, 1)))
    for axis in (1, 2):
        size = image.shape[axis] - 2
        fine = 2 * np.arange(FINE * size) + 1 + FINE  # in halves of a fine position, from the first centre
        left, rest = np.divmod(fine, 2 * FINE)
        weight = rest.reshape([-1 if a == axis else 1 for a in range(3)])
        image = image.take(left, axis) * (2 * FINE - weight) + image.take(left + 1, axis) * weight
    return image // 4


def saccades(images: np.ndarray) -> Events:
    """The events of images (N, H, W) of small whole numbers, on a camera of FINE / PITCH times their size."""
    fine, margin = enlarged(images), LEG
    fine = np.pad(fine, ((0, 0), (margin, margin), (margin, margin)))
    rows, columns = (n * FINE // PITCH for n in images.shape[1:])
    seen: np.ndarray | None = None
    found = []
    for step, (down, right) in enumerate(path()):
        ys, xs = (margin + moved + PITCH * np.arange(n) for moved, n in ((down, rows), (right, columns)))
        now = fine[:, ys][:, :, xs]
        if seen is None:
            seen = now.copy()
            continue
        change = now - seen
        count = np.sign(change) * (np.abs(change) // THRESHOLD)
        seen += count * THRESHOLD
        sample, y, x = count.nonzero()
        times = np.abs(count[sample, y, x])
        p = (count[sample, y, x] > 0).astype(np.int64)
        found.append([np.repeat(v, times) for v in (sample, np.full_like(sample, step), y, x, p)])
    columns_of = [np.concatenate(v) for v in zip(*found, strict=True)]
    order = np.argsort(columns_of[0], kind="stable")
    return Events(len(images), *(v[order] for v in columns_of))


def frames_by_number(events: Events, steps: int, rows: int, columns: int) -> np.ndarray:
    """Counts of events (N, T, 2, H, W), channel 1 for ON: frame i of T holds events i·⌊E/T⌋ to (i+1)·⌊E/T⌋.

    The last frame holds the rest, as in SpikingJelly's `split_by="number"`.
    """
    total = np.bincount(events.sample, minlength=events.count)
    rank = np.arange(len(events.sample)) - (total.cumsum() - total)[events.sample]
    each = (total // steps)[events.sample]
    frame = np.where(each > 0, np.minimum(rank // np.maximum(each, 1), steps - 1), steps - 1)
    shape = (events.count, steps, 2, rows, columns)
    place = np.ravel_multi_index((events.sample, frame, events.p, events.y, events.x), shape)
    return np.bincount(place, minlength=int(np.prod(shape))).reshape(shape).astype(np.uint8)
