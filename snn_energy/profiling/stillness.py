"""Whether a layer's input is the same at every time step, so that its products can be charged once.

The values decide.  Where a tensor came from says only which are worth comparing: those made from the
network's input without state and without chance.
"""

from __future__ import annotations

import torch

from snn_energy.profiling.provenance import SAMPLE_MAJOR, TIME_MAJOR, Tag
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.tally import Tally

ROUNDING = 1e-5  # of the largest magnitude: what sums in another order leave behind a layer


def repeats(rec: Recorder, row: Tally, x: torch.Tensor, tag: Tag, lead: tuple[int, ...]) -> None:
    """Note for each step of this call whether its input is that of the first step."""
    if not tag.still:
        row.repeats.append(False)
        return
    groups = _groups(rec, lead, tag.order)
    if groups is None:
        row.repeats.append(False)
        row.fixed.setdefault("note", "whether the input repeats over time could not be told: charged as executed")
        return
    row.repeats.extend([_same(row, x, groups, rec.layout.batch, tag)] * groups)


def _groups(rec: Recorder, lead: tuple[int, ...], order: int) -> int | None:
    grid = rec.layout.split(lead, order)
    if grid is not None:
        return grid.steps
    batch = rec.layout.batch
    if order == TIME_MAJOR and rec.layout.steps is None and lead and batch and lead[0] % batch == 0:
        return lead[0] // batch
    return None


def _same(row: Tally, x: torch.Tensor, groups: int, batch: int, tag: Tag) -> bool:
    """Are all steps in `x` alike, and like the first step of this pass?"""
    exact = tag.sites == 0
    if groups > 1:
        if tag.order == SAMPLE_MAJOR:
            steps = x.reshape(batch, groups, -1).unbind(1)
        else:
            steps = x.reshape(groups, -1).unbind(0)
        return all(_alike(steps[0], step, exact) for step in steps[1:])
    if row.first_input is None:
        row.first_input = x, x._version
        return True
    first, version = row.first_input
    if first._version != version:  # changed since: there is nothing to compare with
        return False
    return x is first or (x.shape == first.shape and _alike(first, x, exact))


def _alike(a: torch.Tensor, b: torch.Tensor, exact: bool) -> bool:
    """Equal; behind another layer, equal but for rounding."""
    if torch.equal(a, b):
        return True
    if exact or not a.is_floating_point():
        return False
    return bool((a - b).abs().max() <= ROUNDING * a.abs().max())
