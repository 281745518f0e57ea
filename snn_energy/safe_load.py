"""Reading a file that `torch.save` wrote without running anything in it.

`torch.load(weights_only=True)` knows tensors and plain containers.  Besides them only `argparse.Namespace`,
which the official STAtten trainer stores, is let through, and only while a file is read here.
"""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from snn_energy.errors import CheckpointError


def safe_load(path: Path) -> Any:
    """The file's content: tensors, numbers, text, plain containers and `argparse.Namespace`.

    Raises `CheckpointError`, in one line, for anything else: a file that is missing, damaged (checksums are
    compared), of another kind, or that asks to import something, which is named and not imported.
    """
    start = beginning(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            if start.startswith(b"PK"):
                _check_sums(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything inside the unpickler
        raise CheckpointError(f"{path}: {_explain(error, start)}") from None


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


def _check_sums(path: Path) -> None:
    """Raise `BadZipFile` where a record differs from its checksum, which `torch.load` does not look at.

    An archive without a single right sum was written without sums (`set_crc32_options(False)`) and passes.
    """
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        damaged = [record.filename for record in records if not _is_whole(archive, record)]
    if damaged and len(damaged) < len(records):
        raise zipfile.BadZipFile(damaged[0])


def _is_whole(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(record) as stream:
            while stream.read(1 << 20):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _explain(error: Exception, start: bytes) -> str:
    """One line for an exception of `torch.load`."""
    message = str(error)
    refused = re.search(r"(?:GLOBAL|class) ([A-Za-z_][\w.]*\.\w+)", message)
    if refused:
        return (
            f"refused: it asks to import {refused[1]}; only tensors and plain types are read, nothing was run"
        )
    newer = re.search(r"Unsupported operand 1(3[89]|4\d|5[01])\b", message)
    if newer:
        return (
            "refused: pickled with protocol 4 or newer; only torch.save's protocol 2 is read, nothing was run"
        )
    if "TorchScript" in message:
        return "is a TorchScript archive, must be a checkpoint of weights"
    if start.startswith(b"PK"):
        return "is a damaged or truncated archive, or not one written by torch.save"
    return "is not a checkpoint (neither a torch.save archive nor a pickle of plain types), or is truncated"
