"""Fixtures that every room shares."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a busy processor is no failure
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork go first: once PyTorch's autograd has threads of its own, no fork of it can train."""

    def forks(item: pytest.Item) -> bool:
        return any(hasattr(getattr(item, "module", None), name) for name in ("FORKS", "GROUPS"))

    items.sort(key=forks, reverse=True)


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


@pytest.fixture(scope="module")
def capture_once() -> Iterator[None]:
    """Capturing takes seconds and has tests of its own: with this, one graph per model and input shape."""
    from snn_energy.graph.capture import capture

    graphs: dict[Any, tuple[Any, Any]] = {}

    def once(model: Any, example: Any, meta: Any = None, **how: Any) -> Any:
        key = (id(model), tuple(example.shape), *sorted(how.items()))
        if key not in graphs:
            graphs[key] = (model, capture(model, example, **how))
        return dataclasses.replace(graphs[key][1], meta=meta or {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("snn_energy.exporters.network.capture", once)
        yield
