"""What a network answers on labelled samples: accuracy and loss."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import nn

from snn_energy.errors import DataError
from snn_energy.models.walk import device_of, named_modules
from snn_energy.profiling.axes import checked_steps
from snn_energy.profiling.batches import Turns, read_batches
from snn_energy.profiling.contract import Declared, Scores
from snn_energy.profiling.firing import FiringRates
from snn_energy.profiling.labels import count_correct, step_scores
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.neurons import facts_of, named_neurons, resting
from snn_energy.profiling.session import check_labels, placed
from snn_energy.profiling.settle import settle
from snn_energy.profiling.spikes import sample_first_neurons
from snn_energy.text import csv_cell

TOP = 5
LARGEST = 200
"""Classes whose confusion is part of the JSON record."""


@dataclass(frozen=True)
class Evaluation:
    """How many of `samples` a network of `classes` classes got right.

    `correct`: highest score at the label; `in_top5`: label among the five highest scores, None for at most
    five classes; `loss`: mean cross-entropy in nats; `correct_after`: for a network that gives scores per
    step, at its output or at its last layer, how many were right by the first 1, 2, … T steps, else empty;
    `confusion`: by true class, then by the class of the highest score, how many samples; `rates`: module path
    of a spiking layer -> share of its neurons that fired at each step; `contract`: how the network was run.
    """

    samples: int
    classes: int
    correct: int
    in_top5: int | None
    loss: float
    correct_after: tuple[int, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
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

    def name_of(self, label: int) -> str:
        """Of a class; its number where names are not known."""
        return self.class_names[label] if label < len(self.class_names) else str(label)

    def confused(self, most: int = 5) -> list[tuple[str, str, int, int]]:
        """The classes most often taken for another: true class, taken for, how often, of how many samples."""
        pairs = [
            (count, -true, -taken)
            for true, row in enumerate(self.confusion)
            for taken, count in enumerate(row)
            if count and true != taken
        ]
        return [
            (self.name_of(-true), self.name_of(-taken), count, sum(self.confusion[-true]))
            for count, true, taken in sorted(pairs, reverse=True)[:most]
        ]

    def confusion_table(self) -> str:
        """The confusion matrix as CSV: a row per true class, a column per class it was taken for."""
        names = [self.name_of(label) for label in range(self.classes)]
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["true class", *map(csv_cell, names)])
        rows.writerows([csv_cell(name), *row] for name, row in zip(names, self.confusion, strict=True))
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """The record with what is derived from it; without the confusion of more than `LARGEST` classes."""
        derived = {
            "top1": self.accuracy, "top5": self.top5, "accuracy": self.accuracy,
            "accuracy_after": self.accuracy_after,
        }  # fmt: skip
        record = derived | asdict(self)  # what is long comes last
        last = {key: record.pop(key) for key in ("rates", "class_names", "confusion")}
        if self.classes > LARGEST:
            del last["confusion"]
        return record | last

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
    class_names: Iterable[str] = (),
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
        facts = {path: known for path, m in named_neurons(model).items() if (known := facts_of(m))}
        silent = sample_first_neurons(rest, contract, first, facts)
        with FiringRates(model, silent) as firing, LastLayer(model) as last:
            for batch in chain([first], waiting):
                if batch.labels is None:
                    raise DataError(f"batch {batch.number} has no labels to compare with: give y beside x")
                grid = contract.layout_of(batch)
                check_labels(batch, grid)
                rest.fresh()
                firing.begin(grid)
                outs = list(map(Turns(model), contract.runs(batch)))
                firing.take(grid)
                scores = step_scores(outs, grid, output)
                per_step = last.steps(scores, grid) if score.over in ("", "mean-T") else scores
                score.add(scores, batch.labels, batch.number, per_step)
                if progress is not None:
                    progress(score.samples)
    return score.result(
        model=type(model).__name__, data=data, contract=contract.line, rates=firing.rates,
        notes=(*contract.remarks, *firing.notes), class_names=tuple(class_names),
    )  # fmt: skip


class LastLayer:
    """In its block it keeps what the network's dense layers gave last: the scores per step of a network that
    puts out their mean, which is looked at in every batch."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = [m for _, m in named_modules(model) if isinstance(m, nn.Linear)]
        self.out: torch.Tensor | None = None
        self.handles: list[Any] = []

    def __enter__(self) -> LastLayer:
        def keep(module: nn.Module, args: Any, out: Any) -> None:
            self.out = out if isinstance(out, torch.Tensor) else None

        self.handles = [layer.register_forward_hook(keep) for layer in self.layers]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def steps(self, scores: torch.Tensor, grid: Layout) -> torch.Tensor:
        """Scores (T, B, K): `scores`, or, where those are of one step, the layer's if their mean is that."""
        out, self.out = self.out, None
        steps, (_, samples, classes) = grid.steps or 1, scores.shape
        if out is None or len(scores) > 1 or steps == 1 or out.numel() != steps * samples * classes:
            return scores
        for time, shape in enumerate(((steps, samples, classes), (samples, steps, classes))):
            found = out.reshape(shape).movedim(time, 0)
            if torch.allclose(found.double().mean(0), scores[0].double(), rtol=1e-4, atol=1e-5):
                return found
        return scores


