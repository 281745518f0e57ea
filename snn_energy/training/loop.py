"""One training run, from a recipe to checkpoints."""

from __future__ import annotations

import csv
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from snn_energy.checkpoints import build, read_checkpoint, save_checkpoint
from snn_energy.data import Data, load_data
from snn_energy.errors import SnnEnergyError
from snn_energy.files import write_text
from snn_energy.models.zoo import create_model
from snn_energy.training.device import choose_device
from snn_energy.training.recipe import Recipe
from snn_energy.training.run import Run, Step
from snn_energy.training.scores import check_fit
from snn_energy.training.vary import varied

COLUMNS = {
    False: ("epoch", "lr", "loss", "train_accuracy", "test_accuracy"),
    True: ("epoch", "lr", "loss", "train_accuracy", "validation_accuracy", "test_accuracy"),
}
"""Of log.csv, without and with a validation part: then the test part is looked at in the best epochs only."""


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
    run = Run(recipe, model, data, where)
    write_text(out / "recipe.yaml", yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False))
    best: dict[str, Any] = {}
    with (out / "log.csv").open("w", newline="", encoding="utf-8") as stream:
        log = csv.DictWriter(stream, [*COLUMNS[data.validation is not None], "seconds"])
        log.writeheader()
        for epoch in range(1, recipe.total_epochs + 1):
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
    data = load_data(recipe.data, val_fraction=recipe.val_fraction, frames=steps, workers=workers)
    return varied(data, recipe)


def initial_model(recipe: Recipe) -> nn.Module:
    """A new network with the recipe's configuration, or the one in the checkpoint `recipe.init`."""
    if not recipe.init:
        return create_model(recipe.model, **recipe.config)
    return build(read_checkpoint(recipe.init), model=recipe.model, **recipe.config).train()
