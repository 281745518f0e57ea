"""What a training run is made of while it goes: the network and all that changes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from snn_energy.data import Data, Part
from snn_energy.training.augment import augment
from snn_energy.training.losses import make_loss, make_penalties, right_answers
from snn_energy.training.optim import clip_gradients, make_optimizer, make_schedule, steps_per_epoch
from snn_energy.training.recipe import Recipe
from snn_energy.training.scores import evaluate

if TYPE_CHECKING:
    from snn_energy.training.quantize import Quantization


@dataclass(frozen=True)
class Step:
    """What the progress bar shows: `done` of `total` steps, this epoch's mean loss and training accuracy.

    `test_accuracy`: of the epoch before, on the part by which the best epoch is chosen.
    """

    epoch: int
    done: int
    total: int
    loss: float
    accuracy: float
    test_accuracy: float | None


def quantization(recipe: Recipe, model: nn.Module, images: Part) -> Quantization | None:
    """Make `model` train in a netlist's numbers, if the recipe says so."""
    if recipe.quantize == "none":
        return None
    from snn_energy.exporters.chip.calibrate import CALIBRATION_SAMPLES
    from snn_energy.training.quantize import Quantization

    return Quantization(model, images.take(CALIBRATION_SAMPLES).batch(slice(None))[0])


class Run:
    """Model, optimizer, schedule and random state of one run."""

    def __init__(self, recipe: Recipe, model: nn.Module, data: Data, device: torch.device) -> None:
        from timm.utils import ModelEmaV3

        self.recipe, self.model, self.data, self.device = recipe, model, data, device
        self.quantization = quantization(recipe, model, data.train)
        self.forward = torch.compile(model) if recipe.compile else model
        self.steps = steps_per_epoch(recipe, len(data.train))
        self.classes = getattr(model.config, "num_classes", None) or len(data.class_names)
        self.optimizer = make_optimizer(recipe, model)
        self.schedule = make_schedule(recipe, self.optimizer, self.steps)
        self.of_logits, self.penalties = make_loss(recipe), make_penalties(recipe, model)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.average = ModelEmaV3(model, decay=recipe.ema_decay) if recipe.ema_decay else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp and device.type == "cuda")
        self.updates = 0
        self.test_accuracy: float | None = None

    @property
    def result(self) -> nn.Module:
        """The network that is tested and saved: the average over steps, or the one that is trained."""
        network = self.model if self.average is None else self.average.module
        return network if self.quantization is None else self.quantization.rounded(network)

    def measure(self, best: float) -> dict[str, float]:
        """Accuracy on the part by which epochs are compared; if above `best`, on the test part, too."""
        size = self.recipe.val_batch_size or self.recipe.batch_size * 4
        part = self.data.test if self.data.validation is None else self.data.validation
        self.test_accuracy = evaluate(self.result, part, size, self.device)
        found = {self.chosen_by: self.test_accuracy}
        if self.data.validation is not None and self.test_accuracy > best:
            found["test_accuracy"] = evaluate(self.result, self.data.test, size, self.device)
        return found

    @property
    def chosen_by(self) -> str:
        """The score by which the best epoch is chosen."""
        return "test_accuracy" if self.data.validation is None else "validation_accuracy"

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self.optimizer.param_groups[0]["lr"]

    def epoch(self, number: int, on_step: Callable[[Step], None]) -> tuple[float, float]:
        """One pass over the training part; returns its mean loss and accuracy."""
        if self.quantization is not None and number > 1:
            averaged = () if self.average is None else (self.average.module,)
            self.quantization.refresh(self.model, *averaged)
        self.model.train()
        total_loss, right, seen = 0.0, 0, 0
        for x, y in self.data.train.batches(self.recipe.batch_size, self.generator):
            x, y = augment(x, y, self.recipe, self.generator, epoch=number - 1, classes=self.classes)
            y = y.to(self.device)
            loss, logits = self.step(x.to(self.device), y)
            total_loss += loss * len(y)
            right += right_answers(logits, y)
            seen += len(y)
            done = self.steps * self.recipe.total_epochs
            on_step(Step(number, self.updates, done, total_loss / seen, right / seen, self.test_accuracy))
        return total_loss / seen, right / seen

    def step(self, x: torch.Tensor, y: torch.Tensor) -> tuple[float, torch.Tensor]:
        """One optimizer step; returns the loss and the logits (B, K), mean over steps."""
        self.schedule.step_update(self.updates)
        with torch.autocast(self.device.type, enabled=self.recipe.amp):
            logits = self.forward(x)
        loss = self.loss(logits.float(), y)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.recipe.clip_grad:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self.recipe, self.model.parameters())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        self.updates += 1
        logits = logits.detach()
        return loss.item(), logits.mean(0) if logits.dim() == 3 else logits

    def loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The recipe's loss of logits (B, K) or (T, B, K), with what it adds to it."""
        loss = self.of_logits(logits, y)
        for penalty in self.penalties:
            loss = loss + penalty()
        return loss
