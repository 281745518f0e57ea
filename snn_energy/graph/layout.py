"""Give every tensor its time and batch axes: from the model's own layout to (T, B, ...).

`canonical` takes nodes as the model wrote them, with T a number and often merged into the batch, and
returns a `Graph` in which T and B are axes of their own and reshapes between the two layouts are gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from snn_energy.errors import SnnEnergyError, UnsupportedOp
from snn_energy.graph import nodes as n
from snn_energy.graph.axes import Atom, Axis, Labels, fresh, leaves, regroup, size, unify
from snn_energy.graph.dims import Shape, monomial
from snn_energy.graph.graph import Graph
from snn_energy.graph.nodes import NEURONS, Node

Axes = list[Axis]


class WrongAxis(UnsupportedOp):
    """The axis that was taken for the samples' cannot be it."""

    def __init__(self, message: str, node: str = "", op: str = "") -> None:
        SnnEnergyError.__init__(self, message)
        self.node, self.op = node, op

    @classmethod
    def of(cls, node: str, op: str, *, supported: str, way_out: str) -> WrongAxis:
        """With the words of an `UnsupportedOp`."""
        return cls(str(UnsupportedOp(node, op, supported=supported, way_out=way_out)), node, op)


def canonical(raw: list[Node], outputs: tuple[str, ...], meta: dict[str, Any]) -> Graph:
    """Rewrite `raw` nodes so that time comes as an axis of its own.

    Raises `UnsupportedOp` where neurons disagree about T or an operation cuts through the merged T·B axis.
    """
    axes: dict[str, Axes] = {}
    for node in raw:
        axes[node.name] = propagate(node, [axes[name] for name in node.inputs])
    time: Axis = []
    for node in raw:
        if isinstance(node, (*NEURONS, n.Filter)):
            if not time:
                time = axes[node.name][0]
            elif size(time) != size(axes[node.name][0]):
                raise _refuse(node, f"{node.shape[0]} time steps where others have {size(time).dim()}")
            unify(time, axes[node.name][0])
    rewriter = _Rewriter(axes, Labels(time))
    for node in raw:
        rewriter.rewrite(node)
    names = tuple(rewriter.restore(name) for name in outputs)
    steps = size(time).dim()
    if not isinstance(steps, int):
        raise WrongAxis.of(
            raw[0].name,
            f"{raw[0].op} with neurons whose first axis is the samples', for time must come first",
            supported="multi-step neurons, (T, B, …)",
            way_out="say that the samples lie along the second axis (layout='TB')",
        )
    return Graph(tuple(rewriter.nodes), names, steps, meta)


def _refuse(node: Node, why: str) -> UnsupportedOp:
    way_out = "give neurons tensors of shape (T, B, ...) and keep T whole"
    return UnsupportedOp(
        node.name, f"{node.op} with {why}", supported="multi-step neurons, time first", way_out=way_out
    )


# ------------------------------------------------------------------------------- what becomes of each axis


def propagate(node: Node, inputs: list[Axes]) -> Axes:
    """The axes of a node's output, sharing atoms with its inputs' wherever they are the same."""
    return RULES[type(node)](node, inputs)


def _fresh(node: Node, inputs: list[Axes]) -> Axes:
    return [fresh(monomial(dim)) for dim in node.shape]


def _same(node: Node, inputs: list[Axes]) -> Axes:
    return inputs[0]


def _broadcast(node: Node, inputs: list[Axes]) -> Axes:
    result = _fresh(node, inputs)
    for axes in inputs:
        for offset in range(1, len(axes) + 1):
            if size(axes[-offset]) == size(result[-offset]):
                unify(axes[-offset], result[-offset])
    return result


def _trailing(count: Callable[[Any], int]) -> Callable[[Node, list[Axes]], Axes]:
    """The last `count(node)` axes are new, those before are kept."""

    def rule(node: Node, inputs: list[Axes]) -> Axes:
        new = count(node)
        return inputs[0][:-new] + _fresh(node, inputs)[-new:]

    return rule


