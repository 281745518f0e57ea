"""The samples that an export keeps, so that it can be verified again without their data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snn_energy.arrays import read_npz
from snn_energy.files import atomic_write

SAMPLES_FILE = "samples.npz"
KEPT = 32  # of the samples verified, where a target keeps none itself


def write_arrays(folder: Path, arrays: Mapping[str, Any]) -> None:
    """Write samples.npz: `real` (N, ...), `y` (N,) if known, `x` for a netlist's messages."""
    with atomic_write(folder / SAMPLES_FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **dict(arrays))


def kept(x: Any, y: Any = None) -> dict[str, Any]:
    """The arrays of samples as the network takes them, `KEPT` of them, and of their classes."""
    return {"real": np.asarray(x)} | ({} if y is None else {"y": np.asarray(y)[:KEPT]})


def read_arrays(path: Path) -> dict[str, Any]:
    """What samples.npz holds; nothing if there is none.  Raises `DataError` for a damaged one."""
    if not path.exists():
        return {}
    return read_npz(path, "file of samples")[1]
