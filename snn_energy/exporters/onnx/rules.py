"""One rule per kind of Graph node: the ONNX nodes that compute it."""

from __future__ import annotations

from typing import Any

import numpy as np

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.onnx.lif import just_below
from snn_energy.exporters.onnx.write import FLOAT, Layout, Rules, Writer
from snn_energy.graph import nodes as n
from snn_energy.graph.dims import value
from snn_energy.graph.simplify import norm_affine


def _input(w: Writer, node: n.Input) -> None:
    from onnx import helper

    w.inputs.append(helper.make_tensor_value_info(node.name, FLOAT, w.onnx_dims(node.shape)))
    w.put(node, "full")


def _constant(w: Writer, node: n.Constant) -> None:
    name = w.constant(node.value, node.name)
    w.held[node.name, "full"] = w.held[node.name, "flat"] = name


def _conv(w: Writer, node: n.Conv) -> None:
    rank = node.weight.ndim - 2
    extra = [w.constant(node.weight, f"{node.name}.weight")]
    if node.bias is not None:
        extra.append(w.constant(node.bias, f"{node.name}.bias"))
    settings = {"strides": node.stride, "dilations": node.dilation, "group": node.groups}
    kernel = node.weight.shape[2:]
    w.images(node, rank, "Conv", tuple(extra), pads=node.padding * 2, kernel_shape=kernel, **settings)


def _conv_transpose(w: Writer, node: n.ConvTranspose) -> None:
    rank = node.weight.ndim - 2
    extra = [w.constant(node.weight, f"{node.name}.weight")]
    if node.bias is not None:
        extra.append(w.constant(node.bias, f"{node.name}.bias"))
    settings = {"strides": node.stride, "dilations": node.dilation, "group": node.groups}
    padding = {"pads": node.padding * 2, "output_padding": node.output_padding}
    w.images(
        node, rank, "ConvTranspose", tuple(extra), kernel_shape=node.weight.shape[2:], **padding, **settings
    )


def _linear(w: Writer, node: n.Linear) -> None:
    source = node.inputs[0]
    layout: Layout = "flat" if w.is_timed(source) else "full"
    shape = w.flat_shape(source) if layout == "flat" else w.graph[source].shape
    x, result = w.get(source, layout), w.put(node, layout)
    if len(shape) == 2:
        extra = [w.constant(node.weight, f"{node.name}.weight")]
        if node.bias is not None:
            extra.append(w.constant(node.bias, f"{node.name}.bias"))
        w.op("Gemm", [x, *extra], result, transB=1)
        return
    product = result if node.bias is None else f"{result}:product"
    w.op("MatMul", [x, w.constant(node.weight.T, f"{node.name}.weight")], product)
    if node.bias is not None:
        w.op("Add", [product, w.constant(node.bias, f"{node.name}.bias")], result)


def _norm(w: Writer, node: n.Norm) -> None:
    after = len(node.shape) - 1 - node.axis
    scale, shift = norm_affine(node)
    column = (-1, *[1] * after)
    layout: Layout = "flat" if w.is_timed(node.name) else "full"
    factor = w.constant(scale.reshape(column).astype(np.float32), f"{node.name}.scale")
    offset = w.constant(shift.reshape(column).astype(np.float32), f"{node.name}.shift")
    result = w.put(node, layout)
    w.op("Mul", [w.get(node.inputs[0], layout), factor], f"{result}:scaled")
    w.op("Add", [f"{result}:scaled", offset], result)


def _layer_norm(w: Writer, node: n.LayerNorm) -> None:
    extra = (w.constant(node.weight, f"{node.name}.weight"), w.constant(node.bias, f"{node.name}.bias"))
    w.elementwise(node, "LayerNormalization", extra, axis=-node.weight.ndim, epsilon=node.eps)


def _max_pool(w: Writer, node: n.MaxPool) -> None:
    settings: dict[str, Any] = {"kernel_shape": node.kernel, "strides": node.stride, "pads": node.padding * 2}
    ceil = int(node.ceil_mode)
    w.images(node, len(node.kernel), "MaxPool", dilations=node.dilation, ceil_mode=ceil, **settings)


def _avg_pool(w: Writer, node: n.AvgPool) -> None:
    settings: dict[str, Any] = {"kernel_shape": node.kernel, "strides": node.stride, "pads": node.padding * 2}
    flags: dict[str, Any] = {
        "ceil_mode": int(node.ceil_mode),
        "count_include_pad": int(node.count_include_pad),
    }
    w.images(node, len(node.kernel), "AveragePool", **settings, **flags)


