"""The neurons of SpikingJelly 0.0.0.0.12's `clock_driven`, as subclasses of SpikingJelly 2's.

`XNode` takes one step, x (B, ...); `MultiStepXNode` a sequence, (T, B, ...).  Charge, fire and reset can be
overridden one by one, as the old ones could: SpikingJelly 2's classes would never call them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from spikingjelly.activation_based import neuron as new

from snn_energy.errors import ConfigError

__all__ = [
    "BaseNode",
    "EIFNode",
    "IFNode",
    "LIAFNode",
    "LIFNode",
    "MultiStepEIFNode",
    "MultiStepIFNode",
    "MultiStepLIFNode",
    "MultiStepParametricLIFNode",
    "ParametricLIFNode",
    "QIFNode",
    "check_backend",
]

BACKENDS = ("torch", "cupy")
"""What `backend=` may say: how to compute the same equations, which SpikingJelly 2 decides for itself."""

EQUATIONS = ("neuronal_charge", "neuronal_fire", "neuronal_reset")
_IGNORED = ("backend", "lava_s_cale", "cupy_fp32_inference")
Order = tuple[str, ...]
"""The names of a constructor's positional arguments."""

_RESET = ("v_threshold", "v_reset", "surrogate_function", "detach_reset")


def check_backend(backend: str) -> None:
    """Raise `ConfigError` unless `backend` names one that computes the float equations."""
    if backend not in BACKENDS:
        raise ConfigError(f"backend = {backend!r}: must be torch or cupy; both run SpikingJelly 2's kernels")


def by_name(order: Order, args: tuple[Any, ...], given: dict[str, Any], who: str) -> dict[str, Any]:
    """Old positional arguments under their names, without those that choose an implementation.

    Whole numbers become floats where the old code took either.  Raises `TypeError` as a call would.
    """
    if len(args) > len(order):
        raise TypeError(f"{who}: {len(args)} positional arguments, must be at most {len(order)}")
    for name, value in zip(order, args, strict=False):
        if name in given:
            raise TypeError(f"{who}: {name} is given twice")
        given[name] = value
    if "backend" in given:
        check_backend(given["backend"])
    kept = {name: value for name, value in given.items() if name not in _IGNORED}
    return {k: float(v) if type(v) is int and k != "alpha" else v for k, v in kept.items()}


def runs_own_equations(cls: type) -> bool:
    """Whether `cls` has an equation that somebody wrote, rather than one of this file."""
    return any(written_by_user(cls, name) for name in EQUATIONS)


