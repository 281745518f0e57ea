"""One training run, from a recipe to checkpoints."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snn_energy.checkpoints import build, read_checkpoint, save_checkpoint
from snn_energy.data import Data, load_data
from snn_energy.data.stream import seeded
from snn_energy.errors import CheckpointError, Interrupted
from snn_energy.models.zoo import create_model
from snn_energy.training.board import Board, writer
from snn_energy.training.folder import BEST, BOARD, LAST, STATE, Folder, claimed
from snn_energy.training.measured import CONVENTION, ENERGY, Cost, cost_of
from snn_energy.training.processes import Group, joined
from snn_energy.training.recipe import Recipe
from snn_energy.training.run import APART, Run, Step
from snn_energy.training.scores import check_fit
from snn_energy.training.state import check_same, read_state, recipe_of
from snn_energy.training.vary import varied
from snn_energy.training.watch import Stopped, Watch

EVERY = "10m"
"""How often the state is saved within an epoch, unless it is said."""
BOARD_SAMPLES = 16
"""Samples from which TensorBoard's rates come where the recipe measures no energy."""


@dataclass(frozen=True)
class Result:
    """A finished run; `best` is the checkpoint of `epoch`, the one with the highest accuracy on `chosen_by`.

    `accuracy`: on the test part, in that epoch; `chosen_accuracy`: on `chosen_by`, "test" or "validation".
    `seconds`: of all its parts, where it was resumed.
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
    resume: bool = False,
    overwrite: bool = False,
    save_every: str = EVERY,
    tensorboard: bool = False,
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[Mapping[str, float]], None] = lambda row: None,
) -> Result:
    """Train `recipe.model` on `recipe.data`; write into `out` the files that `training.folder` names.

    The best epoch is chosen by accuracy on the validation part, `recipe.val_fraction` of the training part;
    without one on the test part, as the official trainers do.  log.csv and the checkpoints say which.

    The state of the run is saved at the beginning, after every epoch, within epochs every `save_every`
    ("10m", "90s", or a number of steps), and when SIGINT or SIGTERM ends it: then `Interrupted` is raised.
    `resume` goes on from the state in `out`, or begins where there is none; on a CPU the run ends with the
    same bits as one that was never interrupted.  `overwrite` replaces the run in `out`.

    Under `torchrun` every process calls this: docs/training.md.  `on_step` gets each step, `on_epoch` each
    row of log.csv; `tensorboard` writes curves.  Files are written whole or not at all.  Raises
    `SnnEnergyError` before anything is written if the recipe cannot run, or if `out` holds a run.
    """
    watch, folder = Watch(save_every), Folder(Path(out))
    if tensorboard:
        writer()
    with joined(device) as (group, where), contextlib.ExitStack() as stack:
        stack.enter_context(seeded(recipe.seed))

        def claim() -> dict[str, Any] | None:
            stack.enter_context(claimed(folder.path, resume=resume, overwrite=overwrite))
            return read_state(folder.path / STATE) if resume and folder.resumable else None

        state = group.from_first(claim)
        run = group.each(lambda: _new_run(recipe, where, group, state, folder))
        session = _Session(run, folder, watch, on_step, on_epoch)
        session.begin(state)
        if tensorboard and group.first:
            session.board = stack.enter_context(Board(folder.path / BOARD, run.updates))
        with watch.signals(alone=group.size == 1):
            return session.to_the_end()


def recipe_in(folder: Path) -> Recipe:
    """The recipe of the run in `folder`, as it began.  Raises `CheckpointError` where there is none."""
    return recipe_of(read_state(folder / STATE), folder / STATE)


def _new_run(
    recipe: Recipe, device: torch.device, group: Group, state: Mapping[str, Any] | None, folder: Folder
) -> Run:
    """The run as it begins; `state`: from which it is to go on, which must be of this recipe and data."""
    model = initial_model(recipe) if state is None else create_model(recipe.model, **state["config"])
    data = recipe_data(recipe, getattr(model.config, "T", None))
    if state is not None:
        check_same(state, recipe, group.size, len(data.train), folder.path / STATE)
    model = model.to(device)
    check_fit(model, data, device)
    if group.rank:
        torch.manual_seed(recipe.seed + APART * group.rank)  # what is dropped in training: each its own
    return Run(recipe, model, data, device, group)


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


@dataclass
class _Session:
    """A run with its folder: what of it has been written, and who is told."""

    run: Run
    folder: Folder
    watch: Watch
    on_step: Callable[[Step], None]
    on_epoch: Callable[[Mapping[str, float]], None]
    best: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    board: Board | None = None
    before: float = 0.0  # seconds before this process
    started: float = field(default_factory=time.monotonic)
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    @property
    def columns(self) -> tuple[str, ...]:
        """Of log.csv; with a validation part the test part is looked at in the best epochs only."""
        held = self.run.data.validation is not None
        scores = ("validation_accuracy", "test_accuracy") if held else ("test_accuracy",)
        energy = (ENERGY,) if self.run.recipe.energy_samples else ()
        return ("epoch", "lr", "loss", "train_accuracy", *scores, *energy, "seconds")

    def begin(self, state: Mapping[str, Any] | None) -> None:
        """Begin, or go on from `state`; the folder's files are then as they stand at that moment."""
        run, folder = self.run, self.folder
        if state is None:
            initial = self._state()
            run.group.from_first(lambda: folder.begin(initial))
        else:
            self._restore(state)
        run.group.from_first(lambda: folder.write_recipe(run.recipe))
        run.group.from_first(lambda: folder.write_log(self.columns, self.history))

    def _restore(self, state: Mapping[str, Any]) -> None:
        try:
            self.run.restore(state)
            self.best, self.history = dict(state["best"]), list(state["history"])
            self.before = float(state["seconds"])
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{self.folder.path / STATE}: is no state of this run ({type(error).__name__}: {reason})"
            ) from error
        if state["torch"] != torch.__version__:
            began = f"the run began with PyTorch {state['torch']}"
            self.notes = (f"{began}; this is {torch.__version__}, which may round otherwise",)

    def to_the_end(self) -> Result:
        """All epochs that are left."""
        run = self.run
        try:
            while run.at.epoch <= run.recipe.total_epochs:
                run.epoch(self.watch, self.save, self._told)
                self._finish_epoch()
        except Stopped:
            self.save()
            at, path = run.at, shlex.quote(str(self.folder.path))
            step = run.updates - (at.epoch - 1) * run.steps
            raise Interrupted(
                f"interrupted in epoch {at.epoch} of {run.recipe.total_epochs} after step {step} of "
                f"{run.steps}; nothing is lost: snn-energy train --resume {path}"
            ) from None
        best = self.best
        by = run.chosen_by.removesuffix("_accuracy")
        return Result(
            out=self.folder.path,
            best=self.folder.path / BEST,
            accuracy=best["test_accuracy"],
            epoch=best["epoch"],
            seconds=self.seconds,
            chosen_by=by,
            chosen_accuracy=best[run.chosen_by],
            notes=(*run.data.notes, *self.notes),
        )

    def save(self) -> None:
        """Save the state; all processes must call this together."""
        state = self._state()
        self.run.group.from_first(lambda: self.folder.save(state))
        self.watch.saved()

    def _state(self) -> dict[str, Any]:
        return self.run.state() | {"best": self.best, "history": self.history, "seconds": self.seconds}

    def _told(self, step: Step) -> None:
        if self.board is not None:
            self.board.step(step, self.run.lr, self.run.steps)
        self.on_step(step)

    def _finish_epoch(self) -> None:
        """Test the network, write what there is to write, and stand at the beginning of the next epoch.

        The state comes last: until it is there, a resumed run finishes this epoch again, in the same way.
        """
        run, at, lr = self.run, self.run.at, self.run.lr
        limit = self.best.get(run.chosen_by, -1.0)
        found = run.measure(limit, self.watch)
        row = {"epoch": at.epoch, "lr": lr, "loss": at.loss / at.seen, "train_accuracy": at.right / at.seen}
        row |= found
        cost = run.group.from_first(self._cost)
        if cost is not None and run.recipe.energy_samples:
            row[ENERGY] = cost.energy_uj
        better = found[run.chosen_by] > limit
        if better:
            self.best = dict(row)
        self.history.append({**row, "seconds": self.seconds})
        run.group.from_first(lambda: self._write(row, (LAST, BEST) if better else (LAST,)))
        if self.board is not None:
            self.board.epoch(row, cost, run.updates)
        run.next_epoch()
        self.save()
        self.on_epoch(row)

    def _cost(self) -> Cost | None:
        samples = self.run.recipe.energy_samples or (BOARD_SAMPLES if self.board is not None else 0)
        return cost_of(self.run.result, self.run.chosen_part, samples, self.run.device) if samples else None

    def _write(self, row: Mapping[str, Any], names: tuple[str, ...]) -> None:
        run = self.run
        metrics = {key: value for key, value in row.items() if key not in ("epoch", "lr")}
        if ENERGY in row:
            metrics["energy_convention"] = CONVENTION
        for name in names:
            save_checkpoint(
                self.folder.path / name,
                run.result,
                name=run.recipe.model,
                recipe=run.recipe,
                epoch=int(row["epoch"]),
                metrics={**metrics, "best_epoch_chosen_by": run.chosen_by},
                class_names=list(run.data.class_names),
                history=[{k: v for k, v in one.items() if k != "seconds"} for one in self.history],
            )
        self.folder.write_log(self.columns, self.history)
