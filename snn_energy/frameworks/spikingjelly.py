"""SpikingJelly: `activation_based.neuron`, multi-step (T, B, …) or one step per call.

0.0.0.0.14 and 2 tell the two apart by `step_mode`, 0.0.0.0.12 (`clock_driven.neuron`) by the class.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from snn_energy.frameworks.records import (
    ASSUMED,
    Framework,
    Neuron,
    TimeAxis,
    Update,
    comes_from,
    family,
)

# class name -> update; the first class of a module's family that is listed decides
UPDATES: dict[str, Update] = {
    "IFNode": Update("if", 0, 1),
    "SimpleIFNode": Update("if", 0, 1),
    "HalfThresholdIFNode": Update("if", 0, 1),
    "ActivationAwareIFNode": Update("if", 0, 1, graded=True),
    "DSRIFNode": Update("if", 0, 1, graded=True),
    "LIFNode": Update("lif", 1, 1),
    "SimpleLIFNode": Update("lif", 1, 1),
    "DSRLIFNode": Update("lif", 1, 1, graded=True),
    "LIAFNode": Update("liaf", 1, 1, graded=True),
    "ILIFNode": Update("ilif", 1, 1, graded=True),
    "ParametricLIFNode": Update("plif", 1, 1),
    "KLIFNode": Update("klif", 2, 1),
    "GatedLIFNode": Update("glif", 4, 3),
    "ComplementaryLIFNode": Update("clif", 3, 3),
    "CUBALIFNode": Update("cubalif", 2, 2),
    "MPBNBaseNode": Update("mpbn", 2, 2),
    "OTTTLIFNode": Update("lif", 1, 1),
    "SLTTLIFNode": Update("lif", 1, 1),
    "QIFNode": Update("qif", 2, 3),
    "EIFNode": Update("eif", 2, 3, note="one exponential per element and step not counted"),
    "IzhikevichNode": Update("izhikevich", 4, 5),
    "RAFNode": Update("raf", 4, 3),
    "TernaryIFNode": Update("ternary_if", 0, 1, 2, graded=True),
    "TernaryLIFNode": Update("ternary_lif", 1, 1, 2, graded=True),
    "STBIFNode": Update("stbif", 0, 1, 2, graded=True),
    "NonSpikingIFNode": Update("integrator", 0, 1, 0, graded=True),
    "NonSpikingLIFNode": Update("leaky_integrator", 1, 1, 0, graded=True),
    "Fire": Update("fire", 0, 0),  # of a STAA neuron, whose membrane arithmetic is counted as it runs
}
PARALLEL = ("PSN", "MaskedPSN", "SlidingPSN")  # membranes from a (T, T) weight: T multiply-adds per element
PACKAGE = "spikingjelly.activation_based.neuron"
OLD = "spikingjelly.clock_driven.neuron"  # until 0.0.0.0.12: MultiStep… takes (T, B, …), the others a step


def _neuron(module: nn.Module) -> Neuron | None:
    """A module of SpikingJelly's, or one in its manner: with `v_threshold` and a `surrogate_function`."""
    ours, old = comes_from(module, PACKAGE), comes_from(module, OLD)
    if (
        not ours
        and not old
        and not (hasattr(module, "v_threshold") and hasattr(module, "surrogate_function"))
    ):
        return None
    update = _update(module)
    silent = not isinstance(update, Update) or update.compares == 0  # parallel neurons, integrators
    return Neuron(
        update,
        time_axis=_time_axis(module, old),
        threshold=getattr(module, "v_threshold", None),
        reset="none" if silent else "subtract" if getattr(module, "v_reset", 0.0) is None else "zero",
        states=_states(module),
    )


def _time_axis(module: nn.Module, old: bool) -> TimeAxis:
    mode = getattr(module, "step_mode", None)
    if mode is not None:
        return None if mode == "s" else 0
    if old:
        return 0 if any(name.startswith("MultiStep") for name in family(module)) else None
    return 0 if type(module).__name__.endswith("PSN") else "by shape"


def _states(module: nn.Module) -> int:
    if hasattr(module, "_memories"):
        settings = ("v_threshold", "v_reset")  # 0.0.0.0.12 keeps them there, too
        return len([name for name in _state(module) if name not in settings])
    return 0 if type(module).__name__ in PARALLEL else 1


def _update(module: nn.Module) -> Update | Callable[[int], Update]:
    for name in family(module):
        if name in PARALLEL:
            return functools.partial(_parallel, module, name)
        if name in UPDATES:
            return UPDATES[name]
    return ASSUMED


def _parallel(module: nn.Module, name: str, steps: int) -> Update:
    order = min(getattr(module, "k", steps) or steps, steps)
    return Update(name.lower(), order, order)


def _reset(model: nn.Module) -> None:
    """Nothing beyond what everybody does: `functional.reset_net` calls each module's own `reset()`."""


def _state(module: nn.Module) -> tuple[str, ...]:
    return tuple(name for name in getattr(module, "_memories", ()) if name != "v_seq")


FRAMEWORK = Framework(
    "SpikingJelly", "spikingjelly", _neuron, _reset, "spikingjelly's functional.reset_net", _state
)
