"""NIR's nodes without a membrane: layers, pools, a delay; each from the fields of the node.

Shapes are those of the features of one step, without time and batch.  Two shapes that differ only in axes of
length 1 are taken for the same: (C, 1, 1) in front of a linear layer of C inputs is common in files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import base
from torch import nn
from torch.nn import functional as F

from snn_energy.errors import ConfigError
from snn_energy.models.nir.neurons import NEURONS, numbers, plain

Shape = tuple[int, ...]
Built = tuple[nn.Module, Shape]  # a module, and the shape of the features that it takes


def build(node: Mapping[str, Any], shape: Shape, dt: float, shortened: bool = False) -> Built:
    """The module of a node that gets features of `shape`.

    `shortened`: a delay that waits one step less.  Raises `ConfigError` for fields that are missing, or are
    not what they should be, and for a shape that the node cannot take.
    """
    kind = node["type"]
    missing = [name for name in REQUIRED.get(kind, ()) if name not in node]
    if missing:
        raise ConfigError(f"has no {', '.join(missing)}")
    if kind in NEURONS:
        neuron = NEURONS[kind](node, dt)
        return neuron, elementwise(neuron.shape, shape)
    if kind == "Delay":
        delay = Delay(node["delay"], dt, shortened)
        return delay, elementwise(delay.shape, shape)
    return LAYERS[kind](node, shape)


def own_shape(node: Mapping[str, Any]) -> Shape | None:
    """The shape of features that a node's own fields ask for, None where they leave it open."""
    kind, weight = node["type"], np.shape(node.get("weight", 0))
    if kind in ("Affine", "Linear"):
        return weight[-1:] or None
    if kind.startswith("Conv"):
        if node.get("input_shape") is None or len(weight) < 2:
            return None
        channels = weight[1] * int(np.ravel(node.get("groups", 1))[0])
        return (channels, *(int(n) for n in np.ravel(node["input_shape"])))
    fields = [np.shape(node[name]) for name in REQUIRED.get(kind, ()) if name in node]
    widest = max(fields, key=math.prod, default=())
    return None if kind.endswith("Pool2d") or math.prod(widest) == 1 else tuple(widest)


def same(a: Shape, b: Shape) -> bool:
    """Are they one shape but for axes of length 1?"""
    return [n for n in a if n != 1] == [n for n in b if n != 1]


def elementwise(own: Shape, shape: Shape) -> Shape:
    """The shape that a node with parameters of shape `own` makes of features of `shape`."""
    if math.prod(own) == 1:
        return shape
    if same(own, shape):
        return own
    if len(own) == len(shape) and all(n in (1, m) for n, m in zip(own, shape, strict=True)):
        return shape
    raise ConfigError(f"takes {own}, gets {shape}")


