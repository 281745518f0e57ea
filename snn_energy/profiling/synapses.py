"""Counting rules of layers with weights: convolutions and linear layers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from snn_energy.profiling.call import Call
from snn_energy.profiling.fanout import FanOut, geometry
from snn_energy.profiling.kinds import ValueSet
from snn_energy.profiling.products import contract, matmul_letters
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.pruning import pruned, zeros_in
from snn_energy.profiling.recorder import Recorder, fan_weights
from snn_energy.profiling.stillness import repeats
from snn_energy.profiling.tally import Reading, Tally

_ATTRIBUTES = (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))


def per_axis(value: Any, axes: int) -> tuple[int, ...]:
    """An int or a short sequence as one int per spatial axis."""
    if isinstance(value, int):
        return (value,) * axes
    value = tuple(value)
    return value * axes if len(value) == 1 else value


def conv(call: Call) -> Tag:
    """conv1d/2d/3d: every event costs one accumulate per existing tap and output channel of its group."""
    given, out = call.arguments(), call.run()
    return weighted(call, convolution(call), given["weight"], given.get("bias"), given["input"], out)


def convolution(call: Call) -> Layer:
    """The shapes of the convolution that a call makes."""
    given, out = call.arguments(), call.run()
    x, weight = given["input"], given["weight"]
    axes = weight.dim() - 2
    return _convolution_layer(
        x.shape[-axes:],
        out.shape[-axes:],
        weight.shape,
        *[_hashable(given.get(name, default)) for name, default in _ATTRIBUTES],
    )


@functools.lru_cache(maxsize=1024)
def _convolution_layer(
    sizes: tuple[int, ...],
    outputs: tuple[int, ...],
    weight: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Layer:
    """A convolution whose attributes are as they were given."""
    sizes, outputs, weight = tuple(sizes), tuple(outputs), tuple(weight)
    axes, name = len(weight) - 2, f"conv{len(weight) - 2}d"

    def again(counts: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        return getattr(F, name)(counts, kept, None, stride, padding, dilation, groups)

    taps_apart = per_axis(dilation, axes)
    if padding == "same":
        before = tuple(d * (k - 1) // 2 for k, d in zip(weight[2:], taps_apart, strict=True))
    else:
        before = per_axis(0 if padding == "valid" else padding, axes)
    shape = geometry(sizes, outputs, weight, per_axis(stride, axes), before, taps_apart, groups)
    return Layer(name, shape.fan, shape.dense, shape.details, again)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def conv_transpose(call: Call) -> Tag:
    """conv_transpose1d/2d/3d: an event reaches kernel taps that padding does not crop away."""
    layer = transposed_convolution(call)
    return weighted(call, layer, call["weight"], call.get("bias"), call["input"], call.run())


def transposed_convolution(call: Call) -> Layer:
    """The shapes of the transposed convolution that a call makes."""
    x, weight, out = call["input"], call["weight"], call.run()
    axes = weight.dim() - 2
    name, extra = f"conv_transpose{axes}d", call.get("output_padding", 0)
    stride, dilation = per_axis(call.get("stride", 1), axes), per_axis(call.get("dilation", 1), axes)
    before, groups = per_axis(call.get("padding", 0), axes), call.get("groups", 1)
    sizes, outputs = tuple(x.shape[-axes:]), tuple(out.shape[-axes:])
    shape = geometry(sizes, outputs, tuple(weight.shape), stride, before, dilation, groups, transposed=True)

    def again(counts: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        return getattr(F, name)(counts, kept, None, stride, before, extra, groups, dilation)

    return Layer(name, shape.fan, shape.dense, shape.details, again)


def linear(call: Call) -> Tag:
    """linear: fan-out is the number of output features."""
    x, weight, out = call["input"], call["weight"], call.run()
    if call.tag(weight) is not None:  # a weight that depends on the input
        row = contract(call, x, weight, out, matmul_letters(x.dim(), 2, transposed=True))
        row.add(bias_adds=0 if call.get("bias") is None else out.numel())
        return call.known(row=row, synapse=row).but(synapse=None)
    return weighted(call, linear_layer(*weight.shape), weight, call.get("bias"), x, out)


@functools.cache
def linear_layer(outputs: int, inputs: int) -> Layer:
    """out = x·Wᵀ + b, with W (outputs, inputs)."""
    return Layer("linear", FanOut((), outputs), outputs * inputs, {})


@dataclass(frozen=True)
class Layer:
    """The shapes of a layer with weights; `dense` MACs per (sample, step), or per row of a linear layer.

    `convolve`: the same convolution of other inputs with other weights; None for a linear layer.
    """

    op: str
    fan: FanOut
    dense: int
    details: dict[str, Any]
    convolve: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None

    @property
    def is_linear(self) -> bool:
        """A linear layer's input may have any leading dimensions."""
        return self.convolve is None


