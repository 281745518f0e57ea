"""Fixtures that every room shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden() -> Path:
    """The reference case made by the official STAtten code (SNN_ENERGY_GOLDEN, or ../shared/golden)."""
    default = Path(__file__).parents[2] / "shared" / "golden"
    path = Path(os.environ.get("SNN_ENERGY_GOLDEN", default)) / "statten-cifar"
    if not (path / "checkpoint-0.pth.tar").is_file():
        pytest.skip(
            f"no reference case at {path}: set SNN_ENERGY_GOLDEN to the folder that holds statten-cifar/"
        )
    return path
