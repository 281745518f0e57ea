"""Training losses on logits (B, K), or (T, B, K) for a loss per time step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from snn_energy.training.recipe import Recipe

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of logits (B, K) or (T, B, K), and labels (B,) or shares (B, K)."""
Penalty = Callable[[], torch.Tensor]
"""A term that is added to the loss, called after each forward pass of a training step: a scalar."""


def make_loss(recipe: Recipe) -> Loss:
    """The recipe's loss of what the network puts out."""
    if recipe.loss == "tet":
        return lambda logits, y: tet(
            logits, y, recipe.label_smoothing, means=recipe.tet_means, lamb=recipe.tet_lamb
        )
    return lambda logits, y: cross_entropy(logits, y, recipe.label_smoothing)


def make_penalties(recipe: Recipe, model: nn.Module) -> list[Penalty]:
    """What the recipe adds to the loss besides: terms in weights, or in what `model` has just computed."""
    found: list[Penalty] = []
    if recipe.regularization:
        found.append(lambda: recipe.regularization * model.regularization())  # type: ignore[operator]
    if recipe.energy_weight:
        found.append(EnergyPenalty(recipe, model))
    return found


class EnergyPenalty:
    """`energy_weight` times the share of synapses that events reach: `profiling.accumulates`."""

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        from snn_energy.profiling.accumulates import LOOKED_AT, Accumulates

        self.weight, self.target = recipe.energy_weight, recipe.energy_target
        self.counter, self.samples = Accumulates(model), LOOKED_AT

    def __call__(self) -> torch.Tensor:
        return self.weight * self.counter.share(above=self.target)

    def look(self, x: torch.Tensor) -> None:
        """See where events meet synapses while the network computes `x`: once, as the run begins."""
        self.counter.look(x)


def right_answers(logits: torch.Tensor, y: torch.Tensor) -> int:
    """How many samples have their highest score, (B, K), at their label (B,), or at their largest share."""
    return int((logits.argmax(-1) == (y.argmax(-1) if y.dim() == 2 else y)).sum())


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy of the mean over steps: logits (B, K) or (T, B, K), target (B,) or shares (B, K)."""
    if logits.dim() == 3:
        logits = logits.mean(0)
    return F.cross_entropy(logits, target, label_smoothing=label_smoothing)


def tet(
    logits: torch.Tensor,
    target: torch.Tensor,
    label_smoothing: float = 0.0,
    *,
    means: float = 1.0,
    lamb: float = 1e-3,
) -> torch.Tensor:
    """Temporal efficient training: (1 - λ) mean_t CE(logits[t], target) + λ MSE(logits, means).

    Deng et al., ICLR 2022 (arXiv 2202.11946), eq. 10 and 12; logits (T, B, K), target (B,) or shares (B, K).
    """
    if logits.dim() != 3:
        raise ValueError(f"TET needs logits per step (T, B, K), got {tuple(logits.shape)}")
    loss = torch.stack(
        [F.cross_entropy(step, target, label_smoothing=label_smoothing) for step in logits]
    ).mean()
    if lamb == 0:
        return loss
    return (1 - lamb) * loss + lamb * F.mse_loss(logits, torch.full_like(logits, means))
