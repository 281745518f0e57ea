"""`profile` and `record_spikes`: run a model over samples and hand back what was measured."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from snn_energy.errors import ConfigError, DataError, UncountedError
from snn_energy.models.at_rest import Rest, at_rest
from snn_energy.models.walk import device_of
from snn_energy.profiling import layout as layouts
from snn_energy.profiling import sanity
from snn_energy.profiling.call import Rule
from snn_energy.profiling.instrument import instrumented
from snn_energy.profiling.kinds import COUNTS, ValueSet
from snn_energy.profiling.labels import count_correct, read_labels
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.neurons import named_neurons, reset_registered
from snn_energy.profiling.profile import Profile
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.summary import summary

INPUT_KINDS = ("", "events")


def profile(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    strict: bool = False,
    time_steps: int | None = None,
    batch_dim: int | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[int], None] | None = None,
    max_samples: int | None = None,
    allow_nonfinite: bool = False,
    data: str = "",
    class_names: Iterable[str] = (),
    rules: Mapping[str, Rule] | None = None,
    input_kind: str = "",
) -> Profile:
    """Count every operation of `model` over `batches`, exactly, under the definitions of docs/counting.md.

    `batches` yields x or (x, y): x is (B, …), (B, T, …) or, for SpikingJelly's multi-step networks,
    (T, B, …); y holds B class indices (or probabilities: see `labels.read_labels`) and gives the accuracy.
    Batches of no samples are skipped.  `batch_dim` (0 or 1) settles what the shape
    leaves open, `time_steps` the T of a model that does not state it.  A network in single-step mode that
    does not loop over time itself is run `time_steps` times.  `max_samples` stops early; `progress` is called
    with the samples done.  `input_kind="events"` declares the input to be event counts of any size (by their
    values alone, whole numbers above 15 are real).  `rules` adds or replaces counting rules by function name:
    docs/extending.md.  The model runs in evaluation mode without gradients, with fresh neurons for every
    batch; its mode and neuron state are put back afterwards, even after an exception.

    Raises `UncountedError` when `strict` and some operation has no counting rule, `ConfigError` for
    `time_steps` that contradict the network or the data, and `DataError` for batches that cannot be used and
    for NaN or infinity in weights, input, output or the state of neurons, unless `allow_nonfinite`: then the
    profile's `notes` say what was found where.
    """
    guard = sanity.Guard(model, time_steps, allow_nonfinite)
    guard.pixels.possible = input_kind != "events"
    recorder = Recorder(model, named_neurons(model).values())
    steps = guard.given or guard.declared
    samples, correct = 0, 0
    labelled = True
    place = _device(model, device)
    with (
        at_rest(model, place, resets=reset_registered) as rest,
        guard.watching(lambda *batch: (rest.fresh(), _run(*batch))),
        instrumented(model, recorder, rules) as watch,
    ):
        for number, (x, y) in enumerate(_pairs(batches), 1):
            if not x.numel():
                continue
            if max_samples is not None and samples >= max_samples:
                break
            x, y = x.detach().to(place), read_labels(y, number, place)
            layout = layouts.infer(model, x, y, steps, batch_dim)
            steps = guard.steps(x, layout, steps)
            x, y = _limit(x, y, layout, None if max_samples is None else max_samples - samples)
            guard.before(x, layout, number)
            values = _declared(x, input_kind, number)
            out, steps = _forward(rest, x, layout, recorder, watch, steps, values)
            if guard.after(out, suspected=recorder.swallowed):
                break
            if strict:
                _refuse(recorder)
            samples += layout.batch
            labelled = labelled and y is not None
            correct += count_correct(out, y, layout.batch, number) if y is not None else 0
            if progress is not None:
                progress(samples)
    if not samples:
        raise DataError("no samples to profile: the batches are empty")
    return summary(
        model,
        recorder,
        steps or 1,
        samples=samples,
        correct=correct if labelled else None,
        data=data,
        class_names=tuple(class_names),
        notes=guard.notes,
    )


def record_spikes(
    model: nn.Module, x: torch.Tensor, *, time_steps: int | None = None, batch_dim: int | None = None
) -> dict[str, torch.Tensor]:
    """The spikes of every neuron on one batch: module path -> bool tensor (T, B, …), true where nonzero.

    A neuron layer that is called several times per step gets `path`, `path#1`, … in order of execution.
    """
    recorded: dict[str, list[torch.Tensor]] = {}
    handles = []
    steps = time_steps or layouts.declared_steps(model)
    layout = layouts.infer(model, x, None, steps, batch_dim)

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            spikes = out if isinstance(out, torch.Tensor) else out[0]
            recorded.setdefault(name, []).append(spikes.detach() != 0)

        return hook

    try:
        for name, module in named_neurons(model).items():
            handles.append(module.register_forward_hook(keep(name)))
        with at_rest(model, resets=reset_registered) as rest:
            rest.fresh()
            _run(model, x.to(device_of(model)), layout)
    finally:
        for handle in handles:
            handle.remove()
    return dict(item for name, calls in recorded.items() for item in _stacked(name, calls, layout))


def _stacked(name: str, calls: list[torch.Tensor], layout: Layout) -> Iterator[tuple[str, torch.Tensor]]:
    """Single-step calls become one (T, B, …) tensor; repeated multi-step calls stay apart."""
    looped = not layout.steps_in_tensors
    if layout.steps is not None and layout.steps > 1:  # of neurons that do not say how time lies in tensors
        looped |= not len(calls) % layout.steps and calls[0].shape[:2] != (layout.steps, layout.batch)
    single = calls[0].shape[:1] == (layout.batch,) and looped
    if single:
        steps = layout.steps or len(calls)
        repeats = max(1, len(calls) // steps)
        groups = [torch.stack(calls[i::repeats]) for i in range(repeats)]
    else:
        groups = calls
    for i, spikes in enumerate(groups):
        yield (name if i == 0 else f"{name}#{i}"), spikes


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """No search for circles of garbage while a pass runs: it leaves none, and the search is long."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _declared(x: torch.Tensor, kind: str, number: int) -> ValueSet | None:
    """What the user states of the input's values.  Raises `ConfigError`; `DataError` where they deny it."""
    if kind not in INPUT_KINDS:
        raise ConfigError(f"input_kind = {kind!r}: must be one of {', '.join(map(repr, INPUT_KINDS))}")
    if not kind:
        return None
    odd = x[x != x.round()] if x.is_floating_point() else x[:0]
    if odd.numel():
        raise DataError(
            f"batch {number}: input_kind = 'events' declares event counts, which are whole numbers; "
            f"the input holds {float(odd.flatten()[0]):g}"
        )
    return COUNTS


