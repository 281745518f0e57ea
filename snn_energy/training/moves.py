"""Samples as tensors, moved and cut out: whatever is done to one frame of events is done to all.

The two sets for events are those of the official STAtten trainer: one of roll, rotation and shear on
N-Caltech101, and "trivial", one of five changes of random strength (after Müller and Hutter, arXiv
2103.10158), by its flag.
Empty places are zero, pixels the nearest: a count of events stays one.
"""

from __future__ import annotations

import math
from typing import Any

import torch

STRENGTHS = 31
"""Steps from one end of a range to the other, both included."""
SHEAR, SHIFT, ROTATION = 0.3, 5.0, 30.0
"""Largest of "trivial": of the shear's tangent in radians, pixels, degrees."""


def vary_events(x: torch.Tensor, fields: Any) -> torch.Tensor:
    """`x` (T, C, H, W) as `event_augment` and `event_cutout` of `fields` say."""
    if fields["event_augment"] == "roll-rotate-shear":
        x = roll_rotate_or_shear(x, fields["event_roll"], fields["event_rotate"], fields["event_shear"])
    elif fields["event_augment"] == "trivial":
        x = trivial(x)
    return cut_out(x, fields["event_cutout"]) if fields["event_cutout"] else x


def roll_rotate_or_shear(x: torch.Tensor, most: int, degrees: float, shear: float) -> torch.Tensor:
    """One of: rolled by up to `most` pixels each way, turned or sheared along x by up to as many degrees."""
    choice = int(torch.randint(3, ()))
    if choice == 0:
        down, right = (int(n) for n in torch.randint(-most, most + 1, (2,)))
        return x.roll((down, right), (-2, -1))
    angle = float(2 * torch.rand(()) - 1)
    return turned(x, angle * degrees) if choice == 1 else moved(x, shear=angle * shear)


def trivial(x: torch.Tensor) -> torch.Tensor:
    """One of: nothing, sheared along x, shifted along x, along y, turned; of one of 31 strengths."""
    choice = int(torch.randint(5, ()))
    strength = 2 * int(torch.randint(STRENGTHS, ())) / (STRENGTHS - 1) - 1  # -1 … 1
    if choice == 0:
        return x
    if choice == 1:
        return moved(x, shear=math.degrees(SHEAR * strength))
    if choice == 4:
        return turned(x, ROTATION * strength)
    shift = int(SHIFT * strength)
    return moved(x, right=shift if choice == 2 else 0, down=shift if choice == 3 else 0)


def turned(x: torch.Tensor, degrees: float) -> torch.Tensor:
    """Counter-clockwise about the centre."""
    from torchvision.transforms import functional as F

    return F.rotate(x, degrees)


def moved(x: torch.Tensor, right: int = 0, down: int = 0, shear: float = 0.0) -> torch.Tensor:
    """Shifted by pixels and sheared along x by degrees."""
    from torchvision.transforms import functional as F

    return F.affine(x, angle=0.0, translate=[right, down], scale=1.0, shear=[shear, 0.0])


def cut_out(x: torch.Tensor, length: int) -> torch.Tensor:
    """Zeros in a square of `length` around a random pixel, cut off at the border (arXiv 1708.04552)."""
    height, width = x.shape[-2:]
    row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
    top, left = max(row - length // 2, 0), max(column - length // 2, 0)
    x = x.clone()
    x[..., top : row - length // 2 + length, left : column - length // 2 + length] = 0
    return x
