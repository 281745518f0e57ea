"""Weights as the C program keeps them: channels last, in the narrowest type, each array with its comment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from snn_energy.exporters.c.plan import C_TYPES
from snn_energy.exporters.netlist.record import Array, Conv, Dense, Shape, Sparse

PER_LINE = 24


@dataclass(frozen=True)
class Constant:
    """An array of weights.c."""

    name: str
    type: str
    data: Array
    comment: str

    @property
    def ctype(self) -> str:
        return C_TYPES[self.type]

    @property
    def size(self) -> int:
        return int(self.data.size)

    @property
    def text(self) -> str:
        """The numbers, `PER_LINE` to a line."""
        return ",\n".join(_lines(self.data))

    @property
    def raw(self) -> bytes:
        """The array as little-endian memory."""
        return self.data.astype(numpy_type(self.type)).tobytes()


def _lines(data: Array) -> Iterator[str]:
    flat = data.ravel().tolist()
    for start in range(0, len(flat), PER_LINE):
        yield ", ".join(map(str, flat[start : start + PER_LINE]))


def numpy_type(kind: str) -> np.dtype:
    """The NumPy type of a short name: u8, i16, …"""
    return np.dtype(f"<{kind[0]}{int(kind[1:]) // 8}")


def narrowest(data: Array, *allowed: str) -> str:
    """The first of `allowed` that holds every number of `data`."""
    low, high = (int(data.min()), int(data.max())) if data.size else (0, 0)
    for kind in allowed:
        info = np.iinfo(numpy_type(kind))
        if info.min <= low and high <= info.max:
            return kind
    raise OverflowError(f"{low} to {high} fit none of {', '.join(allowed)}")


def halved(weights: Array, exponent: int) -> tuple[Array, int]:
    """Even weights of both signs as their halves, which fit 8 bits; the exponent takes the factor."""
    mixed = weights.size and weights.min() < 0 and np.abs(weights).max() > 127
    if mixed and not np.any(weights % 2):
        return weights // 2, exponent + 1
    return weights, exponent


def conv_weights(node: Conv) -> Array:
    """(O, I/g, kH, kW) -> (kH, kW, I, O/g): the outputs of one channel side by side."""
    outputs, group_in, kh, kw = node.weight.shape
    split = node.weight.reshape(node.groups, outputs // node.groups, group_in, kh, kw)
    return split.transpose(3, 4, 0, 2, 1).reshape(kh, kw, node.groups * group_in, -1)


def dense_weights(node: Dense, source: Shape) -> Array:
    """(O, C·H·W) -> (H·W·C, O)."""
    c, h, w = source
    return node.weight.reshape(-1, c, h, w).transpose(2, 3, 1, 0).reshape(h * w * c, -1)


def channels_last(shape: Shape) -> Array:
    """Where each flat (C, H, W) index lies when channels are last."""
    c, h, w = shape
    return np.arange(h * w * c).reshape(h, w, c).transpose(2, 0, 1).ravel()


def by_source(node: Sparse) -> tuple[Array, Array, Array]:
    """Synapses sorted by source: start (sources + 1), targets and values, indices with channels last."""
    sources = channels_last(node.in_shape)[node.sources]
    targets = channels_last(node.shape)[node.targets]
    order = np.lexsort((targets, sources))
    count = int(np.prod(node.in_shape))
    start = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=count))])
    return start, targets[order], node.values.astype(np.int64)[order]


def maps_last(array: Array, shape: Shape) -> Array:
    """A (C, H, W) array in the program's order, flat."""
    return np.broadcast_to(array, shape).transpose(1, 2, 0).ravel()
