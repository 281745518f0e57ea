"""What a framework tells of its neurons: the records that every adapter in this room fills in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snn_energy.errors import ConfigError

TimeAxis = int | Literal["by shape"] | None
Synapses = Literal["in layers", "in forward"] | None


@dataclass(frozen=True)
class Update:
    """Operations per element and step.

    `op`: the name of the row; `multiplies`, `adds`, `compares`: operations of one update, resets aside;
    `graded`: the output may hold other values than 0 and 1; `note`: what a reader of the row should know.
    """

    op: str
    multiplies: int
    adds: int
    compares: int = 1
    graded: bool = False
    note: str = ""


@dataclass(frozen=True)
class Neuron:
    """What is known of one neuron module.

    `update`: what a step costs, or a function of T where that depends on T.
    `time_axis`: the axis of time in what it puts out; None where a call is one step; "by shape" where the
    module does not say.  `folded`: time and samples share the first axis, sample by sample where `time_axis`
    is 1 (sinabs' Squeeze layers: sample 0's steps, then sample 1's), step by step where it is 0.
    `steps`, `samples`: T, or the number of samples, where the module itself states it.
    `spikes`: which tensor of the output, in order, holds the spikes.
    `threshold` and `reset` ("zero", "subtract" or "none"): for whom they concern, None if not said.
    `synapses`: where it multiplies with weights, None if nowhere: in layers that it holds, which are counted
    as layers, or in its own `forward`, of which then the products with weights are counted, and nothing else.
    `counts`: its spikes are numbers of spikes, of any size.
    `passed`: its state is passed to it and returned; a call without is one from rest.
    `states`: how many variables it keeps per element: its membrane, and any current, trace or threshold.
    """

    update: Update | Callable[[int], Update]
    time_axis: TimeAxis = "by shape"
    folded: bool = False
    spikes: int = 0
    threshold: Any = None
    reset: str | None = None
    synapses: Synapses = None
    counts: bool = False
    passed: bool = False
    states: int = 1
    steps: int | None = None
    samples: int | None = None

    def by_step(self, spikes: Tensor, steps: int | None = None) -> Tensor | None:
        """(T, B, …) of what one call put out; None where a call is one step, or the module does not say.

        `steps`: T, for time and samples on one axis.
        """
        if not isinstance(self.time_axis, int):
            return None
        if not self.folded:
            return spikes.movedim(self.time_axis, 0)
        if steps is None:
            steps = self.steps or (spikes.shape[0] // self.samples if self.samples else None)
        if not steps or spikes.shape[0] % steps:
            return None
        return spikes.unflatten(0, (steps, -1) if self.time_axis == 0 else (-1, steps)).movedim(
            self.time_axis, 0
        )

    def update_for(self, steps: int) -> Update:
        """What one update costs in a run of `steps` steps."""
        return self.update if isinstance(self.update, Update) else self.update(steps)


@dataclass(frozen=True)
class Equation:
    """A neuron as one node of an exported network; all numbers hold for each of its elements.

    i ← `current_keep`·i + `current_gain`·x, where x enters through a synaptic current, else i = x;
    v ← rest + `keep`·(v - rest) + `gain`·i, from v = rest and i = 0;
    a spike where v ≥ `threshold`, or v > threshold if `strict`;
    v ← rest where it fired, or v ← v - `taken` where `taken` is a number (soft reset).
    """

    keep: float = 1.0
    gain: float = 1.0
    threshold: float = 1.0
    rest: float = 0.0
    taken: float | None = None
    strict: bool = False
    current_keep: float = 0.0
    current_gain: float = 1.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number and f.name != "strict" and not (f.name == "taken" and value is None):
                raise ConfigError(f"equation of a neuron: {f.name} = {value!r}: must be a number")
        wrong = {
            "keep": (not 0 <= self.keep <= 1, "must be from 0 to 1"),
            "gain": (self.gain <= 0, "must be above 0"),
            "threshold": (self.threshold <= self.rest, f"must be above rest = {self.rest:g}"),
            "taken": (
                self.taken is not None and self.taken <= 0,
                "must be above 0, or None for a reset to rest",
            ),
            "rest": (self.taken is not None and self.rest != 0, "must be 0 with a soft reset"),
            "current_keep": (not 0 <= self.current_keep < 1, "must be from 0 to below 1"),
            "current_gain": (self.current_gain <= 0, "must be above 0"),
        }
        for name, (bad, must) in wrong.items():
            if bad:
                raise ConfigError(f"equation of a neuron: {name} = {getattr(self, name):g}: {must}")


@dataclass(frozen=True)
class Framework:
    """A framework of spiking networks.

    `package`: its top-level import name; `neuron(module)`: the facts of a module that is one of its neurons,
    else None; `reset(model)`: bring all of its neurons in `model` to rest; `reset_name`: what a user would
    write for that; `state(module)`: names of the attributes in which a neuron keeps its state, for messages;
    `called(module)`: a neuron's class in words, left out where that is the package and the class's name.
    `equation(module)`: of a neuron that steps through all of time in a call, the equation that it computes
    exactly; else, in words, which of its settings keeps it from being one; None where nobody looked.
    """

    name: str
    package: str
    neuron: Callable[[nn.Module], Neuron | None]
    reset: Callable[[nn.Module], None]
    reset_name: str
    state: Callable[[nn.Module], tuple[str, ...]] = field(default=lambda module: ())
    called: Callable[[nn.Module], str] | None = None
    equation: Callable[[nn.Module], Equation | str | None] = field(default=lambda module: None)


ASSUMED = Update("neuron", 1, 1, graded=True, note="unknown neuron: the update of an LIF is assumed")
"""What is taken for a neuron whose equation nobody has written down."""

UNSEEN = "synapses inside the neuron are not counted"
"""The note of a neuron that multiplies with weights in its own `forward`."""


def comes_from(module: nn.Module, package: str) -> bool:
    """Is a class of the module's family defined in `package`, or in a part of it?"""
    return any(
        base.__module__ == package or base.__module__.startswith(f"{package}.")
        for base in type(module).__mro__
    )


def family(module: nn.Module) -> list[str]:
    """The names of the module's class and of those that it derives from, nearest first."""
    return [base.__name__ for base in type(module).__mro__]


def nearest(module: nn.Module, known: Mapping[str, Update]) -> Update:
    """The update of the first class of the module's family that is listed; `ASSUMED` for none."""
    return next((known[name] for name in family(module) if name in known), ASSUMED)


def noted(update: Update, *notes: str) -> Update:
    """The same update with more to say."""
    return replace(update, note="; ".join(note for note in (update.note, *notes) if note))


def one_number(value: Any) -> float | None:
    """The number that a setting is for all elements alike; None where they differ or there is none."""
    if value is None or isinstance(value, bool):
        return None
    values = torch.as_tensor(value).detach().double().flatten()
    alike = values.numel() and bool((values == values[0]).all())
    return float(values[0]) if alike and math.isfinite(float(values[0])) else None


def every(model: nn.Module) -> Iterator[nn.Module]:
    """Every module once, by torch's own table: a class may override `modules`."""
    seen: set[nn.Module] = set()
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            yield module
            waiting += [child for child in module._modules.values() if child is not None]
