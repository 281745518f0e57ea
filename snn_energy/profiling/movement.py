"""Rules of what moves elements without arithmetic: views, parts, joins, writes, conversions.

They count nothing (but for dropout in training); what matters is what stays known of the elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from snn_energy.profiling.call import Call
from snn_energy.profiling.elementwise import MASKS, scale
from snn_energy.profiling.kinds import BINARY, ValueSet
from snn_energy.profiling.operations import ALIASES, MAKES
from snn_energy.profiling.provenance import (
    COUNTED,
    CURRENT,
    SAMPLE_MAJOR,
    SAMPLES_ALONE,
    TIME_MAJOR,
    UNKNOWN_ORDER,
    Tag,
    carry,
)


def view(call: Call, order: int | None = None) -> Tag:
    """The same elements in another shape or order: everything known of them stays known."""
    x = call["input"]
    tag, dtype = call.tag(x), x.dtype
    out = call.run()
    if tag is None:  # a constant, shaped like an activation
        return call.rec.fixed
    if out.dtype != dtype:  # the same bits read as another type
        return tag.but(values=None, synapse=None)
    if COUNTED in x.__dict__:
        carry(x, out)
    return tag if order in (None, tag.order) else tag.but(order=order)


def transpose(call: Call) -> Tag:
    """transpose and its namesakes, `.T` and `.mT` among them."""
    x, dims = call["input"], x_dims(call)
    order = list(range(x.dim()))
    if dims is not None:
        a, b = (d % x.dim() for d in dims)
        order[a], order[b] = b, a
    return view(call, moved(call, x.shape, order))


def x_dims(call: Call) -> tuple[int, int] | None:
    """The two dimensions that a transposition exchanges."""
    if call.name in ("t", "T", "mT", "H", "mH", "adjoint"):
        dims = call["input"].dim()
        return (dims - 2, dims - 1) if dims > 1 else None
    return call["dim0"], call["dim1"]


def permute(call: Call) -> Tag:
    """permute, with its dimensions in a list or one by one."""
    x, given = call["input"], call.kwargs.get("dims", call.args[1:])
    dims = given[0] if len(given) == 1 and isinstance(given[0], (list, tuple)) else given
    return view(call, moved(call, x.shape, [int(d) % x.dim() for d in dims]))


def movedim(call: Call) -> Tag:
    """movedim, moveaxis."""
    x, source, target = call["input"], call["source"], call["destination"]
    pairs = zip(*(s if isinstance(s, (list, tuple)) else (s,) for s in (source, target)), strict=True)
    to = {t % x.dim(): s % x.dim() for s, t in pairs}
    rest = iter(d for d in range(x.dim()) if d not in to.values())
    return view(call, moved(call, x.shape, [to[d] if d in to else next(rest) for d in range(x.dim())]))


def moved(call: Call, shape: Sequence[int], dims: Sequence[int]) -> int:
    """How time and batch lie after a permutation to `dims`."""
    order, layout = call.order, call.rec.layout
    if len(dims) < 2 or tuple(dims[:2]) == (0, 1):
        return order
    steps, batch = layout.steps, layout.batch
    if order == SAMPLES_ALONE:
        back = dims[1] == 0 and shape[dims[0]] == steps
        return TIME_MAJOR if back else order if dims[0] == 0 else UNKNOWN_ORDER
    if order == UNKNOWN_ORDER:
        return order
    apart = (steps, batch) if order == TIME_MAJOR else (batch, steps)
    if dims[0] == 0 and 1 in apart:  # a dimension of size 1 may go anywhere
        return order
    if tuple(shape[:2]) == apart or (steps is None and tuple(dims[:2]) == (1, 0)):
        time, sample = (0, 1) if order == TIME_MAJOR else (1, 0)
        places = dims.index(time), dims.index(sample)
        known = {(0, 1): TIME_MAJOR, (1, 0): SAMPLE_MAJOR}
        return known.get(places, SAMPLES_ALONE if places[1] == 0 else UNKNOWN_ORDER)
    return order if dims[0] == 0 else UNKNOWN_ORDER


def unsqueeze(call: Call) -> Tag:
    """A new dimension, which may become time: in front of the batch, or right behind it."""
    x, dim = call["input"], call["dim"]
    layout, order = call.rec.layout, None
    if dim in (0, -x.dim() - 1):
        order = TIME_MAJOR
    elif dim in (1, -x.dim()) and x.dim() and x.shape[0] == layout.batch and (layout.steps or 1) > 1:
        order = UNKNOWN_ORDER if layout.batch == layout.steps else SAMPLE_MAJOR
    return view(call, order)


def dropout(call: Call) -> Tag:
    """The identity at inference; in training survivors are scaled, and are no longer what they were."""
    if not call.get("training", True) or not call.get("p", 0.5):
        return view(call)
    return scale(call, call["input"]).but(still=False, sites=0)


def alpha_dropout(call: Call) -> Tag:
    """The identity at inference; in training arithmetic that no rule covers."""
    if not call.get("training", False):
        return view(call)
    call.rec.uncounted(f"{call.name} in training", call.run())
    return call.known()


def _subset(values: ValueSet | None) -> ValueSet | None:
    """What stays known of values where some elements may be gone: no more than zeros and ones, or a bound."""
    if values is None or values is CURRENT or values.counts or values.values in MASKS:
        return values
    return None


def part(call: Call) -> Tag:
    """Some of the elements, perhaps repeated."""
    tag = call.tag(call.args[0] if call.args else call["input"])
    call.run()
    if tag is None:  # an activation chooses among constants
        return call.known(event=True)
    values = _subset(tag.values)
    return tag if values is tag.values else tag.but(values=values)


def widen(call: Call) -> Tag:
    """expand, repeat: a new leading dimension is taken for time."""
    x, out = call.args[0] if call.args else call["input"], call.run()
    known = part(call)
    grown = isinstance(out, torch.Tensor) and isinstance(x, torch.Tensor) and out.dim() > x.dim()
    return known.but(order=TIME_MAJOR) if grown else known


def broadcast_together(call: Call) -> Tag | tuple[Tag, ...]:
    """broadcast_tensors, meshgrid, atleast_2d …: each result is one of the operands, widened."""
    operands, tags, found = list(call.tensors()), [], call.run()
    for x, out in zip(operands, (found,) if isinstance(found, torch.Tensor) else found, strict=True):
        tag = call.tag(x)
        known = call.rec.fixed if tag is None else tag.but(values=_subset(tag.values))
        tags.append(known.but(order=TIME_MAJOR) if out.dim() > x.dim() else known)
    return tags[0] if isinstance(found, torch.Tensor) else tuple(tags)


def repeat_interleave(call: Call) -> Tag:
    """Each entry several times in a row: along the batch, its steps lie together."""
    x, dim, batch = call["input"], call.get("dim"), call.rec.layout.batch
    call.run()
    along_batch = dim in (0, -x.dim()) and x.shape[0] == batch and (call.rec.layout.steps or 1) > 1
    return part(call).but(order=SAMPLE_MAJOR) if along_batch else part(call)


def _with(values: ValueSet | None, *others: Any) -> ValueSet | None:
    """Values of an operand and of numbers that take the place of some."""
    for other in others:
        if values is None or values is CURRENT:
            return values
        if not isinstance(other, (int, float)):
            return None
        values = values.join(ValueSet((float(other),)) if other else ValueSet())
    return values


def masked_fill(call: Call) -> Tag:
    """Some elements give way to a number."""
    tag, value = call.tag(call["input"]), call["value"]
    call.run()
    values = None if tag is None else _subset(_with(tag.values, value))
    return call.known(values)


def pad(call: Call) -> Tag:
    """Zeros, another number, or copies around the elements."""
    tag, mode = call.tag(call["input"]), call.get("mode", "constant")
    call.run()
    value = call.get("value", 0) if mode == "constant" else 0
    return call.known(None if tag is None else _subset(_with(tag.values, value)))


def join(call: Call, order: int | None = None) -> Tag:
    """cat and its namesakes: elements of several tensors; their values together."""
    parts = list(call.tensors())
    call.run()
    return call.known(_together(call, parts), order=order)


def stack(call: Call) -> Tag:
    """Tensors along a new dimension: steps in front lie time first, those behind the batch sample first."""
    dim = call.get("dim", 0)
    behind = dim == 1 and (call.rec.layout.steps or 1) > 1
    return join(call, TIME_MAJOR if dim == 0 else SAMPLE_MAJOR if behind else None)


def where(call: Call) -> Any:
    """Elements of one tensor or number or of another; without these, places."""
    given = call.arguments()
    if hasattr(call.func, "__objclass__"):  # the method: x.where(condition, other)
        given = dict(zip(("input", "condition", "other"), call.args, strict=False)) | call.kwargs
        given = {ALIASES.get(name, name): value for name, value in given.items()}
    if "input" not in given:
        return fresh(call)
    choices = [given["input"], given["other"]]
    call.run()
    tags = [tag for tag in map(call.tag, choices) if tag is not None]
    if not tags:  # an activation chooses between constants
        return call.known(_together(call, choices), event=True)
    known = call.known(_together(call, choices))
    return (
        known
        if any(tag.values is CURRENT for tag in tags) or known.values is not CURRENT
        else known.but(values=None)
    )


def _together(call: Call, choices: Sequence[Any]) -> ValueSet | None:
    """The values of all `choices`, None unless every one's are known."""
    values: ValueSet | None = ValueSet()
    for choice in choices:
        if isinstance(choice, torch.Tensor):
            tag = call.tag(choice)
            mine = tag.values if tag is not None else None
            if mine is CURRENT:
                return CURRENT
            values = None if values is None or mine is None else values.join(mine)
        else:
            values = _with(values, choice)
    return None if values is None else _subset(values)


