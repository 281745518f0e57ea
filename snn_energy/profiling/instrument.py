"""Instrumenting a model: module hooks say *where* work is done, the watch says *what*.

Neurons are single operations; what they call inside is not looked at.  Hooks are gone afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from snn_energy.errors import ConfigError
from snn_energy.profiling.call import Rule, tensors_in
from snn_energy.profiling.measure import read_spikes
from snn_energy.profiling.neurons import is_neuron, state_elements, update_of
from snn_energy.profiling.provenance import COUNTED, SAMPLE_MAJOR, TIME_MAJOR, Measured, Tag
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.rules import rules_with
from snn_energy.profiling.tally import Reading
from snn_energy.profiling.watch import Watch


@contextlib.contextmanager
def instrumented(
    model: nn.Module, recorder: Recorder, rules: Mapping[str, Rule] | None = None
) -> Iterator[TorchFunctionMode]:
    """Hooks, in place for the block and gone after it, whatever happens inside.

    Yields the mode; what runs inside `with mode:` is counted.
    """
    watch = Watch(recorder, rules_with(rules))
    handles = []
    neurons = {m for m in model.modules() if is_neuron(m)}
    hidden = {child for m in neurons for child in m.modules() if child is not m}
    try:
        for name, module in model.named_modules():
            if module in hidden or isinstance(module, torch.jit.ScriptModule):
                continue  # what a scripted module makes is seen, as unseen, where it comes out
            enter, leave = (_enter_neuron, _leave_neuron) if module in neurons else (_enter, _leave)
            handles.append(module.register_forward_pre_hook(enter(watch, name)))
            handles.append(module.register_forward_hook(leave(watch), always_call=True))
        yield watch
    finally:
        for handle in handles:
            handle.remove()
        recorder.constants.leave(model)
        recorder.paths[:] = [""]


def _enter(watch: Watch, name: str) -> Any:
    def hook(module: nn.Module, args: Any) -> None:
        watch.recorder.paths.append(name)
        watch.recorder.called.add(name)

    return hook


def _leave(watch: Watch) -> Any:
    def hook(module: nn.Module, args: Any, out: Any) -> None:
        try:
            watch.recorder.look_at(out)
        finally:
            watch.recorder.paths.pop()

    return hook


def _enter_neuron(watch: Watch, name: str) -> Any:
    def hook(module: nn.Module, args: Any) -> None:
        watch.recorder.paths.append(name)
        watch.recorder.called.add(name)
        guard = torch._C.DisableTorchFunction()
        guard.__enter__()
        watch.aside.append(guard)

    return hook


def _leave_neuron(watch: Watch) -> Any:
    def hook(module: nn.Module, args: Any, out: Any) -> None:
        try:
            if out is not None:  # None: the neuron raised
                neuron(watch.recorder, module, args, out)
        finally:
            watch.aside.pop().__exit__(None, None, None)
            watch.recorder.paths.pop()

    return hook


def neuron(rec: Recorder, module: nn.Module, args: Any, out: Any) -> None:
    """Count one call of a neuron: its updates, its spikes per step and sample."""
    inputs = list(tensors_in(args))
    spikes = out if isinstance(out, torch.Tensor) else next(tensors_in((out,)), None)
    if spikes is None:
        where = f"neuron {rec.paths[-1]!r}: {type(module).__name__} returned {type(out).__name__}"
        raise ConfigError(f"{where}; must return its spikes, or a tuple that begins with them")
    tags = [tag for tag in map(rec.tag, inputs) if tag is not None]
    order = _steps_in(rec, module, spikes, max((tag.order for tag in tags), default=TIME_MAJOR))
    if order == TIME_MAJOR and rec.layout.steps is None:
        rec.layout.observe(spikes.shape)
        rec.settled.clear()
    name, update = rec.paths[-1], update_of(module, rec.layout.steps or 1)
    rec.enter(None)
    tally = rec.tally(update.op)
    measured = Measured(spikes, min(1 if order is None else 2, spikes.dim()), rec.epoch)
    values, measured.maps, measured.rows = read_spikes(spikes, measured.lead, update.graded)
    tally.out = values if tally.out is None else tally.out.join(values)
    lead = tuple(spikes.shape[: measured.lead])
    tally.read("output", Reading(lead, measured.rows, order=order or TIME_MAJOR))
    elements = spikes.numel()
    steps = 1 if order is None else spikes.shape[1 if order == SAMPLE_MAJOR else 0]
    if not tally.fixed:
        inner = tuple(spikes.shape[measured.lead :])
        tally.fixed = {
            "decided_as": "as counted",
            "input_shape": inner,
            "output_shape": inner,
            "note": update.note,
            "state_elements": state_elements(module) * elements // max(1, rec.layout.batch * steps),
        }
    tally.add(
        input_elements=sum(x.numel() for x in inputs[:1]),
        output_elements=elements,
        neuron_mul=update.multiplies * elements,
        neuron_add=update.adds * elements,
        neuron_cmp=update.compares * elements,
    )
    for tag in tags:
        for driver in tag.drivers:
            driver.feeds[name] = None
    rec.mark(out, Tag(rec.epoch, (name,), order=order or TIME_MAJOR))
    rec.mark(spikes, Tag(rec.epoch, (name,), values=values, order=order or TIME_MAJOR))
    spikes.__dict__[COUNTED] = measured


def _steps_in(rec: Recorder, module: nn.Module, spikes: torch.Tensor, order: int) -> int | None:
    """How time lies in a neuron's tensors, None for those of one step: as it says itself, else by shape."""
    mode, shape, layout = getattr(module, "step_mode", None), tuple(spikes.shape), rec.layout
    if mode is not None or type(module).__name__.endswith("PSN"):
        return TIME_MAJOR if len(shape) > 1 and mode != "s" else None
    if not layout.steps_in_tensors or len(shape) <= 2:
        return None
    if order == SAMPLE_MAJOR and shape[:2] == (layout.batch, layout.steps):
        return SAMPLE_MAJOR
    return TIME_MAJOR if shape[:2] == (layout.steps, layout.batch) else None
