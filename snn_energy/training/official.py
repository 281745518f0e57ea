"""A run from an official configuration file as it is: STAtten's `conf/*/*.yml`, or those of its ancestor.

Every key of the file is in one of three groups, which the terminal names: it decides the run; it is off, at
the one value that this trainer has; or it has no effect, there or here.  An unknown key is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_energy.data.cifar import CIFAR10, CIFAR100
from snn_energy.data.imagenet import MEAN, STD
from snn_energy.errors import ConfigError, suggest
from snn_energy.models.official import FIELD_OF_ARGUMENT, read_number, read_yaml
from snn_energy.reading import read_yaml as read_mapping
from snn_energy.records import short
from snn_energy.training.recipe import Recipe, overridden

DATA = {
    "torch/cifar10": "cifar10",
    "torch/cifar100": "cifar100",
    "imagenet": "imagenet",
    "": "imagenet",
    "cifar10-dvs": "cifar10-dvs",
    "ncaltech101": "ncaltech101",
    "gesture": "dvs-gesture",
}
"""The official trainers' names of data sets -> ours."""
EVENTS = ("cifar10-dvs", "ncaltech101", "dvs-gesture")
SAMPLE = {"cifar10": 32, "cifar100": 32, "cifar10-dvs": 64, "ncaltech101": 64, "dvs-gesture": 128}
"""Height and width of samples as they are read."""
STATISTICS = {
    "cifar10": (CIFAR10.mean, CIFAR10.std),
    "cifar100": (CIFAR100.mean, CIFAR100.std),
    "imagenet": (MEAN, STD),
}

FIELDS = {
    "batch_size": "batch_size", "val_batch_size": "val_batch_size", "opt": "optimizer", "opt_eps": "opt_eps",
    "opt_betas": "opt_betas", "momentum": "momentum", "weight_decay": "weight_decay",
    "clip_grad": "clip_grad",
    "clip_mode": "clip_mode", "lr": "lr", "warmup_lr": "warmup_lr", "min_lr": "min_lr",
    "epochs": "epochs", "warmup_epochs": "warmup_epochs", "cooldown_epochs": "cooldown_epochs",
    "smoothing": "label_smoothing", "TET_means": "tet_means", "TET_lamb": "tet_lamb", "seed": "seed",
    "workers": "workers", "amp": "amp", "mixup": "mixup", "cutmix": "cutmix",
    "cutmix_minmax": "cutmix_minmax",
    "mixup_prob": "mix_prob", "mixup_switch_prob": "mix_switch_prob", "mixup_mode": "mix_mode",
    "mixup_off_epoch": "mix_off_epoch", "initial_checkpoint": "init",
}  # fmt: skip
"""Official argument -> field of a recipe."""
PICTURES = {
    "scale": "crop_scale", "ratio": "crop_ratio", "hflip": "hflip", "vflip": "vflip", "aa": "auto_augment",
    "color_jitter": "color_jitter", "train_interpolation": "interpolation", "reprob": "erase_prob",
    "remode": "erase_mode", "recount": "erase_count",
}  # fmt: skip
"""Those of pictures, which reach no event: the official trainers read event data without timm."""
OF_PICTURES = (*PICTURES, "no_aug", "crop_pct", "mean", "std", "interpolation", "resplit")
OTHER = ("data_dir", "dataset", "model", "img_size", "TET", "attention_mode", "model_ema", "model_ema_decay",
         "no_aug", "crop_pct", "mean", "std", "dvs_aug", "dvs_trival_aug")  # fmt: skip
