"""Profiling on several processes (torchrun): each counts its share, all get the whole.

Counts are integers and `Profile.merge` only adds them, so the result does not depend on how many
processes took part.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any

import torch.distributed as dist
from torch import nn

from snn_energy.errors import ConfigError, DataError, SnnEnergyError
from snn_energy.profiling import session
from snn_energy.profiling.batches import holds_samples
from snn_energy.profiling.profile import Profile


def profile(model: nn.Module, batches: Iterable[Any], **options: Any) -> Profile:
    """Like `session.profile`, batches dealt out in turn to the processes of the default group.

    Every process must pass the same `batches`; every process returns the profile of all of them.  Without a
    process group this is `session.profile` itself.  An error on one process is raised on all.
    Raises `ConfigError` for `max_samples`, which one process cannot decide alone: cut the data instead.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return session.profile(model, batches, **options)
    if options.get("max_samples") is not None:
        raise ConfigError("max_samples cannot be shared among processes: pass fewer batches instead")
    part: Profile | SnnEnergyError | None
    try:
        part = _share(model, batches, options)
    except SnnEnergyError as error:
        part = error
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, part)
    for answer in gathered:
        if isinstance(answer, SnnEnergyError):
            raise answer
    profiles = [answer for answer in gathered if answer is not None]
    if not profiles:
        raise DataError("no samples to profile: the batches are empty")
    return Profile.merge(profiles)


def _share(model: nn.Module, batches: Iterable[Any], options: dict[str, Any]) -> Profile | None:
    """This process's profile, or None where there were fewer batches than processes."""
    mine = islice(filter(holds_samples, batches), dist.get_rank(), None, dist.get_world_size())
    first = next(mine, None)
    return None if first is None else session.profile(model, chain([first], mine), **options)
