"""Neuron modules that `torch.export` must not look into.

A module that owns a part marked `spiking = True` (the threshold of a STAA neuron) is a neuron whose steps
depend on one another.  Traced, each of its T steps would be dozens of operations in the network's graph.
While a model is exported, such a module is one operation `snn_energy::neuron`, and its equations are captured
on their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn


@torch.library.custom_op("snn_energy::neuron", mutates_args=())
def neuron(x: torch.Tensor, path: str) -> torch.Tensor:
    """Stands for the neuron module at `path` in an exported program: (T, B, ...) -> spikes."""
    raise NotImplementedError("a placeholder in exported programs")


@neuron.register_fake
def _(x: torch.Tensor, path: str) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


class OneStep(nn.Module):
    """A neuron module run for one step: (x[t], membrane[, row t of its table]) -> (spikes, next membrane).

    The row (1, C) takes the place of the table that the module calls `step_table`.
    """

    def __init__(self, neuron_module: nn.Module) -> None:
        super().__init__()
        self.step = _Step(neuron_module)
        self.table = f"neuron.{neuron_module.step_table}"

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, membrane, *row = inputs
        tables = dict.fromkeys([self.table], row[0]) if row else {}
        return torch.func.functional_call(self.step, tables, (x, membrane))


class _Step(nn.Module):
    """`one_step` of a neuron module as a forward."""

    def __init__(self, neuron_module: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron_module

    def forward(self, x: torch.Tensor, membrane: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.neuron.one_step(x, membrane)  # type: ignore[operator]


@contextlib.contextmanager
def opaque_neurons(model: nn.Module) -> Iterator[None]:
    """Inside, every neuron module below `model` (not `model` itself) is one operation."""
    found = [(path, module) for path, module in model.named_modules() if path and _owns_spikes(module)]
    for path, module in found:
        module.forward = _stand_in(path)
    try:
        yield
    finally:
        for _, module in found:
            del module.forward


def _owns_spikes(module: nn.Module) -> bool:
    return any(getattr(type(child), "spiking", False) for child in module.children())


def _stand_in(path: str) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: neuron(x, path)
