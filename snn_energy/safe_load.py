"""Reading a file of weights, of `torch.save` or in the safetensors format, without running anything in it.

`torch.load(weights_only=True)` knows tensors and plain containers.  Besides them only `argparse.Namespace`,
which the official STAtten trainer stores, is let through, and only while a file is read here.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from snn_energy.errors import CheckpointError
from snn_energy.files import atomic_write


def safe_load(path: Path) -> Any:
    """The file's content: tensors, numbers, text, plain containers and `argparse.Namespace`.

    Raises `CheckpointError`, in one line, for anything else: a file that is missing, damaged (checksums are
    compared), of another kind, or that asks to import something, which is named and not imported.
    """
    start = beginning(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
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


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file in Hugging Face's format, which holds nothing else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: is not a safetensors file ({' '.join(str(error).split())})") from None


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


def safe_save(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write `content` to `path` whole or not at all, so that `safe_load` reads it, also after a power cut.

    Raises `CheckpointError` for a value that is of no plain type, `FileError` for what the system refuses.
    """
    stored = {key: plain(value, key) for key, value in content.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        sink = _Sink(stream)
        try:
            torch.save(stored, sink)  # type: ignore[arg-type]
        except RuntimeError:
            if sink.error is None:
                raise
            raise sink.error from None  # of which PyTorch's writer makes one without a reason
        stream.flush()
        os.fsync(stream.fileno())


class _Sink:
    """A file that is written to, and what the operating system said last."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.error: OSError | None = None
        self.flush = stream.flush

    def write(self, data: Any) -> int:
        try:
            return self.stream.write(data)
        except OSError as error:
            self.error = error
            raise


def plain(value: Any, where: str) -> Any:
    """`value` rebuilt from tensors, numbers, text, lists, tuples and dicts, which the reader accepts.

    Raises `CheckpointError`, naming `where`, for a value that is of no such type.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {plain(k, where): plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        items = [plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a NumPy scalar
        return value.item()
    raise CheckpointError(f"cannot save {where}: a {type(value).__name__} is not a plain type")


def numbers_of(rows: Any) -> list[dict[str, float]]:
    """The numbers, by name, in each of a list of tables that a file holds; nothing of what is no list."""
    if not isinstance(rows, list):
        return []
    return [
        {str(k): v for k, v in row.items() if isinstance(v, int | float)}
        for row in rows
        if isinstance(row, Mapping)
    ]