def silence(x: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Zeros (B, *shape), for a step in which nothing arrives.

    They are no constant, whose products a machine would prepare once, but made from x (B, …), if from none
    of its elements: a layer that gets them runs in that step as in any other.
    """
    nothing = x.flatten(1)[:, :0].isnan().to(x.dtype)
    return F.pad(nothing, (0, math.prod(shape))).reshape(len(x), *shape)


class Threshold(nn.Module):
    """Threshold: 1 where x > threshold, else 0."""

    threshold: torch.Tensor

    def __init__(self, threshold: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > self.threshold).to(x.dtype)


class Scale(nn.Module):
    """Scale: x · scale, element by element."""

    def __init__(self, scale: torch.Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class Delay(base.MemoryModule):
    """Delay: y(t) = x(t - delay); whole steps, per element; 0 until something has arrived.

    Raises `ConfigError` for a delay that is no whole number of steps of dt seconds, or is below 0.
    """

    past: list[torch.Tensor] | None
    steps: torch.Tensor

    def __init__(self, delay: Any, dt: float, shortened: bool) -> None:
        super().__init__()
        steps = delay_steps(delay, dt) - shortened
        self.shape, self.longest = steps.shape, int(steps.max(initial=0))
        self.alike = bool((steps == self.longest).all())
        self.register_buffer("steps", torch.as_tensor(steps, dtype=torch.int64))
        self.register_memory("past", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        past = [x, *(self.past or [])]  # past[k]: k steps ago
        self.past = past[: self.longest]
        if self.alike and len(past) > self.longest:
            return past[self.longest]
        nothing = silence(x, tuple(x.shape[1:]))
        if self.alike:
            return nothing
        index = self.steps.clamp(max=len(past)).expand_as(x).unsqueeze(0)
        return torch.stack([*past, nothing]).gather(0, index).squeeze(0)


def delay_steps(delay: Any, dt: float) -> np.ndarray:
    """A delay in seconds as whole steps of dt."""
    stored = numbers(delay, "delay")
    if not np.isfinite(stored).all() or (stored < 0).any():
        raise ConfigError(f"delay = {float(stored.min()):g} s: must be 0 or more")
    steps = plain(stored / np.float64(dt), stored, lambda ratio: ratio * dt)
    odd = steps[np.abs(steps - steps.round()) > 1e-6 * np.maximum(steps, 1)]
    if odd.size:
        raise ConfigError(f"delay of {float(odd.flat[0]):g} steps of dt = {dt:g} s: must be whole steps")
    return steps.round().astype(np.int64)


def floats(node: Mapping[str, Any], name: str) -> torch.Tensor:
    """A field as a float32 tensor."""
    return torch.as_tensor(numbers(node[name], name).astype(np.float32))


def whole(node: Mapping[str, Any], name: str, axes: int, lowest: int) -> tuple[int, ...]:
    """A field as whole numbers, one per axis."""
    value = numbers(node[name], name)
    fits = value.size in (1, axes) and bool((value == np.round(value)).all() and (value >= lowest).all())
    if not fits:
        raise ConfigError(f"{name} = {value.tolist()}: must be {axes} whole numbers, {lowest:d} or more")
    return tuple(int(n) for n in np.broadcast_to(value.reshape(-1), (axes,)))


def _linear(node: Mapping[str, Any], shape: Shape) -> Built:
    """Linear and Affine: W·x (+ b) on a vector; features of as many elements are taken in their order."""
    weight = floats(node, "weight")
    if weight.dim() != 2:
        raise ConfigError(f"weight of shape {tuple(weight.shape)}, must be (outputs, inputs)")
    outputs, inputs = weight.shape
    if math.prod(shape) != inputs:
        raise ConfigError(f"takes ({inputs},), gets {shape}")
    bias = _bias(node, outputs)
    layer = nn.Linear(inputs, outputs, bias=bias is not None)
    return _filled(layer, weight, bias), (inputs,)


def _conv(axes: int) -> Callable[[Mapping[str, Any], Shape], Built]:
    kinds: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}

    def conv(node: Mapping[str, Any], shape: Shape) -> Built:
        """Conv1d and Conv2d: as torch's, on (C, N) and (C, H, W)."""
        weight = floats(node, "weight")
        if weight.dim() != axes + 2:
            raise ConfigError(f"weight of shape {tuple(weight.shape)}, must have {axes + 2} axes")
        groups = whole(node, "groups", 1, 1)[0]
        around, groups = _zeros(node, axes, groups)
        weight = _without_zeros(weight, around, groups if whole(node, "groups", 1, 1)[0] == 1 else 1)
        outputs, inputs = weight.shape[0], weight.shape[1] * groups
        takes = _map_of(shape, axes, inputs)
        padding = node["padding"]
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ConfigError(f"padding = {padding!r}: must be same, valid, or whole numbers")
        if outputs % groups:
            raise ConfigError(f"groups = {groups}: must divide the {outputs} outputs")
        bias = _bias(node, outputs)
        kernel: Any = tuple(weight.shape[2:])
        options: Any = {name: whole(node, name, axes, 1) for name in ("stride", "dilation")}
        if not isinstance(padding, str):
            sides = zip(whole(node, "padding", axes, 0), around, options["dilation"], strict=True)
            padding = tuple(p - rows * d for p, rows, d in sides)
        options |= {"padding": padding}
        layer = kinds[axes](inputs, outputs, kernel, groups=groups, bias=bias is not None, **options)
        return _filled(layer, weight, bias), takes

    return conv


def _zeros(node: Mapping[str, Any], axes: int, groups: int) -> tuple[tuple[int, ...], int]:
    """What our export says it filled up with zeros: rows on each side of a kernel, and between groups."""
    metadata = node.get("metadata") or {}
    around, between = metadata.get("zeros_around"), metadata.get("zeros_between_groups")
    sides = tuple(int(n) for n in np.ravel(around)) if around is not None else (0,) * axes
    return sides, groups if between is None else int(np.ravel(between)[0])


def _without_zeros(weight: torch.Tensor, around: tuple[int, ...], groups: int) -> torch.Tensor:
    """The kernel (O, I/groups, …) of one that was filled up."""
    for axis, rows in enumerate(around, 2):
        weight = weight.narrow(axis, rows, weight.shape[axis] - 2 * rows)
    if groups == 1:
        return weight
    blocks = zip(weight.chunk(groups, 0), range(groups), strict=True)
    return torch.cat([block.chunk(groups, 1)[group] for block, group in blocks])


def _pool(total: bool) -> Callable[[Mapping[str, Any], Shape], Built]:
    def pool(node: Mapping[str, Any], shape: Shape) -> Built:
        """SumPool2d, AvgPool2d on (C, H, W); a mean is the sum over the whole kernel's size, padding too."""
        takes = _map_of(shape, 2, None)
        window: Any = {name: whole(node, name, 2, name != "padding") for name in WINDOW}
        return nn.AvgPool2d(**window, divisor_override=1 if total else None), takes

    return pool


def _flatten(node: Mapping[str, Any], shape: Shape) -> Built:
    """Flatten: axes start_dim to end_dim of the features, batch not among them."""
    told = {"start_dim": 1, "end_dim": -1, **node}
    start, end = (whole(told, name, 1, -len(shape))[0] for name in ("start_dim", "end_dim"))
    axes = len(shape)
    if not (-axes <= start < axes and -axes <= end < axes and start % axes <= end % axes):
        raise ConfigError(f"start_dim = {start}, end_dim = {end}: no axes of features {shape}")
    return nn.Flatten(1 + start % axes, 1 + end % axes), shape


def _map_of(shape: Shape, axes: int, channels: int | None) -> Shape:
    """`shape` as (C, spatial axes…): axes of length 1 before or behind may be too many, or one too few."""
    more = len(shape) - (axes + 1)
    ways = [shape] if not more else [shape[more:], shape[:-more]] if more > 0 else [(1, *shape)]
    for found in ways:
        if len(found) == axes + 1 and same(found, shape) and channels in (None, found[0]):
            return found
    raise ConfigError(f"takes ({channels or 'C'}, {'N' if axes == 1 else 'H, W'}), gets {shape}")


def _bias(node: Mapping[str, Any], outputs: int) -> torch.Tensor | None:
    """None for a bias of zeros, which NIR's convolutions must have: it adds nothing."""
    if node["type"] == "Linear":
        return None
    bias = floats(node, "bias")
    if tuple(bias.shape) != (outputs,):
        raise ConfigError(f"bias of shape {tuple(bias.shape)}, must be ({outputs},)")
    return bias if bool((bias != 0).any()) else None


def _filled(layer: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        layer.bias = nn.Parameter(bias)
    return layer


def _per_element(
    module: type[Threshold] | type[Scale], name: str
) -> Callable[[Mapping[str, Any], Shape], Built]:
    def per_element(node: Mapping[str, Any], shape: Shape) -> Built:
        value = floats(node, name)
        return module(value), elementwise(tuple(value.shape), shape)

    return per_element


LAYERS: dict[str, Callable[[Mapping[str, Any], Shape], Built]] = {
    "Affine": _linear,
    "Linear": _linear,
    "Conv1d": _conv(1),
    "Conv2d": _conv(2),
    "Flatten": _flatten,
    "SumPool2d": _pool(True),
    "AvgPool2d": _pool(False),
    "Scale": _per_element(Scale, "scale"),
    "Threshold": _per_element(Threshold, "threshold"),
}
WINDOW = ("kernel_size", "stride", "padding")
_CONV = ("weight", "bias", "stride", "padding", "dilation", "groups")
REQUIRED: dict[str, tuple[str, ...]] = {
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "Conv1d": _CONV,
    "Conv2d": _CONV,
    "SumPool2d": WINDOW,
    "AvgPool2d": WINDOW,
    "Scale": ("scale",),
    "Threshold": ("threshold",),
    "Delay": ("delay",),
    **{kind: neuron.FIELDS for kind, neuron in NEURONS.items()},
}
SUPPORTED = ("Input", "Output", "NIRGraph", *LAYERS, "Delay", *NEURONS)
