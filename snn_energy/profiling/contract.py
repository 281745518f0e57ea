"""The contract between a network and whoever runs it: axes, time, who loops, reset, neurons, class scores.

Each fact is *declared* by the user, *known* (from a framework, from the network itself, from labels),
*observed* in a pass on the first samples, or *assumed* where nothing says otherwise; which of these it is
stands beside it.  docs/your-network.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from snn_energy import frameworks
from snn_energy.errors import ConfigError, DataError
from snn_energy.models.walk import modules
from snn_energy.profiling.batches import Batch
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.neurons import named_neurons, whose

LAYOUTS: dict[str, tuple[int | None, int]] = {
    "B": (None, 0), "BT": (1, 0), "TB": (0, 1), "BT-last": (-1, 0),
}  # fmt: skip
"""How an input may lie -> (axis of time, axis of samples): (B, …), (B, T, …), (T, B, …), (B, …, T)."""

OVER_TIME = ("mean-T", "sum-T", "last-T")


@dataclass(frozen=True)
class Declared:
    """What a user says of a network.  None: not said.

    `layout`: a name of `LAYOUTS`; `batch_dim`: only the axis of samples, 0 or 1; `time_steps`: T;
    `output`: which output holds the class scores, an index or a key, and `:mean-T`, `:sum-T` or `:last-T`
    for what is done over time; `neurons`: class, or its name, -> update, or its name; `check`: look for
    contradictions in a second pass.
    """

    layout: str | None = None
    batch_dim: int | None = None
    time_steps: int | None = None
    output: str | int | None = None
    neurons: Mapping[Any, Any] = field(default_factory=dict)
    check: bool = True

    def __post_init__(self) -> None:
        if self.layout is not None and self.layout not in LAYOUTS:
            raise ConfigError(f"layout = {self.layout!r}: must be one of {', '.join(LAYOUTS)}")
        if self.layout is not None and self.batch_dim not in (None, LAYOUTS[self.layout][1]):
            raise ConfigError(
                f"layout = {self.layout!r} has its samples along axis {LAYOUTS[self.layout][1]}, "
                f"batch_dim = {self.batch_dim} says otherwise: give one of them"
            )
        if self.output is not None:
            Scores.read(self.output)

    @property
    def batch_axis(self) -> int | None:
        """The axis of samples, if the user said so."""
        return self.batch_dim if self.layout is None else LAYOUTS[self.layout][1]

    @property
    def time_axis(self) -> int | None:
        """The axis of time, if a layout says so."""
        return None if self.layout is None else LAYOUTS[self.layout][0]


@dataclass(frozen=True)
class Scores:
    """Where the class scores are: entry `place` of the output (index or key), `over` time."""

    place: int | str | None = None
    over: str = ""

    @classmethod
    def of(cls, output: str | int | None) -> Scores:
        """Those that the user named; without, the first entry and its mean."""
        return cls() if output is None else cls.read(output)

    @classmethod
    def read(cls, text: str | int) -> Scores:
        """From `2`, `logits`, `logits:mean-T`.  Raises `ConfigError`."""
        place, colon, over = str(text).partition(":")
        if colon and over not in OVER_TIME:
            raise ConfigError(f"output = {text!r}: after the colon must be one of {', '.join(OVER_TIME)}")
        if not place and not colon:
            raise ConfigError(f"output = {text!r}: must be an index or a key, such as 0 or logits:mean-T")
        number = place.removeprefix("-").isdigit()
        return cls(int(place) if number else place or None, over)


@dataclass(frozen=True)
class Fact:
    """A fact of the contract in words, and where it comes from: declared, known, observed or assumed."""

    words: str
    source: str
    how: str = ""

    def __str__(self) -> str:
        return f"{self.words} ({self.source}{f': {self.how}' if self.how else ''})"


@dataclass(frozen=True)
class Contract:
    """How one network is run.

    `steps`: T; `time_axis`: of the input, None where it has none; `batch_axis`; `in_tensors`: do tensors
    inside hold all steps at once; `calls`: of the network per batch, T where it knows nothing of time;
    `folded`: samples and steps share the batch axis, T entries a sample (sinabs' Squeeze layers);
    `scores`: the axis of samples in class scores per step, where a look showed it;
    `facts`: all that was settled, in words; `remarks`: what a reader should know of how; `looked`: did a look
    at the first samples say so.
    """

    steps: int
    time_axis: int | None
    batch_axis: int
    in_tensors: bool
    calls: int
    facts: tuple[Fact, ...]
    remarks: tuple[str, ...] = ()
    looked: bool = False
    folded: bool = False
    scores: int | None = None

    @property
    def line(self) -> str:
        """The contract in one line."""
        return " · ".join(map(str, self.facts))

    def layout_of(self, batch: Batch) -> Layout:
        """Samples and steps of a batch.  Raises `DataError` for one of another T, or without such an axis."""
        shape = batch.x.shape
        if self.batch_axis >= len(shape):
            raise DataError(f"batch {batch.number} has shape {tuple(shape)}, but samples lie along axis 1")
        found = self.steps if self.time_axis is None else shape[self.time_axis]
        if found != self.steps:
            raise DataError(f"batches of {self.steps} and of {found} time steps cannot be profiled together")
        time_last, size = self.time_axis == -1, shape[self.batch_axis]
        if self.folded and size % self.steps:
            raise DataError(
                f"batch {batch.number} has shape {tuple(shape)}: {size} is no multiple of T = {self.steps}"
            )
        samples, time_first = size // self.entries, self.batch_axis == 1
        return Layout(samples, self.steps, time_first, self.in_tensors, time_last, self.folded, self.scores)

    @property
    def entries(self) -> int:
        """How many entries of the batch axis a sample has."""
        return self.steps if self.folded else 1

    def runs(self, batch: Batch) -> list[Any]:
        """The inputs of each call of the network, in order."""
        if self.calls == 1:
            return [batch.inputs]
        if self.time_axis is None:
            return [batch.inputs] * self.calls
        return [batch.step(t, self.time_axis, self.batch_axis).inputs for t in range(self.calls)]


def neurons_in_words(model: nn.Module) -> Fact:
    """How many neurons of which class, and how that is known."""
    found = [whose(module) for module in named_neurons(model).values()]
    if not found:
        return Fact("no neuron found", "observed")
    kinds = Counter(name for _, name in found)
    named = ", ".join(name if len(kinds) == 1 else f"{n} {name}" for name, n in kinds.items())
    sources = " and ".join(sorted({source for source, _ in found}))
    return Fact(f"{len(found)} neuron{'s' if len(found) > 1 else ''}", sources, named)


def reset_in_words(model: nn.Module) -> Fact:
    """How the network comes to rest before each batch."""
    used = {
        framework.reset_name
        for framework in frameworks.imported()
        if any(framework.neuron(module) is not None for module in modules(model))
    }
    if used:
        return Fact(f"reset by {' and '.join(sorted(used))}", "known")
    own = any(callable(getattr(module, "reset", None)) for module in modules(model))
    if own:
        return Fact("reset by its own reset()", "known")
    return Fact("reset by putting back what modules held", "assumed")
