"""Every legal way to write one call of a torch function, and a network that makes them one beside the other.

A call is a name and its arguments by torch's own parameter names, in torch's order.  From these follow
candidates: the function in every namespace that has it, the method, the operator, in-place forms, `out=`, each
with the first k arguments by position and the others by keyword.  Torch itself decides which are legal: what it
accepts must give the same bits as the first one.
"""

from __future__ import annotations

import dataclasses
import operator
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

B = 2
NAMESPACES = {"torch": torch, "F": F, "torch._C._nn": torch._C._nn, "special": torch.special, "linalg": torch.linalg}
# numpy's names, which torch takes as well
ALIASES = {
    "input": ("x", "a", "x1", "self"), "other": ("x2",), "dim": ("axis",), "keepdim": ("keepdims",),
    "dim0": ("axis0",), "dim1": ("axis1",), "dims": ("dim", "axes"), "training": ("train", "use_input_stats"),
    "self": ("input",), "condition": ("x",),
}  # fmt: skip
SYMBOLS = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "pow": operator.pow, "matmul": operator.matmul, "and": operator.and_,
    "or": operator.or_, "xor": operator.xor, "invert": operator.invert, "neg": operator.neg, "pos": operator.pos,
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
    forms: dict[str, Callable[..., Any]] = field(default_factory=dict)  # further spellings, arguments in order
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
            yield f"Tensor.{attribute}", found, in_place or attribute.startswith("__i") and name[1:] in SYMBOLS
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


def _forms(label: str, function: Callable[..., Any], in_place: bool, names: list[str], fewest: int, most: int) -> Iterator[Spelling]:
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
            yield Spelling(f"{label}({shown}; {kind.__name__})", _writer(function, first, rest, {}, kind), in_place)


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


def _with_out(function: Callable[..., Any], names: list[str], by_position: int) -> Callable[[dict[str, Any]], Any]:
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


# -- values -------------------------------------------------------------------------------------------------

DRAWN = {
    "spikes": lambda u: (u < 0.4).float(),
    "real": lambda u: (u * 3 - 1.3).mul(1.37),
    "graded": lambda u: (u * 4).floor(),
    "ternary": lambda u: (u < 0.3).float() - (u > 0.8).float(),
    "halves": lambda u: (u < 0.5).float() * 0.5,
    "whole": lambda u: (u * 9).floor() - 4,
    "positive": lambda u: u + 0.25,
    "above": lambda u: u + 1.25,
    "within": lambda u: u * 0.9 + 0.05,
    "current": lambda u: (u < 0.4).float(),
    "index": lambda u: (u * 2).floor(),
}


class Made(nn.Module):
    """Operands from the network's input: slices of it, reshaped and cast; a current is what a synapse made."""

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.example = example
        self.one = nn.Parameter(torch.ones(1, 1), requires_grad=False)
        for i, (value, _) in enumerate(_constants(example)):
            self.register_buffer(f"constant{i}", value.tensor.clone())

    def forward(self, x: Tensor) -> dict[str, Any]:
        self.start, self.count = 0, 0
        return {name: self._value(value, x.reshape(-1)) for name, value in self.example.arguments.items()}

    def _value(self, value: Any, x: Tensor) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(self._value(v, x) for v in value)
        if isinstance(value, Constant):
            self.count += 1
            return getattr(self, f"constant{self.count - 1}")
        if not isinstance(value, Activation):
            return value
        n = torch.Size(value.shape).numel()
        part = x[self.start : self.start + n].view(value.shape)
        self.start += n
        if value.values == "current":
            part = F.linear(part.unsqueeze(-1), self.one).squeeze(-1)
        return part.to(value.dtype) if value.dtype != torch.float32 else part.clone()


def _constants(example: Example) -> list[tuple[Constant, None]]:
    return [(v, None) for value in example.arguments.values() for v in flat(value) if isinstance(v, Constant)]


