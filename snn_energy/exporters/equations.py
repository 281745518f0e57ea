"""The equations of neurons, held against the neurons themselves.

What stands in a graph as an equation was not traced but told, by a framework's adapter or by who registered
the class.  So each such neuron runs beside its equation: on the currents that samples give it, and on others
that make it fire.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snn_energy.errors import UnsupportedOp, VerificationError
from snn_energy.exporters.verification import TIE
from snn_energy.graph import nodes as n
from snn_energy.graph.integrator import nodes_of
from snn_energy.graph.interpret import execute, membrane
from snn_energy.graph.opaque import Integrator, Knowledge, integrators
from snn_energy.models.at_rest import at_rest
from snn_energy.models.walk import named_modules


def check_equations(model: nn.Module, x: np.ndarray, known: Knowledge) -> None:
    """Hold every neuron that is captured as its equation against it, on samples `x` as the network takes
    them.

    Raises `VerificationError`, naming the neuron, for spikes that differ other than at a threshold.
    """
    found = integrators(model, known)
    if not found:
        return
    heard: dict[str, Tensor] = {}

    def record(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            heard.setdefault(path, args[0].detach().clone())

        return hook

    with at_rest(model, torch.device("cpu")) as rest:
        hooks = [one.module.register_forward_hook(record(path)) for path, one in found.items()]
        try:
            rest.fresh()
            model(torch.as_tensor(x).float())
        finally:
            for hook in hooks:
                hook.remove()
        for path, one in found.items():
            if path in heard:
                for current in (heard[path], _loud(heard[path], one)):
                    rest.fresh()
                    _compare(path, one, current)


def explained(error: UnsupportedOp, model: nn.Module, known: Knowledge) -> UnsupportedOp:
    """`error`, in words of the setting that keeps a framework's neuron from being one node, if it is at one.

    Where torch.export met a branch on values, it is at the first such neuron: forwards of ours have none.
    """
    branches = error.op.startswith("a branch on the values") and error.node == type(model).__name__
    reasons = {
        path: (module, reason)
        for path, module in named_modules(model)
        if path and isinstance(reason := known.equation(module), str)
    }
    at = next((path for path in reasons if branches or f"{error.node}.".startswith(f"{path}.")), None)
    if at is None:
        return error
    module, reason = reasons[at]
    return UnsupportedOp(
        at,
        f"{type(module).__name__} with {reason}",
        supported="neurons of the equation v ← a·v + b·x, one threshold, a reset to rest or by a number",
        way_out="change that setting, or take another neuron",
    )


def _loud(like: Tensor, one: Integrator) -> Tensor:
    """Currents of that shape that make the neuron fire now and then, always the same."""
    equation = one.equation
    span = (equation.threshold - equation.rest) / (equation.gain * equation.current_gain)
    noise = torch.rand(like.shape, generator=torch.Generator().manual_seed(0))
    return (noise * 3 - 1) * span


def _compare(path: str, one: Integrator, current: Tensor) -> None:
    out = one.module(current)
    spikes = [part for part in (out if isinstance(out, tuple | list) else (out,)) if isinstance(part, Tensor)]
    got = one.steps_first(spikes[one.facts.spikes])
    x = one.steps_first(current).double()
    for kind, attributes in nodes_of(one.equation):
        node: Any = kind(name=path, **attributes)
        if not isinstance(node, n.NEURONS):
            x = execute(node, [x], tuple(x.shape), torch.float64)
    wanted = execute(node, [x], tuple(x.shape), torch.float64)
    unequal = got.double() != wanted
    if not bool(unequal.any()):
        return
    h, threshold = membrane(node, x, wanted)
    samples = unequal.transpose(0, 1).flatten(2) if unequal.dim() > 2 else unequal.T[:, :, None]
    margins = (h - threshold).abs().transpose(0, 1).reshape(samples.shape)
    for which in range(samples.shape[0]):
        for element in samples[which].any(0).nonzero().flatten().tolist():
            step = int(samples[which, :, element].nonzero()[0])  # what follows is its consequence
            if float(margins[which, step, element]) > TIE * max(1.0, abs(threshold)):
                off = float(margins[which, step, element])
                raise VerificationError(
                    f"{path}: {type(one.module).__name__} does not compute the equation told of it: step "
                    f"{step}, element {element} of sample {which} differs, {off:.2g} from the threshold; "
                    "correct its to_node, or leave it out"
                )
