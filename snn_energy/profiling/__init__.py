"""Counting: run a model over samples, get a `Profile`.  docs/counting.md defines every count.

Importing this package does not import torch: a saved `Profile` is read and re-costed without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from snn_energy.profiling.profile import Count, OpRow, Profile

if TYPE_CHECKING:
    import torch

    from snn_energy.frameworks.records import Equation, Update
    from snn_energy.profiling.call import Call, Rule
    from snn_energy.profiling.neurons import register_neuron

__all__ = [
    "Call",
    "Count",
    "Equation",
    "OpRow",
    "Profile",
    "Rule",
    "Update",
    "profile",
    "record_spikes",
    "register_neuron",
]

# these import torch
_HOME = {
    "Call": "profiling.call",
    "Rule": "profiling.call",
    "Equation": "frameworks.records",
    "Update": "frameworks.records",
    "register_neuron": "profiling.neurons",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"snn_energy.{_HOME[name]}"), name)


def profile(model: torch.nn.Module, batches: Iterable[Any], **options: Any) -> Profile:
    """Count every operation of `model` over `batches`: see `snn_energy.profiling.session.profile`."""
    from snn_energy.profiling import session

    return session.profile(model, batches, **options)


def record_spikes(model: torch.nn.Module, x: torch.Tensor, **options: Any) -> dict[str, torch.Tensor]:
    """Every neuron's spikes on one batch: see `snn_energy.profiling.spikes.record_spikes`."""
    from snn_energy.profiling import spikes

    return spikes.record_spikes(model, x, **options)
