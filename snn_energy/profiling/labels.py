"""Labels beside a batch: what is taken for class indices, and what is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from snn_energy.errors import ConfigError, DataError
from snn_energy.profiling.contract import Scores
from snn_energy.profiling.layout import Layout

TAKEN = "must be B class indices, (B,) or (B, 1), or class probabilities (B, K)"


def read_labels(y: Any, batch: int, place: torch.device) -> torch.Tensor | None:
    """The labels of batch number `batch`, on `place`: (B,), or (B, K) probabilities; None for None.

    A column (B, 1) of whole numbers is (B,).  (B, K) of rows that are ≥ 0 and sum to 1, one-hot or as mixup
    makes them, are class probabilities, which `torch.nn.functional.cross_entropy` takes, too; `count_correct`
    compares with the most probable class, and refuses floats.  Raises `DataError` for anything else: text,
    another shape, probabilities without a single largest one.
    """
    if y is None:
        return None
    try:
        labels = torch.as_tensor(y).detach().to(place)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"labels of batch {batch} are of type {type(y).__name__}: {TAKEN}") from None
    what = f"labels of batch {batch} have shape {tuple(labels.shape)} of {_dtype(labels)}"
    if labels.dim() == 2 and labels.shape[1] > 1:
        return _probabilities(labels, batch, what)
    if labels.dim() not in (1, 2):
        raise DataError(f"{what}: {TAKEN}")
    return labels.flatten()


def _probabilities(labels: torch.Tensor, batch: int, what: str) -> torch.Tensor:
    if labels.is_complex():
        raise DataError(f"{what}: {TAKEN}")
    soft = labels.to(torch.float32)
    if bool((soft < 0).any()) or not bool(((soft.sum(1) - 1).abs() < 1e-3).all()):
        raise DataError(f"{what}, which are no class probabilities (rows ≥ 0 with sum 1): {TAKEN}")
    top = soft.topk(2, dim=1).values
    ties = (top[:, 0] == top[:, 1]).nonzero().flatten()
    if len(ties):
        raise DataError(f"labels of batch {batch}: sample {int(ties[0])} has no single most probable class")
    return soft


def class_scores(outs: list[Any], layout: Layout, output: str | int | None) -> torch.Tensor:
    """(B, K) scores in what a network put out, one entry per call: the mean over calls and a time axis.

    `output`: which entry, and what to do over time (`contract.Scores`); left out, the first tensor, or the
    entry `logits` of a mapping.  Raises `DataError` where there is no such thing, `ConfigError` where the
    output has no such entry.
    """
    return over_time(step_scores(outs, layout, output), Scores.of(output).over)


def step_scores(outs: list[Any], layout: Layout, output: str | int | None) -> torch.Tensor:
    """(T, B, K) scores per step, T = 1 for one call whose output has no time axis: see `class_scores`."""
    where = Scores.of(output)
    return torch.cat([_steps(_entry(out, where, layout), layout) for out in outs])


def over_time(steps: torch.Tensor, over: str) -> torch.Tensor:
    """(B, K) of (T, B, K), by one of `contract.OVER_TIME`; the mean where that is not said."""
    return steps[-1] if over == "last-T" else steps.sum(0) if over == "sum-T" else steps.mean(0)


def _entry(out: Any, where: Scores, layout: Layout | None = None) -> torch.Tensor:
    what = type(out).__name__
    if where.place is not None:
        try:
            found = getattr(out, str(where.place)) if _is_record(out, where.place) else out[where.place]
        except (KeyError, IndexError, TypeError, AttributeError):
            has = f"keys {', '.join(map(str, out))}" if isinstance(out, Mapping) else _many(out)
            raise ConfigError(f"output = {where.place!r}: the network puts out {what} with {has}") from None
        out = found
    if isinstance(out, Mapping):
        out = out.get("logits", next(iter(out.values()), None))
    while isinstance(out, (tuple, list)) and out:
        out = torch.stack(out) if layout is not None and _step_by_step(out, layout) else out[0]
    if not isinstance(out, torch.Tensor):
        raise DataError(f"labels are given, but the network puts out {what}: leave them out")
    return out


def _is_record(out: Any, place: int | str) -> bool:
    return isinstance(place, str) and not isinstance(out, Mapping) and hasattr(out, place)


def _many(out: Any) -> str:
    return f"{len(out)} entries" if isinstance(out, (tuple, list)) else "no entries"


def _steps(out: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(T, B, K): one entry of the output, its time axis first."""
    samples = layout.batch
    steps = out.unsqueeze(0) if out.dim() == 2 else out
    if layout.folded and out.dim() == 2 and len(out) == samples * (layout.steps or 1):
        steps = out.unflatten(0, (samples, -1)).transpose(0, 1)
    if steps.dim() == 3 and _time_last(steps.shape, layout):
        return steps.movedim(-1, 0)
    square = steps.dim() == 3 and steps.shape[0] == steps.shape[1] == samples
    if steps.dim() == 3 and (steps.shape[1] != samples or (square and layout.scores == 0)):
        steps = steps.transpose(0, 1)
    if steps.dim() != 3 or steps.shape[1] != samples:
        raise DataError(
            f"labels are given, but the network's output {tuple(out.shape)} holds no class scores "
            f"({samples}, K): leave the labels out"
        )
    return steps


