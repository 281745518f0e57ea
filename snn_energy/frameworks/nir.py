"""NIR: the neurons of `models.nir`, one step per call.

Their updates are those of a machine on which what is constant is folded and the membrane is measured from its
leak and in units of its gain (`models/nir/neurons.py` has the equations): an IF adds its input, a leak is one
multiplication more, a synaptic current another multiplication and addition; integrators compare nothing.
"""

from __future__ import annotations

from torch import nn

from snn_energy.frameworks.records import Framework, Neuron, Update, comes_from, family

# class name -> update, and whether the neuron is reset
UPDATES: dict[str, tuple[Update, str]] = {
    "NirIF": (Update("if", 0, 1), "zero"),
    "NirLIF": (Update("lif", 1, 1), "zero"),
    "NirCubaLIF": (Update("cubalif", 2, 2), "zero"),
    "NirI": (Update("integrator", 0, 1, 0, graded=True), "none"),
    "NirLI": (Update("leaky_integrator", 1, 1, 0, graded=True), "none"),
    "NirCubaLI": (Update("cuba_integrator", 2, 2, 0, graded=True), "none"),
}
PACKAGE = "snn_energy.models.nir"


def _neuron(module: nn.Module) -> Neuron | None:
    name = next((name for name in family(module) if name in UPDATES), None)
    if name is None or not comes_from(module, PACKAGE):
        return None
    update, reset = UPDATES[name]
    return Neuron(
        update,
        time_axis=None,
        threshold=getattr(module, "v_threshold", None),
        reset=reset,
        states=max(1, len(_state(module))),
    )


def _reset(model: nn.Module) -> None:
    """Nothing beyond what everybody does: `functional.reset_net` calls each module's own `reset()`."""


def _state(module: nn.Module) -> tuple[str, ...]:
    return tuple(getattr(module, "_memories", ()))


FRAMEWORK = Framework("NIR", PACKAGE, _neuron, _reset, "the network itself, at each call", _state)
