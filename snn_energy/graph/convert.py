"""One typed node per operation of an exported program: the walk over it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from snn_energy.graph import aten_math, aten_ops  # noqa: F401  (they fill HANDLERS)
from snn_energy.graph.answer import answer
from snn_energy.graph.aten import HANDLERS, Builder, Call, Filled, symbolic
from snn_energy.graph.nodes import Input, Node

EVERYTHING = "*"  # every output, none of them chosen


class Converter(Builder):
    """Walks an exported program once and collects nodes: see `Builder`."""

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        model: nn.Module,
        equations: Callable[[nn.Module, tuple[int, ...]], dict[str, Any]],
        arrays: dict[tuple[Any, ...], tuple[torch.Tensor, Any]],
        integrators: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__(model, equations, arrays, integrators)
        self.program = program
        program.graph.eliminate_dead_code()  # what a neuron computes that stands as its equation

    def run(self, output: int | str | None = None) -> tuple[list[Node], tuple[str, ...]]:
        """All nodes, dead ones included, and the name of the answer (`EVERYTHING`: of every output)."""
        env: dict[fx.Node, Any] = {}
        outputs: tuple[str, ...] = ()
        parameters = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                env[node] = self.placeholder(node, parameters[node.name])
            elif node.op == "output":
                outputs = self.outputs(env, list(node.args[0]), output)
            else:
                env[node] = self.call(node, env)
        return self.nodes, outputs

    def outputs(
        self, env: dict[fx.Node, Any], values: list[Any], output: int | str | None
    ) -> tuple[str, ...]:
        """The names of what is put out, or of the answer in it."""
        if output != EVERYTHING:
            spec = self.program.call_spec.out_spec
            values = [answer(pytree.tree_unflatten(values, spec), output)]
        return tuple(self.output(env, value) for value in values)

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
        try:
            result = handler(call)
        except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise call.unsupported(f"in this form ({error})") from error
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
