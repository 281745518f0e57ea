"""Watching a model run: module hooks say *where*, one `TorchFunctionMode` says *what*.

Nothing that the model computes is touched: every function is called with the arguments it was given, and
its result is returned as it is.  Neurons are single operations; what they call inside is not looked at.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from snn_energy.profiling.measure import read_spikes
from snn_energy.profiling.neurons import is_neuron, state_elements, update_of
from snn_energy.profiling.provenance import Measured, Tag
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.rules import ASIDE, RULES, tensors_in


class _Watch(TorchFunctionMode):
    """Sends every torch function that touches activations to its rule."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.aside: list[Any] = []  # guards that keep torch functions inside neurons from coming here

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rec, name = self.recorder, getattr(func, "__name__", None) or str(func)
        if name == "__get__":
            out = func(*args, **kwargs)
            if isinstance(out, torch.Tensor):
                rec.mark(out, rec.tag(args[0]) or Tag(rec.epoch, constant=True))
            return out
        name = name.strip("_")
        if name in ASIDE:
            return func(*args, **kwargs)
        rec.frame = sys._getframe(1)
        try:
            if not rec.live(args, kwargs):
                out = func(*args, **kwargs)
                rec.mark(out, Tag(rec.epoch, constant=True))
                return out
            handler = RULES.get(name)
            if handler is not None:
                return handler(rec, func, args, kwargs)
            out = func(*args, **kwargs)
            rec.uncounted(name, out)
            return out
        finally:
            rec.frame = None


@contextlib.contextmanager
def instrumented(model: nn.Module, recorder: Recorder) -> Iterator[TorchFunctionMode]:
    """Hooks, in place for the block and gone after it, whatever happens inside.

    Yields the mode; what runs inside `with mode:` is counted.
    """
    watch = _Watch(recorder)
    handles = []
    neurons = {m for m in model.modules() if is_neuron(m)}
    hidden = {child for m in neurons for child in m.modules() if child is not m}
    try:
        for name, module in model.named_modules():
            if module in hidden:
                continue
            enter, leave = (_enter_neuron, _leave_neuron) if module in neurons else (_enter, _leave)
            handles.append(module.register_forward_pre_hook(enter(watch, name)))
            handles.append(module.register_forward_hook(leave(watch), always_call=True))
        yield watch
    finally:
        for handle in handles:
            handle.remove()
        recorder.paths[:] = [""]
        recorder.frame = None


def _enter(watch: _Watch, name: str) -> Any:
    def hook(module: nn.Module, args: Any) -> None:
        watch.recorder.paths.append(name)
        watch.recorder.called.add(name)

    return hook


def _leave(watch: _Watch) -> Any:
    def hook(module: nn.Module, args: Any, out: Any) -> None:
        watch.recorder.paths.pop()

    return hook


def _enter_neuron(watch: _Watch, name: str) -> Any:
    def hook(module: nn.Module, args: Any) -> None:
        watch.recorder.paths.append(name)
        watch.recorder.called.add(name)
        guard = torch._C.DisableTorchFunction()
        guard.__enter__()
        watch.aside.append(guard)

    return hook


def _leave_neuron(watch: _Watch) -> Any:
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
    inputs = tensors_in(args, {})
    spikes = out if isinstance(out, torch.Tensor) else tensors_in((out,), {})[0]
    name, steps_in = rec.paths[-1], _steps_in(rec, module, spikes)
    if steps_in:
        rec.layout.observe(spikes.shape)
    update = update_of(module, rec.layout.steps or 1)
    tally = rec.tally(update.op)
    measured = Measured(spikes, min(2 if steps_in else 1, spikes.dim()))
    values, measured.maps, measured.rows = read_spikes(spikes, measured.lead, update.graded)
    tally.out = values if tally.out is None else tally.out.join(values)
    shape = tuple(spikes.shape[: measured.lead])
    tally.read("output", shape, measured.rows)
    elements = spikes.numel()
    per_step = rec.layout.batch * (spikes.shape[0] if steps_in else 1)
    if not tally.fixed:
        inner = tuple(spikes.shape[measured.lead :])
        states = state_elements(module) * elements // per_step
        tally.fixed = {
            "input_shape": inner,
            "output_shape": inner,
            "note": update.note,
            "state_elements": states,
        }
    tally.add(
        input_elements=sum(x.numel() for x in inputs[:1]),
        output_elements=elements,
        neuron_mul=update.multiplies * elements,
        neuron_add=update.adds * elements,
        neuron_cmp=update.compares * elements,
    )
    for x in inputs:
        tag = rec.tag(x)
        for driver in tag.drivers if tag is not None else ():
            driver.feeds[name] = None
    rec.mark(out, Tag(rec.epoch, sources=(name,)))
    rec.mark(spikes, Tag(rec.epoch, sources=(name,), values=values, measured=measured))


def _steps_in(rec: Recorder, module: nn.Module, spikes: torch.Tensor) -> bool:
    """Whether a neuron's tensors are (T, B, …): as it says itself, else as their shape says."""
    mode, shape = getattr(module, "step_mode", None), tuple(spikes.shape)
    if mode is not None or type(module).__name__.endswith("PSN"):
        return len(shape) > 1 and mode != "s"
    return (
        rec.layout.steps_in_tensors and len(shape) > 2 and shape[:2] == (rec.layout.steps, rec.layout.batch)
    )
