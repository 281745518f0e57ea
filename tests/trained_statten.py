"""A small STAtten that was really trained, on the embedded digits: once per test run, in some seconds."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from snn_energy.training import Result, load_recipe, train

SMALL = (
    "embed_dims=32", "depths=1", "T=2", "batch_size=32", "epochs=3", "lr=0.02", "warmup_epochs=0.5",
    "random_affine=0", "ema_decay=0",
)  # fmt: skip
_folder = tempfile.TemporaryDirectory(prefix="trained-statten-")


@cache
def trained() -> Result:
    """Where its checkpoint is, and its accuracy, some 84 %."""
    result = train(load_recipe("digits-statten", SMALL), Path(_folder.name), device="cpu")
    assert result.accuracy > 0.7
    return result
