"""A short run of `scripts/fuzz`: files changed at random give one of our errors, or are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.attack import Outcome, attack
from fuzz.targets import Target, laid_out, targets

NAMES = (
    "profile.json", "checkpoint", "official checkpoint", "old checkpoint", "safetensors", "graph", "netlist",
    "samples", "samples, stored", "IDX", "IDX, gzipped", "CIFAR", "recipe", "convention", "costs",
    "official YAML", "verification", "command line",
)  # fmt: skip


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    yield targets(tmp_path_factory.mktemp("right"))


def test_every_target_is_run(known: dict[str, Target]) -> None:
    assert tuple(known) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_right_files_are_read(known: dict[str, Target], name: str, tmp_path: Path) -> None:
    laid_out(known[name], tmp_path / "f")
    known[name].mend(tmp_path / "f")
    known[name].read(tmp_path / "f")


@pytest.mark.parametrize("name", NAMES)
def test_changed_files_give_our_errors(known: dict[str, Target], name: str, tmp_path: Path) -> None:
    outcomes: dict[str, Outcome] = {}
    for seed in range(20):
        found = attack(known[name], tmp_path, seed)
        outcomes[found.kind] = found
    assert set(outcomes) <= {"read", "refused"}, outcomes
