"""The fields of a recipe, in groups: what is trained, how it is optimised, how samples are varied."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from snn_energy.errors import ConfigError, suggest
from snn_energy.records import short

Amp = Literal["off", "bf16", "fp16"]
LARGEST = {int: 2**63, float: math.inf, bool: 2}  # an int: what PyTorch takes as a seed
POLICIES = ("imagenet", "cifar10", "svhn")
"""AutoAugment's, by torchvision; names with a hyphen or a number are timm's."""
AUTO_AUGMENT = re.compile(r"(rand|augmix|original|originalr|v0|v0r|3a)(-.*)?")


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    `model` is a registry name and `config` the fields of its configuration; `data` a name for
    `snn_energy.data.load_data`.  `init` is a checkpoint to start from; `quantize: loihi` trains with weights
    rounded as for a Loihi netlist (`snn_energy.training.quantize`).  With `val_fraction` above 0, that much
    of the training part chooses the best epoch instead of the test part.  `workers` processes read and vary
    samples; -1: as many as there are processors.  After each epoch the energy of one inference is measured on
    `energy_samples` samples.  `amp` computes layers in bfloat16 or float16 (true: the latter on a GPU, the
    former elsewhere); `compile` is `torch.compile`; with `recompute` blocks keep their input alone and run
    again in backward (`snn_energy.models.recompute`).
    """

    name: str
    model: str
    data: str
    config: dict[str, Any] = field(default_factory=dict)
    init: str = ""
    quantize: str = "none"
    val_fraction: float = 0.0
    workers: int = -1
    seed: int = 0
    energy_samples: int = 0
    amp: bool | Amp = False
    compile: bool = False
    recompute: bool = False


@dataclass(frozen=True)
class Optimization:
    """Optimizer, schedule and loss.

    The learning rate warms up linearly from `warmup_lr` (None: from `min_lr`) over `warmup_epochs` and falls
    to `min_lr` along a cosine, where it stays for `cooldown_epochs` more than `epochs`; it changes per `step`
    or per `epoch`.  With `warmup_prefix` the cosine starts where the warm-up ends and so spans `epochs` less
    those; without, as in timm's trainers, it spans all of `epochs`, the first of which the warm-up replaces.
    `sgd` is Nesterov's unless `nesterov` is off; None for `opt_eps` and `opt_betas`: the optimizer's own.
    Gradients above `clip_grad` are cut by `clip_mode`: norm, value, or agc (adaptive; Brock et al., 2021).
    `drop_last` leaves out the last batch of an epoch where it is not full.  `val_batch_size`: of evaluation,
    None: four times `batch_size`.  A step of the optimizer is made of `accumulate` batches of `batch_size`
    samples in each process; `sync_bn` lets batch norms see those of all processes (GPUs only).  With
    `ema_decay` above 0 the network that is tested and saved is the exponential moving average of the weights
    over steps.  `energy_weight` times the share of synapses that events reach (`profiling.accumulates`) is
    added to the loss, as far as an inference takes more than `energy_target` accumulates.
    """

    epochs: int = 10
    batch_size: int = 64
    val_batch_size: int | None = None
    drop_last: bool = False
    accumulate: int = 1
    sync_bn: bool = False
    optimizer: str = "adamw"
    lr: float = 1e-3
    min_lr: float = 1e-5
    schedule: str = "cosine"
    schedule_per: str = "step"
    warmup_epochs: float = 1
    warmup_lr: float | None = None
    warmup_prefix: bool = True
    cooldown_epochs: int = 0
    weight_decay: float = 0.06
    momentum: float = 0.9
    nesterov: bool = True
    opt_eps: float | None = None
    opt_betas: list[float] | None = None
    clip_grad: float | None = None
    clip_mode: str = "norm"
    loss: str = "cross_entropy"
    label_smoothing: float = 0.1
    tet_means: float = 1.0
    tet_lamb: float = 1e-3
    regularization: float = 0.0
    energy_weight: float = 0.0
    energy_target: float = 0.0
    ema_decay: float = 0.0

    @property
    def total_epochs(self) -> int:
        """Epochs that are run: the schedule's and those of the cool-down."""
        return self.epochs + self.cooldown_epochs


