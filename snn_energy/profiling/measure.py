"""Reading values: kinds and nonzero counts, exactly, in as few passes over memory as can be.

Float32 sums of zeros and ones are exact up to 2^24; every sum here stays below that or runs in float64.
"""

from __future__ import annotations

import math

import torch

from snn_energy.profiling.kinds import BINARY, EMPTY, INTEGER, REAL, TERNARY, ValueSet

EXACT = 2**24
_SAMPLE = 96
_PIECE = 2**17


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
        if torch.equal(x, ones_where_nonzero(x).to(x.dtype).mul_(value)):
            return ValueSet((value,), value.is_integer())
    elif low == -1 and high == 1 and torch.equal(x, x.sign()):
        return TERNARY
    return INTEGER if torch.equal(x, x.round()) else REAL


def _clearly_real(x: torch.Tensor) -> bool:
    """Three different nonzero values, not all integers, among a few elements settle it at no cost."""
    if x.is_contiguous():
        sample = x.view(-1)[:: (x.numel() // _SAMPLE) | 1]  # an odd stride meets many channels
    else:
        sample = x[(0,) * (x.dim() - 1)][:_SAMPLE]
    seen = {v for v in sample.tolist() if v}
    return len(seen) > 2 and not all(float(v).is_integer() for v in seen)


def read_spikes(
    x: torch.Tensor, lead: int, graded: bool
) -> tuple[ValueSet, torch.Tensor | None, torch.Tensor]:
    """A neuron's output in one pass: its values, its nonzeros per position and per leading index.

    Σx = Σx² with whole Σx is taken for zeros and ones: of what a spiking neuron can put out, only they meet
    it.  Anything else, and what comes from a neuron known to be `graded`, gets the full test.
    """
    if not graded and x.dtype == torch.float32 and x.is_contiguous():
        maps, rows, squares = _sums(x, lead)
        total = float(rows.sum())
        if total == squares and total == int(total):
            return (BINARY if total else EMPTY), maps, rows
    values = values_of(x)
    maps, rows, _ = _sums(ones_where_nonzero(x, values), lead)
    return values, maps, rows


def _sums(x: torch.Tensor, lead: int) -> tuple[torch.Tensor | None, torch.Tensor, float]:
    """Σ over channels per position (None without positions), Σ per leading index, Σ of squares.

    Large tensors are read in pieces that stay in the cache from one sum to the next.
    """
    frames = x.flatten(0, lead - 1)
    maps, squares = [], 0.0
    for part in frames.split(max(1, _PIECE // max(1, frames[0].numel()))):
        flat = part.reshape(-1)
        squares += float(torch.dot(flat, flat))
        maps.append(part.sum(1) if part.dim() > 2 else row_counts(part, 1))
    whole = maps[0] if len(maps) == 1 else torch.cat(maps)
    if whole.dim() == 1:
        return None, whole, squares
    whole = whole.flatten(1)
    return whole, whole.double().sum(1), squares


def ones_where_nonzero(x: torch.Tensor, values: ValueSet | None = None) -> torch.Tensor:
    """`x` itself if known to be of zeros and ones, else its nonzero mask: floats that sum exactly."""
    if x.dtype not in (torch.float32, torch.float64):
        return x.bool().float()
    if values is not None and values.values in ((), (1.0,)):
        return x
    return torch.ne(x, 0, out=torch.empty_like(x))  # compares into floats: no bool tensor in between


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
    return (ones if lead == 1 else ones.flatten(0, lead - 1)).sum(1).flatten(1)
