"""ImageNet, or any two folders `train` and `val` of class folders of pictures."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from snn_energy.data.folders import class_names, in_turn, list_classes
from snn_energy.data.parts import Data
from snn_energy.data.stream import Stream
from snn_energy.errors import DataError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, as timm and torchvision have them."""
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
OPTIONS = {"size": int, "crop": float}
SIZE, CROP = 224, 0.95
"""As the official STAtten configurations evaluate: shorter side to ⌊224 / .95⌋, then the centre 224×224."""
WHERE = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"


@dataclass(frozen=True)
class Pictures:
    """Reads a picture as `size`×`size` of three channels, normalised.

    Its shorter side becomes ⌊size / crop⌋ (bicubic, antialiased), of which the centre is kept; in training, a
    random part of 8 to 100 % of the picture, three quarters to four thirds as wide as high, and its mirror
    image half the time (Szegedy et al., arXiv 1409.4842; torchvision's transforms).
    """

    size: int = SIZE
    crop: float = CROP

    def __call__(self, path: str, random: bool = False) -> torch.Tensor:
        return _transform(self.size, self.crop, random)(open_picture(path))


def open_picture(path: str) -> Any:
    """The picture in a file, as PIL has it, in three channels.  Raises `DataError` for no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a picture that can be read ({reason})") from None


@functools.cache
def _transform(size: int, crop: float, random: bool) -> Callable[[Any], torch.Tensor]:
    from torchvision import transforms

    bicubic = transforms.InterpolationMode.BICUBIC
    if random:
        cut: list[Any] = [
            transforms.RandomResizedCrop(size, interpolation=bicubic),
            transforms.RandomHorizontalFlip(),
        ]
    else:
        larger = math.floor(size / crop)
        cut = [transforms.Resize(larger, interpolation=bicubic), transforms.CenterCrop(size)]
    return transforms.Compose([*cut, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def load_imagenet(name: str, folder: Path, *, size: int = SIZE, crop: float = CROP, workers: int = 0) -> Data:
    """Training part: `folder`/train; test part: `folder`/val; a folder of pictures per class in each.

    Classes are numbered in the order of their names.  Raises `DataError` where a folder is missing, empty, or
    the two have other classes.
    """
    if crop > 1:
        raise DataError(f"{name}: crop = {crop}, must be at most 1")
    for part in ("train", "val"):
        if not (folder / part).is_dir():
            raise DataError(
                f"{name}: {folder / part} is missing; get ILSVRC2012 from {WHERE} and unpack its {part} part "
                f"there, a folder per class ({folder / part / 'n01440764'})"
            )
    classes = {part: class_names(folder / part) for part in ("train", "val")}
    if not classes["train"]:
        raise DataError(f"{name}: {folder / 'train'} has no folders of classes")
    if classes["train"] != classes["val"]:
        odd = sorted(set(classes["train"]) ^ set(classes["val"]))
        raise DataError(
            f"{name}: train has {len(classes['train'])} folders of classes, val {len(classes['val'])}; "
            f"{odd[0]} is in one of them only (pictures of val belong into folders of their classes, too)"
        )
    reader = Pictures(size, crop)
    train, val = (
        Stream(
            *in_turn(list_classes(folder / part, classes[part], SUFFIXES)), (3, size, size), reader, workers
        )
        for part in ("train", "val")
    )
    return Data(name, train, val, classes["train"])
