"""A network that makes one call in all its spellings, side by side; and torch's word on which are legal."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from spellings import Activation, B, Constant, Example, Spelling, candidates, flat
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

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
    """Operands: slices of the network's input, reshaped and cast; a current is what a synapse made."""

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
    parts = [
        DRAWN[a.values](torch.rand(a.shape, generator=generator)).reshape(-1) for a in example.activations
    ]
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
        self.make, self.call, self.like = Made(example), Call(spelling), None if example.valueless else like
        self.valueless = example.valueless
        self.behind = nn.ModuleList(Behind() for _ in range(results))
        self.kept = SimpleNamespace()  # where profiling does not put back what it held

    def forward(self, x: Tensor) -> None:
        torch.default_generator.manual_seed(5)
        given = self.make(x)
        self.kept.given = list(flat(list(given.values())))
        result = self.call(
            {**given, "__result__": self.like} if "out=" in self.call.spelling.label else given
        )
        with torch._C.DisableTorchFunction():  # a copy: what lies in the model's own tensors is put back
            self.kept.result = None if self.valueless else copy.deepcopy(result)
        for layer, out in zip(self.behind, results_of(result), strict=False):
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
    """The legal spellings of an example, the first's result, its operands, and the names that arrived."""

    spellings: list[Spelling]
    result: Any
    operands: dict[str, Any]
    arrived: set[str]

    def few(self) -> list[Spelling]:
        """One spelling of each kind: function, method, in place, operator, by keyword."""
        kinds = {
            (s.in_place, s.label.partition("(")[0].partition(".")[0], "=" in s.label): s
            for s in self.spellings
        }
        return list(kinds.values())[:4]

    def again(self, example: Example) -> Legal:
        """A few of the spellings for the same call with other values."""
        few = self.few()
        with torch.no_grad():
            torch.default_generator.manual_seed(5)
            made = Made(example)
            given = made(network_input(example))
            out = self.spellings[0].write(given)
            return Legal(few, out, made(network_input(example)), set())


def legal(example: Example, at_most: int = 999) -> Legal:
    """Ask torch.  The first spelling that it accepts sets the result.  Stops at `at_most` spellings."""
    x, found, arrived, result = network_input(example), [], set(), None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="An output with one or more|Using a non-tuple sequence")
        operands = Made(example)(x)
        for spelling in candidates(example):
            if not spelling.label.startswith(example.only):
                continue
            if len(found) == at_most:
                break
            given = Made(example)(x)
            if result is not None:
                given["__result__"] = result
            torch.default_generator.manual_seed(5)
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
