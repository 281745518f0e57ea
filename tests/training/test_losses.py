"""Losses against their equations, written out."""

from __future__ import annotations

import math

import pytest
import torch

from snn_energy.training import losses

T, B, K = 3, 2, 5


def plain_cross_entropy(logits: list[float], target: int, smoothing: float) -> float:
    total = math.log(sum(math.exp(v) for v in logits))
    shares = [smoothing / K + (1 - smoothing) * (k == target) for k in range(K)]
    return sum(share * (total - v) for share, v in zip(shares, logits, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("lamb", [0.0, 0.25])
def test_tet(smoothing: float, lamb: float) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(T, B, K, dtype=torch.float64), torch.tensor([4, 1])
    ce = sum(
        plain_cross_entropy(logits[t, b].tolist(), int(target[b]), smoothing)
        for t in range(T)
        for b in range(B)
    ) / (T * B)
    mse = sum((v - 0.7) ** 2 for v in logits.flatten().tolist()) / logits.numel()
    loss = losses.tet(logits, target, smoothing, means=0.7, lamb=lamb)
    assert loss.item() == pytest.approx((1 - lamb) * ce + lamb * mse)


def test_cross_entropy_is_that_of_the_mean_over_steps() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(T, B, K, dtype=torch.float64), torch.tensor([4, 1])
    mean = logits.mean(0)
    expected = sum(plain_cross_entropy(mean[b].tolist(), int(target[b]), 0.1) for b in range(B)) / B
    assert losses.cross_entropy(logits, target, 0.1).item() == pytest.approx(expected)
    assert losses.cross_entropy(mean, target, 0.1).item() == pytest.approx(expected)


def test_tet_refuses_logits_without_steps() -> None:
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        losses.tet(torch.zeros(B, K), torch.zeros(B, dtype=torch.int64))
