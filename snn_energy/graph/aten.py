"""One typed node per operation of an exported program: the table from ATen to `nodes`.

A handler sees its operation's arguments by their schema names.  An argument is the name of a node, a folded
tensor (`torch.Tensor`: weights and all that is computed from weights alone), a `Filled`, or plain Python.
Shapes here have B as a symbol and T as a number; `layout` finds the time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Container
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import torch
from torch import fx, nn

from snn_energy.errors import UnsupportedOp
from snn_energy.graph import nodes as n
from snn_energy.graph.dims import Dim, Monomial, Shape
from snn_energy.graph.nodes import NEURONS, Constant, Input, Node

Handler = Callable[["Call"], Any]
HANDLERS: dict[str, Handler] = {}
MAIN = (n.Conv, n.ConvTranspose, n.Linear, n.Norm, n.LayerNorm, n.MaxPool, n.AvgPool, n.AdaptiveAvgPool)


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for operations such as `aten.conv2d`; the in-place twin comes with it."""

    def register(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
        return handler

    return register


@dataclass(frozen=True)
class Filled:
    """A tensor of one value, of any shape: the membrane at rest."""

    value: float


class Call:
    """One operation of the program, while it is turned into nodes."""

    def __init__(self, converter: Converter, node: fx.Node, args: dict[str, Any]) -> None:
        self.converter, self.node, self.args = converter, node, args
        self.module = module_path(node)

    def __getitem__(self, name: str) -> Any:
        return self.args.get(name)

    @property
    def shape(self) -> Shape:
        """The shape of the (first) output."""
        value = self.node.meta["val"]
        return symbolic(value[0] if isinstance(value, list | tuple) else value, self)

    def name(self, value: Any) -> str:
        """The node that holds an argument; a folded tensor becomes a `Constant`."""
        if isinstance(value, str):
            return value
        if isinstance(value, Filled | int | float):
            value = torch.tensor(float(value.value if isinstance(value, Filled) else value))
        if not isinstance(value, torch.Tensor):
            raise self.unsupported(f"with an operand of type {type(value).__name__}")
        return self.converter.constant(value, self.module)

    def emit(self, kind: type[Node], /, *inputs: Any, shape: Shape | None = None, **attributes: Any) -> str:
        """Append a node that reads `inputs`; returns its name."""
        names = tuple(self.name(value) for value in inputs)
        shape = self.shape if shape is None else shape
        return self.converter.append(kind, self.module, inputs=names, shape=shape, **attributes)

    def input_shape(self, name: str) -> Shape:
        return self.converter.shape_of(self.args[name])

    def unsupported(self, why: str = "") -> UnsupportedOp:
        """The error for an operation that cannot become a node."""
        called = str(self.node.target).removesuffix(".default")
        return UnsupportedOp(
            self.module or "the model itself",
            f"{called} {why}".strip(),
            supported=", ".join(sorted({name.split(".")[-1] for name in HANDLERS})),
            way_out="express the module with supported operations",
        )


class Converter:
    """Walks an exported program once and collects nodes.

    `equations`: the fields of a `Neuron` node for a neuron module and the shape of its currents; `arrays`:
    the weights met so far, which graphs of one capture share.
    """

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        model: nn.Module,
        equations: Callable[[nn.Module, tuple[int, ...]], dict[str, Any]],
        arrays: dict[tuple[Any, ...], tuple[torch.Tensor, Any]],
    ) -> None:
        self.program, self.model, self.equations, self.arrays = program, model, equations, arrays
        self.nodes: list[Node] = []
        self.names: dict[str, Node] = {}
        self.constants: dict[int, tuple[torch.Tensor, str]] = {}
        self.paths: dict[int, str] = {}
        self.leaves = {path for path, module in model.named_modules() if not any(module.children())}

    def run(self) -> tuple[list[Node], tuple[str, ...]]:
        """All nodes, dead ones included, and the names of the outputs."""
        env: dict[fx.Node, Any] = {}
        outputs: tuple[str, ...] = ()
        parameters = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                env[node] = self.placeholder(node, parameters[node.name])
            elif node.op == "output":
                outputs = tuple(self.output(env, value) for value in node.args[0])
            else:
                env[node] = self.call(node, env)
        return self.nodes, outputs

    def output(self, env: dict[fx.Node, Any], value: Any) -> str:
        result = env[value] if isinstance(value, fx.Node) else value
        return result if isinstance(result, str) else self.constant(result, "output")

    def placeholder(self, node: fx.Node, spec: Any) -> Any:
        if spec.target is None:
            return self.append(Input, "", name=node.name, shape=symbolic(node.meta["val"]))
        held = self.program.state_dict.get(spec.target)
        tensor = (self.program.constants[spec.target] if held is None else held).detach()
        self.paths[id(tensor)] = spec.target
        return tensor

    def call(self, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
        if not isinstance(node.target, torch._ops.OpOverload):
            return self.python(node, env)
        values = fx.node.map_arg((node.args, node.kwargs), lambda n: env[n])
        args = by_name(node.target, *values)
        name = f"{node.target.namespace}.{node.target._opname}"
        if (folded := fold(node, args)) is not None:
            return folded
        handler = HANDLERS.get(name) or HANDLERS.get(name.removesuffix("_"))
        call = Call(self, node, args)
        if handler is None:
            raise call.unsupported()
        result = handler(call)
        if name.endswith("_") and name not in HANDLERS and isinstance(first := node.args[0], fx.Node):
            if is_shared(first, node):
                raise call.unsupported("in place on memory that others see")
            env[first] = result
        return result

    def python(self, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
        """`getitem`, and arithmetic on sizes, whose result the program states."""
        if node.target is operator.getitem:
            return env[node.args[0]][node.args[1]]  # type: ignore[index]
        return node.meta.get("val")

    def append(self, kind: type[Node], module: str, /, *, name: str = "", **fields: Any) -> str:
        """Add a node under a free name: the module's path for its main operation, else path.operation."""
        if not name:
            main = issubclass(kind, NEURONS) or (issubclass(kind, MAIN) and module in self.leaves)
            name = module if main and module else ".".join(filter(None, (module, kind.__name__.lower())))
        name = unique(name, self.names)
        node = kind(name=name, module=module, **fields)
        self.nodes.append(node)
        self.names[name] = node
        return name

    def constant(self, tensor: torch.Tensor, module: str) -> str:
        """The `Constant` node of a folded tensor, made once."""
        if id(tensor) not in self.constants:
            value = self.array(tensor)
            name = self.paths.get(id(tensor), ".".join(filter(None, (module, "constant"))))
            made = self.append(Constant, module, name=name, shape=tuple(value.shape), value=value)
            self.constants[id(tensor)] = (tensor, made)  # holding the tensor keeps its id its own
        return self.constants[id(tensor)][1]

    def array(self, tensor: torch.Tensor) -> Any:
        """`array(tensor)`, one object however often a weight is used: at every step, in several graphs."""
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in self.arrays:
            self.arrays[key] = (tensor, array(tensor))  # holding the tensor keeps its memory its own
        return self.arrays[key][1]

    def shape_of(self, value: Any) -> Shape:
        return self.names[value].shape if isinstance(value, str) else tuple(getattr(value, "shape", ()))


def unique(name: str, taken: Container[str]) -> str:
    """`name`, or `name#1`, `name#2`, … if it is taken: later calls of the same module."""
    candidates = chain([name], (f"{name}#{i}" for i in count(1)))
    return next(candidate for candidate in candidates if candidate not in taken)


def by_name(target: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by their schema names, defaults filled in."""
    bound: dict[str, Any] = {}
    for position, argument in enumerate(target._schema.arguments):
        if position < len(args):
            bound[argument.name] = args[position]
        elif argument.name in kwargs:
            bound[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            bound[argument.name] = argument.default_value
    return bound


def fold(node: fx.Node, args: dict[str, Any]) -> torch.Tensor | None:
    """The result of an operation on weights alone; None where an operand is computed or a size is free."""
    flat: list[Any] = []
    fx.node.map_aggregate(tuple(args.values()), lambda v: flat.append(v))
    if not any(isinstance(v, torch.Tensor) for v in flat):
        return None
    if any(isinstance(v, str | Filled | torch.SymInt) and v not in ("none", "tanh") for v in flat):
        return None
    with torch.no_grad():
        result = node.target(**args)  # type: ignore[operator]
    return result if isinstance(result, torch.Tensor) else None


def array(tensor: torch.Tensor) -> Any:
    """A folded tensor as numpy, contiguous; float64 becomes float32 only if torch would compute so."""
    return tensor.detach().cpu().contiguous().numpy().copy()


def module_path(node: fx.Node) -> str:
    """`block.0.attn.q_lif`: the innermost module whose forward made this call."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return path.split("@")[0].removeprefix("L['self'].").removeprefix("L['self']")


def symbolic(value: torch.Tensor, call: Call | None = None) -> Shape:
    """A shape in which the free batch is the symbol B."""
    return tuple(_dim(size, call) for size in value.shape)


def _dim(size: Any, call: Call | None) -> Dim:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    (symbol,) = expression.free_symbols
    coefficient = expression / symbol
    if not coefficient.is_Integer:
        if call is None:
            raise ValueError(f"size {expression} is not a multiple of the batch")
        raise call.unsupported(f"with a size ({expression}) that is not a multiple of the batch")
    return Monomial(b=1, coefficient=Monomial().coefficient * int(coefficient)).dim()


VIEWS = {
    "view",
    "select",
    "slice",
    "transpose",
    "permute",
    "unsqueeze",
    "squeeze",
    "expand",
    "flatten",
    "unbind",
}


def is_view(node: fx.Node) -> bool:
    """May this operation share memory with its operand?"""
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target._opname in VIEWS


def is_shared(node: fx.Node, writer: fx.Node) -> bool:
    """Would others than `node` see what `writer` writes into it: its other views, or what it is a view of?"""
    if any(is_view(user) for user in node.users if user is not writer):
        return True
    while is_view(node):
        base = node.args[0]
        assert isinstance(base, fx.Node)
        readers = [user for user in base.users if "sym_size" not in str(user.target)]
        if base.op == "placeholder" or len(readers) > 1:
            return True
        node = base
    return node.op == "placeholder"


from snn_energy.graph import aten_math as _aten_math  # noqa: E402, F401  (fills HANDLERS)
from snn_energy.graph import aten_ops as _aten_ops  # noqa: E402, F401
