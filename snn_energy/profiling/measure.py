"""Reading values: kinds and nonzero counts, exactly, in as few passes over memory as can be.

Float32 sums of zeros and ones are exact up to 2^24; every sum here stays below that or runs in float64.
"""

from __future__ import annotations

import math

import torch

from snn_energy.profiling.kinds import BINARY, EMPTY, INTEGER, REAL, TERNARY, ValueSet

EXACT = 2**24
_SAMPLE = 96


def values_of(x: torch.Tensor) -> ValueSet:
    """The set of nonzero values of `x`, exactly."""
    if x.dtype == torch.bool:
        return BINARY if bool(x.any()) else EMPTY
    if x.numel() == 0:
        return EMPTY
    if not x.is_floating_point():
        x = x.double()
    if _clearly_real(x):
        return REAL
    low, high = (float(v) for v in torch.aminmax(x))
    if low == high == 0:
        return EMPTY
    if not math.isfinite(high - low):
        return REAL
    if low >= 0 or high <= 0:
        value = high if low >= 0 else low
        if torch.equal(x, x.bool() * x.new_tensor(value)):
            return ValueSet((value,), value.is_integer())
    elif low == -1 and high == 1 and torch.equal(x, x.sign()):
        return TERNARY
    return INTEGER if torch.equal(x, x.round()) else REAL


def _clearly_real(x: torch.Tensor) -> bool:
    """Three different nonzero values, not all integers, in the first few elements settle it at no cost."""
    while x.dim() > 1 and x.shape[-1] < _SAMPLE and x.is_contiguous():
        x = x.flatten(-2)
    while x.dim() > 1:
        x = x[0]
    seen = {v for v in x.reshape(-1)[:_SAMPLE].tolist() if v}
    return len(seen) > 2 and not all(float(v).is_integer() for v in seen)


def spikes_of(x: torch.Tensor, total: float) -> ValueSet:
    """The values of a neuron's output whose elements sum to `total`.

    Σx = Σx² with whole Σx: for what a spiking neuron puts out, this holds for zeros and ones alone; anything
    else gets the full test.
    """
    if x.dtype != torch.float32 or not x.is_contiguous() or total != int(total):
        return values_of(x)
    flat = x.view(-1)
    if sum(float(torch.dot(part, part)) for part in flat.split(EXACT)) != total:
        return values_of(x)
    return BINARY if total else EMPTY


def ones_where_nonzero(x: torch.Tensor, values: ValueSet | None) -> torch.Tensor:
    """`x` itself if known to be of zeros and ones, else its nonzero mask: floats that sum exactly."""
    if values is not None and values.values in ((), (1.0,)) and x.dtype in (torch.float32, torch.float64):
        return x
    return x.bool().float()


def row_counts(ones: torch.Tensor, lead: int) -> torch.Tensor:
    """Σ over all but the first `lead` dimensions: float64, flat."""
    if lead == 0:
        ones, lead = ones.unsqueeze(0), 1
    rows = ones.flatten(0, lead - 1).flatten(1) if ones.dim() > lead else ones.reshape(-1, 1)
    if rows.shape[1] > EXACT:
        return rows.sum(1, dtype=torch.float64)
    return rows.sum(1).double()


def position_counts(ones: torch.Tensor, lead: int) -> torch.Tensor:
    """Σ over the channel dimension that follows `lead` dimensions: (leading, positions)."""
    return ones.flatten(0, lead - 1).sum(1).flatten(1)
