"""A `Graph` as an ONNX model.

Convolutions want (N, C, H, W), so a tensor (T, B, ...) lives in the file as (T·B, ...) wherever it can
("flat") and is split into (T, B, ...) ("full") only for what needs the time axis.  Both are the same memory:
a `Reshape` between them copies nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.onnx.lif import (
    DOMAIN,
    OPSET,
    attributes,
    body_function,
    charge_function,
    filter_function,
    reset_function,
    sequence_function,
    sequence_name,
    variant_of,
)
from snn_energy.graph import nodes as n
from snn_energy.graph.dims import Dim, Shape, value
from snn_energy.graph.graph import Graph
from snn_energy.graph.nodes import Node
from snn_energy.graph.tighten import tighten

Layout = Literal["flat", "full"]
Rules = Mapping[type[Node], Callable[["Writer", Any], None]]
IR_VERSION = 10
FLOAT = 1  # TensorProto.FLOAT
TIME_STEP = "time_step"


class Writer:
    """Builds one ModelProto.  `stateful`: neurons take their membrane as an input and return it.

    `rules`: for each kind of node, what appends it.  `within`: the graph is a neuron's body and becomes a
    function, where a weight that every step uses is one argument.
    """

    def __init__(self, graph: Graph, rules: Rules, *, stateful: bool = False, within: bool = False) -> None:
        self.graph, self.rules, self.stateful, self.within = graph, rules, stateful, within
        self.steps = graph.time_steps
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.shared: dict[tuple[Any, ...], str] = {}
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
        if self.within:
            name = self.shared.setdefault((array.dtype.str, array.shape, array.tobytes()), name)
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.array(array, order="C"), name)
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
        if type(node) not in self.rules:
            known = ", ".join(sorted(kind.__name__ for kind in self.rules))
            way_out = "express the module with these"
            raise UnsupportedOp(node.name, f"{node.op} to ONNX", supported=known, way_out=way_out)
        self.rules[type(node)](self, node)

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

    def filter(self, node: n.Filter) -> None:
        """A call of the one function that all fading currents share."""
        self.functions.setdefault("Filter", filter_function(self.steps))
        source, result = self.get(node.inputs[0], "flat"), self.put(node, "flat")
        self.op("Filter", [source], [result], domain=DOMAIN, keep=node.keep, gain=node.gain)

    def body(self, node: n.Neuron) -> None:
        """A call of a function made from the neuron's own graph; its weights are arguments."""
        inner = Writer(tighten(node.step if self.stateful else node.body), self.rules, within=True)
        kind = f"{node.kind}Step" if self.stateful else node.kind
        weights, function = body_function(inner, kind, self.functions)
        self.functions.setdefault(function.name, function)
        layout: Layout = "flat" if self.stateful else "full"
        inputs, results = [self.get(node.inputs[0], layout)], [self.put(node, layout)]
        if self.stateful:
            inputs.append(self.state(self.inputs, node, "v"))
            results.append(self.state(self.outputs, node, "v_next"))
            if node.table is not None:
                table = self.constant(node.table, f"{node.name}.table")
                inputs.append(self.op("Gather", [table, self.time_step()], f"{node.name}.row", axis=0))
        inputs += [self.constant(array, f"{node.name}.{name}") for name, array in weights.items()]
        self.op(function.name, inputs, results, domain=DOMAIN)

    def time_step(self) -> str:
        """Declare the number of the step, (1,), from 0, as an input and its successor as an output, once."""
        from onnx import TensorProto, helper

        if all(value.name != TIME_STEP for value in self.inputs):
            after = f"{TIME_STEP}_next"
            self.inputs.append(helper.make_tensor_value_info(TIME_STEP, TensorProto.INT64, [1]))
            self.outputs.append(helper.make_tensor_value_info(after, TensorProto.INT64, [1]))
            self.op("Add", [TIME_STEP, self.constant(np.asarray([1], np.int64))], after)
        return TIME_STEP

    def state(self, where: list[Any], node: Node, suffix: str) -> str:
        """Declare a neuron's membrane (B, ...) as an input or output of the model."""
        from onnx import helper

        name = f"{node.name}.{suffix}"
        where.append(helper.make_tensor_value_info(name, FLOAT, self.onnx_dims(("B", *node.shape[2:]))))
        return name
