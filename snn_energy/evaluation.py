"""What a network answers on labelled samples: accuracy and loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from snn_energy.errors import DataError
from snn_energy.models.at_rest import at_rest
from snn_energy.models.walk import device_of
from snn_energy.profiling import layout as layouts
from snn_energy.profiling.labels import count_correct, read_labels, step_scores
from snn_energy.profiling.neurons import reset_registered
from snn_energy.profiling.session import _run

TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """How many of `samples` a network of `classes` classes got right.

    `correct`: highest score at the label; `in_top5`: label among the five highest scores, None for at most
    five classes; `loss`: mean cross-entropy in nats; `correct_after`: for a network that puts out scores per
    step, how many were right by the mean of the first 1, 2, … T steps, else empty.
    """

    samples: int
    classes: int
    correct: int
    in_top5: int | None
    loss: float
    correct_after: tuple[int, ...] = ()
    model: str = ""
    data: str = ""
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
    device: str | torch.device | None = None,
    progress: Callable[[int], None] | None = None,
    data: str = "",
) -> Evaluation:
    """Run `model` over `batches` of (x, y) and compare its highest scores with the labels.

    Batches, axes and time are understood as by `snn_energy.profile`: fresh neurons for every batch,
    evaluation mode without gradients, all put back afterwards.  `progress` is called with the samples done.

    Raises `DataError` for batches without labels, labels that no class of the network has, and outputs that
    hold no class scores.
    """
    score = Score()
    place = device_of(model) if device is None else torch.device(device)
    steps = time_steps or layouts.declared_steps(model)
    with at_rest(model, place, resets=reset_registered) as rest:
        for number, (x, y) in enumerate(batches, 1):
            labels = read_labels(y, number, place)
            if labels is None:
                raise DataError(f"batch {number} has no labels to compare with: give y beside x")
            layout = layouts.infer(model, x, labels, steps, batch_dim)
            rest.fresh()
            outs = _run(model, x.to(place), layout)
            score.add(torch.cat([step_scores(out, layout.batch) for out in outs]), labels, number)
            if progress is not None:
                progress(score.samples)
    return score.result(model=type(model).__name__, data=data)


class Score:
    """Counts of right answers, batch by batch."""

    def __init__(self) -> None:
        self.samples = self.correct = self.top = self.classes = 0
        self.loss = 0.0
        self.after: list[int] | None = None

    def add(self, steps: torch.Tensor, labels: torch.Tensor, number: int) -> None:
        """`steps` (T, B, K): scores per step, T = 1 where there is but one; `labels` as `read_labels` gives
        them; `number`: of the batch.  Raises `DataError` for labels that no class has."""
        counts = torch.arange(1, len(steps) + 1, device=steps.device)[:, None, None]
        means = steps.double().cumsum(0) / counts
        scores = means[-1]
        batch, self.classes = scores.shape
        self.correct += count_correct(scores, labels, batch, number)
        classes = labels.argmax(1) if labels.dim() == 2 else labels
        best = scores.topk(min(TOP, self.classes), dim=1).indices
        self.top += int((best == classes[:, None]).any(1).sum())
        target = labels.double() if labels.dim() == 2 else labels
        self.loss += float(nn.functional.cross_entropy(scores, target, reduction="sum"))
        right = (means.argmax(2) == classes).sum(1).tolist()
        if self.after is None:
            self.after = right
        elif len(right) == len(self.after):
            self.after = [a + b for a, b in zip(self.after, right, strict=True)]
        else:
            raise DataError(f"batch {number} has scores of {len(right)} steps, others of {len(self.after)}")
        self.samples += batch

    def result(self, **fields: Any) -> Evaluation:
        """All of it."""
        if not self.samples:
            raise DataError("no samples to evaluate on: the batches are empty")
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
