"""Networks whose sums are exact in float32, so that no processor, batch or library rounds them otherwise.

Weights, biases and inputs become whole multiples of a power of two, few bits wide, and norms plain factors
and offsets of that kind: every product and every sum of them then is a float32, in whatever order it is made.
With τ = 2, means over powers of two and a sigmoid at 0 membranes stay so, too.  What cannot be exact, the
inside of STAA-SNN's gates, has no effect: weights in front of sigmoids and those of layer norms become 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_energy.models.staa_neuron import GlobalContext, StepAttention

STEP, FACTOR, PIXEL = 2.0**-6, 2.0**-3, 2.0**-4
"""Grids of weights and offsets, of the factors of norms, and of inputs."""


def on_grid(x: Tensor, step: float) -> Tensor:
    """The nearest whole multiples of `step`."""
    return (x / step).round() * step


def exact(model: nn.Module) -> nn.Module:
    """`model` itself in evaluation mode, every parameter on its grid."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(on_grid(parameter, STEP))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                plain_norm(module)
            elif isinstance(module, nn.LayerNorm):
                module.weight.zero_()
            elif isinstance(module, GlobalContext):
                module.key.weight.zero_()
                module.key.bias.zero_()
            elif isinstance(module, StepAttention):
                module.conv2.weight.zero_()
    return model.eval()


def plain_norm(norm: nn.modules.batchnorm._BatchNorm) -> None:
    """What it does in evaluation, as one factor and one offset per channel: mean 0, variance 1, and no ε."""
    factor = on_grid(norm.weight / torch.sqrt(norm.running_var + norm.eps), FACTOR)
    offset = on_grid(norm.bias - norm.running_mean * factor, STEP)
    norm.eps = 0.0
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    norm.weight.copy_(torch.where(factor == 0, FACTOR * torch.ones_like(factor), factor))
    norm.bias.copy_(offset)


def exact_images(*shape: int, seed: int = 0) -> Tensor:
    """Values in [0, 1], sixteenths: real numbers, neither spikes nor counts."""
    return on_grid(torch.rand(shape, generator=torch.Generator().manual_seed(seed)), PIXEL)
