"""Every legal way to write one call of a torch function, and a network that makes them one beside the other.

A call is a name and its arguments by torch's own parameter names, in torch's order.  From these follow
candidates: the function in every namespace that has it, the method, the operator, in-place forms, `out=`,
each with the first k arguments by position and the others by keyword.  Torch itself decides which are legal:
what it accepts must give the same bits as the first one.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

B = 2
NAMESPACES = {
    "torch": torch,
    "F": F,
    "torch._C._nn": torch._C._nn,
    "special": torch.special,
    "linalg": torch.linalg,
}
# numpy's names, which torch takes as well
ALIASES = {
    "input": ("x", "a", "x1", "self"), "other": ("x2",), "dim": ("axis",), "keepdim": ("keepdims",),
    "dim0": ("axis0",), "dim1": ("axis1",), "dims": ("dim", "axes"), "training": ("train", "use_input_stats"),
    "self": ("input",), "condition": ("x",),
}  # fmt: skip
SYMBOLS = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "pow": operator.pow, "matmul": operator.matmul, "and": operator.and_,
    "or": operator.or_, "xor": operator.xor, "invert": operator.invert, "neg": operator.neg,
    "pos": operator.pos,
    "abs": operator.abs, "gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le,
    "eq": operator.eq, "ne": operator.ne, "getitem": operator.getitem, "iadd": operator.iadd,
    "isub": operator.isub, "imul": operator.imul, "itruediv": operator.itruediv, "ipow": operator.ipow,
    "iand": operator.iand, "ior": operator.ior, "ixor": operator.ixor, "ifloordiv": operator.ifloordiv,
    "iter": lambda x: list(iter(x)), "mod": operator.mod, "imod": operator.imod,
}  # fmt: skip


@dataclass(frozen=True)
class Activation:
    """An operand made from the network's input: `values` names how it is drawn (see `drawn`)."""

    shape: tuple[int, ...]
    values: str = "spikes"
    dtype: torch.dtype = torch.float32

    @property
    def is_current(self) -> bool:
        """Did a synapse make it?  One that was cast to whole numbers or truth values is none any more."""
        return self.values == "current" and self.dtype.is_floating_point


@dataclass(frozen=True)
class Constant:
    """A weight: the same in every pass."""

    tensor: Tensor


@dataclass(frozen=True)
class Example:
    """One call.  `rule` says how a plain loop counts it, `makes` what its result is.

    `makes`: "current" (of a synapse), "keeps" (a current if an operand is one), "events" (a comparison or
    rounding), "fresh" (nothing to do with the operands' values), "constant", "source:NAME" (what NAME is).
    `varied`: may its operands be drawn in other ways?  `valueless`: are the values of its result undefined?
    """

    name: str
    arguments: dict[str, Any]
    rule: str
    makes: str = "keeps"
    varied: bool = True
    valueless: bool = False
    forms: dict[str, Callable[..., Any]] = field(
        default_factory=dict
    )  # further spellings, arguments in order
    only: str = ""  # how the label of every spelling begins
    positional: int = 99  # how many arguments may be given by position: those behind leave out one of torch's

    def with_values(self, *values: str) -> Example:
        """The same call with activations drawn in other ways, in order."""
        given = iter(values)
        changed = {
            name: Activation(v.shape, next(given, v.values), v.dtype) if isinstance(v, Activation) else v
            for name, v in self.arguments.items()
        }
        return dataclasses.replace(self, arguments=changed)

    def with_dtype(self, dtype: torch.dtype) -> Example:
        """The same call with floating activations and constants of another type."""
        return dataclasses.replace(self, arguments={n: _cast(v, dtype) for n, v in self.arguments.items()})

    def lives(self, number: int) -> bool:
        """Is the argument of that number an activation?"""
        return isinstance(list(self.arguments.values())[number], Activation)

    @property
    def activations(self) -> list[Activation]:
        return [v for value in self.arguments.values() for v in flat(value) if isinstance(v, Activation)]


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, (list, tuple)) and any(isinstance(v, (Activation, Constant)) for v in value):
        return type(value)(_cast(v, dtype) for v in value)
    if isinstance(value, Activation) and value.dtype == torch.float32:
        return Activation(value.shape, value.values, dtype)
    if isinstance(value, Constant) and value.tensor.is_floating_point():
        return Constant(value.tensor.to(dtype))
    return value


