"""Counting rules of pooling."""

from __future__ import annotations

import math

import torch

from snn_energy.profiling.call import Call
from snn_energy.profiling.elementwise import MASKS
from snn_energy.profiling.fanout import FanOut, Window, adaptive_taps, taps
from snn_energy.profiling.provenance import Tag
from snn_energy.profiling.recorder import fan_weights
from snn_energy.profiling.synapses import per_axis
from snn_energy.profiling.tally import Reading


def avg_pool(call: Call) -> Tag:
    """avg_pool1d/2d/3d, adaptive or not: one accumulate per event and window, one multiply per output.

    With a divisor of 1 it is a sum, which multiplies nothing.
    """
    x, out, row = call["input"], call.run(), call.row("avg_pool")
    fan, axes = windows(call, out)
    values = call.values(x, row.left)
    row.see_left(values)
    maps_in = x if x.dim() > axes + 1 else x.unsqueeze(0)
    maps, _ = call.rec.maps(maps_in, values)
    events, inputs = (fan_weights(fan, x.device) @ maps.double().T).unbind()
    shape, order = tuple(maps_in.shape[:1]), call.order
    row.read("events", Reading(shape, events, order=order))
    row.read("input", Reading(shape, inputs, order=order))
    row.read("valid", Reading(shape, None, fan.total * maps_in.shape[1], order=order))
    scaled = 0 if call.get("divisor_override") == 1 else out.numel()
    row.add(input_elements=x.numel(), output_elements=out.numel(), scale_muls=scaled)
    call.describe(row, x, out, fan_out=fan.total / math.prod(x.shape[-axes:]))
    known = call.known(row=row)
    row.merge_sources(known.sources)
    return known


def max_pool(call: Call) -> Tag | tuple[Tag, ...]:
    """max_pool1d/2d/3d, adaptive or not: one comparison less than elements in the window, per output."""
    x, out, row = call["input"], call.run(), call.row("max_pool")
    pooled = out[0] if isinstance(out, tuple) else out
    fan, axes = windows(call, pooled)
    channels = x.numel() // math.prod(x.shape[-axes:])
    row.add(pool_cmp=fan.total * channels - pooled.numel())
    row.add(input_elements=x.numel(), output_elements=pooled.numel())
    call.describe(row, x, pooled)
    tag = call.tag(x)
    values = None if tag is None else tag.values
    kept = values is not None and (values.counts or values.values in MASKS)
    known = call.known(values if kept else None, row=row)
    row.merge_sources(known.sources)
    return known if pooled is out else (known, call.known(row=row, event=True))  # and their places


def windows(call: Call, out: torch.Tensor) -> tuple[FanOut, int]:
    """The windows of a pooling call: how many outputs each input position goes into; spatial axes."""
    name, x = call.name, call["input"]
    axes = int(name.removesuffix("_with_indices").rstrip("d")[-1])
    sizes, outputs = tuple(x.shape[-axes:]), tuple(out.shape[-axes:])
    if name.startswith("adaptive"):
        return FanOut(tuple(adaptive_taps(s, o) for s, o in zip(sizes, outputs, strict=True)), 1), axes
    kernel = per_axis(call["kernel_size"], axes)
    stride = per_axis(call.get("stride") or kernel, axes)
    padding, dilation = per_axis(call.get("padding", 0), axes), per_axis(call.get("dilation", 1), axes)
    axis_windows = zip(sizes, kernel, stride, padding, dilation, outputs, strict=True)
    return FanOut(tuple(taps(Window(*w)) for w in axis_windows), 1), axes
