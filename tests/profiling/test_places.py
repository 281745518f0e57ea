"""A line of the network's code is one row, however often Python has run it, and whatever it compares with."""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
from collections.abc import Callable

import pytest
import torch
from torch import nn

from snn_energy.profiling import OpRow, Profile, profile

Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def methods(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return self.f(x).relu().sigmoid().square()


def builtins(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return sum([self.f(x), self.f(x), x[:, :3]])


def reduced(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return functools.reduce(operator.add, [self.f(x), self.f(x)]).exp()


def mapped(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.stack(list(map(torch.tanh, [self.f(x), self.f(x)])))[0]


def fresh(forward: Forward) -> nn.Module:
    """A network whose forward Python has never run: it adapts each code object on its own."""
    code = types.FunctionType(forward.__code__.replace(), globals())
    model = type("Net", (nn.Module,), {"forward": code})()
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
        if v == None or not v != None or v == "reset" or not v == self.Gain():  # noqa: E711
            return v
        v += self.Gain()
        return v + self.Gain()


def test_what_torch_leaves_to_python_is_no_operation() -> None:
    torch.manual_seed(0)
    model, x = Asks(), torch.rand(4, 5)
    seen: list[torch.Tensor] = []
    model.register_forward_hook(lambda module, args, out: seen.append(out))
    measured = profile(model, [x], strict=True)
    assert torch.equal(seen[0], model.f(x) + 0.5 + 0.5)
    found: list[OpRow] = [row for row in measured.rows if row.op != "linear"]
    assert [(row.op, row.ac) for row in found] == [("add", 12), ("add", 12)]
