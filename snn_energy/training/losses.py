"""Training losses on logits (B, K), or (T, B, K) for a loss per time step."""

from __future__ import annotations

import torch
from torch.nn import functional as F


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

    Deng et al., ICLR 2022 (arXiv 2202.11946), eq. 10 and 12; logits (T, B, K), target (B,).
    """
    if logits.dim() != 3:
        raise ValueError(f"TET needs logits per step (T, B, K), got {tuple(logits.shape)}")
    loss = torch.stack(
        [F.cross_entropy(step, target, label_smoothing=label_smoothing) for step in logits]
    ).mean()
    if lamb == 0:
        return loss
    return (1 - lamb) * loss + lamb * F.mse_loss(logits, torch.full_like(logits, means))
