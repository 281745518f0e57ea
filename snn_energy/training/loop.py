"""One training run, from a recipe to checkpoints."""

from __future__ import annotations

import csv
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import nn
from torch.nn import functional as F

from snn_energy.checkpoints import build, read_checkpoint, save_checkpoint
from snn_energy.data import Data, Part, load_data
from snn_energy.errors import ConfigError, DataError, SnnEnergyError
from snn_energy.files import write_text
from snn_energy.models.neurons import reset
from snn_energy.models.zoo import create_model
from snn_energy.training import losses
from snn_energy.training.device import choose_device
from snn_energy.training.recipe import Recipe

if TYPE_CHECKING:
    from snn_energy.training.quantize import Quantization


COLUMNS = {
    False: ("epoch", "lr", "loss", "train_accuracy", "test_accuracy"),
    True: ("epoch", "lr", "loss", "train_accuracy", "validation_accuracy", "test_accuracy"),
}
"""Of log.csv, without and with a validation part: then the test part is looked at in the best epochs only."""


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


@dataclass(frozen=True)
class Result:
    """A finished run; `best` is the checkpoint of `epoch`, the one with the highest accuracy on `chosen_by`.

    `accuracy`: on the test part, in that epoch; `chosen_accuracy`: on `chosen_by`, "test" or "validation".
    """

    out: Path
    best: Path
    accuracy: float
    epoch: int
    seconds: float
    chosen_by: str = "test"
    chosen_accuracy: float = 0.0
    notes: tuple[str, ...] = ()


def train(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    on_step: Callable[[Step], None] = lambda step: None,
) -> Result:
    """Train `recipe.model` on `recipe.data`; write best.pth, last.pth, recipe.yaml, log.csv into `out`.

    The best epoch is chosen by accuracy on the validation part, `recipe.val_fraction` of the training part;
    without one on the test part, as the official trainers do.  log.csv and the checkpoints say which.
    Checkpoints are written whole or not at all.  Raises `SnnEnergyError` before anything is written if the
    recipe cannot run.
    """
    started = time.monotonic()
    where = choose_device(device)
    torch.manual_seed(recipe.seed)
    model = initial_model(recipe)
    data = recipe_data(recipe, getattr(model.config, "T", None))
    model = model.to(where)
    check_fit(model, data, where)
    run = _Run(recipe, model, data, where)
    write_text(out / "recipe.yaml", yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False))
    best: dict[str, Any] = {}
    with (out / "log.csv").open("w", newline="", encoding="utf-8") as stream:
        log = csv.DictWriter(stream, [*COLUMNS[data.validation is not None], "seconds"])
        log.writeheader()
        for epoch in range(1, recipe.epochs + 1):
            loss, train_accuracy = run.epoch(epoch, on_step)
            if not math.isfinite(loss):
                raise SnnEnergyError(
                    f"loss became {loss} in epoch {epoch}: lower lr ({recipe.lr}) or set clip_grad"
                )
            lr = run.lr
            found = run.measure(best.get(run.chosen_by, -1.0))
            metrics = {**found, "train_accuracy": train_accuracy, "loss": loss}
            better = found[run.chosen_by] > best.get(run.chosen_by, -1.0)
            row = {"lr": lr, **metrics, "seconds": time.monotonic() - started}
            log.writerow({"epoch": epoch} | {key: f"{value:.6g}" for key, value in row.items()})
            stream.flush()
            if better:
                best = {**metrics, "epoch": epoch}
            for name in ("last", "best") if better else ("last",):
                save_checkpoint(
                    out / f"{name}.pth",
                    run.result,
                    name=recipe.model,
                    recipe=recipe,
                    epoch=epoch,
                    metrics={**metrics, "best_epoch_chosen_by": run.chosen_by},
                    class_names=list(data.class_names),
                )
    by = run.chosen_by.removesuffix("_accuracy")
    spent = time.monotonic() - started
    score, epoch = best["test_accuracy"], best["epoch"]
    return Result(out, out / "best.pth", score, epoch, spent, by, best[run.chosen_by], data.notes)


