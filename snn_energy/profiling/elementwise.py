"""Counting rules of elementwise operations, reductions, pooling and norms."""

from __future__ import annotations

import math
from typing import Any

import torch

from snn_energy.profiling.fanout import FanOut, Window, adaptive_taps, taps
from snn_energy.profiling.kinds import BINARY, EMPTY, ValueSet
from snn_energy.profiling.measure import ones_where_nonzero, row_counts
from snn_energy.profiling.provenance import Tag, replace, union
from snn_energy.profiling.recorder import Recorder, fan_weights
from snn_energy.profiling.synapses import bind, per_axis
from snn_energy.profiling.tally import Tally

MASKS = (BINARY.values, EMPTY.values)


def _describe(tally: Tally, rec: Recorder, x: torch.Tensor, out: torch.Tensor, **more: Any) -> None:
    if not tally.fixed:
        tally.fixed = {
            "input_shape": rec.layout.inner(x.shape, rec.layout.leading(x.shape)),
            "output_shape": rec.layout.inner(out.shape, rec.layout.leading(out.shape)),
            **more,
        }


def _after(rec: Recorder, tag: Tag | None, values: ValueSet | None = None) -> Tag:
    """What remains known of a tensor after an operation that keeps its elements in place."""
    tag = tag or rec.still
    return Tag(rec.epoch, sources=tag.sources, drivers=tag.drivers, static=tag.static, values=values)


def two_operands(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The operands of a binary function, in the order of its arithmetic."""
    if len(args) < 2:
        args = (*args, *(kwargs[k] for k in ("input", "other", "tensor", "exponent") if k in kwargs))
    a, b = args[:2]
    return (b, a) if func.__name__.startswith("__r") or func.__name__ == "rsub" else (a, b)


def add(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """add, sub: an accumulate where both operands are nonzero; a real one counts as nonzero everywhere."""
    a, b = two_operands(rec, func, args, kwargs)
    tags = rec.tag(a), rec.tag(b)
    tally = rec.tally("add")
    sets = rec.values(a, tags[0], tally.left), rec.values(b, tags[1], tally.right)
    tally.see_left(sets[0])
    tally.see_right(sets[1])
    events = [values is not None and values.event_driven for values in (tally.left, tally.right)]
    shape = _broadcast(a, b)
    lead = rec.layout.leading(shape)
    for name, x, tag, values, event in zip(("left", "right"), (a, b), tags, sets, events, strict=True):
        if event:
            tally.read(name, *_rows_within(rec, x, tag, values, shape, lead))
    if all(events):
        both = ones_where_nonzero(a, sets[0]) * ones_where_nonzero(b, sets[1])
        tally.read("coincident", shape[:lead], row_counts(both, lead))
    out = func(*args, **kwargs)  # only now: an in-place addition changes its operand
    _uniform(tally, out, shape[:lead])
    _describe(tally, rec, a if isinstance(a, torch.Tensor) else b, out)
    if kwargs.get("alpha", 1) != 1:
        tally.add(scale_muls=out.numel())
    rec.mark(out, _joined(rec, tags, tally))
    return out


def _broadcast(a: Any, b: Any) -> tuple[int, ...]:
    """The shape of what two operands make."""
    shapes = [tuple(x.shape) for x in (a, b) if isinstance(x, torch.Tensor)]
    if len(shapes) == 1 or shapes[0] == shapes[1]:
        return shapes[0]
    longest = max(map(len, shapes))
    padded = [(1,) * (longest - len(shape)) + shape for shape in shapes]
    return tuple(n if m == 1 else m for m, n in zip(*padded, strict=True))


def _rows_within(
    rec: Recorder, x: torch.Tensor, tag: Tag | None, values: ValueSet, shape: tuple[int, ...], lead: int
) -> tuple[tuple[int, ...], torch.Tensor]:
    """Nonzeros of `x`, broadcast to `shape`, per leading index: (leading shape, flat counts)."""
    if x.shape == shape:
        return rec.rows(x, tag, values, lead)
    x = x.reshape((1,) * (len(shape) - x.dim()) + x.shape)
    times = math.prod(shape[lead:]) // math.prod(x.shape[lead:])
    rows = row_counts(ones_where_nonzero(x, values), lead) * times
    return shape[:lead], rows.reshape(x.shape[:lead]).expand(shape[:lead]).reshape(-1)


def _joined(rec: Recorder, tags: tuple[Tag | None, Tag | None], tally: Tally, values: Any = None) -> Tag:
    """The tag of what two operands make together."""
    a, b = tags[0] or rec.still, tags[1] or rec.still
    sources = union(a.sources, b.sources)
    tally.merge_sources(sources)
    drivers = union(a.drivers, b.drivers)
    return Tag(rec.epoch, sources=sources, drivers=drivers, static=a.static and b.static, values=values)


def _uniform(tally: Tally, out: torch.Tensor, shape: tuple[int, ...]) -> None:
    """One candidate operation per output element."""
    tally.read("valid", shape, None, out.numel() // math.prod(shape))
    tally.add(input_elements=out.numel(), right_elements=out.numel(), output_elements=out.numel())


def mul(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """mul, div: by a constant a scale; events × anything a mask (free); real × real one MAC per element."""
    a, b = two_operands(rec, func, args, kwargs)
    tags = rec.tag(a), rec.tag(b)
    if None in tags:
        return scale(rec, func, args, kwargs)
    tally = rec.tally("mul")
    sets = rec.values(a, tags[0], tally.left), rec.values(b, tags[1], tally.right)
    tally.see_left(sets[0])
    tally.see_right(sets[1])
    out = func(*args, **kwargs)
    _uniform(tally, out, tuple(out.shape[: rec.layout.leading(out.shape)]))
    _describe(tally, rec, a, out)
    known = BINARY if all(values.values in MASKS for values in sets) else None
    rec.mark(out, _joined(rec, tags, tally, known))
    return out


def square(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """x²: the product of a tensor with itself."""
    x = args[0] if args else kwargs["input"]
    tag, tally = rec.tag(x), rec.tally("mul")
    values = rec.values(x, tag, tally.left)
    tally.see_left(values)
    tally.see_right(values)
    out = func(*args, **kwargs)
    _uniform(tally, out, tuple(out.shape[: rec.layout.leading(out.shape)]))
    _describe(tally, rec, x, out)
    rec.mark(out, _joined(rec, (tag, tag), tally))
    return out


def mask(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """&, |, ^: logic on spikes, free of arithmetic."""
    if None not in (rec.tag(args[0]), rec.tag(args[1])):
        return mul(rec, func, args, kwargs)
    out = func(*args, **kwargs)
    rec.mark(out, rec.plain)
    return out


def scale(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Activations × constants: one multiply per element, foldable into a threshold or a weight."""
    out = func(*args, **kwargs)
    live = next(
        x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor) and rec.tag(x) is not None
    )
    tag = rec.tag(live)
    tally = rec.tally("scale")
    tally.add(scale_muls=out.numel(), input_elements=live.numel(), output_elements=out.numel())
    tally.merge_sources(tag.sources if tag else ())
    _describe(tally, rec, live, out)
    rec.mark(out, _after(rec, tag))
    return out


