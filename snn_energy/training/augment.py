"""How training batches are varied: what happens to a whole batch; `vary` has what happens to one sample."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from snn_energy.data.stream import seeded
from snn_energy.errors import ConfigError
from snn_energy.training.recipe import Recipe


def augment(
    x: torch.Tensor,
    y: torch.Tensor,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    epoch: int = 0,
    classes: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One training batch as the recipe varies it: samples (B, *shape), labels (B,) or shares (B, `classes`).

    `epoch`: counted from 0.  All that is random comes from `generator`, so that a resumed run goes on as it
    would have.
    """
    if recipe.random_affine:
        x = random_affine(x, recipe.random_affine, generator)
    if recipe.mixes and not (recipe.mix_off_epoch and epoch >= recipe.mix_off_epoch):
        x, y = mix(x, y, recipe, generator, classes)
    return x, y


def mix(
    x: torch.Tensor, y: torch.Tensor, recipe: Recipe, generator: torch.Generator, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup or cutmix by timm: samples (B, [T,] C, H, W), labels (B,) -> samples, shares (B, `classes`).

    Frames of a sample share their square and their share.  Of an odd number of samples the last stays as it
    is.  Labels are not smoothed here: the loss does that, which comes to the same.
    """
    from timm.data import Mixup

    mixer = Mixup(
        recipe.mixup,
        recipe.cutmix,
        recipe.cutmix_minmax,
        recipe.mix_prob,
        recipe.mix_switch_prob,
        recipe.mix_mode,
        label_smoothing=0.0,
        num_classes=classes,
    )
    shares = F.one_hot(y, classes).to(x.dtype)
    even = len(x) - len(x) % 2
    seed = int(torch.randint(2**31, (1,), generator=generator))
    if not even:
        return x, shares
    images = (x.flatten(1, 2) if x.dim() == 5 else x).clone()
    try:
        with seeded(seed, devices=False):
            mixed, mixed_shares = mixer(images[:even], y[:even])
    except ValueError:  # NumPy draws no whole number between equal ones
        size = "×".join(map(str, x.shape[-2:]))
        raise ConfigError(
            f"cutmix_minmax = {recipe.cutmix_minmax}: leaves no size to draw on samples of {size}"
        ) from None
    images[:even], shares[:even] = mixed, mixed_shares
    return images.reshape(x.shape), shares


def random_affine(x: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    """Turn, shear, scale and move each image (B, C, H, W) a little; the border is repeated.

    Frames (B, T, C, H, W) move together.  Each of the six entries of an image's affine matrix, in units of
    half its size, moves by up to `most`.
    """
    identity = torch.eye(2, 3)
    theta = identity + most * (2 * torch.rand(len(x), 2, 3, generator=generator) - 1)
    images = x.flatten(1, 2) if x.dim() == 5 else x
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False).reshape(x.shape)
