"""How training batches are varied."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from snn_energy.training.recipe import Recipe


def augment(
    x: torch.Tensor, y: torch.Tensor, recipe: Recipe, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """One training batch as the recipe varies it: samples (B, *shape), labels (B,) or shares (B, K).

    All that is random comes from `generator`, so that a resumed run goes on as it would have.
    """
    if recipe.random_affine:
        x = random_affine(x, recipe.random_affine, generator)
    return x, y


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
