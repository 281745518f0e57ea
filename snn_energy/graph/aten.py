"""What handlers of ATen operations work with: their table, one call, and the nodes it appends.

A handler sees its operation's arguments by their schema names.  An argument is the name of a node, a folded
tensor (`torch.Tensor`: weights and all that is computed from weights alone), a `Filled`, or plain Python.
Shapes here have B as a symbol and T as a number; `layout` finds the time.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from itertools import chain, count
from types import MappingProxyType
from typing import Any

import torch
from torch import fx, nn

from snn_energy.errors import UnsupportedOp
from snn_energy.graph import nodes as n
from snn_energy.graph.dims import Dim, Monomial, Shape
from snn_energy.graph.nodes import NEURONS, Constant, Node

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

    def __init__(self, converter: Builder, node: fx.Node, args: dict[str, Any]) -> None:
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


class Builder:
    """Collects nodes under free names; what a `Call` appends to.

    `equations`: the fields of a `Neuron` node for a neuron module and the shape of its currents; `arrays`:
    the weights met so far, which graphs of one capture share; `integrators`: by path, the modules whose
    equation is known.
    """

    def __init__(
        self,
        model: nn.Module,
        equations: Callable[[nn.Module, tuple[int, ...]], dict[str, Any]],
        arrays: dict[tuple[Any, ...], tuple[torch.Tensor, Any]],
        integrators: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.model, self.equations, self.arrays = model, equations, arrays
        self.integrators = integrators
        self.nodes: list[Node] = []
        self.names: dict[str, Node] = {}
        self.constants: dict[int, tuple[torch.Tensor, str]] = {}
        self.paths: dict[int, str] = {}
        self.leaves = {path for path, module in model.named_modules() if not any(module.children())}

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
