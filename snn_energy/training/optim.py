"""What moves the weights: optimizer, schedule and clipping of a recipe; timm does the work."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from snn_energy.training.recipe import Recipe


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer of all parameters of `model`; biases and norms do not decay."""
    from timm.optim import create_optimizer_v2

    plain = recipe.optimizer == "sgd" and not (recipe.nesterov and recipe.momentum)
    told: dict[str, Any] = {}
    if recipe.opt_eps is not None:
        told["eps"] = recipe.opt_eps
    if recipe.opt_betas is not None:
        told["betas"] = tuple(recipe.opt_betas)
    return create_optimizer_v2(
        model,
        opt="momentum" if plain else recipe.optimizer,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        **(told if recipe.optimizer != "sgd" else {}),
    )


def batches_per_epoch(recipe: Recipe, samples: int, processes: int = 1) -> int:
    """How many batches an epoch has, each of `recipe.batch_size` in each process.

    With `drop_last` those that are full; the only one is kept, though.
    """
    batches = samples / (recipe.batch_size * processes)
    return max(1, math.floor(batches) if recipe.drop_last else math.ceil(batches))


def make_schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Schedule:
    """The recipe's learning rates for `optimizer`, whose groups it sets."""
    return Schedule(recipe, optimizer, steps_per_epoch)


class Schedule:
    """The learning rate of each optimizer step.

    timm's cosine counts in steps, or in epochs where the recipe changes the rate per epoch; past its end,
    in the cool-down, the rate is `min_lr`.
    """

    def __init__(self, recipe: Recipe, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> None:
        from timm.scheduler.cosine_lr import CosineLRScheduler

        self.every = steps_per_epoch if recipe.schedule_per == "epoch" else 1
        units = 1 if recipe.schedule_per == "epoch" else steps_per_epoch
        warmup = round(recipe.warmup_epochs * units)
        spanned = recipe.epochs * units - (warmup if recipe.warmup_prefix else 0)
        start = recipe.min_lr if recipe.warmup_lr is None else recipe.warmup_lr
        self.scheduler = CosineLRScheduler(
            optimizer,
            t_initial=max(spanned, 1),
            lr_min=recipe.lr if recipe.schedule == "constant" else recipe.min_lr,
            warmup_t=warmup,
            warmup_lr_init=start,
            warmup_prefix=recipe.warmup_prefix,
            t_in_epochs=False,
            cycle_decay=0.5,  # of a second cycle, which there is not: 1 makes timm warn of short runs
        )

    def step_update(self, updates: int) -> None:
        """Set the learning rate of optimizer step `updates`, counted from 0."""
        self.scheduler.step_update(updates // self.every)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the rate depends on the number of updates alone."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take."""


def clip_gradients(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> None:
    """Cut gradients as the recipe says, by norm, value, or adaptively; nothing without `clip_grad`."""
    if recipe.clip_grad is None:
        return
    from timm.utils import dispatch_clip_grad

    dispatch_clip_grad(list(parameters), recipe.clip_grad, mode=recipe.clip_mode)
