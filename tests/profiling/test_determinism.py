"""The same checkpoint and samples give the same profile, in whatever batches, on any number of threads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from snn_energy.checkpoints import load
from snn_energy.data import load_data
from snn_energy.profiling import profile

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "trained-statten.pth"
SAMPLES = 24


def saved(folder: Path, size: int, threads: int = 1) -> dict[str, Any]:
    """What profile.json holds after a run in batches of `size`."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batches = load_data("digits").test.take(SAMPLES).batches(size)
        profile(load(CHECKPOINT), batches).save(folder / "profile.json")
    finally:
        torch.set_num_threads(before)
    return json.loads((folder / "profile.json").read_text())


@pytest.mark.parametrize(("size", "threads"), [(SAMPLES, 1), (SAMPLES, 2), (1, 1), (5, 2), (7, 1)])
def test_batches_and_threads_change_nothing(tmp_path: Path, size: int, threads: int) -> None:
    base, again = saved(tmp_path, SAMPLES), saved(tmp_path, size, threads)
    assert base["samples"] == SAMPLES and base["correct"] > 0
    when = {key for key in base["environment"] if base["environment"][key] != again["environment"][key]}
    assert when <= {"date"}
    assert {**base, "environment": {}} == {**again, "environment": {}}