DEFAULTS = {
    "batch_size": 32, "val_batch_size": 16, "opt": "sgd", "momentum": 0.9, "weight_decay": 1e-4,
    "sched": "step",
    "lr": 0.01, "warmup_lr": 1e-4, "min_lr": 1e-5, "epochs": 200, "warmup_epochs": 3, "cooldown_epochs": 10,
    "smoothing": 0.1, "TET_means": 1.0, "TET_lamb": 0.0, "seed": 42, "workers": 4, "scale": [0.08, 1.0],
    "ratio": [3 / 4, 4 / 3], "hflip": 0.5, "color_jitter": 0.4, "train_interpolation": "random",
    "model_ema_decay": 0.9998, "data_dir": "", "dataset": "torch/cifar10",
}  # fmt: skip
"""What the official command line takes where a file is silent; fields that are not here have our defaults."""
ONLY: dict[str, tuple[Any, ...]] = {
    "sched": ("cosine",),
    "pretrained": (False,), "resume": ("",), "no_resume_opt": (False,), "linear_prob": (False,),
    "train_split": ("train",), "val_split": ("validation", "val", "test"), "train_split_path": (None,),
    "gp": (None,), "input_size": (None,), "lr_noise": (None,), "lr_cycle_mul": (1.0,), "lr_cycle_limit": (1,),
    "epoch_repeats": (0.0,), "start_epoch": (None, 0), "aug_splits": (0,), "jsd": (False,),
    "bce_loss": (False,),
    "resplit": (False,), "bn_tf": (False,), "bn_momentum": (None,), "bn_eps": (None,), "sync_bn": (False,),
    "split_bn": (False,), "model_ema_force_cpu": (False,), "tta": (0, 1), "torchscript": (False,),
    "interpolation": ("bicubic",), "drop": (0.0,), "eval_metric": ("top1",),
}  # fmt: skip
"""What this trainer has one value of; any other is refused.  `drop` reaches no layer there either."""
NO_EFFECT = {
    "reaches nothing in the official code": (
        "aug_repeats", "use_conv_as_linear", "drop_path", "drop_connect", "drop_block", "patch_size",
        "bce_target_thresh", "init_alif",
    ),
    "belongs to another schedule": (
        "decay_epochs", "decay_rate", "patience_epochs", "lr_noise_pct", "lr_noise_std",
    ),
    "is of the machine or the log": (
        "channels_last", "pin_mem", "no_prefetcher", "use_multi_epochs_loader", "apex_amp", "native_amp",
        "local_rank", "dist_bn", "log_interval", "recovery_interval", "checkpoint_hist", "save_images",
        "log_wandb", "output", "experiment", "config",
    ),
}  # fmt: skip
"""Reason -> keys."""
WHY = {key: why for why, keys in NO_EFFECT.items() for key in keys}
MODEL = (*FIELD_OF_ARGUMENT, "dvs_mode")
KNOWN = sorted({*MODEL, *FIELDS, *PICTURES, *OF_PICTURES, *OTHER, *DEFAULTS, *ONLY, *WHY})


@dataclass(frozen=True)
class Official:
    """The run that a file means, and in which group each of its keys is.

    `notes`: what a person should be told, those groups among it.
    """

    recipe: Recipe
    honoured: tuple[str, ...]
    off: tuple[str, ...]
    without_effect: tuple[str, ...]
    notes: tuple[str, ...]


def read_official(
    path: Path, flags: Mapping[str, Any] | None = None, overrides: tuple[str, ...] = ()
) -> Official:
    """The run that an official file means.

    `flags`: official arguments that win over the file's, by their names there; of `attention_mode`, which the
    official trainers ignore, ours does not.  `overrides`: `key=value` of our recipes over all of it.

    Raises `ConfigError` for an unknown key, with the nearest known one, and for what this trainer has not.
    """
    content = {**read_mapping(path, "configuration"), **(flags or {})}
    for key in content:
        if not isinstance(key, str) or key.replace("-", "_") not in KNOWN:
            raise ConfigError(f"{path}: unknown key {short(key)}; {_nearest(str(key))}")
    try:
        arguments = {k: read_number(k, v) for k, v in content.items() if "-" not in k}
        for key in DEFAULTS:
            if arguments.get(key, DEFAULTS[key]) is None:
                raise ConfigError(f"{key} is empty: leave it out for {DEFAULTS[key]!r}, or give a value")
        arguments = DEFAULTS | arguments
        for key, allowed in ONLY.items():
            if key in arguments and arguments[key] not in allowed:
                words = f"must be {' or '.join(map(repr, allowed))}; this trainer has no other"
                raise ConfigError(f"{key} = {short(arguments[key])}: {words}")
        values, lines = _values(path, content, arguments)
        recipe = overridden(values, overrides)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    groups = _groups(content, arguments)
    decide, only, dead = groups
    told = [f"official keys that decide this run: {', '.join(decide)}"] if decide else []
    told += [f"official keys at their only value: {', '.join(only)}"] if only else []
    told += [f"official keys without effect: {'; '.join(_reasons(dead))}"] if dead else []
    return Official(recipe, tuple(decide), tuple(only), tuple(dead), (*told, *lines))


def _nearest(key: str) -> str:
    close = difflib.get_close_matches(key, KNOWN, n=1)
    return f"did you mean {close[0]!r}?" if close else "official files have none of that name"


