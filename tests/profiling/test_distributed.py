"""Sharded over processes: the same integers as in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from test_session import Net, events
from torch import multiprocessing

from snn_energy.errors import ConfigError, DataError
from snn_energy.profiling import Profile, distributed, profile


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Three batches of different sizes and kinds, so that the processes see different things."""
    parts = [events(4, 3), events(4, 2, seed=1) * 0.5, events(4, 4, seed=2)]
    return [(x, torch.arange(x.shape[1]) % 3) for x in parts]


def worker(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    try:
        distributed.profile(Net(), batches()).save(f"{folder}/{rank}.json")
        distributed.profile(Net(), batches()[:1]).save(f"{folder}/few{rank}.json")
        for bad, kind in (([], DataError), ([[[1.0]], *batches()], DataError)):
            with pytest.raises(kind):
                distributed.profile(Net(), bad)
        with pytest.raises(ConfigError):
            distributed.profile(Net(), batches(), max_samples=2)
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_count_what_one_counts(tmp_path: Path) -> None:
    multiprocessing.spawn(worker, args=(2, str(tmp_path)), nprocs=2)
    for name, parts in (("", batches()), ("few", batches()[:1])):
        alone = profile(Net(), parts)
        together = [Profile.load(tmp_path / f"{name}{rank}.json") for rank in range(2)]
        for one in together:
            assert one.rows == alone.rows
            assert (one.samples, one.correct) == (alone.samples, alone.correct)


def test_without_processes_it_is_the_plain_profile() -> None:
    assert distributed.profile(Net(), batches()).rows == profile(Net(), batches()).rows
