"""Writing what `load` reads: tensors and plain values, in torch's format or as safetensors."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch

from snn_energy.errors import CheckpointError
from snn_energy.files import atomic_write
from snn_energy.reading import one_line

HEADER, WEIGHTS = "snn_energy", "state_dict"
"""Of a safetensors file: the key in its metadata for everything but the tensors, and what these are."""


def safe_save(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write `content` to `path` whole or not at all, so that `safe_load` reads it, also after a power cut.

    A path that ends in .safetensors gives a file in that format.

    Raises `CheckpointError` for a value of no plain type, `FileError` for what the system refuses.
    """
    stored = {key: plain(value, key) for key, value in content.items()}
    if Path(path).suffix == ".safetensors":
        with atomic_write(path) as temporary:
            _write_safetensors(temporary, stored)
        return
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


def _write_safetensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content`, whose only tensors are its "state_dict", in Hugging Face's format.

    Everything else becomes JSON in the metadata, under "snn_energy", where it is not None.  Raises
    `CheckpointError` for what JSON cannot hold, such as an optimizer's state.
    """
    from safetensors.torch import save_file

    rest = {key: value for key, value in content.items() if key != WEIGHTS and value is not None}
    for key, value in rest.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            where = f"cannot save {key} in a .safetensors file"
            raise CheckpointError(f"{where}: {one_line(error)}; a .pth file holds it") from None
    tensors = {name: value.detach().clone().contiguous() for name, value in content[WEIGHTS].items()}
    save_file(tensors, path, metadata={HEADER: json.dumps(rest)})


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
