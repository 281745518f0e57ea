"""Norse 1.1: returns `(spikes, state)`; state is passed in, None means rest, nothing stays in the module.

`…Cell` is one step, the others take (T, B, …).  Spikes where v > v_th.  All integrate by Euler's method, with
one factor for the leak and for what enters: v + Δt/τ (v_leak - v + i).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from snn_energy.frameworks.records import (
    ASSUMED,
    Equation,
    Framework,
    Neuron,
    Update,
    comes_from,
    family,
    one_number,
)

PACKAGE = "norse"
EXP = "one exponential per element and step not counted"
# class, without Recurrent and Cell -> (variables per element, update without recurrence)
UPDATES: dict[str, tuple[int, Update]] = {
    # v = v + x
    "IAF": (1, Update("if", 0, 1)),
    # v = v + Δt/τ (x - v)
    "LIFBox": (1, Update("lif", 1, 1)),
    # i = i + x, v = v + Δt/τ (i - v), i = (1 - Δt/τ_s) i
    "LIF": (2, Update("cubalif", 2, 2)),
    # the same, with spikes where ρ = 0 only, and ρ = max(ρ - 1, 0)
    "LIFRefrac": (3, Update("lif_refrac", 2, 3, 3)),
    # v = v + Δt/τ (i - v + δ exp((v - v_th) / δ)), i as LIF
    "LIFEx": (2, Update("lif_ex", 4, 4, note=EXP)),
    # the same less a, and a = a + Δt/τ_a (α (v - v_leak) - a)
    "LIFAdEx": (3, Update("adex", 6, 6, note=EXP)),
    "LIFAdExRefrac": (4, Update("adex_refrac", 6, 7, 3, note=EXP)),
    # v and i as LIF, b = b + Δt/τ_b (v_th - b), spikes where v > b
    "LSNN": (3, Update("alif", 3, 3)),
    # v = v + c (k v² + m v + n - u + x), u = u + c a (b v - u)
    "Izhikevich": (2, Update("izhikevich", 6, 6)),
    # g = g + relu(±x), both decay; v = v + Δt/C (g_l (v_rest - v) + g_e (E_e - v) + g_i (E_i - v))
    "CobaLIF": (3, Update("coba_lif", 6, 7, 3)),
    "LIBox": (1, Update("leaky_integrator", 1, 1, 0, graded=True)),
    "LI": (2, Update("cuba_integrator", 2, 2, 0, graded=True)),
    "LILinear": (2, Update("cuba_integrator", 2, 2, 0, graded=True)),
}
BASES = {"SNNCell": None, "SNN": 0, "SNNRecurrentCell": None, "SNNRecurrent": 0}  # base class -> axis of time


def _neuron(module: nn.Module) -> Neuron | None:
    """None for SequentialState, Lift, encoders and the like: what they hold is looked at itself."""
    if not comes_from(module, "norse.torch.module"):
        return None
    names = family(module)
    known = [UPDATES[name] for name in map(_plain, names) if name in UPDATES]
    bases = [name for name in names if name in BASES]
    if not known and not bases:
        return None
    states, update = known[0] if known else (1, ASSUMED)
    p: Any = getattr(module, "p", None)
    if "recurrent_weights" in module._parameters:  # the recurrent current is one more addition
        update = replace(update, op=f"recurrent_{update.op}", adds=update.adds + 1)
    if _nonzero(getattr(p, "v_leak", None)):
        update = replace(update, adds=update.adds + 1)
    weights = {"input_weights", "recurrent_weights"} & module._parameters.keys()
    subtracts = getattr(getattr(p, "reset_method", None), "__name__", "") == "reset_subtract"
    return Neuron(
        update,
        time_axis=BASES[bases[0]] if bases else None,
        threshold=getattr(p, "v_th", getattr(p, "v_thresh", None)),
        reset="none" if update.compares == 0 else "subtract" if subtracts else "zero",
        synapses="in forward" if weights else None,
        passed=True,
        states=states,
    )


def _plain(name: str) -> str:
    return name.removesuffix("Cell").removesuffix("Recurrent")


def _nonzero(value: Any) -> bool:
    return value is not None and bool((value != 0).any() if hasattr(value, "any") else value != 0)


def _equation(module: Any) -> Equation | str | None:
    """Of IAF, LIFBox and LIF, whose current i = (1 - Δt/τ_s) i + x enters the membrane before it decays."""
    name, p, dt = _plain(type(module).__name__), module.p, float(module.dt)
    recurrent = "recurrent_weights" in module._parameters or "Recurrent" in type(module).__name__
    if recurrent or name not in ("IAF", "LIFBox", "LIF"):
        return f"{type(module).__name__}: only IAF, LIFBox and LIF have the equation of one"
    wanted = {"IAF": (), "LIFBox": ("tau_mem_inv",), "LIF": ("tau_mem_inv", "tau_syn_inv")}[name]
    leak = () if name == "IAF" else ("v_leak",)
    numbers = {field: one_number(getattr(p, field)) for field in (*wanted, *leak, "v_th", "v_reset")}
    if (missing := next((field for field, number in numbers.items() if number is None), None)) is not None:
        return f"{missing} is not one number for all of the layer"
    given = {field: number for field, number in numbers.items() if number is not None}
    subtracts = getattr(getattr(p, "reset_method", None), "__name__", "") == "reset_subtract"
    rest = given.get("v_leak", given["v_reset"])
    if not subtracts and given["v_reset"] != rest:
        return f"v_reset = {given['v_reset']:g} is not v_leak = {rest:g}"
    if given["v_th"] <= rest:
        return f"v_th = {given['v_th']:g} is not above v_leak = {rest:g}"
    if subtracts and rest:
        return f"v_leak = {rest:g} with a reset by subtraction"
    gain = dt * given.get("tau_mem_inv", 1 / dt)
    current = 1 - dt * given["tau_syn_inv"] if name == "LIF" else 0.0
    if not 0 < gain <= 1 or not 0 <= current < 1:
        return f"dt = {dt:g} is longer than a time constant"
    keep, taken = (1.0 if name == "IAF" else 1 - gain), given["v_th"] if subtracts else None
    return Equation(keep, gain, given["v_th"], rest, taken, strict=True, current_keep=current)


def _reset(model: nn.Module) -> None:
    """Nothing: whoever passes no state gets neurons at rest."""


FRAMEWORK = Framework("Norse", PACKAGE, _neuron, _reset, "passing no state", equation=_equation)
