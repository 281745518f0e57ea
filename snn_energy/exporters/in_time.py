"""Networks that know nothing of time, run so that they do: what every target gets to see.

A network that makes one step per call becomes one whose forward takes all steps and loops.  One whose samples
and steps share an axis, (B·T, …), becomes one that takes (B, T, …).  Which it is, is the contract of
docs/your-network.md; networks whose neurons step through time by themselves are not looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from snn_energy.errors import ConfigError, DataError, SnnEnergyError
from snn_energy.exporters.verification import TimePart
from snn_energy.models.walk import modules
from snn_energy.profiling.batches import Batch, Turns
from snn_energy.profiling.contract import LAYOUTS, Contract, Declared
from snn_energy.profiling.neurons import facts_of, resting
from snn_energy.profiling.settle import settle
from snn_energy.profiling.spikes import record_spikes

LOOK = 3  # samples
NAMES = {axes: name for name, axes in LAYOUTS.items()}


@dataclass(frozen=True)
class Samples:
    """Samples as the network then takes them, and the layout to read them by (None: as it was declared).

    `folded`: T, where samples and steps shared an axis; `calls`: of the network, T where each is one step.
    """

    x: Any
    layout: str | None = None
    folded: int | None = None
    calls: int = 1

    @property
    def part(self) -> TimePart | None:
        """What the record of an export says of it."""
        return None if self.calls == 1 and self.folded is None else TimePart(self.calls, self.folded)

    def also(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options of a target, samples for calibration read as the others were."""
        if self.folded is None or options.get("calibration") is None:
            return options
        return options | {"calibration": unfolded(options["calibration"], self.folded)}


@contextlib.contextmanager
def in_time(
    model: nn.Module, x: Any, *, layout: str | None = None, time_steps: int | None = None
) -> Iterator[Samples]:
    """Inside, `model` takes all of its steps at once; yields its samples as it takes them there.

    Raises `ConfigError` where what is declared contradicts the network.
    """
    contract = _contract(model, x, layout, time_steps)
    if contract is None or (contract.calls == 1 and not contract.folded):
        yield Samples(x, layout)
        return
    before = vars(model).get("forward")
    run = _folded(contract.steps) if contract.folded else _stepped(contract)
    model.forward = MethodType(run, model)
    try:
        if contract.folded:
            yield Samples(unfolded(x, contract.steps), "BT", contract.steps)
        else:
            yield Samples(x, NAMES[contract.time_axis, contract.batch_axis], calls=contract.calls)
    finally:
        del model.forward
        if before is not None:
            model.forward = before


def unfolded(x: Any, steps: int) -> np.ndarray:
    """(B·T, …) as (B, T, …).  Raises `DataError` for a length that is no multiple of T."""
    x = np.asarray(x)
    if len(x) % steps:
        raise DataError(f"samples of shape {x.shape}: {len(x)} is no multiple of T = {steps}")
    return x.reshape(-1, steps, *x.shape[1:])


def _contract(model: nn.Module, x: Any, layout: str | None, time_steps: int | None) -> Contract | None:
    """How the network is run, by a look at a few samples; None where it is run as it is."""
    x = np.asarray(x)
    facts = [known for module in modules(model) if (known := facts_of(module)) is not None]
    steps_singly = any(known.time_axis is None or known.folded for known in facts)
    if not steps_singly and time_steps is None:
        return None
    declared = Declared(layout=layout, time_steps=time_steps, check=False)
    axis = declared.batch_axis or 0
    folded = next((f.steps for f in facts if f.folded and f.steps), None)
    count = min(x.shape[axis], folded * LOOK if folded else LOOK)
    few = np.take(x, range(count), axis) if layout is not None or folded else x
    part = torch.as_tensor(few).float()
    try:
        with resting(model, {}) as rest:
            contract = settle(rest, Batch(part), declared)
        if time_steps is not None and contract.calls == 1:
            _check_ran(model, part, layout, time_steps)
        return contract
    except SnnEnergyError:
        raise
    except Exception:  # it may run otherwise; what then stops it says so better
        return None


def _check_ran(model: nn.Module, part: torch.Tensor, layout: str | None, time_steps: int) -> None:
    """Raise `ConfigError` where a neuron of the network ran for another number of steps than declared."""
    for name, spikes in record_spikes(model, part, layout=layout).items():
        if len(spikes) != time_steps:
            did = f"its spiking layer {name!r} ran {len(spikes)} steps"
            raise ConfigError(f"time_steps = {time_steps} contradicts the network: {did}")


def _stepped(contract: Contract) -> Any:
    """A forward that calls the network once per step and stacks what it puts out, (T, …)."""

    def forward(self: nn.Module, x: torch.Tensor) -> Any:
        step, axis = Turns(cast(nn.Module, _Own(self))), contract.time_axis
        outs = [step(x if axis is None else x.select(axis, t)) for t in range(contract.calls)]
        leaves = [pytree.tree_flatten(out) for out in outs]
        stacked = [
            torch.stack(each) if all(isinstance(one, torch.Tensor) for one in each) else None
            for each in zip(*(leaf for leaf, _ in leaves), strict=True)
        ]
        return pytree.tree_unflatten(stacked, leaves[0][1])

    return forward


def _folded(steps: int) -> Any:
    """A forward of (B, T, …)."""

    def forward(self: nn.Module, x: torch.Tensor) -> Any:
        out = type(self).forward(self, x.flatten(0, 1))
        return pytree.tree_map(
            lambda y: y.unflatten(0, (-1, steps)) if isinstance(y, torch.Tensor) and y.dim() else y, out
        )

    return forward


class _Own:
    """The forward that a network's class has, called as the network."""

    def __init__(self, model: nn.Module) -> None:
        self.forward = MethodType(type(model).forward, model)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.forward(*args, **named)
