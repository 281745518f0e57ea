"""What a training run is made of while it goes: the network and all that changes with it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from snn_energy.data import Data, Part
from snn_energy.errors import ConfigError, SnnEnergyError
from snn_energy.models.recompute import recompute_blocks
from snn_energy.training.augment import augment
from snn_energy.training.diverged import first_nonfinite, nonfinite_weights
from snn_energy.training.losses import EnergyPenalty, Loss, Penalty, make_loss, make_penalties, right_answers
from snn_energy.training.optim import batches_per_epoch, clip_gradients, make_optimizer, make_schedule
from snn_energy.training.processes import Group
from snn_energy.training.recipe import Recipe
from snn_energy.training.scores import evaluate
from snn_energy.training.speed import precision, training_layout
from snn_energy.training.state import FORMAT, VERSION, Position, generators, set_generators
from snn_energy.training.watch import Stopped, Watch

if TYPE_CHECKING:
    from snn_energy.training.quantize import Quantization

APART = 1_000_003
"""Between the seeds of neighbouring processes."""


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


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


class Objective(nn.Module):
    """Network and loss in one: samples and labels -> the loss, and logits (B, K), mean over steps.

    One module, so that where several processes train, all that takes part in the loss is seen there.
    """

    def __init__(
        self, network: nn.Module, loss: Loss, penalties: list[Penalty], precision: torch.dtype | None
    ) -> None:
        super().__init__()
        self.network, self.loss, self.penalties, self.precision = network, loss, penalties, precision

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(x.device.type, dtype=self.precision, enabled=self.precision is not None):
            logits = self.network(x)
        logits = logits.float()
        loss = self.loss(logits, y)
        for penalty in self.penalties:
            loss = loss + penalty()
        logits = logits.detach()
        return loss, logits.mean(0) if logits.dim() == 3 else logits


class Run:
    """Model, optimizer, schedule, random state and position of one run, in one of its processes.

    `batches`: of an epoch, `recipe.batch_size` samples in each process; `steps`: of the optimizer, one after
    every `recipe.accumulate` of them.
    """

    def __init__(
        self, recipe: Recipe, model: nn.Module, data: Data, device: torch.device, group: Group | None = None
    ) -> None:
        from timm.utils import ModelEmaV3

        group = group or Group()
        self.recipe, self.model, self.data, self.device, self.group = recipe, model, data, device, group
        if recipe.sync_bn and group.size > 1:
            if device.type != "cuda":
                raise ConfigError(f"sync_bn = true: PyTorch has it for GPUs only, the device is {device}")
            self.model = model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.quantization = quantization(recipe, model, data.train)
        self.refreshed = self._weights()
        self.precision = precision(recipe.amp, device)
        if recipe.recompute:
            recompute_blocks(model)
        self.batches = batches_per_epoch(recipe, len(data.train), group.size)
        self.samples = min(len(data.train), self.batches * recipe.batch_size * group.size)  # of an epoch
        self.classes = getattr(model.config, "num_classes", None) or len(data.class_names)
        self.steps = math.ceil(self.batches / recipe.accumulate)
        self.optimizer = make_optimizer(recipe, model)
        self.schedule = make_schedule(recipe, self.optimizer, self.steps)
        self.average = ModelEmaV3(model, decay=recipe.ema_decay) if recipe.ema_decay else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision is torch.float16)
        self.penalties = make_penalties(recipe, model)
        self.lookers = [one for one in self.penalties if isinstance(one, EnergyPenalty)]
        self.initial = _copy(model) if self.lookers else {}
        self.looked = False
        self.objective = self._objective()
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.varying = self.generator  # what augmentation draws from: each process its own
        if group.size > 1:
            self.varying = torch.Generator().manual_seed(recipe.seed + APART * (group.rank + 1))
        self.at = Position()
        self.updates = 0
        self.test_accuracy: float | None = None

    def _objective(self) -> nn.Module:
        recipe = self.recipe
        network: Any = torch.compile(self.model) if recipe.compile else self.model
        whole = Objective(network, make_loss(recipe), self.penalties, self.precision)
        if self.group.size == 1:
            return whole
        # a network may hold parameters that its configuration leaves unused; where all are used torch warns
        warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
        return nn.parallel.DistributedDataParallel(whole, find_unused_parameters=True)

    @property
    def result(self) -> nn.Module:
        """The network that is tested and saved: the average over steps, or the one that is trained."""
        network = self.model if self.average is None else self.average.module
        return network if self.quantization is None else self.quantization.rounded(network)

    @property
    def chosen_part(self) -> Part:
        """The part by which epochs are compared."""
        return self.data.test if self.data.validation is None else self.data.validation

    @property
    def chosen_by(self) -> str:
        """The score by which the best epoch is chosen."""
        return "test_accuracy" if self.data.validation is None else "validation_accuracy"

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self.optimizer.param_groups[0]["lr"]

    def measure(self, best: float, watch: Watch) -> dict[str, float]:
        """Accuracy on the part by which epochs are compared; if above `best`, on the test part, too."""
        size, group = self.recipe.val_batch_size or self.recipe.batch_size * 4, self.group
        check = watch.check if group.size == 1 else None  # together they stop between steps only
        self._one_network()
        network = self.result
        self.test_accuracy = evaluate(network, self.chosen_part, size, self.device, group, check)
        found = {self.chosen_by: self.test_accuracy}
        if self.data.validation is not None and self.test_accuracy > best:
            found["test_accuracy"] = evaluate(network, self.data.test, size, self.device, group, check)
        return found

    def _one_network(self) -> None:
        """All processes hold the first one's buffers: each has seen other samples since the last step."""
        if self.group.size > 1:
            for network in (self.model, *self._averaged()):
                for buffer in network.buffers():
                    torch.distributed.broadcast(buffer, src=0)

    def _averaged(self) -> tuple[nn.Module, ...]:
        return () if self.average is None else (self.average.module,)

    def epoch(self, watch: Watch, save: Callable[[], None], on_step: Callable[[Step], None]) -> None:
        """Train to the end of the epoch at which the run stands; `save` is called when `watch` says so.

        Raises `Stopped`, after a whole step, if `watch` was asked to stop.
        """
        at = self.at
        if at.order is None:
            at.order = self.generator.get_state()
            self._refresh()
        self.model.train()
        with training_layout(self.model, self.device, self.group.size):
            self._look()
            self._rest_of_epoch(watch, save, on_step)

    def _rest_of_epoch(self, watch: Watch, save: Callable[[], None], on_step: Callable[[Step], None]) -> None:
        at, batches = self.at, self._batches()
        while at.batch < self.batches:
            x, y = self.group.each(lambda: next(batches))
            stop, due = self.batch(x, y, watch)
            if at.batch % self.recipe.accumulate and at.batch < self.batches:
                continue
            total = self.steps * self.recipe.total_epochs
            mean, accuracy = at.loss / at.seen, at.right / at.seen
            on_step(Step(at.epoch, self.updates, total, mean, accuracy, self.test_accuracy))
            if stop or (watch.stop and self.group.size == 1):
                raise Stopped
            if due and at.batch < self.batches:
                save()

    def _refresh(self) -> None:
        """Choose a quantized network's scales for this epoch, and remember for which weights they are."""
        if self.quantization is not None and self.at.epoch > 1:
            self.quantization.refresh(self.model, *self._averaged())
            self.refreshed = self._weights()

    def _look(self) -> None:
        """Let penalties see the network as it was when the run began, on the same samples."""
        if not self.lookers or self.looked:
            return
        now = _copy(self.model)
        self.model.load_state_dict(self.initial)
        x, _ = self.data.train.take(self.lookers[0].samples).batch(slice(None))
        for one in self.lookers:
            one.look(x.to(self.device))
        self.model.load_state_dict(now)
        self.looked = True

    def _weights(self) -> dict[str, torch.Tensor]:
        """Those for which a quantized network's scales are; nothing for any other."""
        return {} if self.quantization is None else _copy(self.model)

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's share of the epoch's batches that are left, varied."""
        at, group = self.at, self.group
        share = {} if group.size == 1 else {"share": (group.rank, group.size)}
        now = self.generator.get_state()
        if at.order is not None:
            self.generator.set_state(at.order)
        batches = self.data.train.batches(
            self.recipe.batch_size * group.size, self.generator, start=at.batch, **share
        )
        for number, (x, y) in enumerate(batches):
            if number == 0 and at.batch:
                self.generator.set_state(now)  # the order was drawn anew, what came after it goes on
            yield augment(x, y, self.recipe, self.varying, epoch=at.epoch - 1, classes=self.classes)

    def batch(self, x: torch.Tensor, y: torch.Tensor, watch: Watch) -> tuple[bool, bool]:
        """Forward and backward of one batch and, after the last of a step, the step.

        Returns whether some process was asked to stop, and whether it is time to save.
        """
        at, recipe, group = self.at, self.recipe, self.group
        whole = recipe.batch_size * group.size
        count = min(whole, self.samples - at.batch * whole)  # samples in all processes
        first = at.batch - at.batch % recipe.accumulate  # the step's first batch
        of_step = min(whole * recipe.accumulate, self.samples - first * whole)
        mine = group.share(count)
        last = (at.batch + 1) % recipe.accumulate == 0 or at.batch + 1 == self.batches
        if at.batch == first:
            self.schedule.step_update(self.updates)
            self.optimizer.zero_grad()
        x, y = x.to(self.device), y.to(self.device)
        with contextlib.ExitStack() as stack:
            if not last and isinstance(self.objective, nn.parallel.DistributedDataParallel):
                stack.enter_context(self.objective.no_sync())
            loss, logits = self.objective(x, y)
            found = loss.item()
            right = right_answers(logits, y) if mine else 0
            due = group.first and watch.due(self.updates + 1)
            total, rights, stop, save = group.sums(found * mine, right, watch.stop, due)
            if not math.isfinite(total):
                self._diverged(total, found, x)
            self.scaler.scale(loss * (mine * group.size / of_step)).backward()
        at.batch, at.seen = at.batch + 1, at.seen + count
        at.loss, at.right = at.loss + total, at.right + int(rights)
        if last:
            self._update()
        return bool(stop), bool(save)

    def _update(self) -> None:
        if self.recipe.clip_grad:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self.recipe, self.model.parameters())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        self.updates += 1

    def _diverged(self, total: float, loss: float, x: torch.Tensor) -> None:
        """Raise the error of a loss that is not finite, with the layer where that began."""
        own = ""
        if not math.isfinite(loss):
            own = first_nonfinite(self.model, x, self.precision) or "what the network puts out is finite"
        where = next((one for one in self.group.all(own) if one), "")
        raise self._divergence(f"loss became {total}", self.updates, where)

    def _divergence(self, what: str, update: int, where: str) -> SnnEnergyError:
        recipe, step = self.recipe, update % self.steps + 1
        clip = "set clip_grad" if recipe.clip_grad is None else f"lower clip_grad ({recipe.clip_grad})"
        return SnnEnergyError(
            f"{what} in epoch {self.at.epoch}, step {step} of {self.steps}: {where}; "
            f"lower lr ({recipe.lr}) or {clip}"
        )

    def state(self) -> dict[str, Any]:
        """All of it, to be saved by the first process; the others must call it, too.

        Raises `SnnEnergyError` where weights are not finite: such a state is not worth going on from.
        """
        if name := nonfinite_weights(self.model):
            raise self._divergence("weights diverged", self.updates - 1, f"{name} is not finite")
        own = {"global": generators(self.device), "varying": self.varying.get_state()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "recipe": self.recipe,
            "processes": self.group.size,
            "samples": len(self.data.train),
            "torch": str(torch.__version__),
            "config": self.model.config,
            "at": self.at,
            "updates": self.updates,
            "test_accuracy": self.test_accuracy,
            "model": dict(self.model.state_dict()),
            "average": None if self.average is None else dict(self.average.module.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "refreshed": self.refreshed,
            "initial": self.initial,
            "generator": self.generator.get_state(),
            "generators": self.group.all(own),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on as `state` says; the run must be as new, of the same recipe."""
        if state["refreshed"] and self.quantization is not None:
            self.model.load_state_dict(state["refreshed"])
            self.quantization.refresh(self.model, *self._averaged())
            self.refreshed = dict(state["refreshed"])
        self.initial = dict(state["initial"])
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.at, self.updates = Position(**state["at"]), state["updates"]
        self.test_accuracy = state["test_accuracy"]
        self.generator.set_state(state["generator"])
        own = state["generators"][self.group.rank]
        if self.varying is not self.generator:
            self.varying.set_state(own["varying"])
        set_generators(own["global"], self.device)

    def next_epoch(self) -> None:
        """Stand at the beginning of the epoch after this one."""
        self.at = dataclasses.replace(Position(), epoch=self.at.epoch + 1)
