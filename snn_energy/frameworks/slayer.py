"""SLAYER of lava-dl: `slayer.neuron.*`, inside of `slayer.block.*`; (B, C, H, W, T), time last.

All of its classes are called Neuron: the module that defines one names its equation.  With
`persistent_state`, state goes on from call to call; else a call begins at rest.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from snn_energy.frameworks.records import ASSUMED, Framework, Neuron, Update, comes_from, every, family, noted

PACKAGE = "lava.lib.dl.slayer"
# module -> update, by the equations of lava-dl's documentation
UPDATES: dict[str, Update] = {
    # u = (1 - α_u) u + x, v = (1 - α_v) v + u, spikes where v ≥ ϑ
    "cuba": Update("cubalif", 2, 2),
    # as cuba; ϑ and r decay, spikes where v - r ≥ ϑ
    "alif": Update("alif", 4, 4),
    # z = λ e^(iφ) z + x, complex: spikes where Im z changes its sign and |z| ≥ ϑ
    "rf": Update("rf", 6, 5, 2),
    # the same, spikes where Im z ≥ ϑ
    "rf_iz": Update("rf_iz", 4, 4),
    # these with ϑ and r that decay
    "adrf": Update("adrf", 8, 7, 2),
    "adrf_iz": Update("adrf_iz", 6, 6),
    # σ = σ + x, y = f(σ), and what has changed of y, where it is enough
    "sigma_delta": Update("sigma_delta", 0, 3, 1, graded=True),
}
NORMS = ("norm", "real_norm", "imag_norm")


def _neuron(module: nn.Module) -> Neuron | None:
    if "Neuron" not in family(module) or not comes_from(module, f"{PACKAGE}.neuron"):
        return None
    kinds = [base.__module__.rpartition(".")[2] for base in type(module).__mro__]
    update = next((UPDATES[kind] for kind in kinds if kind in UPDATES), ASSUMED)
    if getattr(module, "graded_spike", False):
        update = replace(update, graded=True)
    norm = any(getattr(module, name, None) is not None for name in NORMS)
    states = sum(len(_state(part)) for part in every(module))
    return Neuron(
        noted(update, "the norm inside the neuron is not counted" if norm else ""),
        time_axis=-1,
        threshold=getattr(module, "threshold", None),
        reset="none" if update.op in ("alif", "rf", "adrf", "adrf_iz", "sigma_delta") else "zero",
        states=max(1, states),
    )


def _name(module: nn.Module) -> str:
    return f"slayer.neuron.{type(module).__module__.rpartition('.')[2]}"


def _reset(model: nn.Module) -> None:
    """State as in a new neuron, also that of the sums and differences of sigma-delta neurons."""
    for module in every(model):
        if comes_from(module, PACKAGE):
            for name in _state(module):
                held = module._buffers[name]
                rest = float(getattr(module, "threshold", 0.0)) if name == "threshold_state" else 0.0
                if held is not None:
                    module._buffers[name] = torch.full((1,), rest, dtype=held.dtype, device=held.device)


def _state(module: nn.Module) -> tuple[str, ...]:
    return tuple(name for name in module._buffers if name.endswith("_state"))


FRAMEWORK = Framework("lava-dl SLAYER", PACKAGE, _neuron, _reset, "states as in new neurons", _state, _name)
