"""Instrumenting a model: module hooks say *where* work is done, the watch says *what*.

Neurons are single operations; what they call inside is not looked at, but for products with weights: a
recurrent layer in a neuron is a layer.  Hooks are gone afterwards.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from snn_energy.errors import ConfigError
from snn_energy.frameworks import Neuron
from snn_energy.models.walk import named_modules
from snn_energy.profiling.call import Rule, tensors_in
from snn_energy.profiling.kinds import COUNTS
from snn_energy.profiling.measure import read_spikes
from snn_energy.profiling.neurons import facts_of, named_neurons, state_elements
from snn_energy.profiling.provenance import COUNTED, SAMPLE_MAJOR, SAMPLES_ALONE, TIME_MAJOR, Measured, Tag
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
    neurons = {module: facts_of(module) for module in named_neurons(model).values()}
    inside = {m: [c for _, c in named_modules(m) if c is not m] for m in neurons}
    visible = {m for m, facts in neurons.items() if facts is not None and facts.synapses == "in layers"}
    hidden = {child for m in neurons if m not in visible for child in inside[m]}
    layers = {
        child: facts
        for m, facts in neurons.items()
        if facts and m in visible
        for child in m._modules.values()
    }
    try:
        for name, module in named_modules(model):
            if module in hidden or isinstance(module, torch.jit.ScriptModule):
                continue  # what a scripted module makes is seen, as unseen, where it comes out
            facts = neurons.get(module)
            if facts is not None:
                enter, leave = _enter_neuron(watch, name, facts), _leave_neuron(watch, facts)
            elif module in layers:
                enter, leave = _enter_layer(watch, name, layers[module]), _leave_layer(watch)
            else:
                enter, leave = _enter(watch, name), _leave(watch)
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave, always_call=True))
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


def _enter_layer(watch: Watch, name: str, facts: Neuron) -> Any:
    """A layer in a neuron: what it is given was made there."""
    enter = _enter(watch, name)

    def hook(module: nn.Module, args: Any) -> None:
        enter(module, args)
        watch.recorder.adopt(args, state=True)
        for x in tensors_in(args) if facts.counts else ():
            if bool((x == x.round()).all()):
                watch.recorder.mark(x, watch.recorder.plain.but(values=COUNTS))
        watch.within.append("all")

    return hook


def _leave_layer(watch: Watch) -> Any:
    def hook(module: nn.Module, args: Any, out: Any) -> None:
        watch.within.pop()
        watch.recorder.adopt((out,))
        watch.recorder.paths.pop()

    return hook


def _enter_neuron(watch: Watch, name: str, facts: Neuron) -> Any:
    seen = {"in layers": "nothing", "in forward": "products"}

    def hook(module: nn.Module, args: Any) -> None:
        watch.recorder.paths.append(name)
        watch.recorder.called.add(name)
        if facts.synapses is None:
            _put_aside(watch)
        else:
            watch.within.append(seen[facts.synapses])

    return hook


def _put_aside(watch: Watch) -> None:
    guard = torch._C.DisableTorchFunction()
    guard.__enter__()
    watch.aside.append(guard)


def _leave_neuron(watch: Watch, facts: Neuron) -> Any:
    def hook(module: nn.Module, args: Any, out: Any) -> None:
        if facts.synapses is not None:
            watch.within.pop()
            _put_aside(watch)
        try:
            if out is not None:  # None: the neuron raised
                neuron(watch.recorder, module, facts, args, out)
                watch.recorder.adopt(_held(module))
        finally:
            watch.aside.pop().__exit__(None, None, None)
            watch.recorder.paths.pop()

    return hook


def _held(module: nn.Module) -> Iterator[Any]:
    """The tensors of a neuron that a network may read: `lif.v`, `lif.mem`."""
    yield from module._buffers.values()
    for name, value in vars(module).items():
        if name == "_memories":
            yield from value.values()
        elif not name.startswith("_"):
            yield value


def neuron(rec: Recorder, module: nn.Module, facts: Neuron, args: Any, out: Any) -> None:
    """Count one call of a neuron: its updates, its spikes per step and sample."""
    inputs = list(tensors_in(args))
    spikes = spikes_in(out, facts, module, rec.paths[-1])
    tags = [tag for tag in map(rec.tag, inputs) if tag is not None]
    order = _steps_in(rec, facts, spikes, max((tag.order for tag in tags), default=TIME_MAJOR))
    name, update = rec.paths[-1], facts.update_for(rec.layout.steps or 1)
    rec.enter(None)
    tally = rec.tally(update.op)
    looked_at = spikes.movedim(-1, 0) if order == SAMPLES_ALONE else spikes  # time last: (T, B, …)
    measured = Measured(looked_at, min(1 if order is None or facts.folded else 2, spikes.dim()), rec.epoch)
    values, measured.maps, measured.rows = read_spikes(looked_at, measured.lead, update.graded)
    if facts.counts and not values.countable:
        values = COUNTS
    tally.out = values if tally.out is None else tally.out.join(values)
    lead = tuple(looked_at.shape[: measured.lead])
    known = TIME_MAJOR if order in (None, SAMPLES_ALONE) else order
    tally.read("output", Reading(lead, measured.rows, order=known))
    tally.resets = facts.reset != "none" and update.compares > 0
    elements = spikes.numel()
    steps = _steps_of(rec, facts, looked_at, order)
    if not tally.fixed:
        inner = tuple(looked_at.shape[measured.lead :])
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
    if looked_at is spikes:
        spikes.__dict__[COUNTED] = measured


def spikes_in(out: Any, facts: Neuron, module: nn.Module, path: str) -> torch.Tensor:
    """The spikes in what the neuron at `path` returned.  Raises `ConfigError` where they are not there."""
    if isinstance(out, torch.Tensor):
        return out
    found = next(itertools.islice(tensors_in((out,)), facts.spikes, None), None)
    if found is None:
        where = f"neuron {path!r}: {type(module).__name__} returned {type(out).__name__}"
        raise ConfigError(f"{where}; must return its spikes, or a tuple that begins with them")
    return found


def _steps_of(rec: Recorder, facts: Neuron, looked_at: torch.Tensor, order: int | None) -> int:
    """How many steps one call of a neuron made."""
    if order is None:
        return 1
    if facts.folded:
        return rec.layout.steps or 1
    return looked_at.shape[1 if order == SAMPLE_MAJOR else 0]


def _steps_in(rec: Recorder, facts: Neuron, spikes: torch.Tensor, order: int) -> int | None:
    """How time lies in a neuron's tensors, None for those of one step: as is known of it, else by shape."""
    shape, layout, axis = tuple(spikes.shape), rec.layout, facts.time_axis
    if axis is None or len(shape) < 2:
        return (TIME_MAJOR if axis == 0 else SAMPLE_MAJOR) if facts.folded and axis is not None else None
    if axis != "by shape":
        return SAMPLE_MAJOR if axis == 1 else TIME_MAJOR if axis == 0 else SAMPLES_ALONE
    if not layout.steps_in_tensors or len(shape) <= 2:
        return None
    if order == SAMPLE_MAJOR and shape[:2] == (layout.batch, layout.steps):
        return SAMPLE_MAJOR
    return TIME_MAJOR if shape[:2] == (layout.steps, layout.batch) else None
