"""What all tests of old names want."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import pytest

from snn_energy.compat.idle import IDLE


@pytest.fixture(autouse=True)
def without_idle_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """einops and torchinfo as where they are not installed, whether or not they are."""
    find = importlib.machinery.PathFinder.find_spec

    def hidden(name: str, *args: Any, **kwargs: Any) -> Any:
        return None if name.split(".")[0] in IDLE else find(name, *args, **kwargs)

    monkeypatch.setattr(importlib.machinery.PathFinder, "find_spec", hidden)
    for name in [name for name in sys.modules if name.split(".")[0] in IDLE]:
        monkeypatch.delitem(sys.modules, name)
