"""Kernels that nir's type check takes for what they are.

It computes height and width of a convolution's output from the first side of the kernel alone (nir 1.0.8,
`calculate_conv_output(…, weight.shape[2], …)`), and takes the kernel's second axis for the channels of the
input, which it is without groups only.  Zeros around the shorter side and between the groups make a kernel
what it believes without changing what it computes.
"""

from __future__ import annotations

import numpy as np

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.lowering.plan import Synapse
from snn_energy.exporters.netlist.record import Array


def checked_kernel(name: str, term: Synapse, sides: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """(weight, padding) of a convolution on a map of `sides` with the output shape that nir computes."""
    weight, padding = ungrouped(term), term.padding
    kernel = weight.shape[2:]
    believed = [_outputs(term, sides, axis, kernel[0], padding[axis]) for axis in (0, 1)]
    if tuple(believed) == term.shape[1:]:
        return weight, padding
    size = max(kernel)
    missing = [size - k for k in kernel]
    if not can_be_square(term):
        raise UnsupportedOp(
            name,
            f"a kernel of {kernel[0]}×{kernel[1]} in NIR",
            supported="kernels that zeros on both sides make square: nir's type check knows no others",
            way_out="make both of its sides odd, or both even",
        )
    around = [(m // 2, m // 2) for m in missing]
    padded = tuple(p + d * before for p, d, (before, _) in zip(padding, term.dilation, around, strict=True))
    return np.pad(weight, [(0, 0), (0, 0), *around]), padded


def ungrouped(term: Synapse) -> Array:
    """The kernel of a convolution without groups, zero between them: (O, I, kH, kW)."""
    if term.groups == 1:
        return term.weight
    outputs, inputs = term.weight.shape[0] // term.groups, term.weight.shape[1]
    full = np.zeros((term.weight.shape[0], inputs * term.groups, *term.weight.shape[2:]))
    for group in range(term.groups):
        held = slice(group * outputs, (group + 1) * outputs)
        full[held, group * inputs : (group + 1) * inputs] = term.weight[held]
    return full


def filled_up(term: Synapse, around: tuple[int, ...]) -> dict[str, Array]:
    """What the node's metadata say of zeros, for who wants the kernel without them."""
    told = {"zeros_around": np.array(around)} if any(around) else {}
    return told | ({"zeros_between_groups": np.array([term.groups])} if term.groups > 1 else {})


def can_be_square(term: Synapse) -> bool:
    """Do equal rows or columns of zeros on both sides make the kernel square?"""
    return (term.weight.shape[2] - term.weight.shape[3]) % 2 == 0


def covers_the_map(term: Synapse, sides: tuple[int, ...]) -> bool:
    """Is every weight met once, the output being a single position?"""
    return term.weight.shape[2:] == sides and max(term.padding) == 0


def _outputs(term: Synapse, sides: tuple[int, ...], axis: int, kernel: int, padding: int) -> int:
    reach = term.dilation[axis] * (kernel - 1) + 1
    return (sides[axis] + 2 * padding - reach) // term.stride[axis] + 1
