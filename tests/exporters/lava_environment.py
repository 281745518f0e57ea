"""The Lava environment that the tests use: named, found, or built; else the reason why there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@cache
def lava_python() -> str:
    """Path of its Python; skips the test with what is missing where there is none and none can be made."""
    named = os.environ.get("SNN_ENERGY_LAVA_PYTHON")
    if named:
        return named
    command = [sys.executable, ROOT / "scripts" / "lava_env"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if made.returncode == 0:
        return made.stdout.strip().splitlines()[-1]
    reason = (made.stderr.strip() or "no reason given").splitlines()[-1]
    pytest.skip(f"no Lava: SNN_ENERGY_LAVA_PYTHON is not set and scripts/lava_env failed: {reason}")
