"""Whether a layer's input is the same at every time step, so that its products can be charged once.

The values decide.  Where a tensor came from says only which are worth comparing: those made from the
network's input without state and without chance.  Steps that are called one by one do the same arithmetic, so
equal is equal to the bit; steps that lie in one tensor may be summed in another order, and are equal but for
rounding, if the network's own input was the same to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from snn_energy.profiling.provenance import SAMPLE_MAJOR, TIME_MAJOR, Tag
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.tally import Tally

ROUNDING = 1e-5  # of the largest magnitude: what sums in another order leave behind a layer


@dataclass(frozen=True)
class First:
    """What a layer met at its first call of a pass."""

    x: torch.Tensor
    version: int
    weight: torch.Tensor
    weight_version: int
    clock: int  # of writes that versions do not show


def repeats(
    rec: Recorder, row: Tally, x: torch.Tensor, tag: Tag, lead: tuple[int, ...], weight: torch.Tensor
) -> None:
    """Note for each step of this call whether its input and its weights are those of the first step."""
    if not tag.still:
        row.repeats.append(False)
        return
    groups = _groups(rec, lead, tag.order)
    if groups is None:
        row.repeats.append(False)
        row.fixed.setdefault(
            "note", "whether the input repeats over time could not be told: charged as executed"
        )
        return
    same = _steps_alike(rec, x, groups, tag) if groups > 1 else True
    row.repeats.extend([same and _as_first(rec, row, x, weight)] * groups)


def _groups(rec: Recorder, lead: tuple[int, ...], order: int) -> int | None:
    grid = rec.layout.split(lead, order)
    if grid is not None:
        return grid.steps
    batch = rec.layout.batch
    if order == TIME_MAJOR and rec.layout.steps is None and lead and batch and lead[0] % batch == 0:
        return lead[0] // batch
    return None


def _steps_alike(rec: Recorder, x: torch.Tensor, groups: int, tag: Tag) -> bool:
    """Are all steps that lie in `x` alike?"""
    batch = rec.layout.batch
    shape, axis = ((batch, groups, -1), 1) if tag.order == SAMPLE_MAJOR else ((groups, batch, -1), 0)
    first, *others = x.reshape(shape).unbind(axis)
    if all(torch.equal(first, step) for step in others):
        return True
    if tag.sites == 0 or not x.is_floating_point() or not _input_stands(rec):
        return False
    limit = ROUNDING * first.abs().max()
    return all(bool((first - step).abs().max() <= limit) for step in others)


def _input_stands(rec: Recorder) -> bool:
    """Are the network's own inputs the same at every step, to the bit?  Looked at once a pass."""
    if rec.input_stands is None:
        rec.input_stands = all(_stands(rec, x, tag) for x, tag in rec.given)
    return rec.input_stands


def _stands(rec: Recorder, x: torch.Tensor, tag: Tag) -> bool:
    lead = tuple(x.shape[: rec.layout.leading(x.shape, tag.order)])
    groups = _groups(rec, lead, tag.order)
    unchanged = x._version == tag.version and not rec.constants.torn_since(x, tag.clock)
    return (
        unchanged and groups is not None and (groups == 1 or _steps_alike(rec, x, groups, tag.but(sites=0)))
    )


def _as_first(rec: Recorder, row: Tally, x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Are input and weights those of the first call in this pass?"""
    memory = rec.constants
    first = row.first
    if first is None:
        row.first = First(x, x._version, weight, weight._version, memory.ticks)
        return True
    if first.x._version != first.version or first.weight._version != first.weight_version:
        return False  # changed since: there is nothing to compare with
    if memory.torn_since(first.x, first.clock) or memory.torn_since(first.weight, first.clock):
        return False
    return _equal(x, first.x) and _equal(weight, first.weight)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """The same memory, or the same values in the same shape."""
    if a is b or (a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()):
        return True
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
