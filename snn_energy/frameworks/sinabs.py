"""sinabs 3.1: (B, T, …), or (B·T, …) in `…Squeeze` layers; state in buffers.

Spikes where v ≥ threshold; `MultiSpike`, the default, fires v // threshold spikes in a step.
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
    one_number,
)

PACKAGE = "sinabs"
UPDATES: dict[str, Update] = {
    # v = v + x
    "IAF": Update("if", 0, 1),
    "IAFRecurrent": Update("recurrent_if", 0, 2),
    # v = α v + x
    "LIF": Update("lif", 1, 1),
    "LIFRecurrent": Update("recurrent_lif", 1, 2),
    # v = α v + x, threshold = b0 + c b, b = α_b b + (1 - α_b) s
    "ALIF": Update("alif", 3, 2),
    "ALIFRecurrent": Update("recurrent_alif", 3, 3),
    # v = α v + x, which is what is put out
    "ExpLeak": Update("leaky_integrator", 1, 1, 0, graded=True),
}


def _neuron(module: nn.Module) -> Neuron | None:
    names = family(module)
    if "StatefulLayer" not in names or not comes_from(module, PACKAGE):
        return None
    fires, reset = getattr(module, "spike_fn", None), getattr(module, "reset_fn", None)
    return Neuron(
        _update(module, fires),
        time_axis=1,
        folded="SqueezeMixin" in names,
        threshold=getattr(module, "spike_threshold", None),
        reset="none" if fires is None else "zero" if type(reset).__name__ == "MembraneReset" else "subtract",
        synapses="in layers" if hasattr(module, "rec_connect") else None,
        counts=getattr(fires, "__name__", type(fires).__name__) in ("MultiSpike", "MaxSpike"),
        states=len(_state(module)),
        steps=_stated(module, "num_timesteps"),
        samples=_stated(module, "batch_size"),
    )


def _stated(module: nn.Module, name: str) -> int | None:
    """What a Squeeze layer was told; -1 stands for the other of its two."""
    value = getattr(module, name, None)
    return value if isinstance(value, int) and value > 0 else None


def _update(module: nn.Module, fires: Any) -> Update:
    update = nearest(module, UPDATES)
    multiplies, adds, compares = update.multiplies, update.adds, update.compares
    if "i_syn" in _state(module):  # i = α_s (i + x) enters instead of x
        multiplies, adds = multiplies + 1, adds + 1
        update = replace(update, op=update.op.replace("lif", "cubalif"))
    if getattr(module, "norm_input", False):  # (1 - α) x
        multiplies += 1
    if getattr(module, "min_v_mem", None) is not None:
        compares += 1
    graded = update.graded or getattr(fires, "__name__", "") != "SingleSpike"
    return replace(update, multiplies=multiplies, adds=adds, compares=compares, graded=graded)


def _equation(module: Any) -> Equation | str | None:
    """Of LIF and IAF.  A synaptic current is i = α_s (i + x)."""
    kind = next((name for name in family(module) if name in UPDATES), "")
    fires, resets = getattr(module, "spike_fn", None), getattr(module, "reset_fn", None)
    fires_as = getattr(fires, "__name__", type(fires).__name__)
    zero, subtracts = (type(resets).__name__ == name for name in ("MembraneReset", "MembraneSubtract"))
    refused = {
        f"{type(module).__name__}: only LIF and IAF have the equation of one": kind not in ("LIF", "IAF"),
        f"spike_fn = {fires_as}: several spikes in a step": fires_as != "SingleSpike",
        f"reset_fn = {type(resets).__name__}": not zero and not subtracts,
        "reset_fn: a reset_value other than 0": zero and getattr(resets, "reset_value", 0.0) != 0,
        "min_v_mem: a floor under the membrane": getattr(module, "min_v_mem", None) is not None,
    }
    if reason := next((words for words, true in refused.items() if true), None):
        return reason
    synapse = "i_syn" in _state(module)
    numbers = {
        "tau_mem": one_number(module.alpha_mem_calculated),
        "tau_syn": one_number(module.alpha_syn_calculated) if synapse else 0.0,
        "spike_threshold": one_number(module.spike_threshold),
    }
    keep, current, threshold = numbers.values()
    if keep is None or current is None or threshold is None:
        name = next(name for name, number in numbers.items() if number is None)
        return f"{name} is not one number for all of the layer"
    stated = getattr(resets, "subtract_value", None)
    taken = threshold if stated is None else float(stated)
    return Equation(
        keep,
        1 - keep if module.norm_input else 1.0,
        threshold,
        taken=None if zero else taken,
        current_keep=current,
        current_gain=current if synapse else 1.0,
    )


def _reset(model: nn.Module) -> None:
    """State as in a new layer: another number of samples would draw from the state of the last ones."""
    for module in every(model):
        if "StatefulLayer" in family(module) and comes_from(module, PACKAGE):
            for name in _state(module):
                held = module._buffers[name]
                if held is not None and held.numel():
                    module._buffers[name] = torch.zeros(0, dtype=held.dtype, device=held.device)


def _state(module: nn.Module) -> tuple[str, ...]:
    return tuple(module._buffers)


FRAMEWORK = Framework(
    "sinabs", PACKAGE, _neuron, _reset, "sinabs.utils.reset_states", _state, equation=_equation
)
