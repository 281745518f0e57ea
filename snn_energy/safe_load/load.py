"""Reading a file of weights, of `torch.save` or in the safetensors format, without running anything in it.

`torch.load(weights_only=True)` knows tensors and plain containers.  Besides them only `argparse.Namespace`,
which the official STAtten trainer stores, is let through, and only while a file is read here.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from snn_energy.errors import CheckpointError
from snn_energy.reading import one_line, parse_json
from snn_energy.safe_load.save import HEADER, WEIGHTS
from snn_energy.safe_load.screen import screen


def safe_load(path: Path) -> Any:
    """The file's content: tensors, numbers, text, plain containers and `argparse.Namespace`.

    Raises `CheckpointError`, in one line, for anything else: a file that is missing, damaged (checksums are
    compared), of another kind, or that asks to import something, which is named and not imported.
    """
    beginning(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    screen(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what passed may still be what this PyTorch cannot read
        raise CheckpointError(
            f"{path}: PyTorch {torch.__version__} cannot read it ({one_line(error)})"
        ) from None


def beginning(path: Path) -> bytes:
    """The first bytes of a file.  Raises `CheckpointError` for no file, or what is plainly no checkpoint."""
    if path.is_dir():
        raise CheckpointError(f"{path}: is a directory, must be a checkpoint file")
    try:
        with path.open("rb") as stream:
            start = stream.read(64)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    if not start:
        raise CheckpointError(f"{path}: is empty")
    if start.lstrip().startswith(b"<"):
        raise CheckpointError(f"{path}: is a web page, not a checkpoint (a download that went wrong?)")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: is a Git LFS pointer, not the file itself (git lfs pull)")
    return start


def _safetensors(path: Path) -> dict[str, Any]:
    """The tensors of a file in Hugging Face's format; of ours, all that `safe_save` was given."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: is not a safetensors file ({one_line(error)})") from None
    if HEADER not in metadata:
        return tensors
    told = parse_json(metadata[HEADER], f"{path}: {HEADER} in its metadata", CheckpointError)
    if not isinstance(told, dict) or set(told) & {WEIGHTS}:
        raise CheckpointError(f"{path}: {HEADER} in its metadata must be a JSON object without {WEIGHTS}")
    return {**told, WEIGHTS: tensors}


def numbers_of(rows: Any) -> list[dict[str, float]]:
    """The numbers, by name, in each of a list of tables that a file holds; nothing of what is no list."""
    if not isinstance(rows, list):
        return []
    return [
        {str(k): v for k, v in row.items() if isinstance(v, int | float)}
        for row in rows
        if isinstance(row, Mapping)
    ]