def flat(value: Any) -> Iterator[Any]:
    """The leaves of nested lists and tuples."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from flat(item)
    else:
        yield value


@dataclass(frozen=True)
class Spelling:
    """One way to write the call; `write` takes the arguments by name."""

    label: str
    write: Callable[[dict[str, Any]], Any]
    in_place: bool = False


# -- candidates ---------------------------------------------------------------------------------------------


def functions(name: str) -> Iterator[tuple[str, Callable[..., Any], bool]]:
    """(label, function, does it write to its first argument?) wherever torch has `name`."""
    seen: set[Any] = set()
    for space, module in NAMESPACES.items():
        for attribute in (name, name + "_", "_" + name):
            found = module.__dict__.get(attribute) or getattr(module, attribute, None)
            if callable(found) and found not in seen and not isinstance(found, type):
                seen.add(found)
                yield f"{space}.{attribute}", found, attribute.endswith("_")


def methods(name: str) -> Iterator[tuple[str, Callable[..., Any], bool]]:
    """Unbound methods: plain, in place, and with two underscores on both sides."""
    for attribute in (name, name + "_", f"__{name}__"):
        found = getattr(Tensor, attribute, None)
        if callable(found) and getattr(object, attribute, None) is None:
            in_place = attribute.endswith("_") and not attribute.endswith("__")
            yield (
                f"Tensor.{attribute}",
                found,
                in_place or (attribute.startswith("__i") and name[1:] in SYMBOLS),
            )
        elif attribute in ("__gt__", "__ge__", "__lt__", "__le__", "__eq__", "__ne__"):
            yield f"Tensor.{attribute}", found, False


def candidates(example: Example) -> Iterator[Spelling]:
    """Spellings that may be legal."""
    names = list(example.arguments)
    for label, function, in_place in functions(example.name):
        yield from _forms(label, function, in_place, names, 0, example.positional)
        if not in_place:
            yield Spelling(f"{label}(…, out=)", _with_out(function, names, example.positional))
    for label, method, in_place in methods(example.name):
        yield from _forms(label, method, in_place, names, 1, example.positional)
        yield Spelling(f"{label}(*{names[-1]})", _spread(method, names), in_place)
    symbol = SYMBOLS.get(example.name)
    if symbol is not None:
        in_place = example.name.startswith("i") and example.name[1:] in SYMBOLS
        yield Spelling("operator", lambda given: symbol(*given.values()), in_place)
    if example.name[1:] in SYMBOLS and example.name.startswith("r"):  # a number first, the activation second
        yield Spelling("operator", lambda given: SYMBOLS[example.name[1:]](*reversed(list(given.values()))))
    for label, form in example.forms.items():
        yield Spelling(label, lambda given, form=form: form(*given.values()), "=" in label)


def _forms(
    label: str, function: Callable[..., Any], in_place: bool, names: list[str], fewest: int, most: int
) -> Iterator[Spelling]:
    """The first `most` to `fewest` arguments by position, the others by keyword, by torch's names.

    With as few by position as can be also by numpy's names, and with sequences as lists and as tuples.
    """
    for by_position in range(min(len(names), most), fewest - 1, -1):
        first, rest = names[:by_position], names[by_position:]
        renamings: list[dict[str, str]] = [{}]
        if by_position == fewest:
            renamings += [{n: alias} for n in rest for alias in ALIASES.get(n, ())]
            if len(rest) > 1:
                renamings += [{n: ALIASES[n][0] for n in rest if n in ALIASES}]
        for renamed in renamings:
            shown = ", ".join([*first, *(f"{renamed.get(n, n)}=" for n in rest)])
            yield Spelling(f"{label}({shown})", _writer(function, first, rest, renamed), in_place)
        for kind in (list, tuple) if by_position in (fewest, min(len(names), most)) else ():
            shown = ", ".join([*first, *(f"{n}=" for n in rest)])
            yield Spelling(
                f"{label}({shown}; {kind.__name__})", _writer(function, first, rest, {}, kind), in_place
            )


def _writer(
    function: Callable[..., Any], first: list[str], rest: list[str], renamed: dict[str, str], kind: Any = None
) -> Callable[[dict[str, Any]], Any]:
    """Calls `function` with the arguments `first` by position and `rest` by keyword; sequences as `kind`."""

    def write(given: dict[str, Any]) -> Any:
        used = given
        if kind is not None:
            used = {n: kind(v) if isinstance(v, (list, tuple)) and n != "hx" else v for n, v in given.items()}
            if all(type(used[n]) is type(given[n]) for n in (*first, *rest)):
                raise TypeError("no sequence that could be turned")
        return function(*(used[n] for n in first), **{renamed.get(n, n): used[n] for n in rest})

    return write


def _with_out(
    function: Callable[..., Any], names: list[str], by_position: int
) -> Callable[[dict[str, Any]], Any]:
    first, rest = names[:by_position], names[by_position:]

    def write(given: dict[str, Any]) -> Any:
        like = given["__result__"]
        if isinstance(like, Tensor):
            out = torch.empty(like.shape, dtype=like.dtype)
            result = function(*(given[n] for n in first), **{n: given[n] for n in rest}, out=out)
            assert result is out
            return out
        if not isinstance(like, tuple):
            raise TypeError("no result to give room to")
        outs = tuple(torch.empty(one.shape, dtype=one.dtype) for one in like)
        return tuple(function(*(given[n] for n in first), **{n: given[n] for n in rest}, out=outs))

    return write


def _spread(function: Callable[..., Any], names: list[str]) -> Callable[[dict[str, Any]], Any]:
    """`x.permute(1, 0)`: the last argument's entries one by one."""

    def write(given: dict[str, Any]) -> Any:
        last = given[names[-1]]
        if not isinstance(last, (list, tuple)) or not all(isinstance(v, int) for v in last):
            raise TypeError("no sequence to spread")
        return function(*(given[n] for n in names[:-1]), *last)

    return write