def _matmul(node: Node, inputs: list[Axes]) -> Axes:
    left, right = inputs
    result = _fresh(node, inputs)
    for axes in inputs:
        for offset in range(3, len(axes) + 1):
            if size(axes[-offset]) == size(result[-offset]):
                unify(axes[-offset], result[-offset])
    unify(left[-1], right[-2])
    return [*result[:-2], left[-2], right[-1]]


def _reduce(node: n.Reduce, inputs: list[Axes]) -> Axes:
    kept = [[] if i in node.axes else axis for i, axis in enumerate(inputs[0])]
    return kept if node.keepdims else [a for i, a in enumerate(kept) if i not in node.axes]


def _reshape(node: Node, inputs: list[Axes]) -> Axes:
    return regroup(inputs[0], [monomial(dim) for dim in node.shape])


def _keep_equal(node: Node, inputs: list[Axes]) -> Axes:
    """Expand, Repeat, Slice, Pad: axes whose size changed are new; aligned from the right."""
    result = _fresh(node, inputs)
    for offset in range(1, len(inputs[0]) + 1):
        if size(inputs[0][-offset]) == size(result[-offset]):
            result[-offset] = inputs[0][-offset]
    return result


def _join(node: Any, inputs: list[Axes]) -> Axes:
    new = fresh(monomial(node.shape[node.axis]))
    for axes in inputs[1:]:
        for i, (a, b) in enumerate(zip(inputs[0], axes, strict=True)):
            if isinstance(node, n.Stack) or i != node.axis:
                unify(a, b)
    after = node.axis + (0 if isinstance(node, n.Stack) else 1)
    return [*inputs[0][: node.axis], new, *inputs[0][after:]]


def _select(node: n.Select, inputs: list[Axes]) -> Axes:
    return [axis for i, axis in enumerate(inputs[0]) if i != node.axis]


def _permute(node: n.Permute, inputs: list[Axes]) -> Axes:
    return [inputs[0][i] for i in node.order]


RULES: dict[type[Node], Callable[[Any, list[Axes]], Axes]] = {
    n.Input: _fresh,
    n.Constant: _fresh,
    n.Conv: _trailing(lambda node: node.weight.ndim - 1),
    n.ConvTranspose: _trailing(lambda node: node.weight.ndim - 1),
    n.MaxPool: _trailing(lambda node: len(node.kernel)),
    n.AvgPool: _trailing(lambda node: len(node.kernel)),
    n.AdaptiveAvgPool: _trailing(lambda node: len(node.size)),
    n.Linear: _trailing(lambda node: 1),
    n.MatMul: _matmul,
    n.Add: _broadcast,
    n.Sub: _broadcast,
    n.Mul: _broadcast,
    n.Div: _broadcast,
    n.Reduce: _reduce,
    n.Reshape: _reshape,
    n.Permute: _permute,
    n.Expand: _keep_equal,
    n.Repeat: _keep_equal,
    n.Slice: _keep_equal,
    n.Pad: _keep_equal,
    n.Select: _select,
    n.Concat: _join,
    n.Stack: _join,
    **dict.fromkeys(
        (
            n.Norm,
            n.LayerNorm,
            n.Lif,
            n.If,
            n.Filter,
            n.Neuron,
            n.Heaviside,
            n.Threshold,
            n.Scale,
            n.Activation,
        ),
        _same,
    ),
}


# ------------------------------------------------------------------------------------------ rewriting