def _forward(
    rest: Rest,
    x: torch.Tensor,
    layout: Layout,
    recorder: Recorder,
    watch: Any,
    steps: int | None,
    values: ValueSet | None,
) -> tuple[Any, int | None]:
    """One watched forward pass from fresh neurons; returns its output and T."""
    rest.fresh()  # before the pass: what it writes is no work of the network
    recorder.begin(layout)
    order = layout.input_order(x.shape)
    recorder.give(x, Tag(recorder.epoch, ("input",), values=values, still=True, order=order))
    with watch, no_collection():
        outs = _run(rest.model, x, layout)
    recorder.look_at(outs)
    recorder.flush()
    if steps is not None and layout.steps != steps:
        raise DataError(f"batches of {steps} and of {layout.steps} time steps cannot be profiled together")
    return outs[0] if len(outs) == 1 else sum(outs[1:], outs[0]) / len(outs), layout.steps


def _run(model: nn.Module, x: torch.Tensor, layout: Layout) -> list[Any]:
    """Call once, or once per step where the network itself knows nothing of time."""
    if layout.steps_in_tensors or layout.steps is None or layouts.declared_steps(model) is not None:
        return [model(x)]
    return [model(x[t] if layout.time_first else x) for t in range(layout.steps)]


def _pairs(batches: Iterable[Any]) -> Iterator[tuple[torch.Tensor, Any]]:
    for batch in batches:
        x, y = (
            (batch[0], batch[1] if len(batch) > 1 else None)
            if isinstance(batch, (tuple, list)) and batch
            else (batch, None)
        )
        if not isinstance(x, torch.Tensor) or not x.dim():
            raise DataError(
                f"a batch holds {type(x).__name__}; expected a tensor, or a pair of tensor and labels"
            )
        yield x, y


def _limit(x: torch.Tensor, y: Any, layout: Layout, left: int | None) -> tuple[torch.Tensor, Any]:
    """Cut the last batch where `max_samples` falls inside it."""
    if left is not None and left < layout.batch:
        x, y = x.narrow(1 if layout.time_first else 0, 0, left), None if y is None else y[:left]
        layout.batch = left
    return x, y


def _refuse(recorder: Recorder) -> None:
    missing = [
        f"{t.name or '(model)'}: {t.fixed['note']}" for t in recorder.tallies.values() if t.op == "uncounted"
    ]
    if missing:
        raise UncountedError(
            f"no counting rule for {'; '.join(missing)}; without strict they are listed as uncounted"
        )


def _device(model: nn.Module, device: str | torch.device | None) -> torch.device:
    if device is not None:
        return torch.device(device)
    return device_of(model)
