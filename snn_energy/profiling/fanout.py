"""How many synapses leave each input position: pure arithmetic on shapes.

Along each axis the taps of a convolution are independent, so the fan-out of position (h, w) is
taps_h[h] · taps_w[w] · (output channels per group): border-aware for any stride, padding and dilation.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Window:
    """One axis of a convolution or pooling: `before` is the padding at its start."""

    size: int
    kernel: int
    stride: int
    before: int
    dilation: int
    outputs: int


@functools.cache
def taps(window: Window) -> tuple[int, ...]:
    """For each input position, the number of (output, kernel tap) pairs that read it."""
    counts = [0] * window.size
    for output in range(window.outputs):
        for tap in range(window.kernel):
            position = output * window.stride - window.before + tap * window.dilation
            if 0 <= position < window.size:
                counts[position] += 1
    return tuple(counts)


@functools.cache
def transposed_taps(window: Window) -> tuple[int, ...]:
    """For each input position of a transposed convolution, the number of output positions that it feeds."""
    return tuple(
        sum(
            0 <= position * window.stride - window.before + tap * window.dilation < window.outputs
            for tap in range(window.kernel)
        )
        for position in range(window.size)
    )


@functools.cache
def adaptive_taps(size: int, outputs: int) -> tuple[int, ...]:
    """The same for adaptive pooling, whose window i is [floor(i·size/outputs), ceil((i+1)·size/outputs))."""
    counts = [0] * size
    for output in range(outputs):
        for position in range(output * size // outputs, -((output + 1) * size // -outputs)):
            counts[position] += 1
    return tuple(counts)


@dataclass(frozen=True)
class FanOut:
    """The synapses of a layer: `axes` holds the taps of each spatial axis, `channels` the outputs per tap."""

    axes: tuple[tuple[int, ...], ...]
    channels: int

    @functools.cached_property
    def uniform(self) -> int | None:
        """The fan-out if it is the same everywhere, else None."""
        if any(min(axis, default=0) != max(axis, default=0) for axis in self.axes):
            return None
        return self.channels * math.prod(axis[0] for axis in self.axes)

    @functools.cached_property
    def total(self) -> int:
        """Σ over positions: the synapses of one input channel."""
        return self.channels * math.prod(sum(axis) for axis in self.axes)

    @functools.cached_property
    def flat(self) -> list[int]:
        """One entry per position, row-major."""
        return [self.channels * math.prod(combination) for combination in product(*self.axes)]


@dataclass(frozen=True)
class Geometry:
    """What the shapes of a convolution settle: fan-out, dense MACs per sample and step, attributes."""

    fan: FanOut
    dense: int
    details: dict[str, object]


@functools.lru_cache(maxsize=1024)
def geometry(
    sizes: tuple[int, ...],
    outputs: tuple[int, ...],
    weight: tuple[int, ...],
    stride: tuple[int, ...],
    before: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    transposed: bool = False,
) -> Geometry:
    """The geometry of a convolution with weight (out, in/groups, …), transposed: (in, out/groups, …)."""
    kernel = weight[2:]
    windows = [Window(*w) for w in zip(sizes, kernel, stride, before, dilation, outputs, strict=True)]
    if transposed:
        fan = FanOut(tuple(transposed_taps(w) for w in windows), weight[1])
    else:
        fan = FanOut(tuple(taps(w) for w in windows), weight[0] // groups)
    dense = math.prod(sizes if transposed else outputs) * math.prod(weight)
    details = {"kernel": kernel, "stride": stride, "padding": before, "dilation": dilation, "groups": groups}
    return Geometry(fan, dense, details)
