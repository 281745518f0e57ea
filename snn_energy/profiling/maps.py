"""What a network looks at: spike maps and Grad-CAM of every spiking layer, on a few samples.

Spike map: the share of a layer's channels and steps that fire at each position.  Grad-CAM (Selvaraju et al.,
ICCV 2017, arXiv:1610.02391) for the class that the network predicts: its score is differentiated with respect
to a layer's spikes, through surrogate gradients; channels are weighted by the mean of that over positions
and steps, summed, and what speaks for the class is kept.  STAA-SNN (CVPR 2025) shows both in its Fig. 4.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from snn_energy.models.walk import device_of
from snn_energy.profiling.axes import checked_steps
from snn_energy.profiling.batches import Turns, read_batches
from snn_energy.profiling.contract import Declared
from snn_energy.profiling.instrument import spikes_in
from snn_energy.profiling.labels import class_scores
from snn_energy.profiling.neurons import facts_of, named_neurons, resting
from snn_energy.profiling.settle import settle
from snn_energy.profiling.spikes import sample_first_neurons, stacked


@dataclass(frozen=True)
class LayerMap:
    """One spiking layer on one sample, (H, W): share that fires, and Grad-CAM scaled to at most 1.

    `cam` is None where no gradient reaches the layer.
    """

    name: str
    spikes: np.ndarray
    cam: np.ndarray | None


@dataclass(frozen=True)
class SampleMaps:
    """The maps of one sample: `image` (H, W) or (H, W, 3) in 0 … 1, None where it is no image; classes."""

    image: np.ndarray | None
    predicted: int
    label: int | None
    layers: tuple[LayerMap, ...]


def sample_maps(
    model: nn.Module,
    x: Any,
    y: Any = None,
    *,
    time_steps: int | None = None,
    batch_dim: int | None = None,
    layout: str | None = None,
    output: str | None = None,
    neurons: Mapping[Any, Any] | None = None,
    check: bool = False,
) -> tuple[SampleMaps, ...]:
    """The maps of each sample of one batch.  `x` and the options are those of `profile`.

    Layers whose spikes are no maps (C, H, W) are left out.  The model is left as it was.  Raises what
    `profile` raises for a network or a batch that cannot be run, `DataError` for one without class scores.
    """
    declared = Declared(layout, batch_dim, checked_steps(time_steps), output, neurons or {}, check)
    place = device_of(model)
    inputs = (x,) if isinstance(x, (tuple, list)) else x
    given = next(read_batches([inputs if y is None else (x, y)], model))
    labels = (
        None if given.labels is None else given.labels.argmax(1) if given.labels.dim() == 2 else given.labels
    )
    batch = given.mapped(lambda x: x.detach().to(place))
    with resting(model, declared.neurons) as rest:
        contract = settle(rest, batch, declared)
        found = named_neurons(model)
        facts = {path: fact for path, module in found.items() if (fact := facts_of(module)) is not None}
        first = sample_first_neurons(rest, contract, batch, facts)
        rest.fresh()
        recorded: dict[str, list[torch.Tensor]] = {}
        with torch.enable_grad(), _surrogates(found.values()), _recording(found, facts, recorded):
            live = batch.mapped(lambda x: x.clone().requires_grad_() if x.is_floating_point() else x)
            outs = list(map(Turns(model), contract.runs(live)))
            grid = contract.layout_of(batch)
            scores = class_scores(outs, grid, output)
            best = scores.detach().argmax(1)
            gradients = _gradients(scores.gather(1, best[:, None]).sum(), recorded)
        maps: list[list[LayerMap]] = [[] for _ in range(grid.batch)]
        for path, calls in recorded.items():
            spikes = stacked(path, [t.detach() for t in calls], grid, facts[path], path in first)
            slopes = stacked(path, gradients[path], grid, facts[path], path in first)
            for (name, fired), (_, slope) in zip(spikes, slopes, strict=True):
                if fired.dim() == 5 and fired.shape[1] == grid.batch:
                    for b in range(grid.batch):
                        maps[b].append(_layer(name, fired[:, b], slope[:, b]))
    shown = _images(batch.x, contract.batch_axis)
    return tuple(
        SampleMaps(shown[b], int(best[b]), None if labels is None else int(labels[b]), tuple(maps[b]))
        for b in range(grid.batch)
    )


@contextlib.contextmanager
def _surrogates(neurons: Any) -> Iterator[None]:
    """Neurons in the mode in which they have gradients; all else stays in evaluation mode."""
    modes = [(module, module.training) for module in neurons]
    try:
        for module, _ in modes:
            module.training = True
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def _recording(
    found: Mapping[str, nn.Module], facts: Any, recorded: dict[str, list[torch.Tensor]]
) -> Iterator[None]:
    """Keep what neurons put out."""

    def keep(path: str) -> Any:
        def hook(module: nn.Module, _: Any, out: Any) -> None:
            spikes = spikes_in(out, facts[path], module, path)
            recorded.setdefault(path, []).append(spikes)

        return hook

    handles = [found[path].register_forward_hook(keep(path)) for path in facts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gradients(
    score: torch.Tensor, recorded: Mapping[str, list[torch.Tensor]]
) -> dict[str, list[torch.Tensor]]:
    """d score / d spikes of every call, NaN where no gradient reaches; parameters get none."""
    every = [spikes for calls in recorded.values() for spikes in calls]
    live = [spikes for spikes in every if spikes.requires_grad]
    known = torch.autograd.grad(score, live, allow_unused=True) if live and score.requires_grad else ()
    found = {id(spikes): slope for spikes, slope in zip(live, known, strict=False) if slope is not None}
    return {
        path: [found.get(id(spikes), torch.full_like(spikes, torch.nan)) for spikes in calls]
        for path, calls in recorded.items()
    }


def _layer(name: str, spikes: torch.Tensor, slope: torch.Tensor) -> LayerMap:
    """(T, C, H, W) spikes and gradients of one sample."""
    fired = (spikes != 0).double().mean((0, 1)).cpu().numpy()
    if bool(slope.isnan().all()):
        return LayerMap(name, fired, None)
    weights = slope.double().mean((0, 2, 3))
    cam = (weights[:, None, None] * spikes.double().mean(0)).sum(0).clamp_min(0)
    top = float(cam.max())
    return LayerMap(name, fired, (cam / top if top > 0 else cam).cpu().numpy())


def _images(x: torch.Tensor, axis: int) -> list[np.ndarray | None]:
    """Each sample as a picture: channels summed unless three, steps of event data summed."""
    found: list[np.ndarray | None] = []
    for sample in x.detach().movedim(axis, 0).double().cpu():
        while sample.dim() > 3:
            sample = sample.sum(0)
        if sample.dim() != 3:
            found.append(None)
            continue
        picture = sample.movedim(0, -1) if sample.shape[0] == 3 else sample.sum(0)
        low, high = float(picture.min()), float(picture.max())
        found.append(((picture - low) / ((high - low) or 1.0)).numpy())
    return found
