"""What arithmetic, reductions and rearrangements of ATen become."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from snn_energy.graph import nodes as n
from snn_energy.graph.aten import Call, Filled, handles
from snn_energy.graph.dims import times


def axis(call: Call, index: int, of: str = "self") -> int:
    """A non-negative axis of an operand."""
    return index % max(len(call.input_shape(of)), 1)


# ------------------------------------------------------------------------------------------ arithmetic


def _filled(left: Any, right: Any, function: Callable[[float, float], float]) -> Filled | None:
    """What `function` makes of two tensors of one value each, one of them of the output's shape."""
    a, b = _number(left), _number(right)
    if a is None or b is None or not (isinstance(left, Filled) or isinstance(right, Filled)):
        return None
    return Filled(function(a, b))


@handles("aten.add")
def add(call: Call) -> Any:
    return _sum(call, call["self"], call["other"], call["alpha"] or 1)


@handles("aten.sub")
def sub(call: Call) -> Any:
    left, right, alpha = call["self"], call["other"], call["alpha"] or 1
    if (filled := _filled(left, right, lambda a, b: a - alpha * b)) is not None:
        return filled
    if (number := _number(right)) is not None:
        return _sum(call, left, -number, alpha)
    return call.emit(n.Sub, left, _scaled(call, right, alpha))


@handles("aten.rsub")
def rsub(call: Call) -> Any:
    if (
        filled := _filled(call["self"], call["other"], lambda a, b: b - (call["alpha"] or 1) * a)
    ) is not None:
        return filled
    number = _number(call["other"])
    if number is None or (call["alpha"] or 1) != 1:
        return call.emit(n.Sub, call["other"], _scaled(call, call["self"], call["alpha"] or 1))
    return call.emit(n.Scale, call["self"], factor=-1.0, offset=number)


def _sum(call: Call, left: Any, right: Any, alpha: float) -> Any:
    if (filled := _filled(left, right, lambda a, b: a + alpha * b)) is not None:
        return filled
    if alpha == 1 and isinstance(right, str) and _number(left) is not None:
        left, right = right, left
    if (number := _number(right)) is not None:
        return call.emit(n.Scale, left, offset=number * alpha)
    if isinstance(left, Filled) and isinstance(right, torch.Tensor):  # weights alone, in the shape of left
        return call.emit(n.Expand, left.value + alpha * right)
    return call.emit(n.Add, left, _scaled(call, right, alpha))


def _scaled(call: Call, value: Any, alpha: float) -> Any:
    if alpha == 1:
        return value
    shape = call.converter.shape_of(value)
    return call.emit(n.Scale, value, factor=float(alpha), shape=shape)


@handles("aten.mul")
def mul(call: Call) -> Any:
    if (filled := _filled(call["self"], call["other"], lambda a, b: a * b)) is not None:
        return filled
    for value, other in ((call["self"], call["other"]), (call["other"], call["self"])):
        if (number := _number(other)) is not None and isinstance(value, str):
            return call.emit(n.Scale, value, factor=number)
    return call.emit(n.Mul, call["self"], call["other"])


@handles("aten.div")
def div(call: Call) -> Any:
    if call["rounding_mode"] is not None:
        raise call.unsupported(f"with rounding_mode={call['rounding_mode']!r}")
    if (filled := _filled(call["self"], call["other"], lambda a, b: a / b)) is not None:
        return filled
    number = _number(call["other"])
    if number is not None and math.frexp(number)[0] in (0.5, -0.5):  # a power of two: exact either way
        return call.emit(n.Scale, call["self"], factor=1 / number)
    return call.emit(n.Div, call["self"], call["other"])


def _number(value: Any) -> float | None:
    """A Python number, or the one number in a tensor without axes."""
    if isinstance(value, Filled):
        return value.value
    if isinstance(value, torch.Tensor) and value.dim() == 0:
        return float(value)
    return float(value) if isinstance(value, int | float) else None


