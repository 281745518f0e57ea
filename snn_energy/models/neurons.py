"""The spiking neurons of our models: SpikingJelly's, with the settings that the papers use.

All are multi-step: input and output are (T, B, ...), time first.  Models reset them at the start of
`forward`, so a call never sees the membrane of the call before.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from snn_energy.models import native

ALPHA = 4.0
"""Of the surrogate, sigmoid(ALPHA · x), in the official releases."""
window = torch.ops.aten.hardtanh_backward
"""window(grad, v, low, high): grad where low < v < high, else 0."""


class LIF(neuron.LIFNode):
    """Leaky integrate-and-fire with decayed input and hard reset to 0.

    H[t] = V[t-1] + (X[t] - V[t-1]) / τ,  S[t] = Θ(H[t] - v_threshold) with Θ(0) = 1,
    V[t] = H[t]·(1 - S[t]); the reset is detached and the surrogate gradient is that of
    sigmoid(4·x), as in the official STAtten and Spike-driven Transformer releases.

    SpikingJelly's kernels run it, except on a CPU from a fresh membrane: while training `LIFSequence` takes
    the same steps there with the same result in one pass (`benchmarks/lif_step.py`), and without gradients
    `from_rest` does, because the first call of SpikingJelly's kernels imports torch's compilers.
    """

    def __init__(self, v_threshold: float = 1.0, tau: float = 2.0) -> None:
        super().__init__(
            tau=tau,
            v_threshold=v_threshold,
            v_reset=0.0,
            detach_reset=True,
            surrogate_function=surrogate.Sigmoid(alpha=ALPHA),
            step_mode="m",
        )

    v: torch.Tensor | float

    def multi_step_forward(self, x_seq: torch.Tensor) -> torch.Tensor:
        fresh = isinstance(self.v, float)
        if self.training and fresh and x_seq.device.type == "cpu" and not self.store_v_seq:
            whole = x_seq.float() if x_seq.dtype in (torch.bfloat16, torch.float16) else x_seq
            spikes, self.v = LIFSequence.apply(whole, self.tau, self.v_threshold)
            return spikes.to(x_seq.dtype)
        plain = type(x_seq) is torch.Tensor and x_seq.device.type == "cpu" and x_seq.dtype == torch.float32
        if fresh and plain and not torch.is_grad_enabled() and not self.store_v_seq:  # no capture's tensor
            spikes, self.v = from_rest(x_seq, self.tau, self.v_threshold)
            return spikes
        return super().multi_step_forward(x_seq)


def from_rest(x_seq: torch.Tensor, tau: float, v_threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The equations of `LIF` from V = 0: (T, B, ...) currents -> spikes (T, B, ...), last V (B, ...)."""
    v, spikes = torch.zeros_like(x_seq[0]), []
    for x in x_seq:
        h = torch.sub(x, v).div_(tau).add_(v)
        spikes.append((h >= v_threshold).to(h.dtype))
        v = torch.addcmul(h, h, spikes[-1], value=-1)
    return torch.stack(spikes), v


class LIFSequence(torch.autograd.Function):
    """The equations of `LIF` over a whole sequence that starts at rest, with their gradient written out.

    (T, B, ...) currents, τ, threshold -> spikes (T, B, ...), last membrane (B, ...), not differentiable.
    With σ = sigmoid(4 (H - v_threshold)) and gradients G of the spikes, backward in time:
    ∂H[t] = 4 σ[t] (1 - σ[t]) G[t] + (1 - S[t]) (1 - 1/τ) ∂H[t+1],  ∂X[t] = ∂H[t] / τ.

    Backward needs H alone: where it is below the threshold, S is 0.  `native` has both directions as C.
    """

    @staticmethod
    def forward(
        ctx: Any, x_seq: torch.Tensor, tau: float, v_threshold: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found = native.lif_forward(x_seq, tau, v_threshold)
        charged, spikes, v = found or charge_and_fire(x_seq, tau, v_threshold)
        ctx.save_for_backward(charged)
        ctx.tau, ctx.v_threshold = tau, v_threshold
        ctx.mark_non_differentiable(v)
        return spikes, v

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spikes: torch.Tensor, _: Any) -> tuple[torch.Tensor, None, None]:
        (charged,) = ctx.saved_tensors
        grad = native.lif_backward(charged, grad_spikes, ctx.tau, ctx.v_threshold, ALPHA)
        if grad is None:
            grad = currents_grad(charged, grad_spikes, ctx.tau, ctx.v_threshold)
        return grad, None, None


def charge_and_fire(
    x_seq: torch.Tensor, tau: float, v_threshold: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Currents (T, B, ...) -> charged membranes, spikes, last membrane (B, ...), as SpikingJelly rounds."""
    charged = torch.empty_like(x_seq)
    v = torch.zeros_like(x_seq[0])
    for t, (x, h) in enumerate(zip(x_seq, charged, strict=True)):
        if t == 0:
            torch.div(x, tau, out=h)
        else:
            torch.sub(x, v, out=h).div_(tau).add_(v)
        v = window(h, h, -math.inf, v_threshold)
    return charged, torch.ge(charged, v_threshold, out=torch.empty_like(charged)), v


def currents_grad(
    charged: torch.Tensor, grad_spikes: torch.Tensor, tau: float, v_threshold: float
) -> torch.Tensor:
    """Gradient of the currents from that of the spikes, (T, B, ...) both; see `LIFSequence`."""
    sigma = (charged - v_threshold).mul_(ALPHA).sigmoid_()
    grad = torch.ops.aten.sigmoid_backward(grad_spikes, sigma).mul_(ALPHA / tau)
    for t in reversed(range(len(grad) - 1)):
        grad[t].add_(window(grad[t + 1], charged[t], -math.inf, v_threshold), alpha=1 - 1 / tau)
    return grad


class PLIF(neuron.ParametricLIFNode):
    """`LIF` with a learnable time constant: 1/τ = sigmoid(w), one scalar `w` per layer, initially τ = 2."""

    def __init__(self, v_threshold: float = 1.0) -> None:
        super().__init__(
            init_tau=2.0,
            v_threshold=v_threshold,
            v_reset=0.0,
            detach_reset=True,
            surrogate_function=surrogate.Sigmoid(alpha=ALPHA),
            step_mode="m",
        )


def reset(model: nn.Module) -> None:
    """Put every stateful neuron of `model` back to its initial membrane."""
    functional.reset_net(model)
