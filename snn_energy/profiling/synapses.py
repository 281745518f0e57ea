"""Counting rules of layers with weights: convolutions and linear layers."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from snn_energy.profiling.fanout import FanOut, Geometry, geometry
from snn_energy.profiling.products import contract, matmul_letters
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.recorder import Recorder, fan_weights
from snn_energy.profiling.tally import Tally

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_ATTRIBUTES = (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


def bind(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Positional and named arguments as one dictionary."""
    given = dict(zip(names, args, strict=False))
    given.update(kwargs)
    return given


def per_axis(value: Any, axes: int) -> tuple[int, ...]:
    """An int or a short sequence as one int per spatial axis."""
    if isinstance(value, int):
        return (value,) * axes
    value = tuple(value)
    return value * axes if len(value) == 1 else value


def conv(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """conv1d/2d/3d: every event costs one accumulate per existing tap and output channel of its group."""
    out = func(*args, **kwargs)
    given = bind(_CONV, args, kwargs)
    x, weight = given["input"], given["weight"]
    axes = weight.dim() - 2
    shape = _convolution(
        tuple(x.shape[-axes:]),
        tuple(out.shape[-axes:]),
        tuple(weight.shape),
        *(_hashable(given.get(name, default)) for name, default in _ATTRIBUTES),
    )
    _weighted(rec, f"conv{axes}d", x, out, given, shape.fan, shape.dense, shape.details)
    return out


@functools.lru_cache(maxsize=1024)
def _convolution(
    sizes: tuple[int, ...],
    outputs: tuple[int, ...],
    weight: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Geometry:
    """The geometry of a convolution whose attributes are as they were given."""
    axes = len(weight) - 2
    dilation = per_axis(dilation, axes)
    if padding == "same":
        before = tuple(d * (k - 1) // 2 for d, k in zip(dilation, weight[2:], strict=True))
    else:
        before = per_axis(0 if padding == "valid" else padding, axes)
    return geometry(sizes, outputs, weight, per_axis(stride, axes), before, dilation, groups)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def conv_transpose(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """conv_transpose1d/2d/3d: an event reaches kernel taps that padding does not crop away."""
    out = func(*args, **kwargs)
    given = bind(_TRANSPOSED, args, kwargs)
    x, weight = given["input"], given["weight"]
    axes = weight.dim() - 2
    stride, dilation = per_axis(given.get("stride", 1), axes), per_axis(given.get("dilation", 1), axes)
    before, groups = per_axis(given.get("padding", 0), axes), given.get("groups", 1)
    sizes, outputs = tuple(x.shape[-axes:]), tuple(out.shape[-axes:])
    shape = geometry(sizes, outputs, tuple(weight.shape), stride, before, dilation, groups, transposed=True)
    _weighted(rec, f"conv_transpose{axes}d", x, out, given, shape.fan, shape.dense, shape.details)
    return out


def linear(rec: Recorder, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """linear: fan-out is the number of output features."""
    out = func(*args, **kwargs)
    given = bind(("input", "weight", "bias"), args, kwargs)
    if rec.tag(given["weight"]) is not None:  # a weight that depends on the input
        contract(
            rec,
            given["input"],
            given["weight"],
            out,
            matmul_letters(given["input"].dim(), 2, transposed=True),
        )
        return out
    weighted_linear(rec, given["input"], out, given["weight"], given.get("bias"))
    return out


def weighted_linear(
    rec: Recorder, x: torch.Tensor, out: torch.Tensor, weight: torch.Tensor, bias: Any, variant: str = ""
) -> None:
    """Count out = x·Wᵀ + b; `variant` tells layers apart that one function holds."""
    given = {"weight": weight, "bias": bias}
    fan = _fan_of_linear(weight.shape[0])
    _weighted(rec, "linear", x, out, given, fan, weight.numel(), {}, variant)


@functools.cache
def _fan_of_linear(outputs: int) -> FanOut:
    return FanOut((), outputs)


def _weighted(
    rec: Recorder,
    op: str,
    x: torch.Tensor,
    out: torch.Tensor,
    given: dict[str, Any],
    fan: FanOut,
    dense: int,
    details: dict[str, Any],
    variant: str = "",
) -> None:
    """Count a layer with weights; `dense` MACs per (sample, step), or per row of a linear layer."""
    weight, bias = given["weight"], given.get("bias")
    tag, tally = rec.tag(x) or rec.plain, rec.tally(op, variant)
    spatial = len(fan.axes)
    batched = x if x.dim() > spatial + 1 or op == "linear" else x.unsqueeze(0)
    values = rec.values(x, tag, tally.left)
    lead = rec.layout.leading(x.shape) if op == "linear" else 1
    if not tally.fixed:
        tally.fixed = {
            "input_shape": rec.layout.inner(batched.shape, lead),
            "output_shape": rec.layout.inner(out.shape, lead),
            "fan_out": dense * _rows(batched, op) / x.numel(),
            "weight_elements": weight.numel(),
            "bias_elements": 0 if bias is None else bias.numel(),
            "details": dict(details),
        }
    tally.see_left(values)
    tally.merge_sources(tag.sources)
    _events(rec, tally, batched, tag, values, fan, lead)
    rows = _rows(batched, op)
    shape = tuple(batched.shape[:lead])
    per_lead = rows // math.prod(shape) if shape else rows
    channels = 1 if op == "linear" else batched.shape[1]
    features = batched.shape[-1] if op == "linear" else 1
    tally.read("valid", shape, None, fan.total * channels * features * per_lead)
    tally.add(
        dense_macs=dense * rows,
        input_elements=x.numel(),
        output_elements=out.numel(),
        bias_adds=0 if bias is None else out.numel(),
    )
    static = repeats(rec, tally, batched, tag, shape)
    rec.mark(out, Tag(rec.epoch, drivers=(tally,), synapse=tally, static=static))


def _rows(x: torch.Tensor, op: str) -> int:
    return x.numel() // x.shape[-1] if op == "linear" else x.shape[0]


def _events(
    rec: Recorder, tally: Tally, x: torch.Tensor, tag: Tag, values: Any, fan: FanOut, lead: int
) -> None:
    """Σ fan-out over nonzero inputs, and the nonzeros themselves."""
    uniform = fan.uniform
    if uniform is not None:
        shape, rows = rec.rows(x, tag, values, lead)
        tally.read("events", shape, rows, uniform)
        tally.read("input", shape, rows)
        return
    events, inputs = (fan_weights(fan, x.device) @ rec.maps(x, tag, values).double().T).unbind()
    shape = tuple(x.shape[:1])
    tally.read("events", shape, events)
    tally.read("input", shape, inputs)


def repeats(rec: Recorder, tally: Tally, x: torch.Tensor, tag: Tag, lead: tuple[int, ...]) -> bool:
    """Whether `x` is the network's input, the same at every step; by value where it comes from the input."""
    if not tag.static and tag.sources != ("input",):
        tally.repeats.append(False)
        return False
    batch, steps = rec.layout.batch, rec.layout.steps
    groups = rec.layout.split(lead)
    if groups is None and steps is None and lead and lead[0] % batch == 0:
        groups = lead[0] // batch
    if tag.static:
        same = True
    elif groups is None:
        tally.repeats.append(False)
        return False
    elif groups > 1:
        frames = x.reshape(groups, -1)
        same = all(torch.equal(frames[0], frame) for frame in frames[1:])
    else:
        if tally.first_input is None:
            tally.first_input = x
        same = x is tally.first_input or torch.equal(tally.first_input, x)
    tally.repeats.extend([same] * (groups or 1))
    return same
