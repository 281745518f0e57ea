"""Configuration files of the official STAtten and Spike-driven Transformer releases: keys and values."""

from __future__ import annotations

from typing import Any

import yaml

NORMS = {
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "cifar100": ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
}
COMMON = {"data_dir": "./data/", "pretrained": False, "num_heads": 8, "interpolation": "bicubic",
          "train_interpolation": "bicubic", "use_conv_as_linear": True, "layer": 2, "model-ema": False,
          "model-ema-decay": 0.9998, "channels-last": False, "seed": 42, "sched": "cosine", "epochs": 200,
          "cooldown_epochs": 10, "opt": "adamw", "smoothing": 0.1, "workers": 8, "crop_pct": 1.0,
          "scale": [1.0, 1.0]}  # fmt: skip


def cifar(classes: int, dim: int) -> dict[str, Any]:
    mean, std = NORMS[f"cifar{classes}"]
    return {
        **COMMON, "dataset": f"torch/cifar{classes}", "num_classes": classes, "img_size": 32, "mean": mean,
        "std": std, "ratio": [1.0, 1.0], "pooling_stat": "0011", "time_steps": 4, "chunk_size": 2, "dim": dim,
        "mlp_ratio": 4, "aa": "rand-m9-n1-mstd0.4-inc1", "color_jitter": 0.5, "mixup": 0.5,
        "mixup_off_epoch": 200, "mixup_prob": 1.0, "mixup_mode": "batch", "mixup_switch_prob": 0.5,
        "cutmix": 0.0, "amp": False, "batch_size": 64, "val_batch_size": 64, "lr": "3e-4", "min_lr": "1e-5",
        "weight_decay": "6e-2", "warmup_epochs": 20, "warmup_lr": "1e-6",
    }  # fmt: skip


def events(dataset: str, classes: int, steps: int, chunk: int) -> dict[str, Any]:
    found = {
        **COMMON, "dataset": dataset, "num_classes": classes, "img_size": 64, "ratio": [0.2, 1.0],
        "color_jitter": 0.0, "pooling_stat": "0011", "in_channels": 2, "time_steps": steps,
        "chunk_size": chunk, "dim": 256, "mlp_ratio": 4, "hflip": 0.5, "amp": True, "batch_size": 16,
        "val_batch_size": 16, "lr": 0.01, "min_lr": "3e-4", "weight_decay": "1e-4", "warmup_epochs": 10,
        "warmup_lr": "1e-3",
    }  # fmt: skip
    tet = {"TET": True, "TET_means": 1.0, "TET_lamb": 0.001}
    return found | (tet if dataset == "cifar10-dvs" else {})


NONE = ("bce_target_thresh", "bn_eps", "bn_momentum", "clip_grad", "cutmix_minmax", "drop_block",
        "drop_connect", "gp", "input_size", "lr_noise", "opt_betas", "opt_eps", "patch_size",
        "start_epoch")  # fmt: skip
OFF = ("apex_amp", "bce_loss", "bn_tf", "channels_last", "dvs_aug", "dvs_trival_aug", "jsd", "log_wandb",
       "model_ema", "model_ema_force_cpu", "native_amp", "no_aug", "no_prefetcher", "no_resume_opt",
       "pin_mem", "pretrained", "resplit", "save_images", "split_bn", "sync_bn", "torchscript",
       "use_multi_epochs_loader")  # fmt: skip
EMPTY = ("dist_bn", "experiment", "initial_checkpoint", "output", "resume")


