"""A network as exports see it: captured, with the axis of its samples and the output that answers.

Samples are fed as the network takes them, (B, …), (B, T, …) or (T, B, …); everything behind this file works
sample by sample along `Graph.batch_axis`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from snn_energy.errors import ConfigError, DataError, UnsupportedOp
from snn_energy.exporters.equations import check_equations
from snn_energy.graph.answer import answer
from snn_energy.graph.capture import capture
from snn_energy.graph.graph import Graph
from snn_energy.graph.layout import WrongAxis
from snn_energy.graph.opaque import Knowledge
from snn_energy.models.at_rest import Rest
from snn_energy.profiling.contract import LAYOUTS, Scores
from snn_energy.profiling.neurons import equation_of, facts_of

KNOWN = Knowledge(facts_of, equation_of)
CHECKED = 4  # samples on which a neuron's equation is held against the neuron itself
AXES = "TB for (T, B, …), BT for (B, T, …), BT-last for (B, …, T), B for (B, …)"


@dataclass(frozen=True)
class Network:
    """A model, its graph, and which of its outputs is the answer."""

    model: nn.Module
    graph: Graph
    place: int | str | None = None

    def answer(self, x: np.ndarray, rest: Rest, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """What the model answers to samples as it takes them, from rest."""
        rest.fresh()
        found = answer(self.model(torch.as_tensor(x).to(dtype)), self.place)
        if not isinstance(found, torch.Tensor):
            raise DataError(f"the network's answer is {type(found).__name__}, must be a tensor")
        return found


def see(
    model: nn.Module,
    x: np.ndarray,
    *,
    layout: str | None = None,
    output: int | str | None = None,
    meta: dict[str, Any] | None = None,
) -> Network:
    """Capture `model` for samples like `x`.

    `layout`: where they lie in `x` (`profiling.contract.LAYOUTS`); by default along the first axis or, where
    the forward ties that to one size, the second.  `output`: which output is the answer, INDEX, KEY or
    INDEX:mean-T.  Raises `UnsupportedOp` by node, `ConfigError` for an unknown layout.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r}: must be {AXES}")
    axes = (0, 1) if layout is None else (LAYOUTS[layout][1],)
    place = place_of(output)
    first: WrongAxis | None = None
    for axis in axes:
        if x.ndim <= max(axis, 1) or (axis == 1 and layout is None and x.ndim < 3):
            continue
        example = take(x, slice(1), axis)
        try:
            graph = capture(model, example, meta=meta, batch_axis=axis, output=place, known=KNOWN)
            check_equations(model, take(x, slice(CHECKED), axis), KNOWN)
            return Network(model, graph, place)
        except WrongAxis as error:
            first = first or error
        except UnsupportedOp as error:
            if first is None:
                raise
            raise WrongAxis(f"{first}. Read as (T, B, …): {error}") from error
    if first is None:
        raise DataError(f"samples of shape {x.shape}: must be {AXES}")
    raise first


def place_of(output: int | str | None) -> int | str | None:
    """The index or key that `output` names.  Raises `ConfigError` for what is no mean over steps."""
    if output is None:
        return None
    scores = Scores.read(output)
    if scores.over not in ("", "mean-T"):
        raise ConfigError(f"output {output!r}: an exported network answers with the mean over steps (mean-T)")
    return scores.place


def take(x: Any, index: Any, axis: int) -> Any:
    """Some samples of `x`, which lie along `axis`."""
    return x[(slice(None),) * axis + (index,)]


def batches(x: np.ndarray, axis: int, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """(index of the first, samples as the network takes them), `size` at a time."""
    for start in range(0, x.shape[axis], size):
        yield start, take(x, slice(start, start + size), axis)


def samples_first(x: Any, graph: Graph) -> np.ndarray:
    """Samples as the network takes them -> (N, …) or (N, T, …)."""
    return np.moveaxis(np.asarray(x), graph.batch_axis, 0)


def as_taken(x: np.ndarray, graph: Graph) -> np.ndarray:
    """(N, …) or (N, T, …) -> as the network takes them."""
    return np.ascontiguousarray(np.moveaxis(x, 0, graph.batch_axis))


def scores(answers: Any, graph: Graph) -> np.ndarray:
    """Answers of the network in its own layout as (N, …, K), steps as they are: (N, T, K)."""
    array = np.asarray(answers)
    shape = graph[graph.outputs[0]].shape
    axis = next((i for i, dim in enumerate(shape) if "B" in str(dim)), None)
    if axis is None:
        raise DataError(f"the network's answer has shape {shape}: none of its axes is the samples'")
    if shape[axis] != "B":  # steps merged with samples, outermost
        steps = graph.time_steps
        array = array.reshape(
            *array.shape[:axis], steps, array.shape[axis] // steps, *array.shape[axis + 1 :]
        )
        axis += 1
    return np.moveaxis(array, axis, 0)


def classes(found: np.ndarray, graph: Graph) -> np.ndarray:
    """The class (N,) or classes (N, …) with the highest score; steps are averaged first."""
    shape = [str(dim) for dim in graph[graph.outputs[0]].shape]
    batch = next(i for i, dim in enumerate(shape) if "B" in dim)
    timed = [i for i, dim in enumerate(shape) if "T" in dim]
    if timed:
        found = found.mean(axis=timed[0] + (timed[0] <= batch))
    return np.asarray(found.argmax(-1))