@dataclass(frozen=True)
class Augmentation:
    """How training samples are varied: each picture or recording by itself, then mixed within its batch.

    Pictures, in this order: a random part of `crop_scale` (least, most) of the area, `crop_ratio` as wide as
    high, resized by `interpolation` (null: no such crop), or a crop after padding by `crop_padding` pixels;
    mirrored with probability `hflip`, `vflip`; `auto_augment`: a policy of timm's (rand-m9-mstd0.5-inc1, v0,
    original, …) or of AutoAugment (cifar10, imagenet, svhn); else `color_jitter` of brightness, contrast,
    saturation, as in timm only without a policy; then, normalised, random erasing (`erase_…`, Zhong et al.,
    arXiv 1708.04896) and `cutout`, one square of that many pixels (DeVries and Taylor, arXiv 1708.04552).
    ImageNet's pictures are cropped to 8 to 100 % and mirrored half the time where a recipe says nothing.

    Frames of events move together: `event_augment` is `roll-rotate-shear` (one of them, by up to `event_roll`
    pixels, `event_rotate` degrees, `event_shear` degrees), `trivial` (one of identity, shear, two shifts and
    rotation, of random strength) or none; `event_cutout` a square as above.

    `mixup`, `cutmix`: α of the Beta distribution of their shares, 0: off, both: one of them, cutmix with
    probability `mix_switch_prob`; a batch (`mix_mode`: batch, pair, elem) is mixed with probability
    `mix_prob`, until epoch `mix_off_epoch` (0: always; epochs count from 0 here).  `random_affine` turns,
    shears, scales and moves images: each entry of the affine matrix by up to that much.
    """

    random_affine: float = 0.0
    crop_scale: list[float] | None = None
    crop_ratio: list[float] = field(default_factory=lambda: [3 / 4, 4 / 3])
    crop_padding: int = 0
    interpolation: str = "bicubic"
    hflip: float | None = None
    vflip: float = 0.0
    auto_augment: str = ""
    color_jitter: float = 0.0
    erase_prob: float = 0.0
    erase_mode: str = "const"
    erase_count: int = 1
    cutout: int = 0
    event_augment: str = "none"
    event_roll: int = 3
    event_rotate: float = 15.0
    event_shear: float = 15.0
    event_cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    cutmix_minmax: list[float] | None = None
    mix_prob: float = 1.0
    mix_switch_prob: float = 0.5
    mix_mode: str = "batch"
    mix_off_epoch: int = 0

    @property
    def mixes(self) -> bool:
        """Are batches mixed?"""
        return self.mixup > 0 or self.cutmix > 0 or self.cutmix_minmax is not None


CHOICES = {
    "optimizer": ("adamw", "sgd", "lamb"),
    "schedule": ("cosine", "constant"),
    "schedule_per": ("step", "epoch"),
    "loss": ("cross_entropy", "tet"),
    "clip_mode": ("norm", "value", "agc"),
    "quantize": ("none", "loihi"),
    "interpolation": ("bicubic", "bilinear", "nearest", "random"),
    "erase_mode": ("const", "rand", "pixel"),
    "event_augment": ("none", "roll-rotate-shear", "trivial"),
    "mix_mode": ("batch", "pair", "elem"),
    "amp": ("off", "bf16", "fp16", "true", "false"),
}
LEAST = {
    "epochs": 1, "batch_size": 1, "val_batch_size": 1, "accumulate": 1, "seed": 0, "workers": -1,
    "energy_samples": 0, "erase_count": 1,
}  # fmt: skip
NOT_NEGATIVE = (
    "lr", "min_lr", "warmup_lr", "warmup_epochs", "cooldown_epochs", "weight_decay", "opt_eps",
    "regularization", "energy_weight", "energy_target", "tet_lamb", "random_affine", "crop_padding",
    "color_jitter", "cutout", "event_roll",
    "event_rotate", "event_shear", "event_cutout", "mixup", "cutmix", "mix_off_epoch",
)  # fmt: skip
BELOW_ONE = ("label_smoothing", "ema_decay", "momentum", "val_fraction")
PROBABILITIES = ("hflip", "vflip", "erase_prob", "mix_prob", "mix_switch_prob")
# (least, most) of a pair of numbers, both allowed
PAIRS = {
    "crop_scale": (1e-6, 1.0),
    "crop_ratio": (1e-3, 1e3),
    "cutmix_minmax": (0.0, 1.0),
    "opt_betas": (0.0, 0.999999),
}


