"""BrainCog: `base.node.node`; a call is one step, or with `layer_by_layer` all steps of (T·B, …).

State is in attributes (`mem`, and `u` where the equation has one); spikes where mem ≥ threshold.
"""

from __future__ import annotations

from torch import nn

from snn_energy.frameworks.records import (
    UNSEEN,
    Framework,
    Neuron,
    Update,
    comes_from,
    every,
    family,
    nearest,
    noted,
)

PACKAGE = "braincog"
UPDATES: dict[str, Update] = {
    # m = m + x
    "IFNode": Update("if", 0, 1),
    # m = m + (x - m) / τ
    "LIFNode": Update("lif", 1, 1),
    "LIFSTDPNode": Update("lif", 1, 1),
    "OnlineLIFNode": Update("lif", 1, 1),
    "NoiseLIFNode": Update("noise_lif", 1, 2, note="the drawing of noise is not counted"),
    "NoisePLIFNode": Update("noise_lif", 1, 2, note="the drawing of noise is not counted"),
    # m + (x - m) / τ + 0.1
    "BiasLIFNode": Update("bias_lif", 1, 2),
    "BiasPLIFNode": Update("bias_lif", 1, 2),
    "PLIFNode": Update("plif", 1, 1),
    # the spikes that are more than one are scaled
    "BurstLIFNode": Update("burst_lif", 2, 1, 2, graded=True),
    # spikes of both signs
    "DoubleSidePLIFNode": Update("ternary_lif", 1, 1, 2, graded=True),
    # m = decay m + sigmoid(V s) x
    "BackEINode": Update("back_ei", 2, 1, graded=True, note=f"{UNSEEN}, nor are its gates"),
    # v = v + c (k v² + 5 v + 140 - u + x), u = u + c a (b v - u)
    "IzhNode": Update("izhikevich", 6, 6),
    "IzhNodeMU": Update("izhikevich", 6, 6),
    # the membrane itself where it is over the threshold
    "DGLIFNode": Update("liaf", 1, 1, graded=True),
    "HTDGLIFNode": Update("iaf", 0, 1, graded=True),
    "LIAFNode": Update("liaf", 1, 1, graded=True),
    # two dendrites (d + x) / τ_d, and m = m + (d1 + d2 - m) / τ
    "ThreeCompNode": Update("three_comp", 3, 4),
}
NO_NEURONS = ("ReLUNode", "BiasReLUNode")
STATES = ("mem", "u")


def _neuron(module: nn.Module) -> Neuron | None:
    names = family(module)
    ours = comes_from(module, PACKAGE) and {"BaseNode", "BaseMCNode"} & set(names)
    if not ours or any(name in NO_NEURONS for name in names):
        return None
    grouped = getattr(module, "groups", 1) != 1
    together = getattr(module, "layer_by_layer", False) or grouped
    return Neuron(
        noted(nearest(module, UPDATES), "steps stand beside one another as channels" if grouped else ""),
        time_axis=("by shape" if grouped else 0) if together else None,
        folded=together and not grouped,
        steps=getattr(module, "step", None) if together else None,
        threshold=getattr(module, "threshold", None),
        reset="zero",
        states=len(getattr(module, "mems", ())) or len(_state(module)),
    )


def _reset(model: nn.Module) -> None:
    """What BrainCog's own networks do in `reset()`."""
    for module in every(model):
        own = getattr(module, "n_reset", None)
        if callable(own) and comes_from(module, PACKAGE):
            own()


def _state(module: nn.Module) -> tuple[str, ...]:
    return tuple(name for name in STATES if hasattr(module, name))


FRAMEWORK = Framework("BrainCog", PACKAGE, _neuron, _reset, "n_reset() of its nodes", _state)