def weighted(
    call: Call,
    layer: Layer,
    weight: torch.Tensor,
    bias: Any,
    x: torch.Tensor,
    out: torch.Tensor,
    variant: str = "",
) -> Tag:
    """Count a layer with weights; `variant` tells layers apart that one function holds."""
    rec, tag, row = call.rec, call.tag(x) or call.rec.plain, call.row(layer.op, variant)
    rec.looked = True
    batched = x if layer.convolve is None or x.dim() > len(layer.fan.axes) + 1 else x.unsqueeze(0)
    values = rec.values(x, tag, row.left)
    row.see_left(values)
    row.merge_sources(tag.sources)
    lead = rec.layout.leading(x.shape, tag.order) if layer.convolve is None else 1
    key = layer, batched.shape, tag.order, lead, bias is None
    if row.plan is not None and row.plan.key == key:
        row.again()
    else:
        _by_shape(rec, row, key, layer, weight, bias, batched, out)
    if values.countable or not row.all_nonzero(rec.without_zeros, batched):
        _events(rec, row, batched, tag, values, layer.fan, lead)
    if zeros_in(weight):
        pruned(row, layer, weight, batched, tag, values, lead)
    repeats(rec, row, batched, tag, tuple(batched.shape[:lead]), weight)
    return call.known(row=row, synapse=row, order=tag.order)


def _by_shape(
    rec: Recorder,
    row: Tally,
    key: Any,
    layer: Layer,
    weight: torch.Tensor,
    bias: Any,
    x: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """What follows from shapes alone: the same for every call of `key`."""
    _, _, order, lead, _ = key
    shape, rows = tuple(x.shape[:lead]), x.shape[0]
    if layer.is_linear:
        rows = x.numel() // max(1, x.shape[-1])
    if not row.fixed:
        row.fixed = {
            "input_shape": rec.layout.inner(x.shape, lead, order),
            "output_shape": rec.layout.inner(out.shape, lead, order),
            "fan_out": layer.dense * rows / max(1, x.numel()),
            "weight_elements": weight.numel(),
            "bias_elements": 0 if bias is None else bias.numel(),
            "details": dict(layer.details),
        }
    width, size = x.shape[-1] if layer.is_linear else x.shape[1], max(1, math.prod(shape))
    valid = Reading(shape, None, layer.fan.total * width * (rows // size), order=order)
    sums = {
        "dense_macs": layer.dense * rows,
        "input_elements": x.numel(),
        "output_elements": out.numel(),
        "bias_adds": 0 if bias is None else out.numel(),
    }
    dense = {"events": valid, "input": Reading(shape, None, x.numel() // size, order=order)}
    row.remember(key, {"valid": valid}, sums, dense)


def _events(
    rec: Recorder, row: Tally, x: torch.Tensor, tag: Tag, values: ValueSet, fan: FanOut, lead: int
) -> None:
    """Σ fan-out over nonzero inputs, and the nonzeros themselves; unit events beside both."""
    uniform = fan.uniform
    if uniform is not None:
        counts = rec.rows(x, tag, values, lead)
        row.read("input", counts)
        row.read(
            "events", Reading(counts.lead, counts.values, uniform, counts.unit, counts.units, counts.order)
        )
        return
    maps, units = rec.maps(x, values)
    reach = fan_weights(fan, x.device)
    (events, inputs), shape, unit = reach @ maps.double().T, tuple(x.shape[:1]), values.unit or 1.0
    graded = (None, None) if units is None else reach @ units.double().T
    row.read("events", Reading(shape, events, 1, unit, graded[0], tag.order))
    row.read("input", Reading(shape, inputs, 1, unit, graded[1], tag.order))
