"""Which samples a command runs on: those of the checkpoint's own recipe, unless the user says otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_energy.data import Arrays, Part, load_data, read_input
from snn_energy.errors import ConfigError, DataError


@dataclass(frozen=True)
class Samples:
    """Samples (and labels, where known), what to call them, and the names of their classes.

    `images` is a data set's part, or what the user's file holds: of any shape, perhaps several arrays by
    name.  `training`: the training part of their data set, where that is known.  `time_first`: the network
    takes the frames of a data set, (N, T, …) in `images`, as (T, B, …), so that is how `batches` gives them.
    `told`: the notes of a data set.
    """

    images: Part | Arrays
    name: str
    class_names: tuple[str, ...] = ()
    training: Samples | None = None
    time_first: bool = False
    told: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should be told of them."""
        return self.images.notes if isinstance(self.images, Arrays) else self.told

    @property
    def axis(self) -> int:
        """The axis of samples in what `batches` gives."""
        return self.images.axis if isinstance(self.images, Arrays) else int(self.time_first)

    def batches(self, size: int) -> Iterator[tuple[Any, Any]]:
        """All samples once, in order, as the network takes them; with their labels, or None."""
        for x, y in self.images.batches(size):
            yield (x.transpose(0, 1) if self.time_first else x), y

    def first(self, count: int | None) -> Samples:
        """The first `count` of them, or all for None.  Raises `ConfigError` where there are fewer."""
        if count is None:
            return self
        if count < 1:
            raise ConfigError(f"--samples {count}: must be at least 1")
        if count > len(self.images):
            raise ConfigError(f"--samples {count}: {self.name} has {len(self.images)}")
        return self.take(count)

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
    batch_axis: int | None = None,
    integers: bool = False,
    time_first: bool = False,
    frames: int | None = None,
) -> Samples:
    """`input_file`, else the test part of `data`, else that of the recipe's data; the first `count` of them.

    `allow_nonfinite`: `input_file` may hold NaN and infinity; `batch_axis` and `integers`: how to read it
    (`data.read_input`).  `time_first`: the network takes (T, B, …), and so is the file's x.  `frames`: how
    many it takes, for event data; by default as the recipe says.
    Raises `DataError` if none of the three is there, `ConfigError` for both of the first two, a bad count,
    and still images for a network that takes frames.
    """
    if data is not None and input_file is not None:
        raise ConfigError(f"--data {data} and --input {input_file}: give one of them")
    if input_file is not None:
        axis = 1 if batch_axis is None and time_first else batch_axis
        read = read_input(input_file, allow_nonfinite=allow_nonfinite, batch_axis=axis, integers=integers)
        return Samples(read, Path(input_file).name).first(count)
    name = data or (recipe or {}).get("data")
    if name is None:
        raise DataError("no samples are known for this network: give --data NAME or --input FILE.npz")
    steps = frames or (recipe or {}).get("config", {}).get("T")
    loaded = load_data(name, frames=steps if type(steps) is int else None)
    if time_first and loaded.steps is None:
        raise ConfigError(
            f"{name} holds still images; this network takes frames, (T, N, …) in --input FILE.npz"
        )
    training = Samples(loaded.train, f"{name} (train)", loaded.class_names, None, time_first)
    test = Samples(loaded.test, f"{name} (test)", loaded.class_names, training, time_first, loaded.notes)
    return test.first(count)
