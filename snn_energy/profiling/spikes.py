"""`record_spikes`: every neuron's spikes on one batch, time first whatever the network's own order."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from snn_energy.frameworks import Neuron
from snn_energy.models.at_rest import Rest
from snn_energy.models.walk import device_of
from snn_energy.profiling.axes import checked_steps
from snn_energy.profiling.batches import Batch, Turns, read_batches
from snn_energy.profiling.contract import Contract, Declared
from snn_energy.profiling.instrument import spikes_in
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.neurons import facts_of, named_neurons, resting
from snn_energy.profiling.observe import observe, same_chance
from snn_energy.profiling.settle import settle


def record_spikes(
    model: nn.Module,
    x: Any,
    *,
    time_steps: int | None = None,
    batch_dim: int | None = None,
    layout: str | None = None,
    neurons: Mapping[Any, Any] | None = None,
) -> dict[str, torch.Tensor]:
    """The spikes of every neuron on one batch: module path -> bool tensor (T, B, …), true where nonzero.

    `x` and the options are those of `profile`.  A neuron that runs several times per step gets `path`,
    `path#1`, … in order of execution; calls that cannot be told apart by steps are a tensor each.
    """
    declared = Declared(layout, batch_dim, checked_steps(time_steps), neurons=neurons or {}, check=False)
    place = device_of(model)
    inputs = (x,) if isinstance(x, (tuple, list)) else x
    batch = next(read_batches([inputs], model)).mapped(lambda x: x.detach().to(place))
    recorded: dict[str, list[torch.Tensor]] = {}
    with resting(model, declared.neurons) as rest:
        contract = settle(rest, batch, declared)
        found = named_neurons(model)
        facts = {path: facts for path, module in found.items() if (facts := facts_of(module)) is not None}
        sample_first = sample_first_neurons(rest, contract, batch, facts)
        handles = [
            module.register_forward_hook(_keep(recorded, path, facts[path])) for path, module in found.items()
        ]
        try:
            rest.fresh()
            for _ in map(Turns(model), contract.runs(batch)):
                pass
        finally:
            for handle in handles:
                handle.remove()
    grid = contract.layout_of(batch)
    return dict(
        item
        for path, calls in recorded.items()
        for item in stacked(path, calls, grid, facts[path], path in sample_first)
    )


def sample_first_neurons(
    rest: Rest, contract: Contract, batch: Batch, facts: Mapping[str, Neuron]
) -> set[str]:
    """Neurons that put out (B, T, …), of those that do not say: as many samples as steps hide it, one less
    shows it."""
    samples, steps = contract.layout_of(batch).batch, contract.steps
    silent = [path for path, one in facts.items() if one.time_axis == "by shape"]
    if samples != steps or samples == 1 or contract.calls > 1 or not silent:
        return set()
    less = batch.part(0, samples - 1, contract.batch_axis)
    rest.fresh()
    try:
        with same_chance():
            seen = observe(
                rest.model, [functools.partial(Turns(rest.model), less.mapped(torch.clone).inputs)]
            )
    except Exception:  # it may know only batches of one size
        return set(silent) if contract.time_axis == 1 else set()
    return {path for path in silent if seen.shapes.get(path, ())[:2] == (samples - 1, steps)}


def _keep(recorded: dict[str, list[torch.Tensor]], path: str, facts: Neuron) -> Any:
    def hook(module: nn.Module, args: Any, out: Any) -> None:
        spikes = spikes_in(out, facts, module, path)
        recorded.setdefault(path, []).append(spikes.detach() != 0)

    return hook


def stacked(
    path: str, calls: list[torch.Tensor], layout: Layout, facts: Neuron, sample_first: bool
) -> Iterator[tuple[str, torch.Tensor]]:
    """What a neuron put out in its calls, as (T, B, …) by path.

    Calls of one step each become one (T, B, …) tensor; calls of all steps stay apart, time first."""
    steps = layout.steps or 1
    if _one_step(calls, layout, facts) and not len(calls) % steps:
        repeats = len(calls) // steps
        groups = [torch.stack(calls[i::repeats]) for i in range(repeats)]
    else:
        groups = [_time_first(spikes, layout, facts, sample_first) for spikes in calls]
    for i, spikes in enumerate(groups):
        yield (path if i == 0 else f"{path}#{i}"), spikes


def _one_step(calls: list[torch.Tensor], layout: Layout, facts: Neuron) -> bool:
    if facts.time_axis is None:
        return True
    if isinstance(facts.time_axis, int):
        return False
    shape, steps = calls[0].shape, layout.steps or 1
    if shape[:1] != (layout.batch,):
        return False
    looped = not layout.steps_in_tensors
    if steps > 1:  # of neurons that do not say how time lies in tensors
        looped |= not len(calls) % steps and shape[:2] != (steps, layout.batch)
    return looped


def _time_first(spikes: torch.Tensor, layout: Layout, facts: Neuron, sample_first: bool) -> torch.Tensor:
    known = facts.by_step(spikes, layout.steps)
    if known is not None:
        return known
    if layout.batch != layout.steps:
        sample_first = spikes.shape[:2] == (layout.batch, layout.steps)
    return spikes.transpose(0, 1) if sample_first and spikes.dim() > 2 else spikes
