"""What really enters a layer, seen by hooks on an unwatched run, and what a profile says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from snn_energy.errors import UncountedError
from snn_energy.profiling import profile
from snn_energy.profiling.profile import OpRow, Profile

WEIGHTED = ("linear", "matmul", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d")


def entering(model: nn.Module, name: str, call: Callable[[], Any]) -> list[torch.Tensor]:
    """Copies of what enters the module `name` while `call` runs, call by call."""
    seen: list[torch.Tensor] = []
    layer = model.get_submodule(name)
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    try:
        with torch.no_grad():
            call()
    finally:
        hook.remove()
    return seen


def nonzeros(tensors: list[torch.Tensor]) -> int:
    """Nonzero elements of all."""
    return sum(int((x != 0).sum()) for x in tensors)


def elements(tensors: list[torch.Tensor]) -> int:
    """Elements of all."""
    return sum(x.numel() for x in tensors)


def total(measured: Profile, name: str, field: str, ops: tuple[str, ...] = WEIGHTED) -> int:
    """A field of the weighted rows of one module, summed."""
    return sum(getattr(row, field) for row in measured.rows if row.name == name and row.op in ops)


def row_of(measured: Profile, name: str, ops: tuple[str, ...] = WEIGHTED) -> OpRow:
    """The one weighted row of a module."""
    (row,) = [row for row in measured.rows if row.name == name and row.op in ops]
    return row


def counted(model: nn.Module, *batches: torch.Tensor, **options: Any) -> Profile:
    """A profile in which nothing is uncounted."""
    measured = profile(model, batches, **options)
    assert [row.note for row in measured.uncounted] == []
    return measured


def told(make: Callable[[], nn.Module], *batches: torch.Tensor, **options: Any) -> bool:
    """Does a profile list something uncounted, and does `strict` refuse?"""
    listed = bool(profile(make(), batches, **options).uncounted)
    try:
        profile(make(), batches, strict=True, **options)
    except UncountedError:
        return listed
    return False
