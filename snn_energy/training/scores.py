"""How well a network in training does, and whether it takes its data at all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from snn_energy.data import Data, Part
from snn_energy.errors import ConfigError, DataError
from snn_energy.models.neurons import reset
from snn_energy.training.processes import Group


def check_fit(model: nn.Module, data: Data, device: torch.device) -> None:
    """Raise `ConfigError` unless `model` takes one sample of `data` and has an output per class."""
    config = model.config
    channels, classes = getattr(config, "in_channels", None), getattr(config, "num_classes", None)
    if channels is not None and channels != data.channels:
        raise ConfigError(f"in_channels = {channels}: {data.name} has {data.channels}")
    if classes is not None and classes < len(data.class_names):
        raise ConfigError(f"num_classes = {classes}: {data.name} has {len(data.class_names)}")
    steps = getattr(config, "T", None)
    if None not in (steps, data.steps) and steps != data.steps:
        raise ConfigError(f"T = {steps}: {data.name} has {data.steps} frames")
    x, _ = data.test.batch(slice(0, 1))
    try:
        evaluate_batch(model, x.to(device))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{data.name}: samples of shape {data.sample_shape} do not fit this model ({reason})"
        ) from error


def evaluate_batch(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Logits (B, K) in evaluation mode, without gradients; the mode is put back."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return model(x)
    finally:
        reset(model)  # a membrane made in inference mode must not reach a training step
        model.train(was_training)


def evaluate(
    model: nn.Module,
    images: Part,
    batch_size: int,
    device: torch.device,
    group: Group | None = None,
    check: Callable[[], None] | None = None,
) -> float:
    """Share of `images` that `model` classifies right; each process of `group` takes its own of them.

    Every sample is looked at once, so that the share does not depend on the number of processes.  `check` is
    called before each batch.
    """
    right, count = 0, len(images)
    group = group or Group()
    if group.size > 1:
        images = images.some(torch.arange(group.rank, count, group.size))
    for x, y in images.batches(batch_size):
        if check is not None:
            check()
        right += int((evaluate_batch(model, x.to(device)).argmax(1).cpu() == y).sum())
    return int(group.sums(right)[0]) / count
