"""Arrays in files of strangers: .npz archives, whose headers are read before anything is unpacked."""

from __future__ import annotations

import ast
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from snn_energy.errors import DataError
from snn_energy.reading import limit, one_line, open_regular, too_large

MEMBERS = 100_000
"""Arrays in one archive."""
HEADER = 64 << 10
"""Bytes of the header of one array: NumPy's own have 128."""


def read_npz(
    path: str | os.PathLike[str], what: str, choose: Callable[[list[str]], list[str]] = list
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of all arrays in an .npz file, and those arrays that `choose` names of them.

    What the headers declare is summed before it is unpacked; no array holds Python objects.

    Raises `DataError` for a file that is missing or damaged, for more than `reading.limit("arrays")` bytes,
    unpacked, and for members that are encrypted, compressed in a way that NumPy does not write, or no arrays.
    """
    with _archive(path, what) as archive:
        members = archive.infolist()
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if len(members) > MEMBERS or len(set(names)) < len(names):
            raise DataError(f"{path}: not a {what}: {len(names):,} members, not all of another name")
        wanted = [members[names.index(name)] for name in choose(names)]
        total = 0
        for member in wanted:
            total += _declared(archive, member, f"{path}: {member.filename}")
            if total > limit("arrays"):
                too_large(path, total, "arrays")
        return names, {m.filename.removesuffix(".npy"): _unpack(archive, m) for m in wanted}


@contextmanager
def _archive(path: str | os.PathLike[str], what: str) -> Iterator[zipfile.ZipFile]:
    try:
        with open_regular(path, what, "arrays") as stream, zipfile.ZipFile(stream) as archive:
            yield archive
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{path}: not enough memory for what it holds") from None
    except Exception as error:  # a damaged file can raise anything in zipfile, zlib and NumPy's reader
        reason = one_line(error) or type(error).__name__
        raise DataError(f"{path}: not an .npz file of plain arrays ({reason})") from error


def _declared(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> int:
    """How many bytes the array says that it has.  Raises `DataError` where its member has another size."""
    if member.flag_bits & 1:
        raise DataError(f"{where}: is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where}: is compressed in a way that NumPy does not write")
    with archive.open(member) as stream:
        shape, itemsize, read = _header(stream, where)
    size = math.prod(shape) * itemsize
    if size + read != member.file_size:
        raise DataError(
            f"{where}: its header says {size:,} bytes (shape {one_line(shape)}), "
            f"the archive holds {member.file_size - read:,}"
        )
    return size


def _header(stream: Any, where: str) -> tuple[tuple[int, ...], int, int]:
    """Shape, bytes of one element, bytes of the header of a .npy member.

    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html is the format.
    """
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6] not in (1, 2, 3):
        raise DataError(f"{where}: is no array")
    width = 2 if magic[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > HEADER:
        raise DataError(f"{where}: a header of {length:,} bytes; at most {HEADER:,} are read")
    header = ast.literal_eval(stream.read(length).decode("utf-8" if magic[6] == 3 else "latin1").strip())
    if not isinstance(header, Mapping) or not isinstance(header.get("descr"), str):
        raise DataError(f"{where}: holds records or is damaged; must be a plain array")
    dtype, shape = np.dtype(header["descr"]), header.get("shape")
    if dtype.hasobject:
        raise DataError(f"{where}: holds Python objects; must hold plain arrays")
    right = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**63 for n in shape)
    if not isinstance(shape, tuple) or not right or len(shape) > 32:
        raise DataError(f"{where}: shape {one_line(shape)} is none that an array can have")
    return shape, dtype.itemsize, 8 + width + length


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read(1)  # past the end: the checksum is compared there
        return array
