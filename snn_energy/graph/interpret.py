"""`run`: execute a `Graph` with torch, node by node, so that tests can hold it against its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from snn_energy.errors import DataError, UnsupportedOp
from snn_energy.graph import nodes as n
from snn_energy.graph.dims import show, value, values
from snn_energy.graph.graph import Graph
from snn_energy.graph.nodes import Node


def run(
    graph: Graph,
    *inputs: Any,
    dtype: torch.dtype = torch.float32,
    forced: Mapping[str, Tensor] | None = None,
    functions: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
) -> dict[str, Tensor]:
    """Every node's tensor by name, for inputs in the order of `graph.inputs`.

    `run(graph, x)[graph.outputs[0]]` are the logits, `run(graph, x)["block.0.attn.q_lif"]` the spikes (T, B,
    ...) of a neuron.  `dtype`: the arithmetic; `forced`: tensors that stand for what nodes would compute;
    `functions`: what nodes with one input, by name, do instead of their rule.  Raises `DataError` for an
    input of another shape than the graph's.
    """
    tensors = [torch.as_tensor(x).to(dtype) for x in inputs]
    batch = check_inputs(graph, [tuple(t.shape) for t in tensors])
    held = dict(zip((node.name for node in graph.inputs), tensors, strict=True))
    held |= {name: tensor.to(dtype) for name, tensor in (forced or {}).items()}
    with torch.no_grad():
        for node in graph:
            if node.name not in held:
                if functions and node.name in functions:
                    held[node.name] = functions[node.name](held[node.inputs[0]])
                    continue
                shape = values(node.shape, graph.time_steps, batch)
                held[node.name] = execute(node, [held[name] for name in node.inputs], shape, dtype)
    return held


def membrane(node: Node, x: Tensor, spikes: Tensor) -> tuple[Tensor, float]:
    """H (T, B, ...), the membrane just before firing, of a neuron that receives x and fired `spikes`; its
    threshold.

    Of a `Neuron`, what its last node compares; it is run by its own spikes.
    """
    if isinstance(node, n.Neuron):
        fire = node.body[node.body.outputs[0]]
        return run(node.body, x, dtype=x.dtype)[fire.inputs[0]], fire.threshold
    if isinstance(node, n.Heaviside):
        return x, node.threshold
    assert isinstance(node, n.Lif | n.If)
    rest = node.v_reset or 0.0
    v = torch.full_like(x[0], rest)
    charged = []
    for current, s in zip(x, spikes.to(x.dtype), strict=True):
        h = _charge(node, current, v, rest)
        v = _after(node, h, s, rest)
        charged.append(h)
    return torch.stack(charged), node.v_threshold


def check_inputs(graph: Graph, shapes: list[tuple[int, ...]]) -> int:
    """The batch size.  Raises `DataError` where shapes are not those of the graph's inputs."""
    expected = [node.shape for node in graph.inputs]
    if len(shapes) != len(expected):
        raise DataError(f"{len(shapes)} inputs; the graph has {len(expected)}")
    batch = next(
        (s[i] for s, e in zip(shapes, expected, strict=True) for i, d in enumerate(e[: len(s)]) if d == "B"),
        1,
    )
    for node, shape, dims in zip(graph.inputs, shapes, expected, strict=True):
        if len(shape) != len(dims) or shape != values(dims, graph.time_steps, batch):
            steps = f", T = {graph.time_steps}" if any("T" in str(d) for d in dims) else ""
            raise DataError(f"input {node.name!r} has shape {shape}; expected {show(dims)}{steps}")
    return batch