def network_input(example: Example, seed: int = 0) -> Tensor:
    """(B, n): the values of all activations one behind the other."""
    generator = torch.Generator().manual_seed(seed)
    parts = [DRAWN[a.values](torch.rand(a.shape, generator=generator)).reshape(-1) for a in example.activations]
    whole = torch.cat([*parts, torch.zeros(sum(p.numel() for p in parts) % B)]) if parts else torch.zeros(B)
    return whole.reshape(B, -1)


# -- the network --------------------------------------------------------------------------------------------


class Behind(nn.Module):
    """A linear layer of 3 outputs that reads each element of what it is given as one input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0], [2.0], [3.0]]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        column = x.reshape(-1, 1)
        column = column.float() if x.dtype == torch.bool else column
        return F.linear(column, self.weight.to(column.dtype))


class Call(nn.Module):
    """The call itself, in one spelling."""

    def __init__(self, spelling: Spelling) -> None:
        super().__init__()
        self.spelling = spelling

    def forward(self, given: dict[str, Any]) -> Any:
        return self.spelling.write(given)


class Place(nn.Module):
    """Operands, the call, and the layers behind its results; all of them are kept to be looked at."""

    def __init__(self, example: Example, spelling: Spelling, results: int, like: Any) -> None:
        super().__init__()
        self.make, self.call, self.like = Made(example), Call(spelling), like
        self.behind = nn.ModuleList(Behind() for _ in range(results))

    def forward(self, x: Tensor) -> None:
        torch.manual_seed(5)
        given = self.make(x)
        self.given = list(flat(list(given.values())))
        self.result = self.call({**given, "__result__": self.like} if "out=" in self.call.spelling.label else given)
        for layer, out in zip(self.behind, results_of(self.result), strict=False):
            layer(out)


class Network(nn.Module):
    """One place for each spelling, all fed with the same input."""

    def __init__(self, example: Example, spellings: list[Spelling], like: Any) -> None:
        super().__init__()
        n = len(results_of(like))
        self.places = nn.ModuleList(Place(example, spelling, n, like) for spelling in spellings)

    def forward(self, x: Tensor) -> Tensor:
        for place in self.places:
            place(x)
        return x


def results_of(result: Any) -> list[Tensor]:
    """The tensors of a result."""
    return [r for r in flat(list(result) if isinstance(result, tuple) else result) if isinstance(r, Tensor)]


class Spy(TorchFunctionMode):
    """Names of the functions that arrive, without underscores around them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add((getattr(func, "__name__", None) or str(func)).strip("_"))
        return func(*args, **(kwargs or {}))


@dataclass
class Legal:
    """The legal spellings of an example, the result of the first, its operands, and the names that arrived."""

    spellings: list[Spelling]
    result: Any
    operands: dict[str, Any]
    arrived: set[str]

    def few(self) -> list[Spelling]:
        """One spelling of each kind: function, method, in place, operator, by keyword."""
        kinds = {(s.in_place, s.label.partition("(")[0].partition(".")[0], "=" in s.label): s for s in self.spellings}
        return list(kinds.values())[:4]

    def again(self, example: Example) -> Legal:
        """A few of the spellings for the same call with other values."""
        few = self.few()
        with torch.no_grad():
            torch.manual_seed(5)
            made = Made(example)
            given = made(network_input(example))
            out = self.spellings[0].write(given)
            return Legal(few, out, made(network_input(example)), set())


def legal(example: Example) -> Legal:
    """Ask torch.  The first spelling that it accepts sets the result."""
    x, found, arrived, result = network_input(example), [], set(), None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="An output with one or more|Using a non-tuple sequence")
        operands = Made(example)(x)
        for spelling in candidates(example):
            if not spelling.label.startswith(example.only):
                continue
            given = Made(example)(x)
            if result is not None:
                given["__result__"] = result
            torch.manual_seed(5)
            spy = Spy()
            try:
                with spy:
                    out = spelling.write(given)
            except (TypeError, RuntimeError, ValueError, KeyError, IndexError, AttributeError, UserWarning):
                continue
            if not results_of(out):
                continue
            if result is None:
                result = out
            found.append(spelling)
            arrived |= spy.names
    return Legal(found, result, operands, arrived)
