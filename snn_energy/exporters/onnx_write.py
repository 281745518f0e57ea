"""A `Graph` as an ONNX model.

Convolutions want (N, C, H, W), so a tensor (T, B, ...) lives in the file as (T·B, ...) wherever it can
("flat") and is split into (T, B, ...) ("full") only for what needs the time axis.  Both are the same memory:
a `Reshape` between them copies nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.onnx_lif import (
    DOMAIN,
    OPSET,
    attributes,
    charge_function,
    reset_function,
    sequence_function,
    sequence_name,
    variant_of,
)
from snn_energy.graph import nodes as n
from snn_energy.graph.dims import Dim, Shape, value
from snn_energy.graph.graph import Graph
from snn_energy.graph.nodes import NEURONS, Node
from snn_energy.graph.simplify import norm_affine

Layout = Literal["flat", "full"]
IR_VERSION = 10
FLOAT, BOOL = 1, 9  # TensorProto.FLOAT, TensorProto.BOOL


class Writer:
    """Builds one ModelProto.  `stateful`: neurons take their membrane as an input and return it."""

    def __init__(self, graph: Graph, *, stateful: bool = False) -> None:
        self.graph, self.stateful = graph, stateful
        self.steps = graph.time_steps
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        self.held: dict[tuple[str, Layout], str] = {}  # tensors that exist, by Graph name and layout
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    # ------------------------------------------------------------------------------------- the whole

    def build(self, metadata: dict[str, str], *, debug: bool = False) -> Any:
        """The model; `debug` adds every neuron's spikes (T·B, ...) as outputs after the logits."""
        from onnx import helper

        for node in self.graph:
            self.write(node)
        states = list(self.outputs)
        self.outputs = []
        for name in self.graph.outputs:
            self.output(name, "full")
        self.outputs += states
        if debug:
            for node in self.graph.neurons:
                self.output(node.name, "flat")
        graph = helper.make_graph(
            self.nodes, "snn_energy", self.inputs, self.outputs, list(self.initializers.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, functions=list(self.functions.values()))
        model.ir_version, model.producer_name = IR_VERSION, "snn-energy"
        helper.set_model_props(model, metadata)
        return model

    def output(self, name: str, layout: Layout) -> None:
        """Declare a tensor as an output of the model."""
        from onnx import helper

        dims = self.onnx_dims(self.flat_shape(name) if layout == "flat" else self.graph[name].shape)
        self.outputs.append(helper.make_tensor_value_info(self.get(name, layout), FLOAT, dims))

    def onnx_dims(self, shape: Shape) -> list[int | str]:
        """Sizes as ONNX states them: numbers, and names for those that follow the batch."""
        return [
            str(d).replace("T", str(self.steps)) if "B" in str(d) else value(d, self.steps, 1) for d in shape
        ]

    # -------------------------------------------------------------------------------------- tensors

    def is_timed(self, name: str) -> bool:
        """Does the tensor begin with (T, B), so that it has a flat layout?"""
        return self.graph[name].shape[:2] == ("T", "B")

    def flat_shape(self, name: str) -> Shape:
        shape = self.graph[name].shape
        return ("T*B", *shape[2:]) if self.is_timed(name) else shape

    def put(self, node: Node, layout: Layout, tensor: str | None = None) -> str:
        """Register the tensor that holds a node's output; without time both layouts are one."""
        tensor = tensor or node.name
        self.held[node.name, layout] = tensor
        if not self.is_timed(node.name):
            self.held[node.name, "full"] = self.held[node.name, "flat"] = tensor
        return tensor

    def get(self, name: str, layout: Layout) -> str:
        """The tensor of a node in a layout, reshaped on first demand."""
        if (name, layout) not in self.held:
            node = self.graph[name]
            if (
                isinstance(node, n.Expand)
                and (name, "full") not in self.held
                and (name, "flat") not in self.held
            ):
                self.expand(node)
                if layout == "full":
                    return self.held[name, "full"]
            other: Layout = "flat" if layout == "full" else "full"
            shape = self.graph[name].shape if layout == "full" else self.flat_shape(name)
            tensor = f"{name}:{layout}"
            self.reshape(self.held[name, other], shape, tensor)
            self.held[name, layout] = tensor
        return self.held[name, layout]

    def reshape(self, tensor: str, shape: Shape, result: str) -> str:
        """Reshape to a shape with one size that follows the batch."""
        sizes = [-1 if "B" in str(d) else value(d, self.steps, 1) for d in shape]
        return self.op("Reshape", [tensor, self.constant(np.asarray(sizes, np.int64))], result)

    def constant(self, array: Any, name: str = "") -> str:
        """An initializer; equal small ones are shared."""
        from onnx import numpy_helper

        array = np.asarray(array)
        name = name or f"{array.dtype}:{array.tolist()}"
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def op(self, kind: str, inputs: list[str], result: str | list[str], **attributes: Any) -> str:
        """Append an ONNX node; returns its (first) output."""
        from onnx import helper

        results = [result] if isinstance(result, str) else result
        self.nodes.append(helper.make_node(kind, inputs, results, name=results[0], **attributes))
        return results[0]

    # ---------------------------------------------------------------------------------------- nodes

    def write(self, node: Node) -> None:
        """Append what computes one Graph node."""
        rule = RULES.get(type(node))
        if rule is None:
            known = ", ".join(sorted(kind.__name__ for kind in RULES))
            raise UnsupportedOp(
                node.name, f"{node.op} to ONNX", supported=known, way_out="express it with these"
            )
        rule(self, node)

    def common(self, node: Node) -> Layout:
        """The layout in which all operands of an elementwise node line up."""
        if not self.is_timed(node.name):
            return "full"
        for name in node.inputs:
            if not self.is_timed(name) and len(self.graph[name].shape) > len(node.shape) - 2:
                return "full"
        return "flat"

    def elementwise(self, node: Node, kind: str, extra: tuple[str, ...] = (), **attributes: Any) -> None:
        layout = self.common(node)
        inputs = [self.get(name, layout) for name in node.inputs]
        self.op(kind, [*inputs, *extra], self.put(node, layout), **attributes)

    def images(
        self, node: Node, rank: int, kind: str, extra: tuple[str, ...] = (), **attributes: Any
    ) -> None:
        """An operation on (N, C, *space) with `rank` space axes."""
        source, shape = node.inputs[0], self.graph[node.inputs[0]].shape
        if self.is_timed(source) and len(shape) == rank + 3:
            self.op(kind, [self.get(source, "flat"), *extra], self.put(node, "flat"), **attributes)
        elif len(shape) == rank + 2:
            self.op(kind, [self.get(source, "full"), *extra], self.put(node, "full"), **attributes)
        else:  # several leading axes: merge them, and part them again
            merged = self.reshape(self.get(source, "full"), ("B", *shape[-rank - 1 :]), f"{node.name}:merged")
            done = self.op(kind, [merged, *extra], f"{node.name}:images", **attributes)
            self.reshape(done, node.shape, self.put(node, "full"))

    def expand(self, node: n.Expand) -> None:
        """Broadcasting needs no batch size: an axis that keeps its size is asked for as 1."""
        source = self.graph[node.inputs[0]].shape
        padded: tuple[Dim, ...] = (1,) * (len(node.shape) - len(source)) + source
        sizes = [1 if a == b else value(a, self.steps, 1) for a, b in zip(node.shape, padded, strict=True)]
        tensor = self.get(node.inputs[0], "full")
        self.op("Expand", [tensor, self.constant(np.asarray(sizes, np.int64))], self.put(node, "full"))

    def neuron(self, node: n.Lif | n.If) -> None:
        """A call of the neuron's function; `stateful`: the membrane is `<name>.v` and `<name>.v_next`."""
        variant, source = variant_of(node), self.graph[node.inputs[0]]
        held = isinstance(source, n.Expand) and self.graph[source.inputs[0]].shape == source.shape[1:]
        name = sequence_name(variant, held=held, stateful=self.stateful)
        if name not in self.functions:
            self.functions.setdefault(variant.name + "Charge", charge_function(variant))
            if self.stateful or self.steps > 1:
                self.functions.setdefault(variant.name + "Reset", reset_function(variant))
            self.functions[name] = sequence_function(variant, self.steps, held=held, stateful=self.stateful)
        inputs = [self.get(source.inputs[0], "full") if held else self.get(source.name, "flat")]
        results = [self.put(node, "flat")]
        if self.stateful:
            inputs.append(self.state(self.inputs, node, "v"))
            results.append(self.state(self.outputs, node, "v_next"))
        self.op(name, inputs, results, domain=DOMAIN, **attributes(node))

    def state(self, where: list[Any], node: Node, suffix: str) -> str:
        """Declare a neuron's membrane (B, ...) as an input or output of the model."""
        from onnx import helper

        name = f"{node.name}.{suffix}"
        where.append(helper.make_tensor_value_info(name, FLOAT, self.onnx_dims(("B", *node.shape[2:]))))
        return name


# ------------------------------------------------------------------------------------- one rule per kind


def _input(w: Writer, node: n.Input) -> None:
    from onnx import helper

    w.inputs.append(helper.make_tensor_value_info(node.name, FLOAT, w.onnx_dims(node.shape)))
    w.put(node, "full")


def _constant(w: Writer, node: n.Constant) -> None:
    w.constant(node.value, node.name)
    w.held[node.name, "full"] = w.held[node.name, "flat"] = node.name


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


RULES: dict[type[Node], Callable[[Writer, Any], None]] = {
    n.Input: _input,
    n.Constant: _constant,
    n.Conv: _conv,
    n.ConvTranspose: _conv_transpose,
    n.Linear: _linear,
    n.MatMul: lambda w, node: w.elementwise(node, "MatMul"),
    n.Norm: _norm,
    n.LayerNorm: _layer_norm,
    **dict.fromkeys(NEURONS, Writer.neuron),
    n.Heaviside: _heaviside,
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