def fresh(call: Call) -> Tag:
    """Made from activations without arithmetic that an inference needs: look-ups, indices."""
    call.run()
    return Tag(call.rec.epoch)


def noise(call: Call) -> Tag:
    """Random numbers that only borrow a shape."""
    call.run()
    return Tag(call.rec.epoch)


def draw(call: Call) -> Tag:
    """bernoulli, poisson: chance with activations for its rates."""
    call.run()
    return call.known(BINARY if call.name == "bernoulli" else None, event=True).but(still=False, sites=0)


def blank(call: Call) -> Tag:
    """zeros_like and the like: constants that borrow a shape, unless their numbers come from activations."""
    call.run()
    first = MAKES.get(call.name)
    back = first is not None and call.rec.numbers_came_back(first, call.args, call.kwargs)
    return call.rec.plain if back else call.rec.fixed


def write(call: Call) -> Tag:
    """x[...] = y, copy_, fill_: `x` now also holds y, or y alone.  Without in-place, x stays what it is."""
    target = call["input"]
    call.run()
    known = _copied(call, target) if _replaces(call) else call.known()
    if call.name == "setitem":  # which has no result to be marked
        call.rec.mark(target, known)
    return known


def write_at(call: Call) -> Tag:
    """index_put, scatter: as any write; where entries are added up, arithmetic that no rule covers."""
    known = write(call)
    if call.get("accumulate") or call.get("reduce"):
        call.rec.uncounted(f"{call.name} that adds up", call.result)
    return known


