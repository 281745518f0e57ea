"""What a network answers on labelled samples: accuracy and loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from snn_energy.errors import DataError
from snn_energy.models.walk import device_of
from snn_energy.profiling.axes import checked_steps
from snn_energy.profiling.batches import Turns, read_batches
from snn_energy.profiling.contract import Declared, Scores
from snn_energy.profiling.labels import count_correct, step_scores
from snn_energy.profiling.neurons import resting
from snn_energy.profiling.session import check_labels, placed
from snn_energy.profiling.settle import settle

TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """How many of `samples` a network of `classes` classes got right.

    `correct`: highest score at the label; `in_top5`: label among the five highest scores, None for at most
    five classes; `loss`: mean cross-entropy in nats; `correct_after`: for a network that puts out scores per
    step, how many were right by the first 1, 2, … T steps, else empty; `contract`: how the network was run.
    """

    samples: int
    classes: int
    correct: int
    in_top5: int | None
    loss: float
    correct_after: tuple[int, ...] = ()
    model: str = ""
    data: str = ""
    contract: str = ""
    notes: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """Top-1, between 0 and 1."""
        return self.correct / self.samples

    @property
    def top5(self) -> float | None:
        """Top-5, between 0 and 1; None for at most five classes."""
        return None if self.in_top5 is None else self.in_top5 / self.samples

    @property
    def accuracy_after(self) -> tuple[float, ...]:
        """Top-1 after 1, 2, … T steps."""
        return tuple(correct / self.samples for correct in self.correct_after)

    def to_json(self) -> dict[str, Any]:
        """The record with what is derived from it."""
        derived = {"accuracy": self.accuracy, "top5": self.top5, "accuracy_after": self.accuracy_after}
        return asdict(self) | derived

    def __str__(self) -> str:
        top5 = "" if self.top5 is None else f", top-5 {self.top5:.2%}"
        return f"top-1 {self.accuracy:.2%}{top5}, loss {self.loss:.4f}, {self.samples} samples"


def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    time_steps: int | None = None,
    batch_dim: int | None = None,
    layout: str | None = None,
    output: str | int | None = None,
    neurons: Mapping[Any, Any] | None = None,
    check: bool = True,
    device: str | torch.device | None = None,
    progress: Callable[[int], None] | None = None,
    data: str = "",
) -> Evaluation:
    """Run `model` over `batches` of (x, y) and compare its highest scores with the labels.

    Batches, and what may be said of the network, are those of `snn_energy.profile`: the contract is settled
    by the same look at the first samples, the network is at rest before every batch, in evaluation mode
    without gradients, and all is put back afterwards.  `progress` is called with the samples done.

    Raises `DataError` for batches without labels, labels that no class of the network has, and outputs that
    hold no class scores; `ConfigError` for what contradicts the network or the data.
    """
    declared = Declared(layout, batch_dim, checked_steps(time_steps), output, neurons or {}, check)
    place = device_of(model) if device is None else torch.device(device)
    waiting = (placed(batch, place) for batch in read_batches(batches, model))
    first = next(waiting, None)
    if first is None:
        raise DataError("no samples to evaluate on: the batches are empty")
    score = Score(Scores.of(output).over)
    with resting(model, declared.neurons, place) as rest:
        contract = settle(rest, first, declared)
        for batch in chain([first], waiting):
            if batch.labels is None:
                raise DataError(f"batch {batch.number} has no labels to compare with: give y beside x")
            grid = contract.layout_of(batch)
            check_labels(batch, grid)
            rest.fresh()
            outs = list(map(Turns(model), contract.runs(batch)))
            score.add(step_scores(outs, grid, output), batch.labels, batch.number)
            if progress is not None:
                progress(score.samples)
    return score.result(model=type(model).__name__, data=data, contract=contract.line, notes=contract.remarks)


class Score:
    """Counts of right answers, batch by batch; `over`: what is done over time, `contract.OVER_TIME`."""

    def __init__(self, over: str = "") -> None:
        self.over = over
        self.samples = self.correct = self.top = self.classes = 0
        self.loss = 0.0
        self.after: list[int] | None = None

    def add(self, steps: torch.Tensor, labels: torch.Tensor, number: int) -> None:
        """`steps` (T, B, K): scores per step, T = 1 where there is but one; `labels` as `read_labels` gives
        them; `number`: of the batch.  Raises `DataError` for labels that no class has."""
        upto = steps.double()
        if self.over != "last-T":
            upto = upto.cumsum(0)
        if self.over not in ("last-T", "sum-T"):
            upto = upto / torch.arange(1, len(steps) + 1, device=steps.device)[:, None, None]
        scores = upto[-1]
        batch, self.classes = scores.shape
        self.correct += count_correct(scores, labels, number)
        classes = labels.argmax(1) if labels.dim() == 2 else labels
        best = scores.topk(min(TOP, self.classes), dim=1).indices
        self.top += int((best == classes[:, None]).any(1).sum())
        target = labels.double() if labels.dim() == 2 else labels
        self.loss += float(nn.functional.cross_entropy(scores, target, reduction="sum"))
        right = (upto.argmax(2) == classes).sum(1).tolist()
        if self.after is None:
            self.after = right
        elif len(right) == len(self.after):
            self.after = [a + b for a, b in zip(self.after, right, strict=True)]
        else:
            raise DataError(f"batch {number} has scores of {len(right)} steps, others of {len(self.after)}")
        self.samples += batch

    def result(self, **fields: Any) -> Evaluation:
        """All of it."""
        after = tuple(self.after or ())
        return Evaluation(
            samples=self.samples,
            classes=self.classes,
            correct=self.correct,
            in_top5=self.top if self.classes > TOP else None,
            loss=self.loss / self.samples,
            correct_after=after if len(after) > 1 else (),
            **fields,
        )
