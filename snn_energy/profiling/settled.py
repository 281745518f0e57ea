"""Calls that count the same each time: the same function in the same place, with operands known alike.

A loop over time calls an operation of real operands again and again; what it counts follows from shapes
alone.  Such a call is recognised by its arguments and counted by one addition per row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from snn_energy.profiling.provenance import ATTRIBUTE, Tag

if TYPE_CHECKING:
    from snn_energy.profiling.recorder import Recorder
    from snn_energy.profiling.tally import Tally

_PLAIN = (int, float, bool, str, type(None), slice, type(...), torch.dtype, torch.Size)


class Settled:
    """What a call at one place was given, which rows it counted in, and what is known of its result."""

    __slots__ = ("args", "kwargs", "name", "rows", "tag", "watched")

    def __init__(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        rows: tuple[Tally, ...],
        tag: Tag,
        watched: int,
    ) -> None:
        self.name, self.args, self.kwargs, self.rows, self.tag = name, args, kwargs, rows, tag
        self.watched = watched  # the argument that is looked through for NaN, or -1

    @classmethod
    def of(
        cls, rec: Recorder, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], tag: Tag
    ) -> Settled | None:
        """The call that just ran, or None if others like it cannot be told by their arguments."""
        given = [entry for entry in map(_described, args) if entry is not None]
        named = {key: entry for key, value in kwargs.items() if (entry := _described(value)) is not None}
        if len(given) < len(args) or len(named) < len(kwargs):
            return None
        watched = -1
        if rec.watched is not None:
            watched = next((i for i, value in enumerate(args) if value is rec.watched), -2)
        return None if watched == -2 else cls(name, tuple(given), named, tuple(rec.touched), tag, watched)

    def matches(self, args: tuple[Any, ...], kwargs: dict[str, Any], epoch: int, clock: int) -> bool:
        """Is this call like the one remembered?"""
        if len(args) != len(self.args) or len(kwargs) != len(self.kwargs):
            return False
        for value, (tag, known) in zip(args, self.args, strict=True):
            if not _alike(value, tag, known, epoch, clock):
                return False
        for name, value in kwargs.items():
            if name not in self.kwargs:
                return False
            tag, known = self.kwargs[name]
            if not _alike(value, tag, known, epoch, clock):
                return False
        return True


def _described(value: Any) -> tuple[Tag | None, Any] | None:
    """(tag, shape) of a tensor that has a tag, (None, itself) of another and of plain values."""
    if isinstance(value, torch.Tensor):
        tag = value.__dict__.get(ATTRIBUTE)
        if tag is None:
            return None, value
        return tag, value.shape
    if isinstance(value, tuple) and all(isinstance(v, _PLAIN) for v in value):
        return None, value
    return (None, value) if isinstance(value, _PLAIN) else None


def _alike(value: Any, tag: Any, known: Any, epoch: int, clock: int) -> bool:
    if not isinstance(value, torch.Tensor):
        return tag is None and not isinstance(known, torch.Tensor) and bool(value == known)
    if tag is None:
        return value is known
    found: Any = value.__dict__.get(ATTRIBUTE)
    if found is not tag:
        return False
    unchanged = tag.epoch == epoch and tag.version == value._version and tag.clock == clock
    return unchanged and bool(value.shape == known)
