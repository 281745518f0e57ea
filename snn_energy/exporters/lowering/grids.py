"""The grid of a layer's weights: which registers stand for them, and whether they lie on one already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snn_energy.exporters.netlist.record import Array

WHOLE = 0.02  # a weight or bias this near a whole register is that register, in float32
LOOKED_AT = 64  # weights of a layer that are tried before all of them are


@dataclass(frozen=True)
class Weights:
    """Registers of one term: `values`·2^exponent ≈ scale·w, and the weights they stand for.

    `grid`: the distance between neighbouring real weights; `levels`: most of these either side of 0.
    """

    values: Array
    exponent: int
    real: Array
    grid: float
    levels: int


def registers_of(weight: Array, scale: float, bits: int) -> Weights:
    """`weight` times `scale` as whole numbers of `bits` bits, even where both signs occur."""
    largest = (1 << bits) - 2
    grain = _grain(weight)
    exponent = int(_exponents(weight, np.array([scale]), bits)[0])
    step = 2.0**exponent
    values = np.clip(np.rint(weight * scale / (step * grain)) * grain, -largest, largest).astype(np.int64)
    return Weights(values, exponent, values * step / scale, grain * step / scale, largest // grain)


def kept(scales: Array, layers: Sequence[tuple[Array, float]], biases: Array, bits: int) -> float | None:
    """The first of `scales` at which every weight (times its layer's unit) and bias is a register already."""
    for amount in (LOOKED_AT, None):
        for weight, unit in layers:
            some = np.sort(np.abs(weight[weight != 0]), axis=None)[::-1][:amount] * unit
            grid = 2.0 ** _exponents(weight * unit, scales, bits) * _grain(weight)
            scales = scales[_whole(some[None] * (scales / grid)[:, None])]
        scales = scales[_whole(biases[None] * scales[:, None])]
    return float(scales[0]) if len(scales) and layers else None


def _whole(numbers: Array) -> Array:
    """Which rows hold whole numbers only."""
    return np.asarray(np.abs(numbers - np.rint(numbers)).max(axis=1, initial=0) < WHOLE)


def _grain(weight: Array) -> int:
    """Weights of both signs are even: the sign takes one of the bits."""
    return 2 if weight.min() < 0 < weight.max() else 1


def _exponents(weight: Array, scales: Array, bits: int) -> Array:
    """The least exponent, for each scale, at which the largest weight fits."""
    peaks = np.maximum(np.abs(weight).max() * scales, 1e-30)
    return np.maximum(0, np.ceil(np.log2(peaks / ((1 << bits) - 1.5))))
