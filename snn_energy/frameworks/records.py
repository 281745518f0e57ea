"""What a framework tells of its neurons: the records that every adapter in this room fills in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn

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
class Framework:
    """A framework of spiking networks.

    `package`: its top-level import name; `neuron(module)`: the facts of a module that is one of its neurons,
    else None; `reset(model)`: bring all of its neurons in `model` to rest; `reset_name`: what a user would
    write for that; `state(module)`: names of the attributes in which a neuron keeps its state, for messages;
    `called(module)`: a neuron's class in words, left out where that is the package and the class's name.
    """

    name: str
    package: str
    neuron: Callable[[nn.Module], Neuron | None]
    reset: Callable[[nn.Module], None]
    reset_name: str
    state: Callable[[nn.Module], tuple[str, ...]] = field(default=lambda module: ())
    called: Callable[[nn.Module], str] | None = None


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