def written_by_user(cls: type, name: str) -> bool:
    """Whether the method `name` that `cls` has is neither SpikingJelly's nor ours."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), None)
    return owner is not None and not owner.__module__.startswith(("spikingjelly.", "snn_energy.", "torch."))


class Equations:
    """Mixin: one step by the three old equations, for classes that override one of them."""

    def neuronal_charge(self: Any, x: torch.Tensor) -> None:
        """H[t] of an IF, LIF, PLIF, QIF or EIF; any other neuron has to write it."""
        if isinstance(self, new.IFNode):
            self.v = self.v + x
        elif isinstance(self, new.LIFNode | new.ParametricLIFNode):
            self._leak(x)
        elif isinstance(self, new.QIFNode):
            self.v = self.v + (x + self.a0 * (self.v - self.v_rest) * (self.v - self.v_c)) / self.tau
        elif isinstance(self, new.EIFNode):
            v = torch.as_tensor(self.v, dtype=x.dtype, device=x.device)
            rise = self.delta_T * torch.exp((v - self.theta_rh) / self.delta_T)
            self.v = v + (x + self.v_rest - v + rise) / self.tau
        else:
            raise ConfigError(f"{type(self).__name__}: has no neuronal_charge(x); write it in the class")

    def _leak(self: Any, x: torch.Tensor) -> None:
        """H[t] of an LIF or PLIF, term by term as the old code adds it."""
        learned = isinstance(self, new.ParametricLIFNode)
        rate = self.w.sigmoid() if learned else 1.0 / self.tau

        def over_tau(value: torch.Tensor) -> torch.Tensor:
            return value * rate if learned else value / self.tau

        above = self.v - self.v_reset if self.v_reset else self.v
        if self.decay_input:
            self.v = self.v + over_tau(x - above)
        elif self.v_reset:
            self.v = self.v - over_tau(above) + x
        else:
            self.v = self.v * (1.0 - rate) + x

    def neuronal_fire(self: Any) -> torch.Tensor:
        """S[t] = Θ(H[t] - v_threshold)."""
        return self.surrogate_function(self.v - self.v_threshold)

    def neuronal_reset(self: Any, spike: torch.Tensor) -> None:
        """V[t]: to v_reset where a spike was, or down by v_threshold where v_reset is None."""
        spike = spike.detach() if self.detach_reset else spike
        if self.v_reset is None:
            self.v = self.v - spike * self.v_threshold
        else:
            self.v = (1.0 - spike) * self.v + spike * self.v_reset

    def v_float_to_tensor(self: Any, x: torch.Tensor) -> None:
        """The initial membrane, spread over the neurons of `x`."""
        if isinstance(self.v, float):
            self.v = torch.full_like(x, self.v)

    jit_hard_reset = staticmethod(new.BaseNode.apply_hard_reset)
    jit_soft_reset = staticmethod(new.BaseNode.apply_soft_reset)

    def one_step(self: Any, x: torch.Tensor) -> torch.Tensor:
        """Charge, fire, reset: (B, ...) -> spikes (B, ...)."""
        self.neuronal_charge(x)
        spike = self.neuronal_fire()
        self.neuronal_reset(spike)
        return spike


class BaseNode(Equations, new.BaseNode):
    """The old base class: a subclass writes `neuronal_charge(x)`, which updates `self.v`."""

    ORDER: ClassVar[Order] = _RESET
    STEP_MODE: ClassVar[str] = "s"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = by_name(self.ORDER, args, kwargs, type(self).__name__)
        super().__init__(**given, step_mode=self.STEP_MODE)

    def single_step_forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if runs_own_equations(type(self)):
            return self.one_step(x)
        return super().single_step_forward(x, *args, **kwargs)

    def multi_step_forward(self, x_seq: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if runs_own_equations(type(self)):
            return torch.stack([self.one_step(x) for x in x_seq])
        return super().multi_step_forward(x_seq, *args, **kwargs)


class MultiStep:
    """Mixin of the multi-step classes: `v_seq`, the membranes (T, B, ...) of the last call, if asked for."""

    STEP_MODE: ClassVar[str] = "m"

    @property
    def v_seq(self: Any) -> torch.Tensor | None:
        kept = self.__dict__.get("_v_seq")
        if kept is None and isinstance(self.v, torch.Tensor) and not self.store_v_seq:
            raise ConfigError(
                f"{type(self).__name__}.v_seq: the membranes of all steps are kept only where "
                "store_v_seq = True is set on the neuron before the call"
            )
        return kept

    @v_seq.setter
    def v_seq(self, value: torch.Tensor | None) -> None:
        self.__dict__["_v_seq"] = value


class IFNode(BaseNode, new.IFNode):
    """H[t] = V[t-1] + X[t]; one step."""

    ORDER: ClassVar[Order] = (*_RESET, "cupy_fp32_inference")


class MultiStepIFNode(MultiStep, IFNode):
    """`IFNode` over a sequence."""

    ORDER: ClassVar[Order] = (*_RESET, "backend", "lava_s_cale")


class LIFNode(BaseNode, new.LIFNode):
    """H[t] = V[t-1] + (X[t] - (V[t-1] - v_reset)) / τ, or without /τ on X where `decay_input` is False."""

    ORDER: ClassVar[Order] = ("tau", "decay_input", *_RESET, "cupy_fp32_inference")


class MultiStepLIFNode(MultiStep, LIFNode):
    """`LIFNode` over a sequence."""

    ORDER: ClassVar[Order] = ("tau", "decay_input", *_RESET, "backend", "lava_s_cale")


class ParametricLIFNode(BaseNode, new.ParametricLIFNode):
    """`LIFNode` with 1/τ = sigmoid(w), w a parameter without axes (Fang et al., ICCV 2021)."""

    ORDER: ClassVar[Order] = ("init_tau", "decay_input", *_RESET)


class MultiStepParametricLIFNode(MultiStep, ParametricLIFNode):
    """`ParametricLIFNode` over a sequence."""

    ORDER: ClassVar[Order] = ("init_tau", "decay_input", *_RESET, "backend")


class QIFNode(BaseNode, new.QIFNode):
    """H[t] = V[t-1] + (X[t] + a0 (V[t-1] - v_rest)(V[t-1] - v_c)) / τ; one step."""

    ORDER: ClassVar[Order] = ("tau", "v_c", "a0", "v_threshold", "v_rest", *_RESET[1:])


class EIFNode(BaseNode, new.EIFNode):
    """H[t] = V[t-1] + (X[t] - (V[t-1] - v_rest) + Δ exp((V[t-1] - θ) / Δ)) / τ; one step."""

    ORDER: ClassVar[Order] = ("tau", "delta_T", "theta_rh", "v_threshold", "v_rest", *_RESET[1:])


class MultiStepEIFNode(MultiStep, EIFNode):
    """`EIFNode` over a sequence."""

    ORDER: ClassVar[Order] = ("tau", "delta_T", "theta_rh", "v_threshold", "v_rest", *_RESET[1:], "backend")


class LIAFNode(LIFNode):
    """An LIF that gives act(H[t]), or act(H[t] - v_threshold), instead of its spikes; one step."""

    def __init__(self, act: Any, threshold_related: bool, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.act, self.threshold_related = act, threshold_related

    def single_step_forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.neuronal_charge(x)
        y = self.act(self.v - self.v_threshold if self.threshold_related else self.v)
        self.neuronal_reset(self.neuronal_fire())
        return y
