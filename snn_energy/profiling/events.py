"""Events of operands as numbers with gradients, and what each costs: the arithmetic of `accumulates`.

Each function gives for one call what the profile's rule of the same operation counts (docs/counting.md), as a
float64 scalar: whole where the operands are spikes.  A spike's own gradient is the surrogate's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from snn_energy.profiling.call import Call
from snn_energy.profiling.elementwise import broadcast
from snn_energy.profiling.fanout import FanOut
from snn_energy.profiling.kinds import ValueSet
from snn_energy.profiling.measure import values_of
from snn_energy.profiling.operations import OPERATIONS
from snn_energy.profiling.pooling import windows
from snn_energy.profiling.products import einsum_letters, matmul_letters, squeeze
from snn_energy.profiling.profile import OpRow
from snn_energy.profiling.resolve import Candidates
from snn_energy.profiling.synapses import convolution, linear_layer, transposed_convolution

BINARY = (1.0,)


def unit_events(x: torch.Tensor, values: ValueSet) -> torch.Tensor:
    """Each element's number of unit events, |k|; the gradient of one is 1 / unit, silent or not."""
    if x.dtype != torch.float64:
        x = x.float()
    if values.values == BINARY:
        return x
    seen = values_of(x.detach())  # of this batch: a finer unit than the first one had may be in it
    values = values if not seen.event_driven else seen
    if values.values is not None and any(v < 0 for v in values.values):
        x = x.abs()
    return x / (values.unit or 1.0)


def events(x: torch.Tensor, values: ValueSet) -> torch.Tensor:
    """1 where an element is an event; the gradient is that of its unit events."""
    units = unit_events(x, values)
    if values.values == BINARY:
        return units
    return (x != 0).to(units.dtype) + (units - units.detach())


def total(x: torch.Tensor) -> torch.Tensor:
    """Σ of whole numbers, exact: over all but the first dimension in float32, then in float64."""
    return (x.flatten(1).sum(1) if x.dim() > 1 else x).sum(dtype=torch.float64)


def over_positions(x: torch.Tensor, fan: FanOut) -> torch.Tensor:
    """Σ fan-out · x, x (…, *positions)."""
    uniform = fan.uniform
    if uniform is not None:
        return uniform * total(x)
    maps = x.flatten(-len(fan.axes)).flatten(0, -2).sum(0)
    return maps.double() @ torch.tensor(fan.flat, dtype=torch.float64, device=x.device)


def _fan_out(call: Call) -> FanOut:
    if call.name == "linear":
        return linear_layer(*call["weight"].shape).fan
    return (transposed_convolution if "transpose" in call.name else convolution)(call).fan


def weighted(call: Call, row: Candidates) -> torch.Tensor:
    """A layer with weights: unit events times fan-out."""
    return over_positions(unit_events(call["input"], row.left), _fan_out(call))


def _operands(call: Call) -> tuple[torch.Tensor, torch.Tensor, tuple[str, str, str]]:
    """The factors of a product and their indices."""
    if call.name == "einsum":
        given = call.args[1] if isinstance(call.args[1], list | tuple) else call.args[1:]
        a, b = given
        return a, b, einsum_letters(call.args[0], a.dim(), b.dim())
    names = call.operation.parameters
    a, b = (call[name] for name in (names[1:3] if len(names) > 2 else names))
    return a, b, matmul_letters(a.dim(), b.dim())


def product(call: Call, row: Candidates) -> torch.Tensor:
    """A product of activations: pairs of unit events that meet, or those of one side times its fan-out."""
    a, b, (ai, bi, _) = _operands(call)
    a, ai = squeeze(a, ai, b, bi)
    b, bi = squeeze(b, bi, a, ai)
    left, right = row.sides
    if left and right:
        return torch.einsum(f"{ai},{bi}->", unit_events(a, row.left), unit_events(b, row.right)).double()
    x, values = (a, row.left) if left else (b, row.right)
    sizes = dict(zip(ai + bi, (*a.shape, *b.shape), strict=True))
    return math.prod(sizes.values()) // max(1, x.numel()) * total(unit_events(x, values))


def addition(call: Call, row: Candidates) -> torch.Tensor:
    """A sum of two: events that meet, or those of the one operand that has some."""
    a, b = call.pair()
    left, right = row.sides
    if left and right:
        return total(events(a, row.left) * events(b, row.right))
    x, values = (a, row.left) if left else (b, row.right)
    size = math.prod(broadcast(a, b))
    return size // max(1, x.numel()) * total(events(x, values))


def reduction(call: Call, row: Candidates) -> torch.Tensor:
    """A sum, mean or average pool: events, each as often as windows hold it."""
    found = events(call["input"], row.left)
    if "pool" not in call.name:
        return total(found)
    return over_positions(found, windows(call, call.run())[0])


def _counts() -> Mapping[str, Callable[[Call, Candidates], torch.Tensor]]:
    """By function: those that one row stands for."""
    rules = {
        "synapses.conv": weighted,
        "synapses.conv_transpose": weighted,
        "synapses.linear": weighted,
        "products.matmul": product,
        "products.matmul_add": product,
        "products.einsum": product,
        "elementwise.add": addition,
        "elementwise.reduce": reduction,
        "pooling.avg_pool": reduction,
    }
    return {name: rules[operation.rule] for name, operation in OPERATIONS.items() if operation.rule in rules}


COUNTS = _counts()


def count(call: Call, row: OpRow) -> torch.Tensor:
    """The accumulates of a call whose row in a profile is `row`."""
    return COUNTS[call.name](call, Candidates(row)) / row.static_repeats


def row_of(name: str) -> str:
    """The row in which calls of a function are counted, "" for a function that is not followed."""
    if name not in COUNTS:
        return ""
    kinds = OPERATIONS[name].rows
    return next((kind for kind in kinds if name in (kind, f"nan{kind}")), kinds[0])