@handles(
    "aten.sigmoid", "aten.relu", "aten.tanh", "aten.gelu", "aten.silu", "aten.sqrt", "aten.exp", "aten.abs"
)
def activation(call: Call) -> str:
    kind = call.node.target._opname.removesuffix("_")  # type: ignore[union-attr]
    if kind == "gelu" and call["approximate"] not in (None, "none"):
        raise call.unsupported("approximated by tanh")
    return call.emit(n.Activation, call["self"], kind=kind)


@handles("aten.where")
def where(call: Call) -> Any:
    """c·a + (1 - c)·b: exact for the 0 and 1 of a comparison and finite values."""
    condition, a, b = call["condition"], call["self"], call["other"]
    if not isinstance(condition, str):
        raise call.unsupported("whose condition is not computed from the input")
    parts = []
    for gate, value in ((condition, a), (None, b)):
        number = _number(value)
        if number == 0:
            continue
        gate = gate or call.emit(
            n.Scale, condition, factor=-1.0, offset=1.0, shape=call.converter.shape_of(condition)
        )
        if number is not None:
            parts.append(call.emit(n.Scale, gate, factor=number))
        else:
            parts.append(call.emit(n.Mul, value, gate))
    if not parts:
        return Filled(0.0)
    return parts[0] if len(parts) == 1 else call.emit(n.Add, *parts)


@handles("aten.neg")
def negative(call: Call) -> str:
    return call.emit(n.Scale, call["self"], factor=-1.0)


@handles("aten.softmax")
def softmax(call: Call) -> str:
    if axis(call, call["dim"]) != len(call.shape) - 1:
        raise call.unsupported("along an axis that is not the last")
    return call.emit(n.Activation, call["self"], kind="softmax")


@handles("aten.mean", "aten.sum", "aten.amax")
def reduce(call: Call) -> str:
    kind = {"mean": "mean", "sum": "sum", "amax": "max"}[call.node.target._opname]  # type: ignore[union-attr]
    rank = len(call.input_shape("self"))
    dims = call["dim"]
    chosen = [dims] if isinstance(dims, int) else list(dims or range(rank))
    axes = tuple(sorted(d % rank for d in chosen))
    return call.emit(n.Reduce, call["self"], kind=kind, axes=axes, keepdims=bool(call["keepdim"]))


# ---------------------------------------------------------------------------------------- rearrangement


@handles(
    *(
        f"aten.{name}"
        for name in ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze")
    ),
    "aten.view_as",
    "aten.reshape_as",
)
def reshape(call: Call) -> str:
    return call.emit(n.Reshape, call["self"])


@handles("aten.permute", "aten.transpose", "aten.t", "aten.movedim", "aten.mT", "aten.numpy_T")
def permute(call: Call) -> str:
    rank = len(call.input_shape("self"))
    positions = torch.empty(tuple(range(2, rank + 2)), device="meta")  # sizes tell the axes apart
    args = {**call.args, "self": positions}
    moved = call.node.target(**args)  # type: ignore[operator]
    return call.emit(n.Permute, call["self"], order=tuple(size - 2 for size in moved.shape))


@handles("aten.expand", "aten.expand_as", "aten.broadcast_to")
def expand(call: Call) -> str:
    return call.emit(n.Expand, call["self"])


@handles("aten.repeat", "aten.tile")
def repeat(call: Call) -> Any:
    old, new = call.input_shape("self"), call.shape
    value = call["self"]
    counts = list(call["repeats"] if "repeats" in call.args else call["dims"])
    counts = [1] * (len(new) - len(counts)) + counts
    padded = (1,) * (len(new) - len(old)) + tuple(old)
    if any(count != 1 and size != 1 for count, size in zip(counts, padded, strict=True)):
        return call.emit(n.Repeat, value, repeats=tuple(int(c) for c in counts))
    if len(new) != len(old):
        value = call.emit(n.Reshape, value, shape=padded)
    return call.emit(n.Expand, value)


