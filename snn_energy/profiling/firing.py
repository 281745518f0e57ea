"""How often each neuron fires at each step, over many batches: two numbers per neuron and step are kept."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.frameworks import Neuron
from snn_energy.profiling.instrument import spikes_in
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.neurons import facts_of, named_neurons
from snn_energy.profiling.spikes import stacked


class FiringRates:
    """In its block it listens to the neurons of `model`; `take` closes a batch, `rates` is what was heard.

    `sample_first`: neurons that put out (B, T, …) without saying so (`spikes.sample_first`).
    """

    def __init__(self, model: nn.Module, sample_first: set[str]) -> None:
        found = named_neurons(model)
        self.facts = {path: facts for path, m in found.items() if (facts := facts_of(m)) is not None}
        self.modules, self.sample_first = found, sample_first
        self.calls: dict[str, list[tuple[torch.Tensor, int]]] = {}
        self.fired: dict[str, torch.Tensor] = {}
        self.could: dict[str, torch.Tensor] = {}
        self.steps: int | None = None
        self.untold: dict[str, str] = {}  # neurons whose rates cannot be told, and why
        self.handles: list[Any] = []

    def __enter__(self) -> FiringRates:
        self.handles = [m.register_forward_hook(self._hook(path)) for path, m in self.modules.items()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self.handles:
            handle.remove()

    def _hook(self, path: str) -> Any:
        facts = self.facts[path]

        def hook(module: nn.Module, args: Any, out: Any) -> None:
            try:
                spikes = spikes_in(out, facts, module, path).detach() != 0
            except ConfigError as error:
                self.untold.setdefault(path, str(error))
                return
            self.calls.setdefault(path, []).append(_condensed(spikes, facts, self.steps))

        return hook

    def begin(self, grid: Layout) -> None:
        """A batch with this layout comes next."""
        self.steps = grid.steps
        self.calls = {}

    def take(self, grid: Layout) -> None:
        """The batch is done."""
        for path, calls in self.calls.items():
            counts, elements = [count for count, _ in calls], calls[0][1]
            for name, found in stacked(path, counts, grid, self.facts[path], path in self.sample_first):
                fired = found.reshape(len(found), -1).sum(1).double().cpu()
                self._add(name, fired, torch.full_like(fired, found[0].numel() * elements))

    def _add(self, name: str, fired: torch.Tensor, could: torch.Tensor) -> None:
        if name not in self.fired:
            self.fired[name], self.could[name] = fired, could
        elif len(self.fired[name]) != len(fired):
            self.untold.setdefault(
                name, f"{len(fired)} steps in one batch, {len(self.fired[name])} in others"
            )
        else:
            self.fired[name] += fired
            self.could[name] += could

    @property
    def rates(self) -> Mapping[str, tuple[float, ...]]:
        """Module path -> share of its neurons that fired, per step; in order of execution."""
        told = {name: fired for name, fired in self.fired.items() if name not in self.untold}
        return {name: tuple((fired / self.could[name]).tolist()) for name, fired in told.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should be told of neurons without rates."""
        if not self.untold:
            return ()
        name, why = next(iter(self.untold.items()))
        return (f"firing rates of {len(self.untold)} neurons cannot be told: {name} ({why})",)


def _condensed(spikes: torch.Tensor, facts: Neuron, steps: int | None) -> tuple[torch.Tensor, int]:
    """Spikes counted over all but the leading axes, which may be samples and time, and over how many each.

    A neuron that says where its time lies has it there afterwards, too.
    """
    known = facts.by_step(spikes, steps)
    if known is not None:  # (T, B, …), put back to where `by_step` will look
        few = known.flatten(2).sum(2) if known.dim() > 2 else known.long()
        elements = known[0, 0].numel() if known.dim() > 2 else 1
        axis = facts.time_axis
        assert isinstance(axis, int)
        if facts.folded:
            few = few.flatten() if axis == 0 else few.transpose(0, 1).flatten()
        else:
            few = few.movedim(0, axis)
        return few, elements
    if spikes.dim() > 2:
        return spikes.flatten(2).sum(2, keepdim=True), spikes[0, 0].numel()
    return spikes.long(), 1