def reduce(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """sum, mean: one accumulate per event, or per element of a real operand; a mean scales its output."""
    out = func(*args, **kwargs)
    x = args[0] if args else kwargs["input"]
    op = func.__name__.strip("_")
    tag, tally = rec.tag(x), rec.tally(op)
    values = rec.values(x, tag, tally.left)
    tally.see_left(values)
    shape = tuple(x.shape[: rec.layout.leading(x.shape)])
    tally.read("valid", shape, None, x.numel() // math.prod(shape))
    if tally.left is not None and tally.left.event_driven:
        shape, rows = rec.rows(x, tag, values, len(shape))
        tally.read("events", shape, rows)
        tally.read("input", shape, rows)
    tally.add(input_elements=x.numel(), output_elements=out.numel())
    tally.add(scale_muls=out.numel() if op == "mean" else 0)
    tally.merge_sources(tag.sources if tag else ())
    _describe(tally, rec, x, out)
    rec.mark(out, _after(rec, tag))
    return out


def avg_pool(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """avg_pool1d/2d/3d, adaptive or not: one accumulate per event and window, one multiply per output."""
    out = func(*args, **kwargs)
    fan, x, axes = _windows(func.__name__, out, args, kwargs)
    tag, tally = rec.tag(x), rec.tally("avg_pool")
    values = rec.values(x, tag, tally.left)
    tally.see_left(values)
    batched = x if x.dim() > axes + 1 else x.unsqueeze(0)
    events, inputs = (fan_weights(fan, x.device) @ rec.maps(batched, tag, values).double().T).unbind()
    shape = tuple(batched.shape[:1])
    tally.read("events", shape, events)
    tally.read("input", shape, inputs)
    tally.read("valid", shape, None, fan.total * batched.shape[1])
    tally.add(input_elements=x.numel(), output_elements=out.numel(), scale_muls=out.numel())
    tally.merge_sources(tag.sources if tag else ())
    _describe(tally, rec, x, out, fan_out=fan.total / math.prod(x.shape[-axes:]))
    rec.mark(out, _after(rec, tag))
    return out


def max_pool(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """max_pool1d/2d/3d, adaptive or not: one comparison less than elements in the window, per output."""
    out = func(*args, **kwargs)
    pooled = out[0] if isinstance(out, tuple) else out
    fan, x, axes = _windows(func.__name__, pooled, args, kwargs)
    tag, tally = rec.tag(x), rec.tally("max_pool")
    channels = x.numel() // math.prod(x.shape[-axes:])
    tally.add(pool_cmp=fan.total * channels - pooled.numel())
    tally.add(input_elements=x.numel(), output_elements=pooled.numel())
    tally.merge_sources(tag.sources if tag else ())
    _describe(tally, rec, x, pooled)
    rec.mark(out, _after(rec, tag, tag.values if tag and tag.values and tag.values.values in MASKS else None))
    return out


_POOL = ("input", "kernel_size", "stride", "padding")


def _windows(name: str, out: torch.Tensor, args: Any, kwargs: Any) -> tuple[FanOut, torch.Tensor, int]:
    """The windows of a pooling call: how many outputs each input position goes into."""
    axes = int(name.removesuffix("_with_indices").rstrip("d")[-1])
    given = bind(_POOL, args, kwargs)
    x = given["input"]
    sizes, outputs = tuple(x.shape[-axes:]), tuple(out.shape[-axes:])
    if name.startswith("adaptive"):
        return FanOut(tuple(adaptive_taps(s, o) for s, o in zip(sizes, outputs, strict=True)), 1), x, axes
    kernel = per_axis(given["kernel_size"], axes)
    stride = per_axis(given.get("stride") or kernel, axes)
    dilation = args[4] if name.startswith("max") and len(args) > 4 else kwargs.get("dilation", 1)
    windows = zip(
        sizes,
        kernel,
        stride,
        per_axis(given.get("padding", 0), axes),
        per_axis(dilation, axes),
        outputs,
        strict=True,
    )
    return FanOut(tuple(taps(Window(*w)) for w in windows), 1), x, axes


def norm(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Norms: batch norm right behind a synapse is folded into it; any other is one MAC per element."""
    out = func(*args, **kwargs)
    name = func.__name__.strip("_")
    x = args[0] if args else kwargs["input"]
    tag, tally = rec.tag(x), rec.tally("norm")
    names = ("input", "running_mean", "running_var", "weight", "bias", "training")
    fixed_statistics = name == "batch_norm" and not bind(names, args, kwargs).get("training", False)
    folded = fixed_statistics and tag is not None and tag.synapse is not None
    tally.folded = folded if tally.folded is None else tally.folded and folded
    tally.add(norm_elements=x.numel(), norm_macs=0 if folded else x.numel())
    tally.add(input_elements=x.numel(), output_elements=out.numel())
    _describe(tally, rec, x, out, details={"function": name})
    after = tag or rec.plain
    rec.mark(out, Tag(rec.epoch, drivers=after.drivers, static=after.static))
    return out


def compare(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """ReLU, clamp, >, maximum, amax …: one comparison per element."""
    x = next(t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor) and rec.tag(t) is not None)
    tag, elements = rec.tag(x), x.numel()
    tally = rec.tally("compare", func.__name__)
    out = func(*args, **kwargs)
    tally.add(pool_cmp=elements, input_elements=elements)
    tally.fixed.setdefault("details", {"function": func.__name__.strip("_")})
    is_mask = isinstance(out, torch.Tensor) and out.dtype == torch.bool
    rec.mark(out, _after(rec, tag, BINARY if is_mask else None))
    return out


def special(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """exp, softmax, GELU …: elements evaluated, in their own column."""
    x = next(t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor) and rec.tag(t) is not None)
    tag, elements = rec.tag(x), x.numel()
    tally = rec.tally("special", func.__name__)
    out = func(*args, **kwargs)
    tally.add(special_evals=elements, input_elements=elements)
    tally.fixed.setdefault("details", {"function": func.__name__.strip("_")})
    rec.mark(out, replace(_after(rec, tag), sources=()))
    return out
