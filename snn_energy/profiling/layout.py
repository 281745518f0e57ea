"""Which entry of a tensor's leading dimensions belongs to which time step and which sample.

Operations of one forward pass see the batch as (T·B, …) or (T, B, …), as (T/chunk, B, …) where steps attend
jointly, as (B, …) in single-step loops and after the time axis is gone.  Counts are first reduced to those
leading dimensions; this module says what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from snn_energy.profiling.provenance import SAMPLE_MAJOR, SAMPLES_ALONE, TIME_MAJOR, UNKNOWN_ORDER


@dataclass(frozen=True)
class Grid:
    """How leading dimensions divide into (groups of) steps and samples: their sizes in memory's order."""

    shape: tuple[int, int]
    step_axis: int = 0

    @property
    def batch_axis(self) -> int:
        """The axis of the samples."""
        return 1 - self.step_axis

    @property
    def steps(self) -> int:
        """Steps, or groups of steps."""
        return self.shape[self.step_axis]


@dataclass
class Layout:
    """B samples per batch, T steps; `steps_in_tensors` is False where neurons are called step by step."""

    batch: int
    steps: int | None
    time_first: bool = True
    steps_in_tensors: bool = True
    time_last: bool = False
    folded: bool = False  # the input's first axis holds the steps of sample 0, then those of sample 1 …
    scores: int | None = None  # the axis of samples in class scores per step, where it was seen

    def input_order(self, shape: Sequence[int]) -> int:
        """How time and batch lie in the network's input."""
        if self.time_last:
            return SAMPLES_ALONE
        if self.folded:
            return SAMPLE_MAJOR
        sample_first = not self.time_first and len(shape) > 2 and shape[1] == self.steps
        return SAMPLE_MAJOR if sample_first else TIME_MAJOR

    def split(self, lead: Sequence[int], order: int = TIME_MAJOR) -> Grid | None:
        """How many (groups of) steps of B samples the leading dimensions hold; None if it cannot be told."""
        if not lead:
            return Grid((1, 1)) if self.batch == 1 else None
        if order == TIME_MAJOR:
            groups = self._groups(lead)
            return None if groups is None else Grid((groups, self.batch))
        b, t, first = self.batch, self.steps or 1, lead[0]
        if order == SAMPLE_MAJOR:
            if len(lead) > 1 and first == b and lead[1] > 1 and t % lead[1] == 0:
                return Grid((b, lead[1]), step_axis=1)
            if first == t * b > b and self.steps_in_tensors:
                return Grid((b, t), step_axis=1)
        return Grid((1, b)) if first == b and (len(lead) == 1 or order != UNKNOWN_ORDER) else None

    def _groups(self, lead: Sequence[int]) -> int | None:
        b, t = self.batch, self.steps or 1
        first = lead[0]
        if len(lead) > 1 and self.steps_in_tensors and lead[1] == b and first == t:
            return t
        if first == t * b and (self.steps_in_tensors or t == 1):
            return t
        if len(lead) > 1 and self.steps_in_tensors and lead[1] == b and t % first == 0:
            return first
        if first % b == 0 and t % (first // b) == 0:
            return first // b
        return None

    def leading(self, shape: Sequence[int], order: int = TIME_MAJOR) -> int:
        """How many leading dimensions may be time and batch: the second only if as long as the other."""
        second = self.steps if order == SAMPLE_MAJOR else self.batch
        if len(shape) < 3 or shape[1] != second:
            return min(1, max(0, len(shape) - 1))
        return 2

    def inner(self, shape: Sequence[int], lead: int, order: int = TIME_MAJOR) -> tuple[int, ...]:
        """The shape of one sample and step; the first `lead` dimensions may be time and batch."""
        second = self.steps if order == SAMPLE_MAJOR else self.batch
        folded = shape[:1] == (self.batch * (self.steps or 0),) and self.batch > 1
        if lead > 1 and len(shape) > 1 and shape[1] == second and not folded:
            return tuple(shape[2:])
        return tuple(shape[1:])


def declared_steps(model: nn.Module) -> int | None:
    """T as the model itself states it: `model.config.T`, or an attribute of such a name."""
    for owner in (getattr(model, "config", None), model):
        for name in ("T", "time_steps", "timestep", "total_timestep", "_time_step"):
            value = getattr(owner, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None
