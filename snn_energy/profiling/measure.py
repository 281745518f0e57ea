"""Reading values: kinds and nonzero counts, exactly, in as few passes over memory as can be.

Float32 sums of zeros and ones are exact up to 2^24; every sum here stays below that or runs in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from snn_energy.profiling.kinds import BINARY, EMPTY, LARGEST, REAL, ROUNDING, ValueSet, grid

EXACT = 2**24
_SAMPLE = 96
_PIECE = 2**17


def values_of(x: torch.Tensor) -> ValueSet:
    """The set of nonzero values of `x`: exact, but for the rounding that multiples of a fraction carry."""
    if x.dtype == torch.bool:
        return BINARY if bool(x.any()) else EMPTY
    if x.numel() == 0:
        return EMPTY
    if not x.is_floating_point():
        x = x.double()
    seen = _sample(x)
    if grid(seen) is None and len(seen) > 1:
        return REAL
    low, high = (float(v) for v in torch.aminmax(x))
    if low == high == 0:
        return EMPTY
    if not math.isfinite(high - low):
        return REAL
    if len({abs(v) for v in seen}) > 1:
        return _multiples(x, tuple({low, high, *seen} - {0.0}))
    if low >= 0 or high <= 0:
        value = high if low >= 0 else low
        if torch.equal(x, ones_where_nonzero(x).to(x.dtype).mul_(value)):
            return ValueSet((value,))
    elif low == -high and torch.equal(x, x.sign().mul_(high)):
        return ValueSet((low, high))
    return _multiples(x, tuple(v for v in {low, high, *seen} if v))


def _sample(x: torch.Tensor) -> tuple[float, ...]:
    """The nonzero values among a few elements: they settle at no cost that most real tensors are real."""
    if x.is_contiguous():
        sample = x.view(-1)[:: (x.numel() // _SAMPLE) | 1]  # an odd stride meets many channels
    else:
        sample = x[(0,) * (x.dim() - 1)][:_SAMPLE]
    return tuple({v for v in sample.tolist() if v})


def _multiples(x: torch.Tensor, seen: tuple[float, ...]) -> ValueSet:
    """The values of `x` if they are whole multiples, at most 15, of a common unit.

    `seen`: some of them, the least and the greatest included.
    """
    unit = grid(seen)
    if unit is None:
        return REAL
    low, high, whole = min(seen), max(seen), x.mul(1 / unit)
    found = whole.round()
    if not torch.equal(whole, found):  # a finer unit, or multiples that were rounded
        smallest = float(x.abs().masked_fill_(x == 0, math.inf).amin())
        unit = grid((*seen, smallest))
        for parts in range(1, LARGEST + 1) if unit is not None else ():
            whole = x.double() * (parts / unit)  # type: ignore[operator]
            found = whole.round()
            if float(found.abs().amax()) > LARGEST:
                return REAL
            if bool(((whole - found).abs_() <= ROUNDING * found.abs()).all()):
                unit /= parts  # type: ignore[operator]
                break
        else:
            return REAL
    if max(abs(low), abs(high)) > (LARGEST + 0.5) * unit:
        return REAL
    steps = torch.bincount(found.add_(LARGEST).to(torch.uint8).reshape(-1)).nonzero().flatten()
    multiples = [k - LARGEST for k in steps.tolist() if k != LARGEST]
    return REAL if len(set(map(abs, multiples))) < 2 else ValueSet(tuple(k * unit for k in multiples))


def units(x: torch.Tensor, values: ValueSet) -> torch.Tensor:
    """Each element's number of unit events, |k|: floats that sum exactly."""
    if not values.graded:
        return ones_where_nonzero(x, values)
    if values.counts:
        return x.abs().float() if x.dtype != torch.float64 else x.abs()
    return x.float().abs().div_(values.unit).round_()


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


def without_zeros(x: torch.Tensor) -> bool:
    """Is every element of `x` nonzero?  Cheaper to ask than to count where they are."""
    if not x.is_floating_point() or not x.numel():
        return False
    parts = x.view(-1).split(_PIECE) if x.is_contiguous() else (x,)
    return all(float(part.abs().amin()) > 0 for part in parts)


def counts_of(
    x: torch.Tensor, lead: int, count: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Σ of `count(x)` per position, where `x` has channels and positions, else per leading index.

    Large tensors are taken in pieces that stay in the cache.
    """
    frames = x.flatten(0, lead - 1) if lead else x.unsqueeze(0)
    mapped = lead == 1 and x.dim() > 2
    parts = [frames]
    if x.numel() > _PIECE and x.is_contiguous():
        parts = list(frames.split(max(1, _PIECE // max(1, frames[0].numel()))))
    found = [position_counts(count(p), 1) if mapped else row_counts(count(p), 1) for p in parts]
    whole = found[0] if len(found) == 1 else torch.cat(found)
    return (whole, None) if mapped else (None, whole)


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
    if rows.shape[1] > EXACT or rows.dtype == torch.float64:
        return rows.sum(1, dtype=torch.float64)
    return rows.sum(1).double()


def position_counts(ones: torch.Tensor, lead: int) -> torch.Tensor:
    """Σ over the channel dimension that follows `lead` dimensions: (leading, positions)."""
    return (ones if lead == 1 else ones.flatten(0, lead - 1)).sum(1).flatten(1)