def recipe_data(recipe: Recipe, steps: int | None) -> Data:
    """What a recipe trains on; event data with as many frames as its network has steps."""
    workers = None if recipe.workers < 0 else recipe.workers
    return load_data(recipe.data, val_fraction=recipe.val_fraction, frames=steps, workers=workers)


def initial_model(recipe: Recipe) -> nn.Module:
    """A new network with the recipe's configuration, or the one in the checkpoint `recipe.init`."""
    if not recipe.init:
        return create_model(recipe.model, **recipe.config)
    return build(read_checkpoint(recipe.init), model=recipe.model, **recipe.config).train()


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


def evaluate(model: nn.Module, images: Part, batch_size: int, device: torch.device) -> float:
    """Share of `images` that `model` classifies right."""
    right = 0
    for x, y in images.batches(batch_size):
        right += int((evaluate_batch(model, x.to(device)).argmax(1).cpu() == y).sum())
    return right / len(images)


def quantization(recipe: Recipe, model: nn.Module, images: Part) -> Quantization | None:
    """Make `model` train in a netlist's numbers, if the recipe says so."""
    if recipe.quantize == "none":
        return None
    from snn_energy.exporters.chip.calibrate import CALIBRATION_SAMPLES
    from snn_energy.training.quantize import Quantization

    return Quantization(model, images.take(CALIBRATION_SAMPLES).batch(slice(None))[0])


class _Run:
    """Model, optimizer, schedule and random state of one run."""

    def __init__(self, recipe: Recipe, model: nn.Module, data: Data, device: torch.device) -> None:
        from timm.optim import create_optimizer_v2
        from timm.scheduler.cosine_lr import CosineLRScheduler
        from timm.utils import ModelEmaV3

        self.recipe, self.model, self.data, self.device = recipe, model, data, device
        self.quantization = quantization(recipe, model, data.train)
        self.forward = torch.compile(model) if recipe.compile else model
        self.steps = math.ceil(len(data.train) / recipe.batch_size)
        self.optimizer = create_optimizer_v2(
            model,
            opt=recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
        )
        warmup = round(recipe.warmup_epochs * self.steps)
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=max(recipe.epochs * self.steps - warmup, 1),
            lr_min=recipe.min_lr,
            warmup_t=warmup,
            warmup_lr_init=recipe.min_lr,
            warmup_prefix=True,
            t_in_epochs=False,
        )
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
        size = self.recipe.batch_size * 4
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
            if self.recipe.random_affine:
                x = random_affine(x, self.recipe.random_affine, self.generator)
            loss, logits = self.step(x.to(self.device), y.to(self.device))
            total_loss += loss * len(y)
            right += int((logits.argmax(-1).cpu() == y).sum())
            seen += len(y)
            done = self.steps * self.recipe.epochs
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
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        self.updates += 1
        logits = logits.detach()
        return loss.item(), logits.mean(0) if logits.dim() == 3 else logits

    def loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The recipe's loss of logits (B, K) or (T, B, K)."""
        recipe = self.recipe
        if recipe.loss == "tet":
            loss = losses.tet(logits, y, recipe.label_smoothing, means=recipe.tet_means, lamb=recipe.tet_lamb)
        else:
            loss = losses.cross_entropy(logits, y, recipe.label_smoothing)
        if recipe.regularization:
            loss = loss + recipe.regularization * self.model.regularization()  # type: ignore[operator]
        return loss


def random_affine(x: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    """Turn, shear, scale and move each image (B, C, H, W) a little; the border is repeated.

    Frames (B, T, C, H, W) move together.  Each of the six entries of an image's affine matrix, in units of
    half its size, moves by up to `most`.
    """
    identity = torch.eye(2, 3)
    theta = identity + most * (2 * torch.rand(len(x), 2, 3, generator=generator) - 1)
    images = x.flatten(1, 2) if x.dim() == 5 else x
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False).reshape(x.shape)
