"""Events of a moving camera and their frames, against loops over pixels and events."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from snn_energy.data import load_data
from snn_energy.data.saccades import THRESHOLD, Events, enlarged, frames_by_number, path, saccades


def brightness(image: np.ndarray, i: int, j: int) -> Fraction:
    """Bilinear between the centres of pixels at fine position (i, j), a quarter of one each; 0 outside."""
    total = Fraction(0)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            far = [abs(Fraction(2 * k + 1, 8) - Fraction(2 * n + 1, 2)) for k, n in ((i, y), (j, x))]
            total += int(image[y, x]) * max(1 - far[0], 0) * max(1 - far[1], 0)
    return 16 * total


def plain_events(image: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(time, row, column, ON) of one image."""
    height, width = (2 * n for n in image.shape)
    found: list[tuple[int, int, int, int]] = []
    last: dict[tuple[int, int], int] = {}
    for t, (down, right) in enumerate(path()):
        for y in range(height):
            for x in range(width):
                i, j = 2 * y + down, 2 * x + right
                inside = 0 <= i < 2 * height and 0 <= j < 2 * width
                now = int(brightness(image, i, j)) if inside else 0
                was = last.setdefault((y, x), now)
                while abs(now - was) >= THRESHOLD:
                    was += THRESHOLD if now > was else -THRESHOLD
                    found.append((t, y, x, int(now > last[y, x])))
                last[y, x] = was
    return found


def test_events_are_those_of_a_loop() -> None:
    images = np.random.default_rng(1).integers(0, 17, (2, 3, 2), np.uint8)
    for n, image in enumerate(images):
        for i in range(12):
            for j in range(8):
                assert enlarged(images)[n, i, j] == int(brightness(image, i, j))
    events = saccades(images)
    for n, image in enumerate(images):
        mine = events.sample == n
        found = zip(*(v[mine].tolist() for v in (events.t, events.y, events.x, events.p)), strict=True)
        assert list(found) == plain_events(image)
    assert len(set(events.p.tolist())) == 2


@pytest.mark.parametrize("steps", [1, 3, 7, 40])
def test_frames_hold_every_event_once_in_order(steps: int) -> None:
    rng, counts = np.random.default_rng(2), [25, 0, 7, 40]
    sample = np.repeat(np.arange(4), counts)
    t, y, x, p = (rng.integers(0, n, len(sample)) for n in (9, 5, 3, 2))
    frames = frames_by_number(Events(4, sample, t, y, x, p), steps, 5, 3)
    expected = np.zeros((4, steps, 2, 5, 3), int)
    for n, count in enumerate(counts):
        each = count // steps
        for rank, k in enumerate(np.flatnonzero(sample == n)):
            frame = min(rank // each, steps - 1) if each else steps - 1
            expected[n, frame, p[k], y[k], x[k]] += 1
    np.testing.assert_array_equal(frames, expected)


def test_frames_are_those_of_spikingjelly() -> None:
    from spikingjelly.datasets.utils import integrate_events_by_fixed_frames_number as integrate

    images = np.random.default_rng(3).integers(0, 17, (1, 5, 4), np.uint8)
    events = saccades(images)
    theirs = integrate({k: getattr(events, k) for k in "txyp"}, "number", 6, 10, 8)
    np.testing.assert_array_equal(frames_by_number(events, 6, 10, 8)[0], theirs)


def test_digits_dvs_are_the_digits() -> None:
    still, data = load_data("digits"), load_data("digits-dvs?T=5")
    assert (data.sample_shape, data.steps, data.channels) == ((5, 2, 16, 16), 5, 2)
    assert torch.equal(data.train.labels, still.train.labels) and len(data.test) == 360
    pixels = still.test.pixels[7:8, 0].numpy().astype(np.uint8)  # type: ignore[attr-defined]
    x, _ = data.test.batch(slice(7, 8))
    np.testing.assert_array_equal(x.numpy(), frames_by_number(saccades(pixels), 5, 16, 16))
    totals = torch.cat([part.pixels.sum((1, 2, 3, 4)) for part in (data.train, data.test)])  # type: ignore[attr-defined]
    assert (int(totals.min()), int(totals.max())) == (758, 1586)  # as docs/data.md says
    assert load_data("digits-dvs", frames=3).steps == 3 and load_data("digits-dvs?T=4", frames=3).steps == 4