class Score:
    """Counts of right answers, batch by batch; `over`: what is done over time, `contract.OVER_TIME`."""

    def __init__(self, over: str = "") -> None:
        self.over = over
        self.samples = self.correct = self.top = self.classes = 0
        self.loss = 0.0
        self.after: list[int] | None = None  # right answers after each step; empty: not known in all batches
        self.confusion: torch.Tensor | None = None

    def add(self, given: torch.Tensor, labels: torch.Tensor, number: int, per_step: torch.Tensor) -> None:
        """`given` (T, B, K): the network's scores per step, T = 1 where there is but one; `labels` as
        `read_labels` gives them; `number`: of the batch; `per_step`: scores of which only the answers after
        each step are taken, `given` or (T, B, K).  Raises `DataError` for labels that no class has."""
        scores = self._upto(given)[-1]
        batch, self.classes = scores.shape
        self.correct += count_correct(scores, labels, number)
        classes = labels.argmax(1) if labels.dim() == 2 else labels
        self._confuse(classes, scores.argmax(1))
        best = scores.topk(min(TOP, self.classes), dim=1).indices
        self.top += int((best == classes[:, None]).any(1).sum())
        target = labels.double() if labels.dim() == 2 else labels
        self.loss += float(nn.functional.cross_entropy(scores, target, reduction="sum"))
        right = (self._upto(per_step).argmax(2) == classes).sum(1).tolist()
        if self.after is None:
            self.after = right
        elif len(right) == len(self.after):
            self.after = [a + b for a, b in zip(self.after, right, strict=True)]
        else:
            self.after = []
        self.samples += batch

    def _upto(self, steps: torch.Tensor) -> torch.Tensor:
        """Scores (T, B, K) per step -> those of the first 1, 2, … T steps together."""
        if self.over == "last-T":
            return steps.double()
        upto = steps.double().cumsum(0)
        if self.over == "sum-T":
            return upto
        return upto / torch.arange(1, len(steps) + 1, device=steps.device)[:, None, None]

    def _confuse(self, classes: torch.Tensor, taken: torch.Tensor) -> None:
        if self.confusion is None:
            self.confusion = torch.zeros(self.classes * self.classes, dtype=torch.int64)
        pairs = (classes * self.classes + taken).cpu()
        self.confusion += torch.bincount(pairs, minlength=len(self.confusion))

    def result(self, **fields: Any) -> Evaluation:
        """All of it."""
        after = tuple(self.after or ())
        return Evaluation(
            samples=self.samples,
            classes=self.classes,
            correct=self.correct,
            in_top5=self.top if self.classes > TOP else None,
            loss=self.loss / self.samples,
            confusion=()
            if self.confusion is None
            else tuple(map(tuple, self.confusion.reshape(self.classes, -1).tolist())),
            correct_after=after if len(after) > 1 else (),
            **fields,
        )
