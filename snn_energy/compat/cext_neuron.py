"""The neurons of `spikingjelly.cext`, of the SpikingJelly that SEW-ResNet was trained with (2021, 0.0.0.0.5).

Their defaults differ from all later ones: the surrogate gradient is ATan(2), the time constant of an LIF is
100, `detach_input=True` means that the input is not divided by it, and the parameter w of a parametric LIF
has one axis of length 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from spikingjelly.activation_based import neuron as new
from spikingjelly.activation_based import surrogate
from torch import nn

from snn_energy.compat.neuron import BaseNode as _BaseNode
from snn_energy.compat.neuron import Order, by_name
from snn_energy.errors import ConfigError, suggest

__all__ = [
    "BaseNode",
    "IFNode",
    "LIFNode",
    "MultiStepIFNode",
    "MultiStepLIFNode",
    "MultiStepParametricLIFNode",
    "ParametricLIFNode",
]

SURROGATES = {"ATan": surrogate.ATan, "Sigmoid": surrogate.Sigmoid}
_RESET = ("v_threshold", "v_reset", "surrogate_function", "alpha", "detach_reset")


class BaseNode(_BaseNode):
    """Hard reset only; `surrogate_function` is a name and `alpha` its parameter."""

    ORDER: ClassVar[Order] = _RESET
    DEFAULTS: ClassVar[dict[str, Any]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = by_name(self.ORDER, args, kwargs, type(self).__name__)
        name, alpha = given.pop("surrogate_function", "ATan"), given.pop("alpha", 2.0)
        if name not in SURROGATES:
            raise ConfigError(f"surrogate_function = {name!r}; {suggest(str(name), SURROGATES)}")
        if given.get("v_reset", 0.0) is None:
            raise ConfigError("v_reset = None: the neurons of spikingjelly.cext have a hard reset only")
        if "detach_input" in given:
            given["decay_input"] = not given.pop("detach_input")
        super().__init__(**{**self.DEFAULTS, **given}, surrogate_function=SURROGATES[name](alpha=alpha))


class IFNode(BaseNode, new.IFNode):
    """H[t] = V[t-1] + X[t]; one step."""


class MultiStepIFNode(IFNode):
    """`IFNode` over a sequence."""

    STEP_MODE = "m"


class LIFNode(BaseNode, new.LIFNode):
    """H[t] = V[t-1] + (X[t] - V[t-1] + v_reset) / τ, or X[t] outside the brackets with `detach_input`."""

    ORDER: ClassVar[Order] = ("tau", "detach_input", *_RESET)
    DEFAULTS: ClassVar[dict[str, Any]] = {"tau": 100.0}


class MultiStepLIFNode(LIFNode):
    """`LIFNode` over a sequence."""

    STEP_MODE = "m"


class ParametricLIFNode(BaseNode, new.ParametricLIFNode):
    """`LIFNode` with 1/τ = sigmoid(w); one step."""

    ORDER: ClassVar[Order] = ("init_tau", "detach_input", *_RESET)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        (w,) = self.parameters()
        self.w = nn.Parameter(w.detach().reshape(1))


class MultiStepParametricLIFNode(ParametricLIFNode):
    """`ParametricLIFNode` over a sequence."""

    STEP_MODE = "m"