def _step_by_step(out: Any, layout: Layout) -> bool:
    """Is it a list of T tensors (B, K), the scores of each step?  A tuple is several results."""
    if not isinstance(out, list) or len(out) != layout.steps or len(out) == 1:
        return False
    shapes = {tuple(x.shape) if isinstance(x, torch.Tensor) else () for x in out}
    return len(shapes) == 1 and len(first := shapes.pop()) == 2 and first[0] == layout.batch


def _time_last(shape: torch.Size, layout: Layout) -> bool:
    """Are scores (B, K, T)?  Where there are T classes, only an input whose time is last says so."""
    first, second, last = shape
    if first != layout.batch or last != layout.steps or 1 in (second, last):
        return False
    return layout.time_last or second != last


def samples_in_scores(out: Any, samples: int, steps: int, output: str | int | None) -> int | None:
    """The axis of samples in scores (T, B, K) or (B, T, K); None for others, or where it cannot be told."""
    try:
        shape = tuple(_entry(out, Scores.of(output)).shape)
    except (ConfigError, DataError):  # said where scores are needed
        return None
    if len(shape) != 3 or samples == steps:
        return None
    return {(samples, steps): 0, (steps, samples): 1}.get(shape[:2])


def count_correct(scores: torch.Tensor, labels: torch.Tensor, batch: int) -> int:
    """How many samples of (B, K) scores have their highest at their label.

    Raises `DataError` for labels that are no whole numbers, or that no class of the network has.
    """
    if labels.dim() == 1 and (labels.is_floating_point() or labels.is_complex()):
        raise DataError(
            f"labels of batch {batch} are {_dtype(labels)}, values {_span(labels)}: class indices are whole "
            "numbers of an integer type"
        )
    classes = scores.shape[1]
    if labels.dim() == 2:
        if labels.shape[1] != classes:
            raise DataError(
                f"labels of batch {batch} are probabilities of {labels.shape[1]} classes, "
                f"the network has {classes}"
            )
        labels = labels.argmax(1)
    wrong = ((labels < 0) | (labels >= classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"labels of batch {batch}: sample {first} has label {int(labels[first])}, but the network has "
            f"{classes} classes, 0 to {classes - 1} (labels here run {_span(labels)})"
        )
    return int((scores.argmax(1) == labels).sum())


def _span(values: torch.Tensor) -> str:
    if not values.numel() or values.is_complex():
        return "without order"
    return f"from {values.min().item():g} to {values.max().item():g}"


def _dtype(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
