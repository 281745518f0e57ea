"""Event-by-event counting in plain loops: slow, obvious, and independent of the package's arithmetic."""

from __future__ import annotations

from itertools import product

import torch


def conv_synapses(shape, weight_shape, stride, padding, dilation, groups, outputs):
    """Every (input index, output index) pair that a convolution connects: input (C, *S), output (K, *O)."""
    out_channels, in_per_group, *kernel = weight_shape
    per_group = out_channels // groups
    for k in range(out_channels):
        for c in range(in_per_group):
            channel = (k // per_group) * in_per_group + c
            for out, tap in product(product(*map(range, outputs)), product(*map(range, kernel))):
                position = tuple(
                    o * s - p + t * d
                    for o, s, p, t, d in zip(out, stride, padding, tap, dilation, strict=True)
                )
                if all(0 <= i < n for i, n in zip(position, shape[1:], strict=True)):
                    yield (channel, *position), (k, *out)


def transposed_synapses(shape, weight_shape, stride, padding, dilation, groups, outputs):
    """The same for a transposed convolution: weight (C, K/groups, *kernel)."""
    channels, per_group, *kernel = weight_shape
    for c in range(channels):
        group = c // (channels // groups)
        for k in range(per_group):
            for i, tap in product(product(*map(range, shape[1:])), product(*map(range, kernel))):
                out = tuple(
                    n * s - p + t * d for n, s, p, t, d in zip(i, stride, padding, tap, dilation, strict=True)
                )
                if all(0 <= o < size for o, size in zip(out, outputs, strict=True)):
                    yield (c, *i), (group * per_group + k, *out)


def count(x: torch.Tensor, synapses) -> tuple[int, int]:
    """(synapses with a nonzero input, synapses) of one sample and step."""
    events = valid = 0
    for source, _ in synapses:
        valid += 1
        events += x[source].item() != 0
    return events, valid


def products(a: torch.Tensor, b: torch.Tensor) -> dict[str, int]:
    """Counts of the matrix product (M, K) @ (K, N)."""
    m, k = a.shape
    n = b.shape[1]
    counts = {"coincident": 0, "left": 0, "right": 0, "valid": 0}
    rows, columns = (a != 0).tolist(), (b != 0).tolist()
    for i, j, inner in product(range(m), range(n), range(k)):
        left, right = rows[i][inner], columns[inner][j]
        counts["coincident"] += left and right
        counts["left"] += left
        counts["right"] += right
        counts["valid"] += 1
    return counts


def squares(values) -> int:
    return sum(v * v for v in values)