def imagenet(dim: int) -> dict[str, Any]:
    wide = dim == 768
    found = dict.fromkeys(NONE) | dict.fromkeys(OFF, False) | dict.fromkeys(EMPTY, "")
    found |= {
        "aa": "rand-m7-mstd0.5-inc1" if wide else "rand-m5-mstd0.5-inc1", "amp": True, "aug_repeats": 3,
        "aug_splits": 0, "batch_size": 64 if wide else 48, "checkpoint_hist": 10, "chunk_size": 2,
        "clip_mode": "norm", "color_jitter": 0.4, "cooldown_epochs": 10, "crop_pct": 0.95, "cutmix": 1.0,
        "data_dir": "/data/imagenet1k", "dataset": "imagenet", "decay_epochs": 30, "decay_rate": 0.1,
        "dim": dim, "drop": 0.0, "drop_path": 0.2, "epoch_repeats": 0.0, "epochs": 200, "eval_metric": "top1",
        "hflip": 0.5, "img_size": 224, "in_channels": 3, "interpolation": "bicubic", "layer": 8,
        "local_rank": 0, "log_interval": 100, "lr": 0.001, "lr_cycle_limit": 1, "lr_cycle_mul": 1.0,
        "lr_noise_pct": 0.67, "lr_noise_std": 1.0, "mean": [0.485, 0.456, 0.406],
        "min_lr": 2e-5 if wide else 1.5e-5, "mixup": 0.2, "mixup_mode": "batch", "mixup_off_epoch": 0,
        "mixup_prob": 1.0 if wide else 0.6, "mixup_switch_prob": 0.5, "mlp-ratio": 4, "mlp_ratio": 4,
        "model": "sdt", "model_ema_decay": 0.9998, "momentum": 0.9, "num_classes": 1000, "num_heads": 8,
        "opt": "lamb", "patience_epochs": 10, "pooling_stat": "1111", "sched": "cosine",
        "ratio": [0.75, 4 / 3], "recount": 1,
        "recovery_interval": 0, "remode": "const", "reprob": 0.0, "scale": [0.08 if wide else 0.2, 1.0],
        "seed": 42, "smoothing": 0.1, "spike_mode": "lif", "std": [0.229, 0.224, 0.225], "time_steps": 4,
        "train_interpolation": "bicubic", "train_split": "train", "tta": 0, "use_conv_as_linear": True,
        "val_batch_size": 16 if wide else 48, "val_split": "validation", "vflip": 0.0, "warmup_epochs": 20,
        "warmup_lr": 1e-5, "weight_decay": 0.01, "workers": 8,
    }  # fmt: skip
    return found | ({"bce-loss": True, "bce-target-thresh": 0.2} if wide else {})


def ancestor(content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The same as the Spike-driven Transformer's release has it: without chunks, 300 epochs."""
    return {k: v for k, v in content.items() if k != "chunk_size"} | {"epochs": 300} | fields


FILES: dict[str, dict[str, Any]] = {
    "cifar10/2_256_200E_t4": cifar(10, 256),
    "cifar10/2_512_200E_t4": cifar(10, 512),
    "cifar100/2_256_200E_t4": cifar(100, 256),
    "cifar100/2_512_200E_t4": cifar(100, 512),
    "cifar10-dvs/2_256_200E_t10_TET": events("cifar10-dvs", 10, 10, 5),
    "cifar10-dvs/2_256_200E_t16_TET": events("cifar10-dvs", 10, 16, 4),
    "ncaltech101/2_256_200E_t10": events("ncaltech101", 101, 10, 5),
    "ncaltech101/2_256_200E_t16": events("ncaltech101", 101, 16, 4),
    "imagenet/8_512_200E_t4": imagenet(512),
    "imagenet/8_768_200E_t4": imagenet(768),
    "sdt/cifar10/2_512_300E_t4": ancestor(cifar(10, 512)),
    "sdt/gesture/2_256_200E_t16": ancestor(
        events("gesture", 11, 16, 4), epochs=200, opt="lamb", img_size=128, pooling_stat="0111"
    ),
    "sdt/imagenet/8_512_300E_t4": ancestor(imagenet(512), lr=0.0015),
}
"""By their path below `conf/`, without .yml; those of the ancestor below `sdt/`."""


def text_of(name: str) -> str:
    """The file; `3e-4` stands unquoted in it, as there."""
    text = yaml.safe_dump(FILES[name], sort_keys=False)
    for number in ("3e-4", "1e-5", "6e-2", "1e-6", "1e-4", "1e-3"):
        text = text.replace(f"'{number}'", number)
    return text
