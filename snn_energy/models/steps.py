"""Time first: (T, B, ...) from what callers give, and layers without state applied to every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from snn_energy.errors import DataError


def per_step(layers: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Apply stateless `layers` to every time step: (T, B, ...) -> (T, B, ...)."""
    return layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def conv_bn(x: torch.Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> torch.Tensor:
    """Convolution and batch norm on every time step: (T, B, C, H, W) -> (T, B, C', H', W')."""
    return bn(conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])


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