def execute(node: Node, inputs: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """One node on its inputs; `shape` is its output's, as numbers."""
    if isinstance(node, n.Constant):
        return torch.from_numpy(node.value).to(dtype)
    if type(node) not in RULES:
        raise UnsupportedOp(
            node.name, node.op, supported=", ".join(k.__name__ for k in RULES), way_out="add a rule"
        )
    return RULES[type(node)](node, inputs, shape)


def _weight(a: np.ndarray, x: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(a)).to(x.dtype)


def _bias(a: np.ndarray | None, x: Tensor) -> Tensor | None:
    return None if a is None else _weight(a, x)


def _images(function: Callable[..., Tensor], rank: int) -> Callable[[Tensor], Tensor]:
    """Apply a function of (N, C, *space) to (..., C, *space)."""

    def apply(x: Tensor) -> Tensor:
        leading = x.shape[: -rank - 1]
        y = function(x.reshape(-1, *x.shape[-rank - 1 :]))
        return y.reshape(*leading, *y.shape[1:])

    return apply


def _conv(node: n.Conv, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    rank = node.weight.ndim - 2
    function: Any = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    weight, bias = _weight(node.weight, inputs[0]), _bias(node.bias, inputs[0])
    settings = (node.stride, node.padding, node.dilation, node.groups)
    return _images(lambda x: function(x, weight, bias, *settings), rank)(inputs[0])


def _conv_transpose(node: n.ConvTranspose, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    rank = node.weight.ndim - 2
    function: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    weight, bias = _weight(node.weight, inputs[0]), _bias(node.bias, inputs[0])
    settings = (node.stride, node.padding, node.output_padding, node.groups, node.dilation)
    return _images(lambda x: function(x, weight, bias, *settings), rank)(inputs[0])


def _norm(node: n.Norm, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    x = inputs[0]
    flat = x.reshape(-1, *x.shape[node.axis :])  # channels second, as torch wants them
    if node.axis == 0:
        raise ValueError(f"{node.name}: a norm along the first axis")
    parts = (_weight(a, x) for a in (node.mean, node.var, node.weight, node.bias))
    mean, var, weight, bias = parts
    return F.batch_norm(flat, mean, var, weight, bias, False, 0.0, node.eps).reshape(x.shape)


def _max_pool(node: n.MaxPool, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(node.kernel) - 1]
    settings = (node.kernel, node.stride, node.padding, node.dilation, node.ceil_mode)
    return _images(lambda x: function(x, *settings), len(node.kernel))(inputs[0])


def _avg_pool(node: n.AvgPool, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    function: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(node.kernel) - 1]
    settings = (node.kernel, node.stride, node.padding, node.ceil_mode, node.count_include_pad)
    return _images(lambda x: function(x, *settings), len(node.kernel))(inputs[0])


def _adaptive(node: n.AdaptiveAvgPool, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    function: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(node.size) - 1]
    return _images(lambda x: function(x, node.size), len(node.size))(inputs[0])


def _neuron(node: n.Lif | n.If, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    rest = node.v_reset or 0.0
    v = torch.full_like(inputs[0][0], rest)
    spikes = []
    for x in inputs[0]:
        h = _charge(node, x, v, rest)
        s = (h >= node.v_threshold).to(h.dtype)
        v = _after(node, h, s, rest)
        spikes.append(s)
    return torch.stack(spikes)


def _filter(node: n.Filter, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    y, steps = torch.zeros_like(inputs[0][0]), []
    for x in inputs[0]:
        y = y * node.keep + (x if node.gain == 1 else x * node.gain)
        steps.append(y)
    return torch.stack(steps)


def _after(node: n.Lif | n.If, h: Tensor, s: Tensor, rest: float) -> Tensor:
    return h - s * n.falls_by(node) if node.v_reset is None else torch.where(s > 0, rest, h)


def _charge(node: n.Lif | n.If, x: Tensor, v: Tensor, rest: float) -> Tensor:
    if isinstance(node, n.If):
        return v + x

    def leak(z: Tensor) -> Tensor:
        return z * float(np.float32(1 / node.tau)) if node.learned else z / node.tau

    return v + leak(x - (v - rest)) if node.decay_input else v - leak(v - rest) + x


def _reduce(node: n.Reduce, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    function: Any = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax}[node.kind]
    return function(inputs[0], dim=node.axes, keepdim=node.keepdims)


def _scale(node: n.Scale, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    x = inputs[0] if node.factor == 1 else inputs[0] * node.factor
    return x if node.offset == 0 else x + node.offset


def _activation(node: n.Activation, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    if node.kind == "softmax":
        return inputs[0].softmax(-1)
    function: Any = (
        getattr(F, node.kind) if node.kind in ("gelu", "silu", "relu") else getattr(torch, node.kind)
    )
    return function(inputs[0])


def _heaviside(node: n.Heaviside, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    x = inputs[0]
    return (x > node.threshold if node.strict else x >= node.threshold).to(x.dtype)


def _slice(node: n.Slice, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    index = [slice(None)] * inputs[0].dim()
    index[node.axis] = slice(node.start, node.stop, node.step)
    return inputs[0][tuple(index)]


def _pad(node: n.Pad, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    pairs = [p for pair in zip(node.before[::-1], node.after[::-1], strict=True) for p in pair]
    return F.pad(inputs[0], pairs, value=node.value)


def _repeat(node: n.Repeat, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    return inputs[0].repeat([value(r, 1, 1) for r in node.repeats])


def _layer_norm(node: n.LayerNorm, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    x = inputs[0]
    return F.layer_norm(x, node.weight.shape, _weight(node.weight, x), _weight(node.bias, x), node.eps)


def _linear(node: n.Linear, inputs: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    return F.linear(inputs[0], _weight(node.weight, inputs[0]), _bias(node.bias, inputs[0]))


RULES: dict[type[Node], Callable[[Any, list[Tensor], tuple[int, ...]], Tensor]] = {
    n.Conv: _conv,
    n.ConvTranspose: _conv_transpose,
    n.Linear: _linear,
    n.MatMul: lambda node, inputs, shape: inputs[0] @ inputs[1],
    n.Norm: _norm,
    n.LayerNorm: _layer_norm,
    n.Lif: _neuron,
    n.If: _neuron,
    n.Filter: _filter,
    n.Neuron: lambda node, inputs, shape: run(node.body, inputs[0], dtype=inputs[0].dtype)[
        node.body.outputs[0]
    ],
    n.Heaviside: _heaviside,
    n.Threshold: lambda node, inputs, shape: inputs[0] * (inputs[0] >= node.threshold),
    n.MaxPool: _max_pool,
    n.AvgPool: _avg_pool,
    n.AdaptiveAvgPool: _adaptive,
    n.Add: lambda node, inputs, shape: inputs[0] + inputs[1],
    n.Sub: lambda node, inputs, shape: inputs[0] - inputs[1],
    n.Mul: lambda node, inputs, shape: inputs[0] * inputs[1],
    n.Div: lambda node, inputs, shape: inputs[0] / inputs[1],
    n.Scale: _scale,
    n.Reduce: _reduce,
    n.Activation: _activation,
    n.Reshape: lambda node, inputs, shape: inputs[0].reshape(shape),
    n.Permute: lambda node, inputs, shape: inputs[0].permute(node.order),
    n.Expand: lambda node, inputs, shape: inputs[0].expand(shape),
    n.Repeat: _repeat,
    n.Slice: _slice,
    n.Select: lambda node, inputs, shape: inputs[0].select(node.axis, node.index),
    n.Concat: lambda node, inputs, shape: torch.cat(inputs, node.axis),
    n.Stack: lambda node, inputs, shape: torch.stack(inputs, node.axis),
    n.Pad: _pad,
}
