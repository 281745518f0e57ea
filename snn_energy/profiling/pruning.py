"""Operations that zero weights save: what a netlist that leaves them out does not execute.

They are counted, not what is left, so that calls with and without zeros at one place add up.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from snn_energy.profiling.kinds import ValueSet
from snn_energy.profiling.measure import ones_where_nonzero, row_counts, units
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.tally import Reading, Tally

if TYPE_CHECKING:
    from snn_energy.profiling.synapses import Layer

ATTRIBUTE = "_snn_energy_zeros"


def zeros_in(weight: torch.Tensor) -> bool:
    """Has the weight a zero?  Looked at once per version; `memory` forgets it where versions do not tell."""
    known = weight.__dict__.get(ATTRIBUTE)
    if known is None or known[0] != weight._version:
        known = weight._version, int(torch.count_nonzero(weight)) < weight.numel()
        weight.__dict__[ATTRIBUTE] = known
    return bool(known[1])


def pruned(
    row: Tally, layer: Layer, weight: torch.Tensor, x: torch.Tensor, tag: Tag, values: ValueSet, lead: int
) -> None:
    """Count the synapses of zero weight that exist, and those that events reach."""
    shape, order = tuple(x.shape[:lead]), tag.order
    if layer.convolve is None:
        every = int((weight == 0).sum()) * (x.numel() // max(1, x.shape[-1]))
    else:
        every = int(_reached(layer, weight, torch.ones_like(x[:1]), 1).sum()) * x.shape[0]
    row.read("valid_pruned", Reading(shape, None, every // max(1, math.prod(shape)), order=order))
    events = _reached(layer, weight, ones_where_nonzero(x, values), lead)
    graded = _reached(layer, weight, units(x, values), lead) if values.graded else None
    row.read("events_pruned", Reading(shape, events, 1, values.unit or 1.0, graded, order))


def _reached(layer: Layer, weight: torch.Tensor, counts: torch.Tensor, lead: int) -> torch.Tensor:
    """Σ over inputs of `counts` × synapses of zero weight, per leading index: float64, exact."""
    gone = (weight == 0).double()
    if layer.convolve is None:
        found = counts.double() @ gone.sum(0)
        return row_counts(found.unsqueeze(-1) if found.dim() <= lead else found, lead)
    if layer.op.startswith("conv_transpose"):
        gone = gone.sum(1, keepdim=True)
    else:
        gone = gone.unflatten(0, (layer.details["groups"], -1)).sum(1)
    return row_counts(layer.convolve(counts.double(), gone), lead)
