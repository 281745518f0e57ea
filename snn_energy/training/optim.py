"""What moves the weights: optimizer and schedule of a recipe; timm does the work."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from snn_energy.training.recipe import Recipe


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer of all parameters of `model`; biases and norms do not decay."""
    from timm.optim import create_optimizer_v2

    return create_optimizer_v2(
        model,
        opt=recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
    )


def make_schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Any:
    """A scheduler of timm: `step_update(updates)` sets the learning rate of that optimizer step, from 0."""
    from timm.scheduler.cosine_lr import CosineLRScheduler

    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    return CosineLRScheduler(
        optimizer,
        t_initial=max(recipe.epochs * steps_per_epoch - warmup, 1),
        lr_min=recipe.min_lr,
        warmup_t=warmup,
        warmup_lr_init=recipe.min_lr,
        warmup_prefix=True,
        t_in_epochs=False,
    )
