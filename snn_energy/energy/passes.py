"""How often an operation ran in one inference, and whether it joins time steps: read from a row's sizes.

The shapes of a row are those of one sample and step, so `elements / (samples × elements of the shape)` is
the number of passes: T for what runs at every step, 1 for what runs behind the mean over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import ADDITIONS, REDUCTIONS


def passes(elements: int, shape: tuple[int, ...], samples: int, steps: int) -> Fraction:
    """Passes per sample of a tensor of `elements` in all, `shape` in one sample and step."""
    if not shape or not elements:
        return Fraction(steps)
    return Fraction(elements, samples * prod(shape))


def per_pass(row: OpRow, profile: Profile) -> Fraction:
    """What divides the totals of `row` into those of one pass of the network.

    A layer that runs at every step, once or several times: samples × T.  One that runs less often (behind
    the mean over time, or on several steps together): samples × its own passes.
    """
    ran = passes(row.output_elements, row.output_shape, profile.samples, profile.time_steps)
    return profile.samples * min(ran, Fraction(profile.time_steps))


def additions_in_one_pass(row: OpRow, before: Sequence[OpRow], profile: Profile) -> int:
    """Elements that an addition, sum, mean or average pool adds where the network runs once.

    What it adds over time steps vanishes: a reduction whose input has no more elements than its output then
    has nothing to add, nor has an addition onto what the same place gave at the step before.  `before`: the
    rows that ran earlier, which tell a window over time from one over space.
    """
    samples, steps = profile.samples, profile.time_steps
    if row.op in ADDITIONS:
        elements = Fraction(row.output_elements) / per_pass(row, profile)
        return 0 if steps > 1 and _accumulates(row, samples, steps) else round(elements)
    if row.op not in REDUCTIONS:
        return 0
    given = passes(row.input_elements, row.input_shape, samples, steps)
    left = passes(row.output_elements, row.output_shape, samples, steps)
    inputs = Fraction(row.input_elements, samples) / min(given, Fraction(steps))
    outputs = Fraction(row.output_elements, samples) / min(left, Fraction(steps))
    inputs /= _joined_steps(row, before, profile)
    return 0 if inputs <= outputs else round(inputs)


def _accumulates(row: OpRow, samples: int, steps: int) -> bool:
    """Does the addition add up over steps?

    The profile says that it added onto its own earlier result (`accumulates`) and it ran once a step at
    most, or it ran once less often than there are steps (of two steps that says nothing: what runs behind
    the mean over time runs as often).
    """
    ran = passes(row.output_elements, row.output_shape, samples, steps)
    if "accumulates" in row.details:
        return bool(row.details["accumulates"]) and ran <= steps
    return steps > 2 and ran == steps - 1


def _joined_steps(row: OpRow, before: Sequence[OpRow], profile: Profile) -> int:
    """T where one axis of a pool's map is time, all of which falls into its windows, else 1.

    The axis has T entries, the pool ran once per sample, and what it pools has the elements of an earlier
    row that ran at every step on the shape without that axis.
    """
    steps, shape, out = profile.time_steps, row.input_shape, row.output_shape
    if row.op != "avg_pool" or steps == 1 or len(shape) != len(out):
        return 1
    if passes(row.input_elements, shape, profile.samples, steps) != 1:
        return 1
    for axis, (size, kept) in enumerate(zip(shape, out, strict=True)):
        rest = shape[:axis] + shape[axis + 1 :]
        if (size, kept) == (steps, 1) and any(
            (other.output_elements, other.output_shape) == (row.input_elements, rest) for other in before
        ):
            return steps
    return 1
