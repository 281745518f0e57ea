"""Training: a recipe, the loop that runs it, its losses.

Names are imported when first used: what asks for a device alone does not wait for the loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn_energy.training.loop import Result, train
    from snn_energy.training.recipe import Recipe, list_recipes, load_recipe
    from snn_energy.training.run import Step

__all__ = ["Recipe", "Result", "Step", "list_recipes", "load_recipe", "train"]

_HOME = {
    "Recipe": "recipe",
    "Result": "loop",
    "Step": "run",
    "list_recipes": "recipe",
    "load_recipe": "recipe",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
