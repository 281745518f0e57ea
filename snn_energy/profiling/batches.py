"""What a batch holds: a network's inputs, in whatever form it takes them, and labels."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from snn_energy.errors import DataError
from snn_energy.profiling.call import tensors_in

LABELS = ("labels", "label", "targets", "target", "y")  # names under which a dict's labels are found


@dataclass(frozen=True)
class Batch:
    """`inputs`: a tensor; a tuple or list of them, arguments in order; or a mapping, arguments by name."""

    inputs: Any
    labels: Any = None
    number: int = 1

    @property
    def x(self) -> torch.Tensor:
        """The input that shows how batch and time lie: the first tensor."""
        return next(self.tensors())

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor among the inputs that has dimensions."""
        return (x for x in tensors_in((self.inputs,)) if x.dim())

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """The batch with `change` done to each of its input tensors."""
        return dataclasses.replace(self, inputs=_mapped(self.inputs, change))

    def taken(self, count: int, axis: int, entries: int = 1) -> Batch:
        """The first `count` samples, which lie along `axis`, with so many `entries` each."""
        labels = self.labels if self.labels is None else self.labels[:count]
        return dataclasses.replace(self.part(0, count * entries, axis), labels=labels)

    def part(self, start: int, count: int, axis: int) -> Batch:
        """`count` entries along `axis`, without labels."""
        main = self.x

        def cut(x: torch.Tensor) -> torch.Tensor:
            place = _samples_of(x, main, axis)
            return x if place is None else x.narrow(place, start, count)

        return dataclasses.replace(self.mapped(cut), labels=None)

    def step(self, t: int, axis: int, samples: int) -> Batch:
        """Step `t` of the inputs whose time lies along `axis`; others, which are the same at every step.

        `samples`: the axis of samples.  Where there are as many as steps, an input has both axes or no time.
        """
        steps, size = self.x.shape[axis], self.x.shape[samples]

        def timed(x: torch.Tensor) -> bool:
            return _long(x, axis, steps) and (steps != size or _long(x, samples, size))

        return self.mapped(lambda x: x.select(axis, t) if timed(x) else x)


def _long(x: torch.Tensor, axis: int, size: int) -> bool:
    return -x.dim() <= axis < x.dim() and x.shape[axis] == size


def _samples_of(x: torch.Tensor, main: torch.Tensor, axis: int) -> int | None:
    """Where the samples of an input lie, whose `main` input has them along `axis`; None where it has none.

    (T, B, …) beside (B, …): what is no (T, B) holds its samples first.
    """
    size = main.shape[axis]
    along, first = _long(x, axis, size), _long(x, 0, size)
    if along and (axis == 0 or not first or x.shape[:2] == main.shape[:2]):
        return axis
    return 0 if first else None


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value) if value.dim() else value
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(item, change) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(item, change) for item in value)
    return value


def read_batches(batches: Iterable[Any], model: nn.Module) -> Iterator[Batch]:
    """Batches as a loader gives them: x, (x, y, …), or a mapping with labels under one of `LABELS`.

    x is a tensor, a list or tuple of tensors, or a mapping of them.  Batches without samples are left out.
    Raises `DataError` for anything else, a single tensor instead of batches among it.
    """
    if isinstance(batches, torch.Tensor) or not _iterable(batches):
        what = type(batches).__name__
        raise DataError(f"batches is a {what}, must be an iterable of batches: [x], [(x, y)] or a DataLoader")
    for number, given in enumerate(batches, 1):
        batch = _read(given, number, model)
        if all(x.numel() for x in batch.tensors()):
            yield batch


def _iterable(batches: Any) -> bool:
    return isinstance(batches, Iterable) or hasattr(batches, "__getitem__")


def _read(given: Any, number: int, model: nn.Module) -> Batch:
    inputs, labels = given, None
    if isinstance(given, Mapping):
        inputs, labels = dict(given), None
        wanted = _parameters(model)
        name = next((name for name in LABELS if name in inputs and name not in wanted), None)
        labels = inputs.pop(name) if name is not None else None
    elif isinstance(given, (tuple, list)) and given:
        inputs, labels = given[0], given[1] if len(given) > 1 else None
        inputs = dict(inputs) if isinstance(inputs, Mapping) else inputs
    batch = Batch(inputs, labels, number)
    if next(batch.tensors(), None) is None:
        raise DataError(
            f"a batch holds {type(given).__name__}; expected a tensor, a mapping of tensors, "
            "or a pair of these and labels"
        )
    return batch


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}


class Turns:
    """The calls of one pass, in turn: state that the network returns goes into its next call.

    So with networks whose `forward` takes a `state` that may be None and returns a pair, as Norse's do.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.state = model, None
        parameter = _parameters(model).get("state")
        self.passes = parameter is not None and parameter.default is None

    def __call__(self, inputs: Any) -> Any:
        """The network's output for the next inputs."""
        out = call(self.model, inputs, {} if self.state is None else {"state": self.state})
        if self.passes and isinstance(out, tuple) and len(out) == 2:
            self.state = out[1]
        return out


def call(model: nn.Module, inputs: Any, more: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """Call the network: mappings by name where `forward` has such names, lists and tuples in order."""
    if isinstance(inputs, torch.Tensor):
        return model(inputs, **more)
    parameters = _parameters(model)
    kinds = {parameter.kind for parameter in parameters.values()}
    if isinstance(inputs, Mapping):
        named = inspect.Parameter.VAR_KEYWORD in kinds or any(key in parameters for key in inputs)
        return model(**inputs, **more) if named else model(inputs, **more)
    many = inspect.Parameter.VAR_POSITIONAL in kinds or len(parameters) >= len(inputs)
    return model(*inputs, **more) if many else model(inputs, **more)


def holds_samples(given: Any) -> bool:
    """False for a batch of a loader that has no samples: a tensor of its inputs has no elements."""
    inputs = given[0] if isinstance(given, (tuple, list)) and given else given
    return all(x.numel() for x in tensors_in((inputs,)))
