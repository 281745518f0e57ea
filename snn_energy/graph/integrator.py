"""A leaky integrator with a threshold, in one form, and the node that it is.

v ← rest + keep·(v - rest) + gain·x;  a spike where v ≥ threshold (`strict`: >);  v ← rest, or v ← v - taken.

A node whose input is not decayed has gain 1: its membrane is that of the equation divided by the gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from snn_energy.graph import nodes as n
from snn_energy.graph.nodes import Node


def integrator(
    keep: float,
    gain: float,
    threshold: float,
    *,
    rest: float = 0.0,
    taken: float | None = None,
    strict: bool = False,
) -> tuple[type[Node], dict[str, Any]]:
    """The kind of node, `If` or `Lif`, and its attributes.

    A membrane is a float32, so that one above a threshold is one at the next float32 or above it.
    """
    decays = keep < 1 and math.isclose(gain, 1 - keep, rel_tol=1e-6)
    unit = 1.0 if decays else gain
    level = rest + (threshold - rest) / unit
    if strict:
        level = float(np.nextafter(np.float32(level), np.float32(np.inf)))
    falls = None if taken is None or math.isclose(taken, threshold, rel_tol=1e-9) else taken / unit
    common = {"v_threshold": level, "v_reset": rest if taken is None else None, "taken": falls}
    if keep == 1:
        return n.If, common
    return n.Lif, common | {"tau": 1 / (1 - keep), "decay_input": decays}


def nodes_of(equation: Any) -> Iterator[tuple[type[Node], dict[str, Any]]]:
    """The nodes of a framework's `Equation`, in order: a filter for a synaptic current, and the neuron."""
    if equation.current_keep or equation.current_gain != 1:
        yield n.Filter, {"keep": equation.current_keep, "gain": equation.current_gain}
    settings = {"rest": equation.rest, "taken": equation.taken, "strict": equation.strict}
    yield integrator(equation.keep, equation.gain, equation.threshold, **settings)
