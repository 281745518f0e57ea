"""The spiking neurons of our models: SpikingJelly's, with the settings that the papers use.

All are multi-step: input and output are (T, B, ...), time first.  Models reset them at the start of
`forward`, so a call never sees the membrane of the call before.
"""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn


class LIF(neuron.LIFNode):
    """Leaky integrate-and-fire with decayed input and hard reset to 0.

    H[t] = V[t-1] + (X[t] - V[t-1]) / τ,  S[t] = Θ(H[t] - v_threshold) with Θ(0) = 1,
    V[t] = H[t]·(1 - S[t]); the reset is detached and the surrogate gradient is that of
    sigmoid(4·x), as in the official STAtten and Spike-driven Transformer releases.

    SpikingJelly's kernels run it, except on a CPU from a fresh membrane: while training `LIFSequence` takes
    the same steps there with the same result in fewer operations (`benchmarks/lif_step.py`), and without
    gradients `from_rest` does, because the first call of SpikingJelly's kernels imports torch's compilers.
    """

    def __init__(self, v_threshold: float = 1.0, tau: float = 2.0) -> None:
        super().__init__(
            tau=tau,
            v_threshold=v_threshold,
            v_reset=0.0,
            detach_reset=True,
            surrogate_function=surrogate.Sigmoid(alpha=4.0),
            step_mode="m",
        )

    v: torch.Tensor | float

    def multi_step_forward(self, x_seq: torch.Tensor) -> torch.Tensor:
        fresh = isinstance(self.v, float)
        if self.training and fresh and x_seq.device.type == "cpu" and not self.store_v_seq:
            spikes, self.v = LIFSequence.apply(x_seq, self.tau, self.v_threshold)
            return spikes
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
    """

    @staticmethod
    def forward(
        ctx: Any, x_seq: torch.Tensor, tau: float, v_threshold: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        spikes, charged = torch.empty_like(x_seq), torch.empty_like(x_seq)
        v = torch.zeros_like(x_seq[0])
        for x, h, s in zip(x_seq, charged, spikes, strict=True):
            torch.sub(x, v, out=h).div_(tau).add_(v)
            torch.ge(h, v_threshold, out=s)
            v = torch.addcmul(h, h, s, value=-1)
        ctx.save_for_backward(charged, spikes)
        ctx.tau, ctx.v_threshold = tau, v_threshold
        ctx.mark_non_differentiable(v)
        return spikes, v

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spikes: torch.Tensor, _: Any) -> tuple[torch.Tensor, None, None]:
        charged, spikes = ctx.saved_tensors
        sigma = torch.sigmoid((charged - ctx.v_threshold).mul_(4))
        grad = torch.addcmul(sigma, sigma, sigma, value=-1).mul_(4).mul_(grad_spikes)
        carry = torch.zeros_like(grad[0])
        for t in reversed(range(len(grad))):
            grad[t].add_(carry).addcmul_(carry, spikes[t], value=-1)
            scaled = grad[t] / ctx.tau
            carry = grad[t] - scaled
            grad[t] = scaled
        return grad, None, None


class PLIF(neuron.ParametricLIFNode):
    """`LIF` with a learnable time constant: 1/τ = sigmoid(w), one scalar `w` per layer, initially τ = 2."""

    def __init__(self, v_threshold: float = 1.0) -> None:
        super().__init__(
            init_tau=2.0,
            v_threshold=v_threshold,
            v_reset=0.0,
            detach_reset=True,
            surrogate_function=surrogate.Sigmoid(alpha=4.0),
            step_mode="m",
        )


def reset(model: nn.Module) -> None:
    """Put every stateful neuron of `model` back to its initial membrane."""
    functional.reset_net(model)
