"""How each training sample is varied, by itself, as it is read: pictures by timm and torchvision, frames of
events together.

A sample that is varied comes out of a `Stream`, whatever the part was: its reader runs in the workers, with
torch's, NumPy's and Python's global generators seeded for every sample, so that neither workers nor a resumed
epoch change what is drawn.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from snn_energy.data import Data, Images, Part, Stream
from snn_energy.data.events import Frames
from snn_energy.data.imagenet import MEAN, STD, Pictures, open_picture
from snn_energy.data.stream import Reader, default_workers, seeded
from snn_energy.errors import ConfigError
from snn_energy.training.moves import cut_out, vary_events
from snn_energy.training.recipe import Recipe
from snn_energy.training.settings import POLICIES, Augmentation

RANGE = 255.0
PICTURES = ("crop_scale", "crop_padding", "vflip", "auto_augment", "color_jitter", "erase_prob", "cutout")
EVENTS = ("event_augment", "event_cutout")
IMAGENET = {"crop_scale": (0.08, 1.0), "hflip": 0.5}
"""Of pictures in files, of any size each, where a recipe that varies them says nothing."""


def varied(data: Data, recipe: Recipe) -> Data:
    """The data set with its training part as the recipe varies it.

    Raises `ConfigError` for what the recipe asks of samples that cannot be varied so, and for a policy that
    timm does not know.
    """
    if not _asks(recipe):
        return data
    return dataclasses.replace(data, train=_varied(data.train, data.name, recipe))


def _asks(recipe: Recipe) -> bool:
    """Does it vary samples one by one?"""
    pictures = any(getattr(recipe, key) not in (None, 0, "", "none") for key in (*PICTURES, *EVENTS))
    return pictures or recipe.hflip is not None


def _varied(part: Part, name: str, recipe: Recipe) -> Stream:
    workers = default_workers() if recipe.workers < 0 else recipe.workers
    frames = len(part.shape) == 4
    if not frames and any(getattr(recipe, key) not in (0, "none") for key in EVENTS):
        raise ConfigError(f"{name} holds still images: event_augment and event_cutout vary frames of events")
    pictures = isinstance(part, Stream) and isinstance(part.reader, Pictures)
    vary = Vary(_frozen(recipe, IMAGENET if pictures else {}), part.shape[-2:])
    if isinstance(part, Images):
        _check_images(part, name, recipe)
        reader: Reader = Kept(part, vary, _coloured(part))
        paths, labels = tuple(map(str, range(len(part)))), part.labels
        assert labels is not None
        stream = Stream(paths, labels, part.shape, reader, workers)
    elif isinstance(part, Stream) and isinstance(part.reader, Pictures):
        stream = dataclasses.replace(part, reader=Opened(part.reader, vary))
    elif isinstance(part, Stream) and isinstance(part.reader, Frames):
        _check_policy(name, recipe, "frames of events")
        stream = dataclasses.replace(part, reader=Read(part.reader, vary))
    else:
        raise ConfigError(f"{name}: samples of a {type(part).__name__} cannot be varied one by one")
    if recipe.auto_augment:
        _try_policy(vary, part.shape)
    return stream


def _try_policy(vary: Vary, shape: tuple[int, ...]) -> None:
    """Raise `ConfigError` for a policy that timm cannot read or that fails on a picture, before any work."""
    from PIL import Image

    policy = _pictures(vary, (0.0,) * shape[0])
    try:
        with seeded(0, devices=False):
            policy(Image.new("L" if shape[0] == 1 else "RGB", (shape[2], shape[1])))
    except Exception as error:  # whatever timm, NumPy or PIL find
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"auto_augment = {vary['auto_augment']!r}: fails ({reason})") from None


def _check_images(part: Images, name: str, recipe: Recipe) -> None:
    kind = f"{part.pixels.dtype} of shape {part.shape}, in units of 1/{part.scale:g}"
    _check_policy(name, recipe, None if _coloured(part) else kind)


def _coloured(part: Images) -> bool:
    """Are they pictures as PIL has them?"""
    pixels = part.pixels.dtype == torch.uint8 and part.scale == RANGE
    return pixels and len(part.shape) == 3 and part.shape[0] in (1, 3)


def _check_policy(name: str, recipe: Recipe, instead: str | None) -> None:
    """Raise `ConfigError` where colours shall be varied of what are no 8-bit pictures."""
    if instead is not None and (recipe.auto_augment or recipe.color_jitter):
        key = "auto_augment" if recipe.auto_augment else "color_jitter"
        raise ConfigError(
            f"{key} = {getattr(recipe, key)}: needs 8-bit pictures of 1 or 3 channels; {name} has {instead}"
        )


@dataclass(frozen=True)
class Vary:
    """What happens to one sample: the recipe's fields, (name, value) each, and the size (H, W) it gets."""

    fields: tuple[tuple[str, Any], ...]
    size: tuple[int, ...]

    def __getitem__(self, key: str) -> Any:
        return next(value for name, value in self.fields if name == key)

    def picture(self, image: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        """A PIL picture -> normalised (C, H, W)."""
        from torchvision.transforms import functional as F

        x = F.pil_to_tensor(_pictures(self, mean)(image)).float() / RANGE
        return self.erased((x - _channels(mean)) / _channels(std))

    def tensor(self, x: torch.Tensor) -> torch.Tensor:
        """A normalised sample (C, H, W), or frames (T, C, H, W), which move together."""
        for change in _geometry(self):
            x = change(x)
        if x.dim() == 4:
            x = vary_events(x, self)
        return self.erased(x)

    def erased(self, x: torch.Tensor) -> torch.Tensor:
        """With patches taken out; of frames, the same ones out of each."""
        if self["erase_prob"]:
            from timm.data.random_erasing import RandomErasing

            erase = RandomErasing(
                self["erase_prob"], mode=self["erase_mode"], max_count=self["erase_count"], device="cpu"
            )
            x = erase(x.flatten(0, -3).clone()).reshape(x.shape)
        return cut_out(x, self["cutout"]) if self["cutout"] else x


@functools.lru_cache(maxsize=8)
def _channels(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1)


@functools.lru_cache(maxsize=8)
def _geometry(vary: Vary) -> tuple[Callable[[Any], Any], ...]:
    """Crops and mirror images, of pictures and of tensors."""
    from torchvision import transforms

    found: list[Callable[[Any], Any]] = []
    if vary["crop_scale"] is not None:
        from timm.data.transforms import RandomResizedCropAndInterpolation

        found.append(
            RandomResizedCropAndInterpolation(
                vary.size, vary["crop_scale"], vary["crop_ratio"], interpolation=vary["interpolation"]
            )
        )
    if vary["crop_padding"]:
        found.append(transforms.RandomCrop(vary.size, vary["crop_padding"]))
    if vary["hflip"]:
        found.append(transforms.RandomHorizontalFlip(vary["hflip"]))
    if vary["vflip"]:
        found.append(transforms.RandomVerticalFlip(vary["vflip"]))
    return tuple(found)


@functools.lru_cache(maxsize=8)
def _pictures(vary: Vary, mean: tuple[float, ...]) -> Callable[[Any], Any]:
    """PIL picture -> PIL picture: crops, mirror images, then a policy or colours.

    `mean`: timm fills with it what a policy's rotation leaves empty.
    """
    from torchvision import transforms

    changes = list(_geometry(vary))
    policy = vary["auto_augment"]
    if policy in POLICIES:
        changes.append(transforms.AutoAugment(transforms.AutoAugmentPolicy(policy)))
    elif policy:
        changes.append(_timm_policy(policy, vary, mean))
    elif vary["color_jitter"]:
        changes.append(transforms.ColorJitter(*[vary["color_jitter"]] * 3))
    return transforms.Compose(changes)


def _timm_policy(policy: str, vary: Vary, mean: tuple[float, ...]) -> Callable[[Any], Any]:
    """As `timm.data.create_transform` sets them up.  Raises `ConfigError` for one that it cannot read."""
    from timm.data import auto_augment as aa
    from timm.data.transforms import str_to_pil_interp

    told: dict[str, Any] = {
        "translate_const": int(min(vary.size) * 0.45),
        "img_mean": tuple(min(255, round(255 * m)) for m in mean),
    }
    if vary["interpolation"] != "random":
        told["interpolation"] = str_to_pil_interp(vary["interpolation"])
    try:
        if policy.startswith("rand"):
            made = aa.rand_augment_transform(policy, told)
        elif policy.startswith("augmix"):
            made = aa.augment_and_mix_transform(policy, {**told, "translate_pct": 0.3})
        else:
            made = aa.auto_augment_transform(policy, told)
    except (AssertionError, ValueError, KeyError, TypeError, IndexError):
        raise ConfigError(
            f"auto_augment = {policy!r}: timm cannot read it; must be like rand-m9-n1-mstd0.4-inc1"
        ) from None
    for op in itertools.chain(*made.policy) if hasattr(made, "policy") else made.ops:
        if op.name.startswith("Posterize"):
            op.aug_fn = posterize
    return made


def posterize(image: Any, bits: int, **_: Any) -> Any:
    """A picture of so many bits.

    timm asks for none at the end of its scale, where `rand-m9-n1-mstd0.4-inc1` is ten times in an epoch of
    CIFAR: a black picture in Pillow of when that was written, an error in today's.
    """
    from PIL import Image, ImageOps

    if bits < 1:
        return Image.new(image.mode, image.size)
    return image if bits >= 8 else ImageOps.posterize(image, bits)


@dataclass(frozen=True)
class Kept:
    """Reads samples that are in memory: a path is a number; `picture`: PIL's way, else as a tensor."""

    images: Images
    vary: Vary
    picture: bool

    def __call__(self, path: str, random: bool) -> torch.Tensor:
        index = int(path)
        images = self.images
        if random and self.picture:
            from torchvision.transforms import functional as F

            channels = images.shape[-3]
            mean, std = (tuple(v) * (channels // len(v)) for v in (images.mean, images.std))
            return self.vary.picture(F.to_pil_image(images.pixels[index]), mean, std)
        x = images.batch(slice(index, index + 1))[0][0]
        return self.vary.tensor(x) if random else x


@dataclass(frozen=True)
class Opened:
    """Reads pictures in files; in training cropped as the recipe says instead of as `reader` does."""

    reader: Pictures
    vary: Vary

    def __call__(self, path: str, random: bool) -> torch.Tensor:
        if not random:
            return self.reader(path, random=False)
        return self.vary.picture(open_picture(path), MEAN, STD)


@dataclass(frozen=True)
class Read:
    """Reads frames of events."""

    reader: Frames
    vary: Vary

    def __call__(self, path: str, random: bool) -> torch.Tensor:
        x = self.reader(path, random=False)
        return self.vary.tensor(x) if random else x


def _frozen(recipe: Recipe, defaults: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The recipe's fields of augmentation, as plain values that can be hashed and sent to workers.

    `defaults`: of fields that are None.
    """
    values = {spec.name: getattr(recipe, spec.name) for spec in dataclasses.fields(Augmentation)}
    values |= {key: value for key, value in defaults.items() if values[key] is None}
    return tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in values.items())