def _adaptive(w: Writer, node: n.AdaptiveAvgPool) -> None:
    rank = len(node.size)
    before = [value(d, w.steps, 1) for d in w.graph[node.inputs[0]].shape[-rank:]]
    if any(b % s for b, s in zip(before, node.size, strict=True)):
        why = f"adaptive average pooling of {before} to {node.size} to ONNX"
        raise UnsupportedOp(
            node.name, why, supported="sizes that divide", way_out="choose a size that divides"
        )
    kernel = tuple(b // s for b, s in zip(before, node.size, strict=True))
    w.images(node, rank, "AveragePool", kernel_shape=kernel, strides=kernel)


def _reduce(w: Writer, node: n.Reduce) -> None:
    kind = {"mean": "ReduceMean", "sum": "ReduceSum", "max": "ReduceMax"}[node.kind]
    flat = w.is_timed(node.inputs[0]) and min(node.axes) > 1
    layout: Layout = "flat" if flat else "full"
    axes = w.constant(np.asarray([a - flat for a in node.axes], np.int64))
    w.op(kind, [w.get(node.inputs[0], layout), axes], w.put(node, layout), keepdims=int(node.keepdims))


def _scale(w: Writer, node: n.Scale) -> None:
    parts = [("Mul", node.factor, 1.0), ("Add", node.offset, 0.0)]
    steps = [(kind, number) for kind, number, neutral in parts if number != neutral] or [("Add", 0.0)]
    layout = w.common(node)
    x, result = w.get(node.inputs[0], layout), w.put(node, layout)
    for kind, number in steps:
        last = (kind, number) == steps[-1]
        x = w.op(kind, [x, w.constant(np.float32(number))], result if last else f"{result}:scaled")


ACTIVATIONS = {
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "tanh": "Tanh",
    "gelu": "Gelu",
    "softmax": "Softmax",
    "neg": "Neg",
}
ACTIVATIONS |= {"sqrt": "Sqrt", "exp": "Exp", "abs": "Abs"}


def _activation(w: Writer, node: n.Activation) -> None:
    if node.kind == "silu":
        layout = w.common(node)
        x, result = w.get(node.inputs[0], layout), w.put(node, layout)
        w.op("Mul", [x, w.op("Sigmoid", [x], f"{result}:gate")], result)
    else:
        w.elementwise(node, ACTIVATIONS[node.kind])


def _heaviside(w: Writer, node: n.Heaviside) -> None:
    layout = w.common(node)
    x, result = w.get(node.inputs[0], layout), w.put(node, layout)
    threshold = w.constant(np.float32(node.threshold))
    fires = w.op("Greater" if node.strict else "GreaterOrEqual", [x, threshold], f"{result}:fires")
    w.op("Cast", [fires], result, to=FLOAT)


def _threshold(w: Writer, node: n.Threshold) -> None:
    w.elementwise(node, "ThresholdedRelu", alpha=just_below(node.threshold))


def _reshape(w: Writer, node: n.Reshape) -> None:
    source = node.inputs[0]
    layout: Layout = "flat" if (source, "flat") in w.held else "full"
    shape = w.flat_shape(node.name)
    w.reshape(w.get(source, layout), shape, w.put(node, "flat"))


def _permute(w: Writer, node: n.Permute) -> None:
    source = node.inputs[0]
    if w.is_timed(source) and w.is_timed(node.name) and node.order[:2] == (0, 1):
        order = [0, *(i - 1 for i in node.order[2:])]
        w.op("Transpose", [w.get(source, "flat")], w.put(node, "flat"), perm=order)
    else:
        w.op("Transpose", [w.get(source, "full")], w.put(node, "full"), perm=node.order)


def _expand(w: Writer, node: n.Expand) -> None:
    """Written on first demand: a neuron takes a held current directly."""


def _slice(w: Writer, node: n.Slice) -> None:
    stop = np.iinfo(np.int64).max if node.stop is None else node.stop
    bounds = [w.constant(np.asarray([v], np.int64)) for v in (node.start, stop, node.axis, node.step)]
    w.op("Slice", [w.get(node.inputs[0], "full"), *bounds], w.put(node, "full"))


def _select(w: Writer, node: n.Select) -> None:
    index = w.constant(np.asarray(node.index, np.int64))
    w.op("Gather", [w.get(node.inputs[0], "full"), index], w.put(node, "full"), axis=node.axis)


def _concat(w: Writer, node: n.Concat) -> None:
    w.op("Concat", [w.get(i, "full") for i in node.inputs], w.put(node, "full"), axis=node.axis)


def _stack(w: Writer, node: n.Stack) -> None:
    axis = w.constant(np.asarray([node.axis], np.int64))
    parts = [
        w.op("Unsqueeze", [w.get(i, "full"), axis], f"{node.name}:{k}") for k, i in enumerate(node.inputs)
    ]
    w.op("Concat", parts, w.put(node, "full"), axis=node.axis)


def _pad(w: Writer, node: n.Pad) -> None:
    pads = w.constant(np.asarray([*node.before, *node.after], np.int64))
    fill = w.constant(np.float32(node.value))
    w.op("Pad", [w.get(node.inputs[0], "full"), pads, fill], w.put(node, "full"))


def _repeat(w: Writer, node: n.Repeat) -> None:
    counts = [value(r, w.steps, 1) for r in node.repeats]
    w.op(
        "Tile", [w.get(node.inputs[0], "full"), w.constant(np.asarray(counts, np.int64))], w.put(node, "full")
    )


RULES: Rules = {
    n.Input: _input,
    n.Constant: _constant,
    n.Conv: _conv,
    n.ConvTranspose: _conv_transpose,
    n.Linear: _linear,
    n.MatMul: lambda w, node: w.elementwise(node, "MatMul"),
    n.Norm: _norm,
    n.LayerNorm: _layer_norm,
    n.Lif: Writer.neuron,
    n.If: Writer.neuron,
    n.Filter: Writer.filter,
    n.Neuron: Writer.body,
    n.Heaviside: _heaviside,
    n.Threshold: _threshold,
    n.MaxPool: _max_pool,
    n.AvgPool: _avg_pool,
    n.AdaptiveAvgPool: _adaptive,
    n.Add: lambda w, node: w.elementwise(node, "Add"),
    n.Sub: lambda w, node: w.elementwise(node, "Sub"),
    n.Mul: lambda w, node: w.elementwise(node, "Mul"),
    n.Div: lambda w, node: w.elementwise(node, "Div"),
    n.Scale: _scale,
    n.Reduce: _reduce,
    n.Activation: _activation,
    n.Reshape: _reshape,
    n.Permute: _permute,
    n.Expand: _expand,
    n.Repeat: _repeat,
    n.Slice: _slice,
    n.Select: _select,
    n.Concat: _concat,
    n.Stack: _stack,
    n.Pad: _pad,
}
