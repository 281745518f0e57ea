"""Trained networks that come with the package: small files of weights, known by name.

`trained/index.yaml` says of each what it is, the command that made it, and how well it does; a name may stand
wherever a checkpoint's path may.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from snn_energy.errors import CheckpointError, suggest

FOLDER = Path(__file__).parent / "trained"


@dataclass(frozen=True)
class Trained:
    """A packaged network: what it is, the command that made it, its accuracy on the test part."""

    name: str
    command: str
    summary: str
    accuracy: float

    @property
    def path(self) -> Path:
        """The file of weights."""
        return FOLDER / f"{self.name}.pth"

    @property
    def words(self) -> str:
        """One line for a list."""
        return f"{self.summary}: {self.accuracy:.2%} ({self.command})"


@functools.cache
def packaged() -> dict[str, Trained]:
    """All packaged networks by name."""
    index = yaml.safe_load((FOLDER / "index.yaml").read_text("utf-8"))
    return {name: Trained(name, **entry) for name, entry in index.items()}


def checkpoint_path(given: str | os.PathLike[str]) -> Path:
    """The file that `given` means: a path, or the name of a packaged network if there is no such file.

    Raises `CheckpointError` for a bare name, without folder or ending, that is neither.
    """
    path = Path(given)
    if path.is_file() or path.name != os.fspath(given) or path.suffix:
        return path
    known = packaged()
    if path.name not in known:
        if path.exists():
            return path
        raise CheckpointError(f"{path}: no such file, and no packaged network; {suggest(path.name, known)}")
    return known[path.name].path
