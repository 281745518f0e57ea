"""What a framework tells of its neurons: the records that every adapter in this room fills in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

TimeAxis = int | Literal["by shape"] | None


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
    module does not say.  `folded`: time and samples share the first axis, sample by sample (sinabs' Squeeze
    layers: sample 0's steps, then sample 1's).  `spikes`: which tensor of the output, in order, holds the
    spikes.  `threshold` and `reset` ("zero", "subtract" or "none"): for whom they concern, None if not said.
    """

    update: Update | Callable[[int], Update]
    time_axis: TimeAxis = "by shape"
    folded: bool = False
    spikes: int = 0
    threshold: Any = None
    reset: str | None = None

    def update_for(self, steps: int) -> Update:
        """What one update costs in a run of `steps` steps."""
        return self.update if isinstance(self.update, Update) else self.update(steps)


@dataclass(frozen=True)
class Framework:
    """A framework of spiking networks.

    `package`: its top-level import name; `neuron(module)`: the facts of a module that is one of its neurons,
    else None; `reset(model)`: bring all of its neurons in `model` to rest; `reset_name`: what a user would
    write for that; `state(module)`: names of the attributes in which a neuron keeps its state, for messages.
    """

    name: str
    package: str
    neuron: Callable[[nn.Module], Neuron | None]
    reset: Callable[[nn.Module], None]
    reset_name: str
    state: Callable[[nn.Module], tuple[str, ...]] = field(default=lambda module: ())


def comes_from(module: nn.Module, package: str) -> bool:
    """Is a class of the module's family defined in `package`, or in a part of it?"""
    return any(
        base.__module__ == package or base.__module__.startswith(f"{package}.")
        for base in type(module).__mro__
    )


def family(module: nn.Module) -> list[str]:
    """The names of the module's class and of those that it derives from, nearest first."""
    return [base.__name__ for base in type(module).__mro__]
