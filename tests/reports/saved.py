"""Profiles that were measured once, and a page with every section there is."""

from __future__ import annotations

import dataclasses
import gzip
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from snn_energy.profiling.profile import Profile

FOLDER = Path(__file__).parent / "profiles"


def saved(name: str) -> Profile:
    """`digits`: tests/checkpoints/trained-statten.pth on 64 digits.

    `statten-8-768`: STAtten 8-768 on two images of noise, 224 × 224, its weights random, its norms fitted
    to one of them so that neurons fire.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.json"
        path.write_bytes(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
        return Profile.load(path)


def with_history(profile: Profile) -> Profile:
    """The same with the log of a training: ten epochs, of one no energy."""
    rows = [
        {
            "epoch": e,
            "loss": 2.0 / (e + 1),
            "test_accuracy": 1 - 0.8 / (e + 1),
            "energy_uj_exact": 0.3 - 0.01 * e,
        }
        for e in range(10)
    ]
    rows[4]["energy_uj_exact"] = float("nan")
    return dataclasses.replace(profile, history=tuple(rows))


def some_maps() -> tuple[Any, ...]:
    """Maps of two samples as `profiling.maps.sample_maps` gives them, without a network."""
    draw = np.random.default_rng(0)

    def layer(name: str, cam: bool) -> Any:
        return SimpleNamespace(
            name=name, spikes=draw.random((5, 3)), cam=draw.random((5, 3)) if cam else None
        )

    layers = (layer("patch_embed.lif", True), layer("block.0.attn.q_lif", False))
    return tuple(
        SimpleNamespace(image=draw.random((9, 7)), predicted=4, label=n, layers=layers) for n in range(2)
    )
