"""Profiles of parts of the samples, joined into the profile of all."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from snn_energy.errors import DataError
from snn_energy.profiling.kinds import KINDS, REAL, ValueSet, value_set
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import SIDES, SYNAPTIC, ZERO, Count, ratio, resolve

SUMMED = (
    "calls", "input_elements", "input_nonzero", "right_elements", "right_nonzero", "output_elements",
    "output_nonzero", "dense_macs", "valid_macs", "bias_adds", "scale_muls", "norm_macs", "norm_elements",
    "neuron_mul", "neuron_add", "neuron_cmp", "neuron_reset", "pool_cmp", "special_evals",
)  # fmt: skip


def merge(profiles: tuple[Profile, ...]) -> Profile:
    """One profile of the samples of all.  Raises `DataError` when they do not belong together."""
    if not profiles:
        raise DataError("merge: no profiles given; at least one is needed")
    first = profiles[0]
    for other in profiles[1:]:
        for what in ("model", "time_steps", "parameters"):
            mine, its = getattr(first, what), getattr(other, what)
            if mine != its:
                raise DataError(f"merge: profiles of different {what}: {mine!r} and {its!r}")
    rows: dict[tuple[str, str, int], OpRow] = {}
    for profile in profiles:
        for row in profile.rows:
            rows[row.key] = join_rows(rows[row.key], row) if row.key in rows else row
    counted = [p.correct for p in profiles if p.correct is not None]
    uncalled = set.intersection(*(set(p.uncalled) for p in profiles))
    return dataclasses.replace(
        first,
        rows=tuple(rows.values()),
        samples=sum(p.samples for p in profiles),
        correct=sum(counted) if len(counted) == len(profiles) else None,
        uncalled=tuple(name for name in first.uncalled if name in uncalled),
        notes=tuple(dict.fromkeys(note for p in profiles for note in p.notes)),
    )


def join_rows(a: OpRow, b: OpRow) -> OpRow:
    """The row over the samples of both: counts added, kinds joined, AC and MAC decided anew."""
    left = _join_kinds((a.input_kind, a.input_values), (b.input_kind, b.input_values))
    right = _join_kinds((a.right_kind, a.right_values), (b.right_kind, b.right_values))
    joined = {"l": _set(left), "r": _set(right)}
    graded = a.op in SYNAPTIC and any(values.graded for values in joined.values())
    parts = [_with_units(row, joined) if graded else row.counts for row in (a, b)]
    names = dict.fromkeys((*parts[0], *parts[1]))
    return resolve(
        dataclasses.replace(
            a,
            **{name: getattr(a, name) + getattr(b, name) for name in SUMMED},
            input_kind=left[0] or "",
            input_values=left[1],
            right_kind=right[0],
            right_values=right[1],
            output_kind=a.output_kind
            if a.output_kind == b.output_kind
            else _wider(a.output_kind, b.output_kind),
            two_valued_input=bool(left[0]) and joined["l"].two_valued,
            static_repeats=a.static_repeats if a.static_repeats == b.static_repeats else 1,
            norm_folded=a.norm_folded and b.norm_folded,
            sources=tuple(dict.fromkeys((*a.sources, *b.sources))),
            feeds=tuple(dict.fromkeys((*a.feeds, *b.feeds))),
            input_nonzero_by_step=_steps(a, b, "input_nonzero"),
            output_nonzero_by_step=_steps(a, b, "output_nonzero"),
            counts={name: parts[0].get(name, ZERO) + parts[1].get(name, ZERO) for name in names},
        )
    )


def _set(kind: tuple[str | None, tuple[float, ...] | None]) -> ValueSet:
    """The values of one operand; of none, nothing."""
    return value_set(kind[0], kind[1]) if kind[0] else REAL


def _with_units(row: OpRow, joined: dict[str, ValueSet]) -> dict[str, Count]:
    """The counts of `row` with unit events in the units of `joined`, the operands of both parts."""
    mine = {
        "l": _set((row.input_kind, row.input_values)),
        "r": _set((row.right_kind, row.right_values)),
    }
    whole = {
        **row.counts,
        "input": Count(row.input_nonzero, row.input_nonzero_by_step, None),
        "right_input": Count(row.right_nonzero, (), None),
    }
    counts = dict(row.counts)
    for name, sides in SIDES.items():
        if name not in whole:
            continue
        was = math.prod(mine[side].unit or 1.0 for side in sides)
        now = math.prod(joined[side].unit or 1.0 for side in sides)
        units = row.counts.get(f"{name}_units", whole[name])
        counts[f"{name}_units"] = units.times(ratio(was, now))
    return counts


def _wider(a: str, b: str) -> str:
    order = ("", *KINDS)
    return max(a, b, key=order.index)


def _join_kinds(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[str | None, tuple[float, ...] | None]:
    """(kind, values) of one operand in both parts; None or "" where it was not read."""
    if not a[0] or not b[0]:
        return a if a[0] else b
    both = value_set(*a).join(value_set(*b))
    return both.kind, both.values


def _steps(a: OpRow, b: OpRow, name: str) -> tuple[int, ...]:
    """The split over steps of both parts' count `name`; none where one part has events and no split."""
    parts = [Count(getattr(row, name), getattr(row, f"{name}_by_step")) for row in (a, b)]
    return (parts[0] + parts[1]).by_step