class _Rewriter:
    """Emits the canonical twin of each raw node."""

    def __init__(self, axes: dict[str, Axes], labels: Labels) -> None:
        self.axes, self.labels = axes, labels
        self.nodes: list[Node] = []
        self.alias: dict[str, str] = {}
        self.raw_shape: dict[str, Shape] = {}

    def groups(self, name: str) -> list[list[list[Atom]]]:
        """Per raw axis, the axes that it becomes."""
        return [self.labels.cut(axis) for axis in self.axes[name]]

    def flat(self, name: str) -> list[list[Atom]]:
        return [axis for group in self.groups(name) for axis in group]

    def shape(self, name: str) -> Shape:
        return tuple(self.labels.dim(axis) for axis in self.flat(name))

    def whole(self, name: str) -> Shape:
        """The shape in the model's own layout, T as a symbol."""
        return tuple(self.labels.dim(leaves(axis)) for axis in self.axes[name])

    def rewrite(self, node: Node) -> None:
        name = node.name
        if isinstance(node, n.Input | n.Constant) and self.whole(name) != self.shape(name):
            self._add(dataclasses.replace(node, shape=self.whole(name)))
            self._add(n.Reshape(name=f"{name}.split", inputs=(name,), shape=self.shape(name)), alias=name)
            return
        if isinstance(node, n.Reshape) and _ids(self.flat(name)) == _ids(self.flat(node.inputs[0])):
            self.alias[name] = self.alias[node.inputs[0]]
            return
        changes = self._attributes(node)
        if changes.get("order") == tuple(range(len(changes.get("order", (0,))))):
            self.alias[name] = self.alias[node.inputs[0]]
            return
        inputs = tuple(self.alias[i] for i in node.inputs)
        self._add(dataclasses.replace(node, inputs=inputs, shape=self.shape(name), **changes))

    def _add(self, node: Node, alias: str = "") -> None:
        self.nodes.append(node)
        self.alias[alias or node.name] = node.name

    def _attributes(self, node: Node) -> dict[str, Any]:
        """Axis numbers of a node in the new layout."""
        of = node.name if isinstance(node, n.Stack) else node.inputs[0] if node.inputs else ""
        if not of:
            return {}
        groups = self.groups(of)
        starts = [0, *accumulate(len(group) for group in groups)]

        def one(axis: int) -> int:
            if len(groups[axis]) != 1:
                raise _refuse(node, f"an axis that merges {' and '.join(map(str, self.shape(of)[:2]))}")
            return starts[axis]

        if isinstance(node, n.Reduce):
            return {"axes": tuple(k for i in node.axes for k in range(starts[i], starts[i + 1]))}
        if isinstance(node, n.Permute):
            return {"order": tuple(k for i in node.order for k in range(starts[i], starts[i + 1]))}
        if isinstance(node, n.Norm | n.Slice | n.Select | n.Concat | n.Stack):
            return {"axis": one(node.axis)}
        if isinstance(node, n.Repeat):
            return {
                "repeats": tuple(
                    c for g, c in zip(groups, node.repeats, strict=True) for c in (c, *[1] * (len(g) - 1))
                )
            }
        if isinstance(node, n.Pad):
            spread = {"before": node.before, "after": node.after}
            return {
                k: tuple(c for g, c in zip(groups, v, strict=True) for c in (c, *[0] * (len(g) - 1)))
                for k, v in spread.items()
            }
        if (trailing := TRAILING.get(type(node))) is not None:
            for axis in range(len(groups) - trailing(node), len(groups)):
                one(axis)
        return {}

    def restore(self, name: str) -> str:
        """An output in the model's own layout."""
        if self.whole(name) == self.shape(name):
            return self.alias[name]
        self._add(n.Reshape(name=f"{name}.merge", inputs=(self.alias[name],), shape=self.whole(name)))
        return f"{name}.merge"


TRAILING: dict[type[Node], Callable[[Any], int]] = {
    n.Conv: lambda node: node.weight.ndim - 1,
    n.ConvTranspose: lambda node: node.weight.ndim - 1,
    n.MaxPool: lambda node: len(node.kernel) + 1,
    n.AvgPool: lambda node: len(node.kernel) + 1,
    n.AdaptiveAvgPool: lambda node: len(node.size) + 1,
    n.Linear: lambda node: 1,
    n.MatMul: lambda node: 2,
    n.LayerNorm: lambda node: node.weight.ndim,
}


def _ids(axes: list[list[Atom]]) -> list[list[int]]:
    return [[id(leaf) for leaf in leaves(axis)] for axis in axes]