def _values(
    path: Path, content: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Fields of a recipe, and what to tell."""
    told = read_yaml(path, beside=[k for k in content if k in ("attention_mode", "chunk_size")], over=content)
    kind = data_kind(str(arguments["dataset"] or ""))
    notes = [note for note in told.notes if "hyphen" not in note]
    fields = dict(told.fields)
    if "attention_mode" in content:  # which the official trainers ignore
        fields["attention_mode"] = content["attention_mode"]
        notes = [note for note in notes if "attention_mode" not in note]
    values: dict[str, Any] = {
        "name": path.stem,
        "model": "statten",
        "config": fields,
        "data": data_name(kind, arguments),
        "schedule_per": "epoch",
        "warmup_prefix": False,
        "drop_last": kind not in EVENTS,
    }
    values |= {field: arguments[key] for key, field in FIELDS.items() if arguments.get(key) is not None}
    if arguments.get("TET"):
        values["loss"] = "tet"
    if arguments.get("model_ema"):
        values["ema_decay"] = arguments["model_ema_decay"]
    values |= _of_events(kind, arguments) if kind in EVENTS else _of_pictures(arguments)
    if kind == "ncaltech101" and fields.get("T") != 16:
        notes.append(
            f"N-Caltech101: {fields.get('T')} frames are read; the official trainer reads 16 all the same"
        )
    return values, notes + _differing(kind, arguments)


def data_kind(dataset: str) -> str:
    """`torch/cifar10` -> `cifar10`.  Raises `ConfigError` for a data set that is not here."""
    if dataset not in DATA:
        raise ConfigError(f"dataset = {dataset!r}: not here; {suggest(dataset, list(DATA))}")
    return DATA[dataset]


def data_name(kind: str, arguments: Mapping[str, Any]) -> str:
    """The name for `load_data`.  Raises `ConfigError` without a folder, or for a size that nobody has."""
    folder = str(arguments["data_dir"] or "")
    if not folder:
        raise ConfigError("data_dir is missing: say where the data lies (--data-dir DIR)")
    size = arguments.get("img_size")
    if kind == "imagenet":
        options = {"size": size or 224, "crop": arguments.get("crop_pct") or 0.875}
        return f"imagenet:{folder}?{'&'.join(f'{key}={value}' for key, value in options.items())}"
    if size not in (None, SAMPLE[kind]):
        raise ConfigError(f"img_size = {size}: samples of {kind} are {SAMPLE[kind]}×{SAMPLE[kind]}")
    return f"{kind}:{folder}"


def _of_pictures(arguments: Mapping[str, Any]) -> dict[str, Any]:
    if arguments.get("no_aug"):
        return {}
    found = {field: arguments[key] for key, field in PICTURES.items() if arguments.get(key) is not None}
    if found.get("auto_augment"):
        found.pop("color_jitter", None)
    return found


def _of_events(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    trivial = "trivial" if arguments.get("dvs_trival_aug") else "none"
    augment = "roll-rotate-shear" if kind == "ncaltech101" and trivial == "none" else trivial
    return {"event_augment": augment, "event_cutout": 16 if arguments.get("dvs_aug") else 0}


def _differing(kind: str, arguments: Mapping[str, Any]) -> list[str]:
    """Statistics that the file says and the data set here has not."""
    found = []
    for key, ours in zip(("mean", "std"), STATISTICS.get(kind, ()), strict=False):
        theirs = arguments.get(key)
        if theirs is not None and (not isinstance(theirs, list) or theirs != list(ours)):
            found.append(f"{key} = {theirs}: not used, {kind} is normalised by {list(ours)} here")
    return found


def _groups(
    content: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[list[str], list[str], dict[str, str]]:
    """Keys that decide, keys at their only value, and keys without effect with the reason."""
    kind = data_kind(str(arguments["dataset"] or ""))
    decide, only, dead = [], [], {}
    for key in content:
        why = _dead(key, kind, arguments)
        if why:
            dead[key] = why
        elif key in ONLY:
            only.append(key)
        else:
            decide.append(key)
    return decide, only, dead


def _dead(key: str, kind: str, arguments: Mapping[str, Any]) -> str:
    """Why a key has no effect on this run; nothing if it has."""
    if "-" in key:
        return "has a hyphen, and the official code reads none such"
    if key in WHY:
        return WHY[key]
    if kind in EVENTS and key in OF_PICTURES:
        return "is of pictures, and these are events"
    if kind not in EVENTS and key in ("dvs_aug", "dvs_trival_aug"):
        return "is of events, and these are pictures"
    if key == "color_jitter" and arguments.get("aa"):
        return "yields to the policy aa, as in timm"
    if key == "crop_pct" and kind != "imagenet":
        return "crops nothing of pictures that have their size"
    if key in ("TET_means", "TET_lamb") and not arguments.get("TET"):
        return "belongs to TET, which is off"
    if key == "model_ema_decay" and not arguments.get("model_ema"):
        return "belongs to the average, which is off"
    mixes = arguments.get("mixup") or arguments.get("cutmix") or arguments.get("cutmix_minmax")
    if key.startswith("mixup_") and not mixes:
        return "belongs to mixup and cutmix, which are off"
    if key in ("remode", "recount") and not arguments.get("reprob"):
        return "belongs to random erasing, which is off"
    return ""


def _reasons(dead: Mapping[str, str]) -> Iterable[str]:
    """`a, b (why)` for each reason, in the order of the file."""
    for why in dict.fromkeys(dead.values()):
        yield f"{', '.join(key for key, reason in dead.items() if reason == why)} ({why})"


def with_folder(recipe: Recipe, folder: str) -> Recipe:
    """The recipe with its data in `folder`.  Raises `ConfigError` for data that lies in none."""
    kind, colon, rest = recipe.data.partition(":")
    if not colon:
        raise ConfigError(f"--data-dir {folder}: data = {recipe.data} lies in no folder")
    _, mark, options = rest.partition("?")
    return dataclasses.replace(recipe, data=f"{kind}:{folder}{mark}{options}")