@handles("aten.slice", "aten.narrow")
def slice_(call: Call) -> Any:
    if call["step"] is None and "length" in call.args:  # narrow
        start, stop, step = call["start"], call["start"] + call["length"], 1
    else:
        start, stop, step = call["start"] or 0, call["end"], call["step"] or 1
    where = axis(call, call["dim"])
    size = call.input_shape("self")[where]
    if (
        start == 0
        and step == 1
        and (stop is None or (isinstance(stop, int) and stop > 2**40) or stop == size)
    ):
        return call["self"]
    if not isinstance(size, int):
        raise call.unsupported("that cuts the batch")
    start, stop, _ = slice(start, stop, step).indices(size)
    return call.emit(n.Slice, call["self"], axis=where, start=start, stop=stop, step=step)


@handles("aten.select")
def select(call: Call) -> str:
    where = axis(call, call["dim"])
    size = call.input_shape("self")[where]
    if not isinstance(size, int):
        raise call.unsupported("that picks from the batch")
    return call.emit(n.Select, call["self"], axis=where, index=call["index"] % size)


@handles("aten.unbind")
def unbind(call: Call) -> list[str]:
    where = axis(call, call["dim"])
    shape = call.input_shape("self")
    rest = shape[:where] + shape[where + 1 :]
    if not isinstance(shape[where], int):
        raise call.unsupported("that takes the batch apart")
    return [
        call.emit(n.Select, call["self"], axis=where, index=i, shape=rest) for i in range(int(shape[where]))
    ]


@handles("aten.split", "aten.split_with_sizes", "aten.chunk", "aten.tensor_split")
def split(call: Call) -> list[str]:
    where = axis(call, call["dim"])
    shape = call.input_shape("self")
    parts, start = [], 0
    for value in call.node.meta["val"]:
        width = value.shape[where]
        if not isinstance(width, int):
            raise call.unsupported("that cuts the batch")
        new = (*shape[:where], width, *shape[where + 1 :])
        parts.append(call.emit(n.Slice, call["self"], axis=where, start=start, stop=start + width, shape=new))
        start += width
    return parts


@handles("aten.cat", "aten.concat")
def concat(call: Call) -> str:
    parts = call["tensors"]
    rank = len(call.shape)
    return call.emit(n.Concat, *parts, axis=call["dim"] % rank)


@handles("aten.stack")
def stack(call: Call) -> str:
    return call.emit(n.Stack, *call["tensors"], axis=call["dim"] % len(call.shape))


@handles("aten.pad", "aten.constant_pad_nd", "aten.zero_pad2d")
def pad(call: Call) -> str:
    if call["mode"] not in (None, "constant"):
        raise call.unsupported(f"of mode {call['mode']!r}")
    rank = len(call.shape)
    before, after = [0] * rank, [0] * rank
    for i, (low, high) in enumerate(zip(call["pad"][::2], call["pad"][1::2], strict=True)):
        before[rank - 1 - i], after[rank - 1 - i] = low, high
    return call.emit(
        n.Pad, call["self"], before=tuple(before), after=tuple(after), value=float(call["value"] or 0.0)
    )


# ---------------------------------------------------------------------------- nothing, in inference


@handles(
    "aten.contiguous",
    "aten.clone",
    "aten.detach",
    "aten.alias",
    "aten.to",
    "aten._to_copy",
    "aten.lift_fresh_copy",
    "aten.type_as",
    "aten.float",
)
def identity(call: Call) -> Any:
    return call["self"]


@handles("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout")
def dropout(call: Call) -> Any:
    if call["train"]:
        raise call.unsupported("in training mode")
    return call["input"]


@handles("aten.full_like", "aten.new_full", "aten.full")
def full(call: Call) -> Filled:
    return Filled(float(call["fill_value"]))


@handles("aten.zeros_like", "aten.new_zeros", "aten.zeros")
def zeros(call: Call) -> Filled:
    return Filled(0.0)


@handles("aten.ones_like", "aten.new_ones", "aten.ones")
def ones(call: Call) -> Filled:
    return Filled(1.0)


@handles("aten.sym_size", "aten.sym_numel", "aten._assert_tensor_metadata", "aten._assert_scalar")
def about_sizes(call: Call) -> Any:
    return call.node.meta.get("val")


@handles("aten.numel")
def numel(call: Call) -> Any:
    return times(*call.input_shape("self"))
