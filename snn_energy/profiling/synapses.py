"""Counting rules of layers with weights: convolutions and linear layers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F

from snn_energy.profiling.call import Call
from snn_energy.profiling.fanout import FanOut, Geometry, geometry
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
    x, weight, out = call["input"], call["weight"], call.run()
    axes = weight.dim() - 2
    shape = _convolution(
        tuple(x.shape[-axes:]),
        tuple(out.shape[-axes:]),
        tuple(weight.shape),
        *(_hashable(call.get(name, default)) for name, default in _ATTRIBUTES),
    )
    name = f"conv{axes}d"

    def again(counts: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        given = {name: call.get(name, default) for name, default in _ATTRIBUTES}
        return getattr(F, name)(counts, kept, None, **given)

    layer = Layer(name, weight, call.get("bias"), shape.fan, shape.dense, shape.details, again)
    return weighted(call, layer, x, out)


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


def conv_transpose(call: Call) -> Tag:
    """conv_transpose1d/2d/3d: an event reaches kernel taps that padding does not crop away."""
    x, weight, out = call["input"], call["weight"], call.run()
    axes = weight.dim() - 2
    stride, dilation = per_axis(call.get("stride", 1), axes), per_axis(call.get("dilation", 1), axes)
    before, groups = per_axis(call.get("padding", 0), axes), call.get("groups", 1)
    sizes, outputs = tuple(x.shape[-axes:]), tuple(out.shape[-axes:])
    shape = geometry(sizes, outputs, tuple(weight.shape), stride, before, dilation, groups, transposed=True)
    name = f"conv_transpose{axes}d"

    def again(counts: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        extra = call.get("output_padding", 0)
        return getattr(F, name)(counts, kept, None, stride, before, extra, groups, dilation)

    layer = Layer(name, weight, call.get("bias"), shape.fan, shape.dense, shape.details, again)
    return weighted(call, layer, x, out)


def linear(call: Call) -> Tag:
    """linear: fan-out is the number of output features."""
    x, weight, out = call["input"], call["weight"], call.run()
    if call.tag(weight) is not None:  # a weight that depends on the input
        row = contract(call, x, weight, out, matmul_letters(x.dim(), 2, transposed=True))
        row.add(bias_adds=0 if call.get("bias") is None else out.numel())
        return call.known(row=row, synapse=row).but(synapse=None)
    return weighted(call, linear_layer(weight, call.get("bias")), x, out)


def linear_layer(weight: torch.Tensor, bias: torch.Tensor | None) -> Layer:
    """out = x·Wᵀ + b."""
    return Layer("linear", weight, bias, _fan_of_linear(weight.shape[0]), weight.numel(), {})


@functools.cache
def _fan_of_linear(outputs: int) -> FanOut:
    return FanOut((), outputs)


@dataclass(frozen=True)
class Layer:
    """A layer with weights; `dense` MACs per (sample, step), or per row of a linear layer."""

    op: str
    weight: torch.Tensor
    bias: torch.Tensor | None
    fan: FanOut
    dense: int
    details: dict[str, Any]
    convolve: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None  # other inputs and weights

    @property
    def is_linear(self) -> bool:
        """A linear layer's input may have any leading dimensions."""
        return self.op == "linear"


def weighted(call: Call, layer: Layer, x: torch.Tensor, out: torch.Tensor, variant: str = "") -> Tag:
    """Count a layer with weights; `variant` tells layers apart that one function holds."""
    rec, tag, row = call.rec, call.tag(x) or call.rec.plain, call.row(layer.op, variant)
    batched = x if layer.is_linear or x.dim() > len(layer.fan.axes) + 1 else x.unsqueeze(0)
    values = rec.values(x, tag, row.left)
    lead = rec.layout.leading(x.shape, tag.order) if layer.is_linear else 1
    shape, rows = tuple(batched.shape[:lead]), batched.shape[0]
    if layer.is_linear:
        rows = x.numel() // x.shape[-1]
    if not row.fixed:
        row.fixed = {
            "input_shape": rec.layout.inner(batched.shape, lead, tag.order),
            "output_shape": rec.layout.inner(out.shape, lead, tag.order),
            "fan_out": layer.dense * rows / max(1, x.numel()),
            "weight_elements": layer.weight.numel(),
            "bias_elements": 0 if layer.bias is None else layer.bias.numel(),
            "details": dict(layer.details),
        }
    row.see_left(values)
    row.merge_sources(tag.sources)
    _events(rec, row, batched, tag, values, layer.fan, lead)
    per_lead = rows // max(1, math.prod(shape))
    width = batched.shape[-1] if layer.is_linear else batched.shape[1]
    row.read("valid", Reading(shape, None, layer.fan.total * width * per_lead, order=tag.order))
    if zeros_in(layer.weight):
        pruned(rec, row, layer, batched, tag, values, lead)
    row.add(
        dense_macs=layer.dense * rows,
        input_elements=x.numel(),
        output_elements=out.numel(),
        bias_adds=0 if layer.bias is None else out.numel(),
    )
    repeats(rec, row, batched, tag, shape)
    return call.known(row=row, synapse=row, order=tag.order)


def _events(rec: Recorder, row: Tally, x: torch.Tensor, tag: Tag, values: ValueSet, fan: FanOut, lead: int) -> None:
    """Σ fan-out over nonzero inputs, and the nonzeros themselves; unit events beside both."""
    uniform = fan.uniform
    if uniform is not None:
        counts = rec.rows(x, tag, values, lead)
        row.read("input", counts)
        row.read("events", replace(counts, factor=uniform))
        return
    maps, units = rec.maps(x, tag, values)
    reach = fan_weights(fan, x.device)
    (events, inputs), shape, unit = reach @ maps.double().T, tuple(x.shape[:1]), values.unit or 1.0
    graded = (None, None) if units is None else reach @ units.double().T
    row.read("events", Reading(shape, events, 1, unit, graded[0], tag.order))
    row.read("input", Reading(shape, inputs, 1, unit, graded[1], tag.order))
