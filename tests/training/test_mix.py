"""Mixup and cutmix of batches: shares that sum to one, samples that are what their shares say."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from snn_energy.errors import ConfigError
from snn_energy.training import losses
from snn_energy.training.augment import augment
from snn_energy.training.recipe import Recipe, recipe_from_dict

K = 7


def recipe(**fields: object) -> Recipe:
    return recipe_from_dict({"name": "r", "model": "statten", "data": "x", **fields})


def batch(count: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample i is i + 1 everywhere, and of class i mod K."""
    x = (torch.arange(count) + 1.0).reshape(-1, *[1] * len(shape)).expand(count, *shape).contiguous()
    return x, torch.arange(count) % K


def mixed(
    seed: int, count: int, shape: tuple[int, ...], **fields: object
) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = batch(count, *shape)
    before = x.clone()
    found = augment(x, y, recipe(**fields), torch.Generator().manual_seed(seed), classes=K)
    assert torch.equal(x, before), "what came in stays"
    return found


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("shape", [(2, 6, 9), (3, 2, 6, 9)], ids=["images", "frames"])
@pytest.mark.parametrize("how", [{"mixup": 0.5}, {"cutmix": 1.0}, {"cutmix_minmax": [0.2, 0.8]}], ids=str)
def test_samples_are_what_their_shares_say(mode: str, shape: tuple[int, ...], how: dict) -> None:
    """With constant samples the mean pixel is the mean of the two numbers by their shares."""
    apart = 0
    for seed in range(4):
        x, shares = mixed(seed, 6, shape, mix_mode=mode, **how)
        assert x.shape == (6, *shape) and shares.shape == (6, K)
        torch.testing.assert_close(shares.sum(1), torch.ones(6))
        assert (shares >= 0).all()
        numbers = torch.arange(K) + 1.0  # class k is sample k, whose pixels are k + 1
        torch.testing.assert_close(x.flatten(1).mean(1), shares @ numbers, rtol=1e-5, atol=1e-5)
        if len(shape) == 4:
            assert torch.equal(x, x[:, :1].expand_as(x)), "frames share their square"
        apart += int((shares.max(1).values < 1).sum())
    assert apart > 4


def test_an_odd_sample_stays_and_the_same_generator_gives_the_same() -> None:
    (x, shares), (again, _), (other, _) = (mixed(seed, 5, (1, 4, 4), mixup=1.0) for seed in (1, 1, 2))
    assert torch.equal(x, again) and not torch.equal(x, other)
    assert (x[4] == 5).all() and shares[4].tolist() == F.one_hot(torch.tensor(4), K).tolist()
    alone, share = mixed(1, 1, (1, 4, 4), mixup=1.0)
    assert (alone == 1).all() and share[0, 0] == 1


def test_probability_and_off_epoch() -> None:
    x, y = batch(4, 1, 4, 4)
    fields = {"mixup": 1.0, "mix_off_epoch": 3}
    generator = torch.Generator().manual_seed(0)
    for epoch, expected in ((0, 2), (2, 2), (3, 1), (9, 1)):
        _, labels = augment(x, y, recipe(**fields), generator, epoch=epoch, classes=K)
        assert labels.dim() == expected
    shares = [mixed(seed, 4, (1, 4, 4), mixup=1.0, mix_prob=0.25)[1].max(1).values for seed in range(200)]
    touched = sum(bool((s < 1).any()) for s in shares)
    assert 25 < touched < 75  # 50 of 200 by chance; six deviations are 37
    _, shares_never = mixed(0, 4, (1, 4, 4), cutmix=1.0, mix_prob=0.0)
    assert (shares_never.max(1).values == 1).all()


def test_squares_of_no_size_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"cutmix_minmax = \[0.5, 0.5\]: leaves no size .* of 4×6"):
        mixed(0, 4, (1, 4, 6), cutmix_minmax=[0.5, 0.5])


def test_the_loss_smooths_as_timms_mixup_does() -> None:
    """Smoothing in the loss, of shares that are not: the same number as timm's smoothed targets give."""
    from timm.data import Mixup
    from timm.loss import SoftTargetCrossEntropy

    from snn_energy.data.stream import seeded

    x, y = torch.randn(6, 2, 5, 4), torch.tensor([0, 3, 6, 1, 1, 5])
    generator = torch.Generator().manual_seed(5)
    ours, shares = augment(x, y, recipe(mixup=0.5), generator, classes=K)
    seed = int(torch.randint(2**31, (1,), generator=torch.Generator().manual_seed(5)))
    with seeded(seed):
        theirs, target = Mixup(0.5, label_smoothing=0.1, num_classes=K)(x.clone(), y)
    torch.testing.assert_close(ours, theirs)
    logits = torch.randn(6, K)
    expected = SoftTargetCrossEntropy()(logits, target)
    torch.testing.assert_close(losses.cross_entropy(logits, shares, 0.1), expected)
    assert math.isfinite(float(losses.tet(torch.randn(3, 6, K), shares, 0.1)))
    assert losses.right_answers(shares, shares) == 6
