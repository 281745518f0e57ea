"""What a spiking neuron's update costs, per element and time step, and which modules are neurons.

A neuron is one operation: what happens inside its `forward` is not counted call by call.  The figures are
those of the equations, not of any implementation: leak and input scaling are multiplications, every term
that joins the membrane is an addition, every threshold a comparison; a reset is one operation per spike.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Update:
    """Operations per element and step.  `graded`: the output may hold other values than 0 and 1."""

    op: str
    multiplies: int
    adds: int
    compares: int = 1
    graded: bool = False
    note: str = ""


ASSUMED = Update("neuron", 1, 1, graded=True, note="unknown neuron: the update of an LIF is assumed")

# class name -> update; the first class of a module's MRO that is listed decides
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
_NEURON_PACKAGE = "spikingjelly.activation_based.neuron"


def is_neuron(module: nn.Module) -> bool:
    """A spiking neuron: SpikingJelly's, or anything with a threshold and a surrogate gradient."""
    if any(base.__module__.startswith(_NEURON_PACKAGE) for base in type(module).__mro__):
        return True
    return hasattr(module, "v_threshold") and hasattr(module, "surrogate_function")


def update_of(module: nn.Module, steps: int) -> Update:
    """The cost of one update of `module`; `steps` matters to parallel neurons only."""
    for base in type(module).__mro__:
        if base.__name__ in PARALLEL:
            order = min(getattr(module, "k", steps) or steps, steps)
            return Update(base.__name__.lower(), order, order)
        if base.__name__ in UPDATES:
            return UPDATES[base.__name__]
    return ASSUMED


def state_elements(module: nn.Module) -> int:
    """How many state variables a neuron keeps per element: its membrane, and any current or trace."""
    memories = getattr(module, "_memories", None)
    if memories is None:
        return 0 if type(module).__name__ in PARALLEL else 1
    return len([name for name in memories if name != "v_seq"])
