"""Counting rules of elementwise operations, reductions and norms."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch

from snn_energy.profiling.call import Call
from snn_energy.profiling.kinds import BINARY, COUNTS, EMPTY, REAL, ValueSet
from snn_energy.profiling.measure import ones_where_nonzero, row_counts
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.tally import Reading, Tally

# functions whose result holds nothing but the outcome of a comparison, whatever its type
CHOICES = frozenset(
    [
        "gt",
        "ge",
        "lt",
        "le",
        "eq",
        "ne",
        "greater",
        "greater_equal",
        "less",
        "less_equal",
        "not_equal",
        "argmax",
        "argmin",
    ]
)
MASKS = (BINARY.values, EMPTY.values)


def add(call: Call) -> Tag:
    """add, sub: an accumulate where both operands are nonzero; a real one counts as nonzero everywhere."""
    a, b = call.pair()
    if isinstance(b, (int, float)) and not b:  # sum([x, y]) begins with 0 + x
        tag = call.tag(a)
        call.run()
        return call.known() if tag is None else tag
    rec, row, tags = call.rec, call.row("add"), (call.tag(a), call.tag(b))
    sets = rec.values(a, tags[0], row.left), rec.values(b, tags[1], row.right)
    row.see_left(sets[0])
    row.see_right(sets[1])
    shape = broadcast(a, b)
    lead = rec.layout.leading(shape, call.order)
    counted = [values is not None and values.countable for values in (row.left, row.right)]
    if any(counted):
        for name, x, tag, values, wanted in zip(("left", "right"), (a, b), tags, sets, counted, strict=True):
            if wanted:
                row.read(name, _rows_within(call, x, tag, values, shape, lead))
        if all(counted):
            both = ones_where_nonzero(a, sets[0]) * ones_where_nonzero(b, sets[1])
            row.read("coincident", Reading(shape[:lead], row_counts(both, lead), order=call.order))
    _uniform(call, row, shape, lead, bool(call.kwargs or call.args[2:]) and call.get("alpha", 1) != 1)
    last = None if row.last is None else row.last()
    onto_itself = last is not None and (a is last or b is last)
    out = call.run()  # only now: an in-place addition changes its operand
    row.last = weakref.ref(out)
    if not row.fixed:
        call.describe(row, a if tags[0] is not None else b, out)
    if onto_itself:
        row.fixed["details"] = {"accumulates": True}
    counts = any(values.counts for values in sets) and not call.kwargs.get("alpha")
    known = call.known(COUNTS if counts and sets[0].join(sets[1]).counts else None, row=row)
    row.merge_sources(known.sources)
    return known


def broadcast(a: Any, b: Any) -> tuple[int, ...]:
    """The shape of what two operands make."""
    if not isinstance(b, torch.Tensor) or not isinstance(a, torch.Tensor):
        return tuple((a if isinstance(a, torch.Tensor) else b).shape)
    if a.shape == b.shape:
        return tuple(a.shape)
    longest = max(a.dim(), b.dim())
    padded = [(1,) * (longest - x.dim()) + tuple(x.shape) for x in (a, b)]
    return tuple(n if m == 1 else m for m, n in zip(*padded, strict=True))


def _rows_within(
    call: Call, x: torch.Tensor, tag: Tag | None, values: ValueSet, shape: tuple[int, ...], lead: int
) -> Reading:
    """Nonzeros of `x`, broadcast to `shape`, per leading index."""
    if x.shape == shape:
        return call.rec.rows(x, tag, values, lead)
    x = x.reshape((1,) * (len(shape) - x.dim()) + x.shape)
    times = math.prod(shape[lead:]) // math.prod(x.shape[lead:])
    rows = row_counts(ones_where_nonzero(x, values), lead) * times
    return Reading(
        shape[:lead], rows.reshape(x.shape[:lead]).expand(shape[:lead]).reshape(-1), order=call.order
    )


def _uniform(call: Call, row: Tally, shape: tuple[int, ...], lead: int, scaled: bool = False) -> None:
    """One candidate operation per output element."""
    key = shape, lead, scaled
    if row.plan is not None and row.plan.key == key:
        row.again()
        return
    elements = math.prod(shape)
    reading = Reading(shape[:lead], None, elements // max(1, math.prod(shape[:lead])), order=call.order)
    sums = {"input_elements": elements, "right_elements": elements, "output_elements": elements}
    if scaled:
        sums["scale_muls"] = elements
    row.remember(key, {"valid": reading}, sums)


def mul(call: Call) -> Tag:
    """mul: by a constant a scale; events × anything a mask (free); real × real one MAC per element."""
    a, b = call.pair()
    tags = call.tag(a), call.tag(b)
    if tags[0] is None or tags[1] is None:
        return scale(call, b if tags[0] is None else a)
    return _multiply(call, a, b, tags)


def div(call: Call) -> Tag:
    """div: by a constant a scale; of a constant a reciprocal; of two activations a product.

    Rounding the quotient is a comparison per element, as any rounding.
    """
    a, b = call.pair()
    tags = call.tag(a), call.tag(b)
    if tags[1] is None:
        known = scale(call, a)
    else:
        known = special(call) if tags[0] is None else _multiply(call, a, b, tags)
    if "floor" not in call.name and call.kwargs.get("rounding_mode") is None:
        return known
    row, out = call.row("compare", call.name), call.run()
    row.uniform(out.shape, pool_cmp=out.numel(), input_elements=out.numel())
    row.fixed.setdefault("details", {"function": call.name})
    return known.but(values=None)


def _multiply(call: Call, a: torch.Tensor, b: torch.Tensor, tags: tuple[Tag | None, Tag | None]) -> Tag:
    rec, row = call.rec, call.row("mul")
    sets = rec.values(a, tags[0], row.left), rec.values(b, tags[1], row.right)
    row.see_left(sets[0])
    row.see_right(sets[1])
    shape = broadcast(a, b)
    _uniform(call, row, shape, rec.layout.leading(shape, call.order))
    out = call.run()
    if not row.fixed:
        call.describe(row, a, out)
    known = call.known(BINARY if all(values.values in MASKS for values in sets) else None, row=row)
    row.merge_sources(known.sources)
    return known


def power(call: Call) -> Tag:
    """x² is a product of a tensor with itself; other powers, and activations as exponents, are special."""
    x, exponent = call["input"], call.get("exponent", call.get("other", 2))
    tag = call.tag(x)
    if isinstance(exponent, torch.Tensor) and exponent.dim() == 0 and call.tag(exponent) is None:
        exponent = exponent.item()
    square = isinstance(exponent, (int, float)) and exponent == 2 and tag is not None
    return _multiply(call, x, x, (tag, tag)) if square else special(call)


def logic(call: Call) -> Tag:
    """&, |, ^: logic on spikes, free of arithmetic."""
    a, b = call.pair()
    tags = call.tag(a), call.tag(b)
    if None not in tags:
        known = _multiply(call, a, b, tags)
        return known.but(values=BINARY) if call.name.startswith("logical") else known
    out = call.run()
    return call.known(BINARY if out.dtype == torch.bool else None, event=True)


def invert(call: Call) -> Tag:
    """not: a spike for each silence, free of arithmetic."""
    out = call.run()
    return call.known(BINARY if out.dtype == torch.bool else None, event=True)


def negate(call: Call) -> Tag:
    """neg: a scale by -1."""
    return scale(call, call["input"])


def scale(call: Call, x: torch.Tensor) -> Tag:
    """Activations × constants: one multiply per element, foldable into a threshold or a weight."""
    row, shape = call.row("scale"), x.shape
    out = call.run()
    elements = out.numel()
    row.uniform(
        (shape, out.shape), scale_muls=elements, input_elements=shape.numel(), output_elements=elements
    )
    if not row.fixed:
        call.describe(row, x, out)
    known = call.known(row=row)
    row.merge_sources(known.sources)
    return known


def reduce(call: Call) -> Tag:
    """sum, mean: one accumulate per event, or per element of a real operand; a mean scales its output."""
    x, is_mean = call["input"], call.name.endswith("mean")
    row = call.row("mean" if is_mean else "sum")
    values = call.values(x, row.left)
    row.see_left(values)
    shape, elements, valid = x.shape, x.numel(), {"valid": call.evenly(x)}
    if row.left is not None and row.left.countable:
        events = call.nonzeros(x, values)
        row.read("events", events)
        row.read("input", events)
    out = call.run()
    key, outputs = (shape, out.shape, valid["valid"].lead), out.numel()
    if row.plan is not None and row.plan.key == key:
        row.again()
    else:
        sums = {"input_elements": elements, "output_elements": outputs}
        row.remember(key, valid, {**sums, "scale_muls": outputs if is_mean else 0})
    call.describe(row, x, out)
    known = call.known(COUNTS if values.counts and not is_mean else None, row=row)
    row.merge_sources(known.sources)
    return known


def norm(call: Call) -> Tag:
    """Norms: batch norm right behind a layer with weights is folded into it; others one MAC per element."""
    x, tag, row = call["input"], call.tag(call["input"]), call.row("norm")
    fixed_statistics = call.name == "batch_norm" and not call.get("training", False)
    folded = fixed_statistics and tag is not None and tag.synapse is not None
    elements = x.numel()
    out = call.run()
    out = out if isinstance(out, torch.Tensor) else out[0]
    if call.get("training", False):  # running statistics, which the next training would read
        for name in ("running_mean", "running_var"):
            call.rec.constants.touch(call.get(name))
        call.rec.looked = True  # the next call reads what this one writes
    row.folded = folded if row.folded is None else row.folded and folded
    row.uniform(
        (x.shape, folded),
        norm_elements=elements,
        norm_macs=0 if folded else elements,
        input_elements=elements,
        output_elements=elements,
    )
    if not row.fixed:
        details = {"function": call.name, "affine": call.get("weight") is not None}
        call.describe(row, x, out, details=details)
    return call.known(REAL if tag is None else None, row=row, sources=())


def compare(call: Call) -> Tag | tuple[Tag, ...]:
    """ReLU, clamp, >, maximum, amax …: one comparison per element, of the result where it is the larger."""
    return _compared(call, event=False)


def quantise(call: Call) -> Tag | tuple[Tag, ...]:
    """sign, round, floor …: a comparison per element makes events of a current."""
    return _compared(call, event=True)


def _compared(call: Call, event: bool) -> Tag | tuple[Tag, ...]:
    x, row = next(call.live()), call.row("compare", call.name)
    elements, chosen = x.numel(), call.name in CHOICES
    if event or chosen:
        call.rec.compared(x)
    out = call.run()
    row.fixed.setdefault("details", {"function": call.name})
    if not isinstance(out, torch.Tensor):  # values, and their places
        row.uniform(x.shape, pool_cmp=elements, input_elements=elements)
        return tuple(call.known(row=row, event=not one.is_floating_point()) for one in out)
    elements = max(elements, out.numel())
    row.uniform((x.shape, out.shape), pool_cmp=elements, input_elements=elements)
    is_mask = out.dtype == torch.bool
    known = call.known(BINARY if is_mask else None, row=row, event=event or is_mask or chosen)
    counts = not chosen and any(tag.values is not None and tag.values.counts for tag in call.tags)
    return known.but(values=COUNTS) if counts and known.values is None and _whole(out) else known


def _whole(x: torch.Tensor) -> bool:
    """Does `x` hold whole numbers only?"""
    return not x.is_floating_point() or bool((x == x.round()).all())


def special(call: Call) -> Tag:
    """exp, softmax, GELU …: elements evaluated, in their own column."""
    row, shape = call.row("special", call.name), call.run().shape
    row.uniform(shape, special_evals=shape.numel(), input_elements=shape.numel())
    row.fixed.setdefault("details", {"function": call.name})
    return call.known(row=row, sources=())
