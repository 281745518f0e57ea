"""Checkpoints as the official trainer and others write them, and the one line that refuses a bad one."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from snn_energy.checkpoints import load
from snn_energy.errors import CheckpointError
from snn_energy.models.zoo import create_model

FIELDS = {
    "in_channels": 3,
    "num_classes": 5,
    "embed_dims": 16,
    "num_heads": 2,
    "depths": 2,
    "mlp_ratios": 3,
    "T": 6,
    "chunk_size": 3,
    "pooling_stat": "0110",
}
ARGS = {
    "model": "sdt",
    "dataset": "torch/cifar10",
    "in_channels": 3,
    "num_classes": 5,
    "dim": 16,
    "num_heads": 2,
    "layer": 2,
    "mlp_ratio": 3,
    "time_steps": 6,
    "chunk_size": 3,
    "pooling_stat": "0110",
    "spike_mode": "lif",
    "dvs_mode": False,
    "TET": False,
    "img_size": 32,
    "attention_mode": "STAtten",
    "lr": 3e-4,
    "drop_path": 0.2,
    "model-ema": False,
    "channels-last": False,
}


def small_statten() -> nn.Module:
    """STAtten with the fields that `ARGS` describe."""
    torch.manual_seed(0)
    return create_model("statten", **FIELDS).eval()


def official(state: dict[str, torch.Tensor], **changes: Any) -> dict[str, Any]:
    """What the official trainer puts into a file."""
    arguments = {key: value for key, value in {**ARGS, **changes}.items() if value is not ...}
    return {
        "epoch": 17,
        "arch": "sdt",
        "state_dict": state,
        "optimizer": {"state": {}, "param_groups": []},
        "version": 2,
        "args": argparse.Namespace(**arguments),
        "metric": 12.5,
    }


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def refusal(path: Path, **overrides: Any) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        load(path, **overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def refusal_without_warnings(path: Path, **overrides: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return refusal(path, **overrides)


def sdt_state(spike_mode: str, **fields: Any) -> dict[str, torch.Tensor]:
    """Tensors as that release writes them, with the time constants of neurons that it never calls."""
    fields = {**FIELDS, **fields, "attention_mode": "SDT", "release": "SDT", "spike_mode": spike_mode}
    torch.manual_seed(3)
    state = create_model("statten", **fields).state_dict()
    if spike_mode == "plif":
        names = ["patch_embed.rpe_lif.w", *(f"block.{i}.attn.attn_lif.w" for i in range(2))]
        state |= {name: torch.full((), 0.25) for name in names}
    return state
