"""One forward pass on a few samples, only looked at: what runs how often, and what comes out of it.

What a network does with time shows in it: neurons that are called T times step through time by themselves,
neurons that put out (T, B, …) take all steps at once.  Nothing is counted here.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from snn_energy.models.walk import modules, named_modules
from snn_energy.profiling.call import tensors_in
from snn_energy.profiling.instrument import spikes_in
from snn_energy.profiling.neurons import facts_of, named_neurons

SAMPLED = 4096  # elements in which distinct values are looked for
FEW, MANY = 4, 9  # distinct values of what looks like spikes, and of what looks like currents
LIBRARIES = ("torch.", "torchvision.", "timm.")  # whose modules are no neurons


@dataclass
class Observation:
    """What was seen: by module path, in order of first call."""

    neurons: Counter[str] = field(default_factory=Counter)  # calls
    layers: Counter[str] = field(default_factory=Counter)  # calls of layers with weights
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of what came first out of each
    nonzeros: dict[str, int] = field(default_factory=dict)  # in all that came out of each
    events: dict[str, int] = field(default_factory=dict)  # nonzero values in all that layers took in
    lookalikes: dict[str, tuple[int, int]] = field(default_factory=dict)  # distinct values out and in
    outputs: list[Any] = field(default_factory=list)  # one per call of the network

    @property
    def output(self) -> torch.Tensor | None:
        """The first tensor that the network put out, at its first call."""
        return next((x for x in tensors_in(self.outputs[:1]) if x.dim()), None)


def observe(model: nn.Module, runs: Iterable[Callable[[], Any]]) -> Observation:
    """Run the network, which is at rest, and look on; `runs` are the calls of one pass, one after another."""
    seen = Observation()
    neurons = named_neurons(model)
    inside = {child for m in neurons.values() for child in modules(m) if child is not m}
    handles = []
    try:
        for path, module in named_modules(model):
            if module in inside or isinstance(module, torch.jit.ScriptModule):
                continue
            if path in neurons or any(p is not None for p in module._parameters.values()):
                handles.append(module.register_forward_hook(_look(seen, path, path in neurons)))
            elif _custom(module):
                handles.append(module.register_forward_hook(_compare(seen, path, alone=True)))
        for run in runs:
            seen.outputs.append(run())
    finally:
        for handle in handles:
            handle.remove()
    for place, out in enumerate(seen.outputs):
        for x in tensors_in((out,)):
            key = f"the output{f' of call {place + 1}' if len(seen.outputs) > 1 else ''}"
            _add(seen, key, x)
    return seen


def _look(seen: Observation, path: str, neuron: bool) -> Any:
    calls = seen.neurons if neuron else seen.layers

    def hook(module: nn.Module, args: Any, out: Any) -> None:
        facts = facts_of(module) if neuron else None
        main = next(tensors_in((out,)), None) if facts is None else spikes_in(out, facts, module, path)
        calls[path] += 1
        if main is not None:
            seen.shapes.setdefault(path, tuple(main.shape))
            _add(seen, path, main)
        given = None if neuron else next(tensors_in(args), None)
        if given is not None:
            seen.events[path] = seen.events.get(path, 0) + int(torch.count_nonzero(given))
        if not neuron and _custom(module):
            _compare(seen, path)(module, args, out)

    return hook


def _add(seen: Observation, path: str, x: torch.Tensor) -> None:
    seen.nonzeros[path] = seen.nonzeros.get(path, 0) + int(torch.count_nonzero(x))


def _custom(module: nn.Module) -> bool:
    """May the module be somebody's own neuron: a class of nobody's library, without layers inside?"""
    if any(
        any(p is not None for p in child._parameters.values()) for child in module._modules.values() if child
    ):
        return False
    return not type(module).__module__.startswith(LIBRARIES)


def _compare(seen: Observation, path: str, *, alone: bool = False) -> Any:
    """Does the module take in many values and put out a few, as a neuron does?"""

    def hook(module: nn.Module, args: Any, out: Any) -> None:
        given, main = next(tensors_in(args), None), next(tensors_in((out,)), None)
        if alone and main is not None:
            seen.shapes.setdefault(path, tuple(main.shape))
            _add(seen, path, main)
        if given is None or main is None or given.numel() != main.numel() or given.is_complex():
            return
        fired, came = _distinct(main), _distinct(given)
        most = seen.lookalikes.get(path, (0, 0))
        seen.lookalikes[path] = (max(fired, most[0]), max(came, most[1]))

    return hook


def _distinct(x: torch.Tensor) -> int:
    return len(torch.unique(x.detach().flatten()[:SAMPLED]))


def like_neurons(seen: Observation) -> list[str]:
    """Paths of modules that are not known as neurons and behave like them."""
    return [path for path, (out, came) in seen.lookalikes.items() if 1 < out <= FEW and came >= MANY]


def steps_held(shapes: Mapping[str, tuple[int, ...]], given: int, samples: int) -> tuple[int, str]:
    """T as tensors of neurons hold it, and whose: (T, B, …) with one dimension more than the input's `given`.

    1 where they do not, or not all alike; `shapes`: of what came out of neurons that say nothing of time.
    """
    held = {s[0] if len(s) == given + 1 and s[1] == samples != s[0] else 1 for s in shapes.values()}
    return (held.pop(), next(iter(shapes))) if len(held) == 1 else (1, "")


def undecided(shapes: Mapping[str, tuple[int, ...]], x: tuple[int, ...], samples: int) -> str:
    """What of a neuron's tensors, or of an input without a layout, may be time; "" where nothing may."""
    for path, shape in shapes.items():
        if len(shape) > 1 and shape[0] > samples and shape[0] % samples == 0:
            name = repr(path or "(model)")
            return (
                f"{name} puts out {shape[0]} entries for {samples} samples, and nothing says that it is time"
            )
    if shapes and len(x) in (3, 5) and max(x[:2]) > 1:
        return f"nothing says whether an axis of the input {x} is time (layout='BT', 'TB', or 'B' for none)"
    return ""


