"""Neuron modules that `torch.export` must not look into.

A module that owns a part marked `spiking = True` (the threshold of a STAA neuron) is a neuron whose steps
depend on one another.  Traced, each of its T steps would be dozens of operations in the network's graph.
While a model is exported, such a module is one operation `snn_energy::neuron`, and its equations are captured
on their own.

A neuron whose `Equation` is known, by its framework or by who registered it, is one operation
`snn_energy::integrator`, if it steps through all of time in a call.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from snn_energy.errors import UnsupportedOp
from snn_energy.frameworks import Equation, Neuron, known_equation, known_neuron
from snn_energy.models.walk import named_modules


def _facts(module: nn.Module) -> Neuron | None:
    known = known_neuron(module)
    return None if known is None else known[1]


@dataclass(frozen=True)
class Knowledge:
    """What is known of a module as a neuron, and of its equation; by default what its framework knows."""

    facts: Callable[[nn.Module], Neuron | None] = field(default=_facts)
    equation: Callable[[nn.Module], Equation | str | None] = field(default=known_equation)


@dataclass(frozen=True)
class Integrator:
    """A module that is captured as its equation: time along `axis` of what it takes and puts out, or time and
    samples on one axis (`facts.folded`)."""

    module: nn.Module
    equation: Equation
    facts: Neuron

    def steps_first(self, x: torch.Tensor) -> torch.Tensor:
        """(T, B, …) of what the module takes, or puts out."""
        assert isinstance(self.facts.time_axis, int)
        if not self.facts.folded:
            return x.movedim(self.facts.time_axis, 0)
        sizes = (self.facts.samples or -1, self.facts.steps or -1)
        sizes = sizes if self.facts.time_axis == 1 else (sizes[1], sizes[0])
        return x.unflatten(0, sizes).movedim(self.facts.time_axis, 0)

    def put_back(self, y: torch.Tensor) -> torch.Tensor:
        """What the module would put out, of (T, B, …)."""
        assert isinstance(self.facts.time_axis, int)
        turned = y.movedim(0, self.facts.time_axis)
        return turned.flatten(0, 1) if self.facts.folded else turned


def integrators(model: nn.Module, known: Knowledge) -> dict[str, Integrator]:
    """Path -> neuron, of all whose equation is known and that step through all of time in a call."""
    found = {}
    for path, module in named_modules(model):
        facts = known.facts(module)
        if not path or facts is None or not isinstance(facts.time_axis, int):
            continue
        if facts.folded and not (facts.steps or facts.samples):
            continue
        equation = known.equation(module)
        if isinstance(equation, Equation):
            found[path] = Integrator(module, equation, facts)
    return found


@torch.library.custom_op("snn_energy::integrator", mutates_args=())
def integrator(x: torch.Tensor, path: str) -> torch.Tensor:
    """Stands for the neuron at `path` in an exported program: (T, B, ...) -> spikes."""
    raise NotImplementedError("a placeholder in exported programs")


@integrator.register_fake
def _(x: torch.Tensor, path: str) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("snn_energy::neuron", mutates_args=())
def neuron(x: torch.Tensor, path: str) -> torch.Tensor:
    """Stands for the neuron module at `path` in an exported program: (T, B, ...) -> spikes."""
    raise NotImplementedError("a placeholder in exported programs")


@neuron.register_fake
def _(x: torch.Tensor, path: str) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


class OneStep(nn.Module):
    """A neuron module run for one step: (x[t], membrane[, row t of its table]) -> (spikes, next membrane).

    The row (1, C) takes the place of the table that the module calls `step_table`.
    """

    def __init__(self, neuron_module: nn.Module) -> None:
        super().__init__()
        self.step = _Step(neuron_module)
        self.table = f"neuron.{neuron_module.step_table}"

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, membrane, *row = inputs
        tables = dict.fromkeys([self.table], row[0]) if row else {}
        return torch.func.functional_call(self.step, tables, (x, membrane))


class _Step(nn.Module):
    """`one_step` of a neuron module as a forward."""

    def __init__(self, neuron_module: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron_module

    def forward(self, x: torch.Tensor, membrane: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.neuron.one_step(x, membrane)  # type: ignore[operator]


@contextlib.contextmanager
def opaque_neurons(model: nn.Module, known: Mapping[str, Integrator]) -> Iterator[None]:
    """Inside, every neuron module below `model` (not `model` itself) is one operation: `known` ones as their
    equation, those of ours by their own equations."""
    ours = [(path, module) for path, module in model.named_modules() if path and _owns_spikes(module)]
    stand_ins: dict[nn.Module, Any] = {module: _stand_in(path) for path, module in ours}
    stand_ins |= {one.module: _as_equation(path, one) for path, one in known.items()}
    before = {module: vars(module)["forward"] for module in stand_ins if "forward" in vars(module)}
    for module, forward in stand_ins.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in stand_ins:
            del module.forward
            if module in before:
                module.forward = before[module]


def _as_equation(path: str, one: Integrator) -> Callable[..., Any]:
    """A forward of the module's own signature; its spikes are those of the operation.

    State that is passed is None after the call.  What else a registered neuron puts out it computes itself.
    """
    own, framework = one.module.forward, known_neuron(one.module) is not None

    def forward(x: torch.Tensor, *more: Any, **named: Any) -> Any:
        if any(isinstance(value, torch.Tensor | tuple) for value in (*more, *named.values())):
            raise UnsupportedOp(
                path,
                "a membrane that is passed to it",
                supported="neurons that begin at rest",
                way_out="call it once, with all steps",
            )
        spikes = one.put_back(integrator(one.steps_first(x), path))
        if one.facts.passed:
            return spikes, None
        outs = spikes if framework else _beside(own, one, x, *more, **named)
        if not isinstance(outs, tuple | list):
            return spikes
        tensors = [i for i, out in enumerate(outs) if isinstance(out, torch.Tensor)]
        return tuple(spikes if i == tensors[one.facts.spikes] else out for i, out in enumerate(outs))

    forward.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
    return forward


def _beside(own: Callable[..., Any], one: Integrator, *args: Any, **named: Any) -> Any:
    """What a registered neuron itself puts out; None where it cannot be traced and only its spikes matter."""
    try:
        return own(*args, **named)
    except Exception:
        if one.facts.spikes == 0:
            return None
        raise


def _owns_spikes(module: nn.Module) -> bool:
    return any(getattr(type(child), "spiking", False) for child in module.children())


def _stand_in(path: str) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: neuron(x, path)
