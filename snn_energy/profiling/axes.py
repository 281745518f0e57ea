"""Where time and samples lie in a network's input: as it was told, else as a pass shows."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.frameworks import Neuron
from snn_energy.models.walk import modules
from snn_energy.profiling.batches import Batch
from snn_energy.profiling.contract import LAYOUTS, Declared, Fact
from snn_energy.profiling.layout import declared_steps
from snn_energy.profiling.neurons import facts_of
from snn_energy.profiling.observe import Observation, steps_by_calls

MULTI_STEP = "multi-step neurons take (T, B, …)"
VOLUMES = (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AvgPool3d)


@dataclass(frozen=True)
class Axes:
    """Axis of samples, axis of time (None: the input has none), T if it is known, and how all that is known.

    `sure`: nothing that a pass shows can change it.
    """

    batch: int
    time: int | None
    fact: Fact
    sure: bool
    steps: int | None = None
    steps_fact: Fact | None = None
    remarks: tuple[str, ...] = ()


def told(model: nn.Module, batch: Batch, declared: Declared) -> Axes:
    """What the user, the labels, the data and the network say.

    Raises `ConfigError` where they contradict each other, `DataError` where labels do not fit the samples.
    """
    x, y = batch.x, batch.labels
    given, own = checked_steps(declared.time_steps), declared_steps(model)
    found = _axes(model, x, y, given or own, declared)
    _check(model, x, y, found, declared)
    if found.time is None:
        return _without_axis(x, found, given, own)
    steps = x.shape[found.time]
    if given not in (None, steps):
        hint = " (batch_dim=0 if that is no time)" if found.time == 0 else ""
        raise ConfigError(
            f"time_steps = {given} contradicts the input {tuple(x.shape)}, which has {steps} steps along "
            f"axis {found.time}{hint}"
        )
    fact = Fact(f"T = {steps}", "declared" if given else "known", "" if given else "the data's")
    differs = own not in (None, steps)
    remark = f"T = {steps} is that of the data; the network declares T = {own}."
    return replace(found, steps=steps, steps_fact=fact, remarks=(remark,) if differs else ())


def own_axes(model: nn.Module) -> tuple[int, int] | None:
    """(axis of time, axis of samples) of a network that says both, as `time_axis` and `batch_axis`.

    Such a network takes all steps in one call and makes them one by one (`models.nir.NirNetwork`).
    """
    time, batch = (getattr(model, name, None) for name in ("time_axis", "batch_axis"))
    return (time, batch) if type(time) is int and type(batch) is int else None


def _agree(own: tuple[int, int], declared: Declared) -> None:
    """Raise `ConfigError` where a user says other axes than a network that says its own."""
    wrong = declared.layout is not None and LAYOUTS[declared.layout] != own
    if wrong or declared.batch_axis not in (None, own[1]):
        what = f"layout = {declared.layout!r}" if wrong else f"batch_dim = {declared.batch_dim}"
        name = next(name for name, axes in LAYOUTS.items() if axes == own)
        raise ConfigError(f"{what} contradicts the network, which takes its input as {name}")


def _axes(model: nn.Module, x: torch.Tensor, y: Any, steps: int | None, declared: Declared) -> Axes:
    own = own_axes(model)
    if own is not None:
        _agree(own, declared)
        return Axes(own[1], own[0], Fact(f"batch axis {own[1]}", "known", "the network's own"), True)
    if declared.layout is not None:
        time, batch = LAYOUTS[declared.layout]
        return Axes(batch, time, Fact(f"batch axis {batch}", "declared", f"layout {declared.layout}"), True)
    if declared.batch_dim is not None:
        time = 0 if declared.batch_dim == 1 else _inner_time(model, x, steps)
        return Axes(declared.batch_dim, time, Fact(f"batch axis {declared.batch_dim}", "declared"), True)
    known = _known(model, x, y, steps)
    if known is not None:
        batch, how = known
        time = 0 if batch == 1 else _inner_time(model, x, steps)
        return Axes(batch, time, Fact(f"batch axis {batch}", "known", how), True)
    return Axes(0, _inner_time(model, x, steps), Fact("batch axis 0", "assumed"), sure=x.dim() < 3)


def _known(model: nn.Module, x: torch.Tensor, y: Any, steps: int | None) -> tuple[int, str] | None:
    """The axis of samples and how it is known, by the network, the labels, T or multi-step neurons."""
    if x.dim() < 3:
        return None
    a, b = x.shape[:2]
    if hasattr(model, "config") and declared_steps(model) is not None:
        return 0, "the network's own"
    if y is not None and a != b and len(y) in (a, b):
        return (0 if a == len(y) else 1), "as long as the labels"
    if steps is not None and steps in (a, b) and a != b and x.dim() >= 5:
        return (1 if a == steps else 0), "the other has T entries"
    multi = [m for m in modules(model) if (f := facts_of(m)) is not None and f.time_axis == 0]
    if multi and x.dim() >= 5:
        return 1, MULTI_STEP  # which `turned` looks after: the network may turn its input round
    return None


def _inner_time(model: nn.Module, x: torch.Tensor, steps: int | None) -> int | None:
    """1 where (B, T, …) can be told by a fifth dimension and a T that is known."""
    frames = x.dim() == 5 and steps is not None and not any(isinstance(m, VOLUMES) for m in modules(model))
    return 1 if frames else None


def _check(model: nn.Module, x: torch.Tensor, y: Any, found: Axes, declared: Declared) -> None:
    shape = tuple(x.shape)
    if found.batch not in (0, 1) or found.batch >= x.dim():
        raise DataError(f"batch_dim = {found.batch}: must be 0 or 1 and a dimension of the input {shape}")
    if found.time is not None and (found.time >= x.dim() or found.time % x.dim() == found.batch):
        raise ConfigError(f"layout = {declared.layout!r} needs more dimensions than the input {shape} has")
    folded = any((f := facts_of(m)) is not None and f.folded for m in modules(model))
    if y is not None and y.shape[0] != x.shape[found.batch] and not (folded and not x.shape[0] % len(y)):
        raise DataError(
            f"{y.shape[0]} labels for {x.shape[found.batch]} samples in an input of shape {shape}"
        )


def _without_axis(x: torch.Tensor, found: Axes, given: int | None, own: int | None) -> Axes:
    if given and own not in (None, given) and not (x.dim() > 2 and given in x.shape[:2]):
        raise ConfigError(f"time_steps = {given} contradicts the network, which declares T = {own}")
    if given or own:
        steps = given or own
        fact = Fact(f"T = {steps}", "declared" if given else "known", "" if given else "the network's own")
        return replace(found, steps=steps, steps_fact=fact)
    return found


def turned(given: tuple[int, int], observed: Observation, neurons: Mapping[str, Neuron | None]) -> str | None:
    """What neurons show that step along the axis that was taken for samples; None where they do not.

    `given`: T and the number of samples looked at; where they are equal nothing can be told.
    """
    for path in observed.neurons:
        facts, shape = neurons.get(path), observed.shapes.get(path, ())
        if facts is None or not isinstance(facts.time_axis, int) or facts.folded or len(shape) < 2:
            continue
        found = shape[facts.time_axis], shape[1 if facts.time_axis == 0 else 0]
        if found == given[::-1] and found != given:
            where = "last" if facts.time_axis == -1 else f"along axis {facts.time_axis}"
            return (
                f"{path or '(model)'!r} puts out {shape} for {given[1]} sample{'s' if given[1] > 1 else ''} "
                f"of {given[0]} steps, and its time lies {where}"
            )
        return None
    return None


def seen(
    axes: Axes,
    x: torch.Tensor,
    observed: Observation | None,
    neurons: Mapping[str, Neuron | None],
    halves: Callable[[int, Observation], bool],
    cut: Callable[[], Observation | None],
) -> Axes:
    """The axes as a pass over the whole batch shows them.

    `halves` compares the batch with its halves, `cut` looks at it with one entry less along axis 1.
    """
    if observed is None or x.dim() < 3:
        return axes
    found = _by_neurons(x, observed, neurons, cut) or _by_output(x, observed) or _by_calls(x, observed)
    if found is None and min(x.shape[:2]) > 1:
        found = _by_halves(axes, observed, halves)
    if found is None:
        return axes
    batch, how = found
    fact = Fact(f"batch axis {batch}", "observed", how)
    axes = replace(axes, batch=batch, fact=fact, sure=True)
    if batch == 0:
        return axes
    steps = x.shape[0]
    if axes.steps not in (None, steps):
        raise ConfigError(
            f"{axes.steps_fact} contradicts the input {tuple(x.shape)}: its samples lie along axis 1 "
            f"({how}), so that axis 0 has {steps} time steps; give layout= if that is wrong"
        )
    return replace(axes, time=0, steps=steps, steps_fact=Fact(f"T = {steps}", "observed", "the data's"))


def _by_neurons(
    x: torch.Tensor,
    observed: Observation,
    neurons: Mapping[str, Neuron | None],
    cut: Callable[[], Observation | None],
) -> tuple[int, str] | None:
    for path in observed.neurons:
        facts, given = neurons.get(path), tuple(x.shape[:2])
        if facts is not None and facts.time_axis in (0, 1) and not facts.folded:
            if observed.shapes.get(path, ())[:2] != given:
                return None
            less = cut() if given[0] == given[1] > 1 else None  # then the network may turn it round
            came = () if less is None else less.shapes.get(path, ())[:2]
            batch = 1 if facts.time_axis == 0 else 0
            if came == (given[1] - 1, given[0]):
                return 1 - batch, f"{path or '(model)'!r} puts it out turned round"
            return batch, f"as {path or '(model)'!r} puts it out"
    return None


def _by_output(x: torch.Tensor, observed: Observation) -> tuple[int, str] | None:
    out, (a, b) = observed.output, x.shape[:2]
    if out is None or a == b or {a, b} <= set(out.shape[:2]):
        return None
    if out.shape[0] in (a, b):
        return (0 if out.shape[0] == a else 1), "as long as the output"
    return None


def _by_calls(x: torch.Tensor, observed: Observation) -> tuple[int, str] | None:
    steps, _ = steps_by_calls(observed)
    if steps == 1 or not observed.layers:
        return None
    first = observed.shapes.get(next(iter(observed.layers)), (0,))
    claims = [axis for axis in (0, 1) if x.shape[axis] == steps and first[:1] == (x.shape[1 - axis],)]
    if len(claims) == 1:
        return 1 - claims[0], f"the network makes {steps} steps, as many as axis {claims[0]} has entries"
    return None


def _by_halves(
    axes: Axes, observed: Observation, halves: Callable[[int, Observation], bool]
) -> tuple[int, str] | None:
    independent = [axis for axis in (0, 1) if halves(axis, observed)]
    if len(independent) == 1:
        return independent[0], "its halves come to the same as the whole"
    return None


def hint(axes: Axes, x: torch.Tensor) -> str:
    """What may be wrong with an input that a network refuses."""
    if x.dim() >= 3 and axes.fact.source != "declared":
        return f"input {tuple(x.shape)}: if it has an axis of time, say which: layout='TB' or 'BT' (--layout)"
    return f"input {tuple(x.shape)}, {axes.fact}"


def checked_steps(time_steps: Any) -> int | None:
    """`time_steps` as an int ≥ 1, or None.  Raises `ConfigError` for anything else."""
    if time_steps is None:
        return None
    try:
        steps = 0 if isinstance(time_steps, bool) else operator.index(time_steps)
    except TypeError:
        steps = 0
    if steps < 1:
        raise ConfigError(f"time_steps = {time_steps!r}: must be a whole number of at least 1")
    return steps
