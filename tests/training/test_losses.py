"""Losses against their equations, written out."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from snn_energy.errors import ConfigError
from snn_energy.models.zoo import create_model
from snn_energy.profiling.accumulates import Accumulates
from snn_energy.training import losses
from snn_energy.training.losses import make_penalties
from snn_energy.training.recipe import Recipe

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


def test_the_energy_weight_adds_its_share_of_synapses_to_the_loss() -> None:
    torch.manual_seed(0)
    fields = {"in_channels": 1, "num_classes": 5, "width": 1 / 16, "num_heads": 2, "T": 2}
    model, x = create_model("decoupled", **fields).train(), torch.rand(3, 1, 8, 12)
    twins = copy.deepcopy(model), copy.deepcopy(model)
    recipe = Recipe("mine", "decoupled", "digits", energy_weight=0.25, regularization=0.5)
    rates, energy = make_penalties(recipe, model)
    model(x)
    counter = Accumulates(twins[0])
    twins[0](x)
    assert energy().item() == 0.25 * counter.share().item() > 0
    assert rates().item() > 0
    capped = Recipe("mine", "decoupled", "digits", energy_weight=1.0, energy_target=1e9)
    (nothing,) = make_penalties(capped, twins[1])
    twins[1](x)
    assert nothing().item() == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"energy_target": 1e5}, "energy_target = 100000.0: needs an energy_weight above 0"),
        ({"energy_weight": -1.0}, "energy_weight = -1.0: must not be negative"),
        ({"energy_weight": 0.1, "compile": True}, "cannot be counted in a compiled network"),
    ],
)
def test_energy_goals_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe("mine", "decoupled", "digits", **fields)
