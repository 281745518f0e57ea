"""What a `StaaLif` must satisfy: shapes of its gates, and no sum that could leave 64 bits, whatever arrives.

The bounds follow `staa_lif` line by line, in Python's integers, with every input at its largest.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import numpy as np

from snn_energy.exporters.netlist.record import CURRENT_LIMIT, Array, StaaLif
from snn_energy.exporters.netlist.staa_lif import MEMBRANE_MAX, NORM_BITS, ONE

PLACES = ("off", "input", "state", "aggregate", "output")
SUM_BITS = 62  # one bit of the 63 is left for the half that rounds
SHIFT_MAX = 62


def staa_problems(node: StaaLif, time_steps: int) -> list[str]:
    """Everything about a STAA neuron that could not run, one text each."""
    problems = _shape_problems(node, time_steps)
    if problems:
        return problems
    sums = {"bias": CURRENT_LIMIT + _peak(node.bias), "position": MEMBRANE_MAX + _peak(node.position)}
    sums |= {"gain": MEMBRANE_MAX * abs(node.gain), "keep": MEMBRANE_MAX * abs(node.keep)}
    for place in ("context_in", "context_state"):
        sums |= _context_sums(place, getattr(node, place), node.shape)
    sums |= _attention_sums(node.attention, node.shape)
    return [
        f"{where}: sums up to 2^{size.bit_length()} do not fit 64 bits; lower it with a smaller scale"
        for where, size in sums.items()
        if size.bit_length() > SUM_BITS
    ]


def _shape_problems(node: StaaLif, time_steps: int) -> list[str]:
    channels, problems = node.shape[0], []
    if node.threshold < 1:
        problems.append(f"threshold {node.threshold}; must be at least 1 membrane unit")
    if node.position_at not in PLACES:
        problems.append(f"position_at {node.position_at!r}; must be one of {', '.join(PLACES)}")
    elif node.position_at != "off" and node.position.shape != (time_steps, channels):
        problems.append(f"position of shape {node.position.shape}, not {(time_steps, channels)}")
    if node.bias.shape != (channels, 1, 1):
        problems.append(f"bias of shape {node.bias.shape}, not {(channels, 1, 1)}")
    for place in ("context_in", "context_state", "attention"):
        gate: Mapping[str, Array] = getattr(node, place)
        hidden = np.shape(gate.get("query_bias", ()))[:1]
        wanted = _context_shapes(channels, *hidden) if place != "attention" else ATTENTION_SHAPES
        if gate and {key: np.shape(a) for key, a in gate.items()} != wanted:
            problems.append(f"{place}: arrays {sorted(gate)} are not those of {channels} channels")
        problems += [
            f"{place}: {key} is {np.asarray(a).dtype}, not an integer"
            for key, a in gate.items()
            if not np.issubdtype(np.asarray(a).dtype, np.integer)
        ]
        shifts = {key: int(a) for key, a in gate.items() if "shift" in key and np.ndim(a) == 0}
        problems += [f"{place}: {key} {s} is outside 0 to {SHIFT_MAX}" for key, s in shifts.items()
                     if not 0 <= s <= SHIFT_MAX]  # fmt: skip
    return problems


ATTENTION_SHAPES: dict[str, tuple[int, ...]] = {"conv1": (3,), "shift1": (), "conv2": (3,), "shift2": ()}


def _context_shapes(channels: int, hidden: int = 0) -> dict[str, tuple[int, ...]]:
    return {
        "key": (channels,), "key_bias": (), "key_shift": (),
        "query": (hidden, channels), "query_bias": (hidden,),
        "norm_weight": (hidden,), "norm_bias": (hidden,), "epsilon": (),
        "value": (channels, hidden), "value_bias": (channels,), "value_shift": (),
    }  # fmt: skip


def _context_sums(place: str, gate: Mapping[str, Array], shape: tuple[int, ...]) -> dict[str, int]:
    if not gate:
        return {}
    positions, hidden = shape[1] * shape[2], len(gate["query_bias"])
    pooled = MEMBRANE_MAX * positions
    quotient = (2 * isqrt(hidden) + 2) * ONE
    normed = quotient * _peak(gate["norm_weight"]) + _peak(gate["norm_bias"])
    return {
        f"{place}: key": MEMBRANE_MAX * _rows(gate["key"]) + _peak(gate["key_bias"]),
        f"{place}: sum over positions": pooled * ONE,
        f"{place}: query": pooled * _rows(gate["query"]) + _peak(gate["query_bias"]),
        f"{place}: variance": (4 * hidden << 48) + (_peak(gate["epsilon"]) ** 2),
        f"{place}: norm": normed,
        f"{place}: value": ((normed >> NORM_BITS) + 1) * _rows(gate["value"]) + _peak(gate["value_bias"]),
    }


def _attention_sums(gate: Mapping[str, Array], shape: tuple[int, ...]) -> dict[str, int]:
    if not gate:
        return {}
    first = MEMBRANE_MAX * shape[1] * shape[2] * _rows(gate["conv1"])
    second = ((first >> int(gate["shift1"])) + 1) * _rows(gate["conv2"])
    return {"attention: conv1": first, "attention: conv2": second}


def _peak(array: Array) -> int:
    """Largest |value|."""
    return max((abs(int(v)) for v in np.ravel(array)), default=0)


def _rows(weight: Array) -> int:
    """Largest Σ|w| into one output."""
    weight = np.atleast_2d(np.asarray(weight))
    return max(sum(abs(int(w)) for w in row) for row in weight)