def check(recipe: Any) -> None:
    """Raise `ConfigError` for a value of another type, outside its range, or none of its words."""
    for spec in dataclasses.fields(recipe):
        check_type(spec, getattr(recipe, spec.name))
    for key, least in LEAST.items():
        value = getattr(recipe, key)
        if value is not None and value < least:
            raise ConfigError(f"{key} = {value}: must be at least {least}")
    for key in NOT_NEGATIVE:
        if (getattr(recipe, key) or 0) < 0:
            raise ConfigError(f"{key} = {getattr(recipe, key)}: must not be negative")
    if recipe.clip_grad is not None and recipe.clip_grad <= 0:
        raise ConfigError(f"clip_grad = {recipe.clip_grad}: must be above 0, or null for no clipping")
    if recipe.energy_target and not recipe.energy_weight:
        raise ConfigError(f"energy_target = {recipe.energy_target}: needs an energy_weight above 0")
    if recipe.energy_weight and recipe.compile:
        raise ConfigError("energy_weight: spikes cannot be counted in a compiled network; compile=false")
    for key in BELOW_ONE:
        if not 0 <= getattr(recipe, key) < 1:
            raise ConfigError(f"{key} = {getattr(recipe, key)}: must be in [0, 1)")
    if recipe.energy_target and not recipe.energy_weight:
        raise ConfigError(f"energy_target = {recipe.energy_target}: needs an energy_weight above 0")
    if recipe.energy_weight and recipe.compile:
        raise ConfigError("energy_weight: spikes cannot be counted in a compiled network; compile=false")
    for key in PROBABILITIES:
        if not 0 <= (getattr(recipe, key) or 0) <= 1:
            raise ConfigError(f"{key} = {getattr(recipe, key)}: must be in [0, 1]")
    for key, (low, high) in PAIRS.items():
        _check_pair(key, getattr(recipe, key), low, high)
    if recipe.energy_weight and recipe.recompute:
        raise ConfigError("energy_weight: spikes cannot be counted in blocks that run again; recompute=false")
    for key, known in CHOICES.items():
        value = getattr(recipe, key)
        if (str(value).lower() if isinstance(value, bool) else value) not in known:
            raise ConfigError(f"{key} = {getattr(recipe, key)!r}; {suggest(getattr(recipe, key), known)}")
    policy = recipe.auto_augment
    if policy and policy not in POLICIES and not AUTO_AUGMENT.fullmatch(policy):
        known = (*POLICIES, "rand-m9-mstd0.5-inc1", "augmix-m3-w3", "original", "v0", "3a")
        raise ConfigError(f"auto_augment = {policy!r}; {suggest(policy, known)}")


def _check_pair(key: str, value: list[float] | None, low: float, high: float) -> None:
    if value is None:
        return
    ordered = key == "opt_betas" or value[:1] <= value[1:]
    if len(value) != 2 or not all(low <= v <= high for v in value) or not ordered:
        names = "" if key == "opt_betas" else ", [least, most],"
        raise ConfigError(f"{key} = {value}: must be two numbers{names} from {low:g} to {high:g}")


KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "bool | Amp": (bool, str),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
    "dict[str, Any]": (dict,),
    "list[float]": (list,),
    "list[float] | None": (list, type(None)),
}
WORDS = {
    "bool | Amp": "true, false, off, bf16 or fp16",
    "dict[str, Any]": "a table",
    "list[float]": "a list of numbers",
}


def check_type(spec: dataclasses.Field, value: Any) -> None:
    """Raise `ConfigError` where `value` is none of a field's declared type, or a number out of all range."""
    declared = str(spec.type)
    if not _is(value, KINDS[declared]) or (isinstance(value, list) and not _numbers(value)):
        for written, words in WORDS.items():
            declared = declared.replace(written, words)
        raise ConfigError(f"{spec.name} = {short(value)}: must be {declared}")
    if not all(map(_finite, value if isinstance(value, list) else [value])):
        raise ConfigError(f"{spec.name} = {short(value)}: must be a finite number, not as large as this")


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)


def _numbers(values: Iterable[Any]) -> bool:
    return all(_is(value, (int, float)) for value in values)


def _finite(value: Any) -> bool:
    if not isinstance(value, int | float):
        return True
    return math.isfinite(value) and abs(value) < LARGEST[type(value)]
