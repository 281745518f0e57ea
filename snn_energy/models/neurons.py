"""The spiking neurons of our models: SpikingJelly's, with the settings that the papers use.

All are multi-step: input and output are (T, B, ...), time first.  Models reset them at the start of
`forward`, so a call never sees the membrane of the call before.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn


class LIF(neuron.LIFNode):
    """Leaky integrate-and-fire with decayed input and hard reset to 0.

    H[t] = V[t-1] + (X[t] - V[t-1]) / τ,  S[t] = Θ(H[t] - v_threshold) with Θ(0) = 1,
    V[t] = H[t]·(1 - S[t]); the reset is detached and the surrogate gradient is that of
    sigmoid(4·x), as in the official STAtten and Spike-driven Transformer releases.
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


def to_sequence(x: torch.Tensor, time_steps: int) -> torch.Tensor:
    """(B,C,H,W), repeated, or (B,T,C,H,W), transposed -> (T,B,C,H,W)."""
    if x.dim() == 4:
        return x.unsqueeze(0).expand(time_steps, *x.shape)
    return x.transpose(0, 1)
