"""Time first: (T, B, ...) from what callers give, and layers without state applied to every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from snn_energy.errors import DataError
from snn_energy.models import native


def per_step(layers: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Apply stateless `layers` to every time step: (T, B, ...) -> (T, B, ...)."""
    return layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def conv_bn(x: torch.Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> torch.Tensor:
    """Convolution and batch norm on every time step: (T, B, C, H, W) -> (T, B, C', H', W').

    In training a still image goes through once.
    """
    if is_still(x) and bn.training and is_plain(bn) and bare(conv) and bare(bn):
        y = norm_of_still(conv(x[0]), bn, len(x))
        return y.expand(len(x), *y.shape)
    return norm(conv(x.flatten(0, 1)), bn).unflatten(0, x.shape[:2])


def norm(x: torch.Tensor, bn: nn.BatchNorm2d) -> torch.Tensor:
    """`bn(x)`; while training with channels last on a CPU, with a backward of ours (`native`)."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    if not (last and bn.training and is_plain(bn) and bare(bn) and native.serves(x, bn.weight)):
        return bn(x)
    bn.num_batches_tracked.add_(1)  # type: ignore[union-attr]
    return TrainingNorm.apply(x, bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.momentum, bn.eps)


class TrainingNorm(torch.autograd.Function):
    """Batch norm in training as PyTorch computes it, and its gradient in two passes over memory.

    With x̂ = (x - mean) / σ and means over N, H, W: ∂x = γ/σ · (∂y - mean(∂y) - x̂ · mean(∂y · x̂)).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *norm: Any) -> torch.Tensor:
        weight, bias, running_mean, running_var, momentum, eps = norm
        y, mean, rstd = torch.native_batch_norm(
            x, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        found = native.norm_backward(x, grad, mean, rstd, weight)
        if found is None:
            found = torch.ops.aten.native_batch_norm_backward(
                grad, x, weight, None, None, mean, rstd, True, ctx.eps, [True, True, True]
            )
        return *found, None, None, None, None


def norm_of_still(x: torch.Tensor, bn: nn.BatchNorm2d, time_steps: int) -> torch.Tensor:
    """`bn` in training over `time_steps` copies of `x` (B, C, H, W), of which one is computed: (B, C, H, W).

    Mean and variance are those of one; only the running variance, which divides by n - 1, sees how many.
    """
    variance: Any = bn.running_var
    before = (1 - bn.momentum) * variance  # type: ignore[operator]
    y = norm(x, bn)
    n = x.numel() // x.shape[1]
    share = time_steps * (n - 1) / (time_steps * n - 1)
    variance.data.sub_(before).mul_(share).add_(before)  # autograd keeps it, and never reads it
    return y


def is_plain(bn: nn.Module) -> bool:
    """Whether this is the batch norm that networks have: weights, and running statistics with a momentum."""
    plain = type(bn) is nn.BatchNorm2d and bn.affine and bn.track_running_stats
    return plain and bn.momentum is not None


def is_still(x: torch.Tensor) -> bool:
    """Whether (T, B, ...) is one and the same at every step, as `to_sequence` makes it of an image."""
    return x.shape[0] > 1 and x.stride(0) == 0


def bare(module: nn.Module) -> bool:
    """Whether nobody looks at what goes through `module`."""
    return not (module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def to_sequence(x: torch.Tensor, time_steps: int) -> torch.Tensor:
    """(B,C,H,W), repeated, or (B,T,C,H,W), transposed -> (T,B,C,H,W)."""
    if x.dim() == 4:
        return x.unsqueeze(0).expand(time_steps, *x.shape)
    return x.transpose(0, 1)


def check_input(x: torch.Tensor, in_channels: int, steps: int | None) -> None:
    """Raise `DataError` unless `x` is (B, in_channels, H, W) or (B, steps, in_channels, H, W).

    `steps` None: any number of them.
    """
    fits = x.dim() in (4, 5) and x.shape[-3] == in_channels
    if not fits or (x.dim() == 5 and steps not in (None, x.shape[1])):
        t = "T" if steps is None else steps
        wanted = f"(B, {in_channels}, H, W) or (B, {t}, {in_channels}, H, W)"
        raise DataError(f"input of shape {tuple(x.shape)}: must be {wanted}")
