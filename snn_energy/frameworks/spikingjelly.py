"""SpikingJelly: `activation_based.neuron`, multi-step (T, B, …) or one step per call."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from snn_energy.frameworks.records import Framework, Neuron, TimeAxis, Update, comes_from, family

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
ASSUMED = Update("neuron", 1, 1, graded=True, note="unknown neuron: the update of an LIF is assumed")
PACKAGE = "spikingjelly.activation_based.neuron"


def _neuron(module: nn.Module) -> Neuron | None:
    """A module of SpikingJelly's, or one in its manner: with `v_threshold` and a `surrogate_function`."""
    ours = comes_from(module, PACKAGE)
    if not ours and not (hasattr(module, "v_threshold") and hasattr(module, "surrogate_function")):
        return None
    mode = getattr(module, "step_mode", None)
    parallel = type(module).__name__.endswith("PSN")
    axis: TimeAxis = "by shape" if mode is None and not parallel else None if mode == "s" else 0
    return Neuron(
        _update(module),
        time_axis=axis,
        threshold=getattr(module, "v_threshold", None),
        reset="subtract" if getattr(module, "v_reset", 0.0) is None else "zero",
    )


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
