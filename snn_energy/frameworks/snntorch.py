"""snnTorch 1.0: a call is one step and returns `(spikes, state …)`, or the spikes alone with `init_hidden`.

`u[t] = β u[t-1] + x[t] - reset`, spikes where u > threshold; the reset of a spike comes with the next step.
Every neuron keeps its state in buffers, also where it is passed by hand, and goes on from there when the next
call passes none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from snn_energy.frameworks.records import (
    Equation,
    Framework,
    Neuron,
    Update,
    comes_from,
    every,
    family,
    nearest,
    noted,
    one_number,
)

PACKAGE = "snntorch"
GATES = "the gates' sigmoids and tangents are not counted"
UPDATES: dict[str, Update] = {
    # u = β u + x
    "Leaky": Update("lif", 1, 1),
    # u = (Δt/C) x + (1 - Δt/RC) u
    "Lapicque": Update("lapicque", 2, 1),
    # i = α i + x, u = β u + i
    "Synaptic": Update("cubalif", 2, 2),
    # e = α e + x, i = β i - x, u = τ (e + i)
    "Alpha": Update("alpha", 3, 3),
    # u = β u + x, a spike where |u - the u before| is over the threshold
    "DeltaLeaky": Update("delta_lif", 1, 2),
    # u = β u + x + V s; the recurrent current is one more addition
    "RLeaky": Update("recurrent_lif", 1, 2),
    # i = α i + x + V s, u = β u + i
    "RSynaptic": Update("recurrent_cubalif", 2, 3),
    # c = f c + i g, u = o tanh(c), in a layer that it holds
    "SLSTM": Update("slstm", 0, 0),
    # the same, of gates from a convolution that it holds
    "SConv2dLSTM": Update("slstm", 3, 1, note=GATES),
    # u = e^(-1/τ) u + x for all steps at once, no reset
    "StateLeaky": Update("lif", 1, 1),
    # u = relu(w u + V x) for all steps at once, in a layer that it holds, no reset
    "LeakyParallel": Update("lif", 0, 0),
}
AT_ONCE = ("StateLeaky", "LeakyParallel", "AssociativeLeaky")  # take (T, B, …)
WITH_LAYERS = ("RLeaky", "RSynaptic", "SLSTM", "SConv2dLSTM", "LinearLeaky", "LeakyParallel")
STATES = ("spk", "syn", "syn_exc", "syn_inh", "mem", "mem_prev")


def _neuron(module: nn.Module) -> Neuron | None:
    names = family(module)
    ours = "SpikingNeuron" in names or "LeakyParallel" in names
    if not ours or not comes_from(module, PACKAGE):
        return None
    at_once = any(name in AT_ONCE for name in names)
    return Neuron(
        _update(module, names),
        time_axis=0 if at_once else None,
        threshold=getattr(module, "threshold", None),
        reset="none" if at_once else getattr(module, "reset_mechanism", None),
        synapses="in layers" if any(name in WITH_LAYERS for name in names) else None,
        states=max(1, len([name for name in _state(module) if name != "spk"])),
    )


def _update(module: nn.Module, names: list[str]) -> Update:
    update = nearest(module, UPDATES)
    if "StateLeaky" in names and not getattr(module, "output", True):  # returns the membrane, without spikes
        update = Update("leaky_integrator", 1, 1, 0, graded=True)
    factor = getattr(module, "graded_spikes_factor", None)
    if factor is not None and bool((factor != 1).any()):
        update = replace(update, multiplies=update.multiplies + 1, graded=True)
    return noted(
        update,
        "inhibition of all but the strongest is not counted" if getattr(module, "inhibition", False) else "",
    )


def _equation(module: Any) -> Equation | str | None:
    """Of `Leaky`: a reset to zero is taken before the next leak, one by subtraction after it."""
    if next((name for name in family(module) if name in UPDATES), None) != "Leaky":
        return f"{type(module).__name__}: only Leaky has the equation of an LIF neuron"
    refused = {
        "reset_mechanism = 'none': it is never reset": module.reset_mechanism == "none",
        "reset_delay = False": not getattr(module, "reset_delay", True),
        "inhibition = True": bool(getattr(module, "inhibition", False)),
        "state_quant": bool(getattr(module, "state_quant", False)),
        "graded_spikes_factor is not 1": one_number(module.graded_spikes_factor) != 1,
    }
    if reason := next((words for words, true in refused.items() if true), None):
        return reason
    beta, threshold = one_number(module.beta), one_number(module.threshold)
    if beta is None or threshold is None:
        return f"{'beta' if beta is None else 'threshold'} is not one number for all of the layer"
    beta, soft = min(max(beta, 0.0), 1.0), module.reset_mechanism == "subtract"
    if soft and not beta:
        return "beta = 0 with reset_mechanism = 'subtract'"
    return Equation(keep=beta, threshold=threshold, strict=True, taken=threshold / beta if soft else None)


def _reset(model: nn.Module) -> None:
    """Zeros, as `utils.reset(net)` writes them, which clears every network in the process.

    In place: a network that fetches its first membrane from the layer then meets a tensor that it has had.
    """
    module: Any
    for module in every(model):
        if not comes_from(module, PACKAGE):
            continue
        if "DeltaLeaky" in family(module):
            module.reset_mem()  # to None
            continue
        for name in _state(module):
            held = module._buffers.get(name)
            if held is not None and held.numel():
                if held.is_inference():
                    module._buffers[name] = torch.zeros_like(held)
                else:
                    with torch.no_grad():
                        held.zero_()


def _state(module: nn.Module) -> tuple[str, ...]:
    return tuple(name for name in STATES if name in module._buffers or name in vars(module))


FRAMEWORK = Framework(
    "snnTorch", PACKAGE, _neuron, _reset, "snntorch.utils.reset", _state, equation=_equation
)
