"""Which samples a command runs on: those of the checkpoint's own recipe, unless the user says otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_energy.data import Images, load_data, read_input
from snn_energy.errors import ConfigError, DataError


@dataclass(frozen=True)
class Samples:
    """Images (and labels, where known), what to call them, and the names of their classes.

    `training`: the training part of their data set, where that is known.  `time_first`: the network takes
    frames as (T, B, …), so that is how `batches` gives them; `images` holds (N, T, …) all the same.
    """

    images: Images
    name: str
    class_names: tuple[str, ...] = ()
    training: Samples | None = None
    time_first: bool = False

    def batches(self, size: int) -> Iterator[tuple[Any, Any]]:
        """All samples once, in order, as the network takes them; with their labels, or None."""
        for x, y in self.images.batches(size):
            yield (x.transpose(0, 1) if self.time_first else x), y

    def take(self, count: int) -> Samples:
        """The first `count` of them."""
        return dataclasses.replace(self, images=self.images.take(count), name=f"{self.name}, first {count}")


def choose_samples(
    recipe: dict[str, Any] | None,
    *,
    data: str | None = None,
    input_file: Path | None = None,
    count: int | None = None,
    allow_nonfinite: bool = False,
    time_first: bool = False,
) -> Samples:
    """`input_file`, else the test part of `data`, else that of the recipe's data; the first `count` of them.

    `allow_nonfinite`: `input_file` may hold NaN and infinity.  `time_first`: the network takes (T, B, …), and
    so is the file's x.  Raises `DataError` if none of the three is there, `ConfigError` for both of the first
    two, a bad count, and still images for a network that takes frames.
    """
    if data is not None and input_file is not None:
        raise ConfigError(f"--data {data} and --input {input_file}: give one of them")
    if count is not None and count < 1:
        raise ConfigError(f"--samples {count}: must be at least 1")
    if input_file is not None:
        images = read_input(input_file, allow_nonfinite=allow_nonfinite, time_first=time_first)
        samples = Samples(images, Path(input_file).name, time_first=time_first)
    else:
        name = data or (recipe or {}).get("data")
        if name is None:
            raise DataError("the checkpoint names no data set: give --data NAME or --input FILE.npz")
        loaded = load_data(name)
        if time_first and loaded.test.pixels.dim() != 5:
            raise ConfigError(
                f"{name} holds still images; this network takes frames, (T, N, …) in --input FILE.npz"
            )
        training = Samples(loaded.train, f"{name} (train)", loaded.class_names, None, time_first)
        samples = Samples(loaded.test, f"{name} (test)", loaded.class_names, training, time_first)
    if count is None:
        return samples
    if count > len(samples.images):
        raise ConfigError(f"--samples {count}: {samples.name} has {len(samples.images)}")
    return samples.take(count)
