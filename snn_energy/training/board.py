"""A run's curves for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snn_energy.errors import MissingDependency
from snn_energy.training.measured import ENERGY, Cost
from snn_energy.training.run import Step

POINTS = 100
"""Points per epoch of what changes with every step."""


def writer() -> Any:
    """TensorBoard's writer.  Raises `MissingDependency` without it."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependency("tensorboard", "tensorboard", "--tensorboard") from None
    return SummaryWriter


class Board:
    """Writes into `folder`; `updates`: steps that are behind the run, later points are removed."""

    def __init__(self, folder: Path, updates: int) -> None:
        self.writer = writer()(str(folder), purge_step=updates + 1)

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def step(self, step: Step, lr: float, steps: int) -> None:
        """Loss, accuracy and learning rate, `POINTS` times in an epoch of `steps`."""
        if step.done % math.ceil(steps / POINTS) == 0:
            values = {"loss": step.loss, "accuracy": step.accuracy, "lr": lr}
            for name, value in values.items():
                self.writer.add_scalar(f"train/{name}", value, step.done)

    def epoch(self, row: Mapping[str, float], cost: Cost | None, updates: int) -> None:
        """What log.csv gets, and the firing rate of every neuron."""
        for name, value in row.items():
            if name not in ("epoch", "seconds"):
                self.writer.add_scalar(f"epoch/{name}", value, updates)
        if cost is not None:
            self.writer.add_scalar(f"epoch/{ENERGY}", cost.energy_uj, updates)
            for name, rate in cost.rates.items():
                self.writer.add_scalar(f"rate/{name}", rate, updates)
        self.writer.flush()
