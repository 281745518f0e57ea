"""What an inference of a network in training costs, and how often its neurons fire."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from snn_energy.data import Part
from snn_energy.profiling.session import profile

CONVENTION, COSTS = "exact", "45nm-fp32"
ENERGY = f"energy_uj_{CONVENTION}"
"""The column of log.csv: µJ of one inference under that convention, at the prices of `COSTS`."""
BATCH = 64


@dataclass(frozen=True)
class Cost:
    """Of one inference, as the mean over samples: µJ; firing rate of each neuron by module path."""

    energy_uj: float
    rates: dict[str, float]


def cost_of(model: nn.Module, part: Part, samples: int, device: torch.device) -> Cost:
    """Measured on the first `samples` of `part`; `model` is left as it was."""
    batches = (x for x, _ in part.take(samples).batches(BATCH))
    found = profile(model, batches, device=device)
    rates = {
        row.name: row.output_nonzero / row.output_elements
        for row in found.rows
        if row.neuron_cmp and row.output_elements
    }
    return Cost(float(found.energy(CONVENTION, COSTS).total_pj * 1e-6), rates)
