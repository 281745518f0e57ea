"""A line of code is one row, however often Python has run it, whatever it compares with, in shards too."""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from snn_energy.profiling import OpRow, Profile, profile

Forward = Callable[[Any, torch.Tensor], torch.Tensor]


def methods(self: Any, x: torch.Tensor) -> torch.Tensor:
    return self.f(x).relu().sigmoid().square()


def builtins(self: Any, x: torch.Tensor) -> torch.Tensor:
    total: Any = sum([self.f(x), self.f(x), x[:, :3]])
    return total


def reduced(self: Any, x: torch.Tensor) -> torch.Tensor:
    both: torch.Tensor = functools.reduce(operator.add, [self.f(x), self.f(x)])
    return both.exp()


def mapped(self: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.stack(list(map(torch.tanh, [self.f(x), self.f(x)])))[0]


def fresh(forward: Forward) -> nn.Module:
    """A network whose forward Python has never run: it adapts each code object on its own."""
    model = nn.Module()
    model.forward = types.MethodType(types.FunctionType(forward.__code__.replace(), globals()), model)
    torch.manual_seed(0)
    model.f = nn.Linear(5, 3)
    return model


def rows(measured: Profile) -> list[dict[str, object]]:
    return [dataclasses.asdict(row) for row in measured.rows]


@pytest.mark.parametrize("forward", [methods, builtins, reduced, mapped])
def test_a_line_stays_one_row_when_python_has_warmed_up(forward: Forward) -> None:
    batches = [torch.rand(2 + n % 3, 5, generator=torch.Generator().manual_seed(n)) for n in range(30)]
    model = fresh(forward)
    together = profile(model, batches)
    assert len({row.op for row in together.rows}) == len(together.rows)
    assert {row.calls for row in together.rows} <= {sum(map(len, batches)), 2 * sum(map(len, batches))}
    warm = profile(model, batches)
    apart = Profile.merge([profile(fresh(forward), [batch]) for batch in batches])
    assert rows(together) == rows(warm) == rows(apart)


class Asks(nn.Module):
    """Compares a membrane with None, as snnTorch does, and with what answers for itself."""

    class Gain:
        def __radd__(self, other: torch.Tensor) -> torch.Tensor:
            return other + 0.5

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v = self.f(x)
        given = v != None  # noqa: E711
        if v == None or v == "reset" or v != self.Gain() or not given:  # noqa: E711
            return v
        v += self.Gain()
        return v + self.Gain()


def test_what_torch_leaves_to_python_is_no_operation() -> None:
    torch.manual_seed(0)
    model, x = Asks(), torch.rand(4, 5)
    seen: list[torch.Tensor] = []
    model.register_forward_hook(lambda module, args, out: seen.append(out))
    measured = profile(model, [x], strict=True)
    assert torch.equal(seen[-1], model.f(x) + 0.5 + 0.5)
    found: list[OpRow] = [row for row in measured.rows if row.op != "linear"]
    assert [(row.op, row.ac) for row in found] == [("add", 12), ("add", 12)]


class WeightFirst(nn.Module):
    """A weight of five rows in front: with five samples its rows look like samples."""

    T = 4

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.rand(5, 6) + 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([(self.w @ x[:, t]).sum((1, 2)) for t in range(4)], 1)


@pytest.mark.parametrize("sizes", [(3, 5), (5, 3), (2, 5, 1), (5, 5)])
def test_a_split_over_steps_that_one_shard_lacks_is_left_out(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = WeightFirst()
    batches = [(torch.rand(n, 4, 6, 7) < 0.4).float() for n in sizes]
    together = profile(model, batches)
    assert rows(Profile.merge([profile(model, [batch]) for batch in batches])) == rows(together)
    row = next(row for row in together.rows if row.op == "matmul")
    assert sum(row.input_nonzero_by_step) in (0, row.input_nonzero)
