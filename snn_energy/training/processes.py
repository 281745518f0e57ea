"""The processes of one run: this one alone, or as many as `torchrun` started.

Each takes its share of every batch, the first one writes and speaks.  What they agree on (sums, errors,
whether to stop) goes over the CPU (gloo); gradients go between GPUs by NCCL.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from snn_energy.errors import ConfigError, FileError, SnnEnergyError
from snn_energy.training.device import choose_device

T = TypeVar("T")
AGREED = "raised_by_all"
"""Attribute of an error that every process of the group raises: one of them prints it."""


@dataclass(frozen=True)
class Group:
    """`size` processes, of which this is number `rank`; `control`: torch's group for what they agree on."""

    rank: int = 0
    size: int = 1
    control: Any = None

    @property
    def first(self) -> bool:
        """Is this the one that writes?"""
        return self.rank == 0

    def share(self, count: int) -> int:
        """How many of `count` samples dealt out in turn are this process's."""
        return len(range(self.rank, count, self.size))

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the processes."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self.control)
        return tuple(total.tolist())

    def all(self, value: T) -> list[T]:
        """The value of each process, in the order of their ranks."""
        found: list[T] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value, group=self.control)
        return found

    def each(self, work: Callable[[], T]) -> T:
        """What `work` gives in this process; an error of ours in one of them is raised in all."""
        if self.size == 1:
            return work()
        error: SnnEnergyError | None = None
        found: T | None = None
        try:
            found = work()
        except SnnEnergyError as raised:
            error = raised
        except OSError as raised:
            error = FileError.of(raised)
        if self.sums(error is not None) != (0.0,):
            told = self.all(None if error is None else (type(error), str(error)))
            kind, message = next(one for one in told if one is not None)
            again = kind.__new__(kind, message)  # some kinds are not built from their message
            setattr(again, AGREED, True)
            raise again from error
        return cast(T, found)

    def from_first(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process, where alone it runs; its error is raised in all."""
        found = self.each(lambda: work() if self.first else None)
        if self.size > 1:
            box = [found]
            dist.broadcast_object_list(box, src=0, group=self.control)
            found = box[0]
        return cast(T, found)


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[tuple[Group, torch.device]]:
    """The group that this process belongs to, and its device.

    Under `torchrun` the process group is made here and ended with the block, unless it is there already.
    A process per GPU, in the order of their local ranks.  Raises `ConfigError` for a device that is not
    there, and where the other processes cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    ours = size > 1 and not dist.is_initialized()
    if not ours and not dist.is_initialized():
        yield Group(), choose_device(device)
        return
    where = _own_device(device)
    if ours:
        try:
            dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"the {size} processes of torchrun do not find each other: {reason}") from error
    try:
        control = dist.new_group(backend="gloo") if dist.get_backend() != "gloo" else None
        yield Group(dist.get_rank(), dist.get_world_size(), control), where
    finally:
        if ours:
            dist.destroy_process_group()


def _own_device(name: str) -> torch.device:
    """The device of this process among those of its machine."""
    where = choose_device(name)
    if where.type != "cuda" or where.index is not None:
        return where
    local, here = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= here:
        raise ConfigError(
            f"process {local} of this machine has no GPU of its own: {here} here; "
            f"torchrun --nproc-per-node {here}, or --device cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def lost_a_process(error: RuntimeError) -> bool:
    """Is this what gloo and NCCL raise where another process of the group has ended?"""
    said = str(error).lower()
    return isinstance(error, dist.DistError) or ("connection" in said and "peer" in said)
