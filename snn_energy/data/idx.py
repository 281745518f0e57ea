"""IDX files, the format of MNIST and its kin: http://yann.lecun.com/exdb/mnist (section "file formats")."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from snn_energy.errors import DataError
from snn_energy.reading import limit, one_line, open_regular, too_large

MOST_AXES = 8
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, plain or gzipped (by its content, not its name).

    Raises `DataError` where the file is missing, no IDX file, or its size is not what its header says.
    """
    try:
        with open_regular(path, "IDX file", "arrays") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            return _read(path, gzip.GzipFile(fileobj=stream) if packed else stream)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from error


def _read(path: Path, stream: Any) -> np.ndarray:
    """The array behind a header; as much is read as the header says, and one byte more."""
    raw = stream.read(4)
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in DTYPES:
        raise DataError(
            f"{path}: not an IDX file (starts with {raw[:4].hex() or 'nothing'}, expected 0000, type, rank)"
        )
    rank, dtype = raw[3], np.dtype(DTYPES[raw[2]])
    if rank > MOST_AXES:
        raise DataError(f"{path}: its header says {rank} axes; must be 1 to {MOST_AXES}")
    axes = stream.read(4 * rank)
    shape = tuple(int.from_bytes(axes[4 * i : 4 * i + 4], "big") for i in range(rank))
    size, head = math.prod(shape) * dtype.itemsize, 4 + 4 * rank
    if size > limit("arrays"):
        too_large(path, size, "arrays")
    raw = stream.read(size + 1)
    if len(axes) < 4 * rank or len(raw) != size:
        more = "more than " if len(raw) > size else ""
        held = 4 + len(axes) + min(len(raw), size)
        raise DataError(
            f"{path}: holds {more}{held} bytes, but its header (shape {shape}) says {head + size}"
        )
    return np.frombuffer(raw, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx_folder(folder: Path) -> dict[str, np.ndarray]:
    """The four arrays `train_images`, `train_labels`, `test_images`, `test_labels` of an MNIST-like folder.

    Files are found by MNIST's names (`train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, …), `.gz` or not.
    """
    if not folder.is_dir():
        raise DataError(f"idx:{folder}: no such folder; give the one that holds train-images-idx3-ubyte[.gz]")
    arrays = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        for what, rank in (("images", 3), ("labels", 1)):
            stem = f"{prefix}-{what}-idx{rank}-ubyte"
            found = [p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()]
            if not found:
                raise DataError(f"idx:{folder}: {stem}[.gz] is missing")
            array = read_idx(found[0])
            if array.ndim != rank:
                raise DataError(f"{found[0]}: has {array.ndim} axes, {what} have {rank}")
            arrays[f"{part}_{what}"] = array
        if len(arrays[f"{part}_images"]) != len(arrays[f"{part}_labels"]):
            counts = [len(arrays[f"{part}_{what}"]) for what in ("images", "labels")]
            raise DataError(f"idx:{folder}: {counts[0]} {part} images, but {counts[1]} labels")
    return arrays