def steps_by_calls(seen: Observation) -> tuple[int, tuple[str, ...]]:
    """T as the number of calls says it, and the paths that were called another number of times.

    Layers that run once (on a still image, or behind the mean over time) say nothing.  The number that most
    of the others share is T; a number that divides all of them breaks a tie.
    """
    repeated = {path: n for path, n in (*seen.neurons.items(), *seen.layers.items()) if n > 1}
    if not repeated:
        return 1, ()
    common = Counter(repeated.values()).most_common()
    tied = [n for n, members in common if members == common[0][1]]
    steps = tied[0] if len(tied) == 1 else math.gcd(*tied)
    if steps == 1:
        steps = max(tied)
    return steps, tuple(path for path, n in repeated.items() if n != steps)


def difference(first: Observation, second: Observation) -> str | None:
    """The first module that put out another number of nonzero values in the second of two equal passes.

    Or took in: spikes that a network makes outside of modules are seen where they arrive.  Rounding may
    differ on a device; more than a thousandth is no rounding.
    """
    sides = (("puts out", first.nonzeros, second.nonzeros), ("takes in", first.events, second.events))
    for does, one, other in sides:
        for path, before in one.items():
            after = other.get(path, 0)
            if abs(before - after) > 1e-3 * max(before, after):
                name = repr(path or "(model)")
                return f"{name} {does} {before} nonzero values first and {after} the second time"
    return None


def shares_time(seen: Observation, steps: int, batch: int, paths: Mapping[str, Any]) -> bool:
    """Do tensors inside the network hold all steps at once, by their leading dimensions?"""
    for path in paths:
        shape = seen.shapes.get(path, ())
        if shape[:2] in ((steps, batch), (batch, steps)) and len(shape) > 2:
            return True
        if shape[:1] == (steps * batch,):
            return True
    return False


@contextlib.contextmanager
def same_chance() -> Iterator[None]:
    """The same random numbers in every such block; those of the caller go on as if it had not been."""
    python = random.getstate()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    try:
        with torch.random.fork_rng(list(devices)):
            torch.manual_seed(0)
            random.seed(0)
            yield
    finally:
        random.setstate(python)
