"""All that a run needs to go on as if nothing had happened, as plain values."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn_energy.errors import CheckpointError, ConfigError
from snn_energy.safe_load import numbers_of, safe_load
from snn_energy.training.recipe import Recipe, recipe_from_dict

FORMAT, VERSION = "snn-energy run", 1
CHANGEABLE = ("name", "workers")
"""Fields of a recipe that change nothing of what comes out."""


@dataclasses.dataclass
class Position:
    """Where in its epochs a run stands.

    `batch`: of this epoch, batches behind it, as one process counts them; `loss`, `right`, `seen`: sums over
    its samples so far, in all processes; `order`: the state in which the shuffling generator began the epoch.
    """

    epoch: int = 1
    batch: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0
    order: torch.Tensor | None = None


def generators(device: torch.device) -> dict[str, Any]:
    """The global generators of torch, NumPy and Python in this process."""
    numpy: Any = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [numpy[0], torch.from_numpy(numpy[1].astype(np.int64)), *numpy[2:]],
        "python": [version, torch.tensor(internal), gauss],
    }


def set_generators(state: Mapping[str, Any], device: torch.device) -> None:
    """What `generators` gave."""
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["device"], device)
    kind, keys, place, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), place, has_gauss, gauss))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))


def read_state(path: Path) -> dict[str, Any]:
    """A state that was saved.  Raises `CheckpointError` for any other file."""
    state = safe_load(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is not the state of a run (resume.pth)")
    if state.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: is of format version {state.get('version')!r}; this snn-energy reads version {VERSION}"
        )
    missing = [key for key in ("recipe", "processes", "samples", "torch", "config", "at") if key not in state]
    if missing:
        raise CheckpointError(f"{path}: is not the state of a run: {', '.join(missing)} missing")
    return state | {"history": numbers_of(state.get("history"))}


def recipe_of(state: Mapping[str, Any], path: Path) -> Recipe:
    """What the run was told when it began."""
    try:
        return recipe_from_dict(state["recipe"])
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None


def check_same(state: Mapping[str, Any], recipe: Recipe, processes: int, samples: int, path: Path) -> None:
    """Raise `ConfigError` where what is asked for now is not what the run in `path` began as."""
    began = recipe_of(state, path)
    for field in dataclasses.fields(recipe):
        was, now = getattr(began, field.name), getattr(recipe, field.name)
        if was != now and field.name not in CHANGEABLE:
            raise ConfigError(
                f"{field.name} = {now!r}: the run in {path.parent} began with {was!r}; --resume goes on with "
                "it as it is, --overwrite begins anew"
            )
    if state["processes"] != processes:
        raise ConfigError(
            f"{processes} processes: the run in {path.parent} began with {state['processes']}; "
            "resume it with as many"
        )
    if state["samples"] != samples:
        raise ConfigError(
            f"{recipe.data}: has {samples} training samples, had {state['samples']} when the run in "
            f"{path.parent} began"
        )