_WHOLE = (slice(None), ...)


def _replaces(call: Call) -> bool:
    """Does the write leave nothing of what was there before?"""
    if call.name != "setitem":
        return call.name in ("copy", "fill", "zero")
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    return all(isinstance(i, (slice, type(...))) and i in _WHOLE for i in index)


def _copied(call: Call, target: torch.Tensor) -> Tag:
    """What is known of a tensor that holds nothing but the last argument."""
    if call.name == "setitem":
        source = call.args[2]
    else:
        source = call.get("value", call.get("src", 0))
    tag = call.tag(source)
    if tag is None:
        known = isinstance(source, (int, float)) and target.is_floating_point()
        return call.rec.plain.but(values=_with(ValueSet(), source) if known else None)
    values = tag.values
    if target.dtype != source.dtype:
        values = CURRENT if values is CURRENT and target.is_floating_point() else None
    return tag.but(synapse=None, values=_subset(values))


def convert(call: Call) -> Tag:
    """Conversions: spikes stay spikes; other values may be rounded and are read again."""
    x, out = call.args[0] if call.args else call["input"], call.run()
    tag = call.tag(x)
    if tag is None:
        return call.rec.fixed
    if not isinstance(out, torch.Tensor):  # x.type(): a name
        return tag
    if not out.is_floating_point() and (tag.values is None or tag.values is CURRENT):
        call.rec.compared(x)
    if out is x or (tag.values is not None and tag.values.values in MASKS):
        return tag
    whole = not out.is_floating_point()
    if tag.values is not None and tag.values.counts and out.dtype != torch.bool:
        return tag
    return tag.but(values=CURRENT if tag.values is CURRENT and not whole else None)


def interpolate(call: Call) -> Tag:
    """Nearest-neighbour resizing copies elements; any other mode is arithmetic that no rule covers."""
    mode = call.get("mode", "nearest")
    if mode.startswith("nearest"):
        return part(call)
    call.rec.uncounted(f"interpolate ({mode})", call.run())
    return call.known()
