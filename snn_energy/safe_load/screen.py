"""A file of `torch.save` before torch reads it: its directory, its checksums, what its pickles ask for.

`torch.load(weights_only=True)` has had holes (CVE-2025-32434: archives of tar; CVE-2026-24747: items set on
what is no dictionary, storages of another size than declared).  What `screen` lets through uses none of it.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from snn_energy import reading
from snn_energy.errors import CheckpointError
from snn_energy.safe_load.opcodes import Damaged, Unreadable, Value, read

PICKLE_BYTES = 64 << 20
"""What describes the tensors of a file; a thousand tensors take 300 kB."""
MAGIC = 0x1950A86A20F9469CFC6C
"""The first value in a file that `torch.save` wrote before it wrote archives."""
GROWTH = 2
"""How much larger than the file its records may be.  `torch.save` compresses nothing."""
_UNPACKING = (zlib.error, lzma.LZMAError, EOFError)  # of a record that a damaged directory calls compressed
_DIRECTORY = 1 << 20  # bytes of a small file's records that are not asked about


def screen(path: Path) -> None:
    """Raise `CheckpointError`, in one line, for a file that torch is not to see.

    That is: larger than the limit (`reading.limits`), or its records are; encrypted, doubled or damaged
    records (checksums are compared); a storage of another size than declared; a pickle that asks for anything
    but tensors within their storages, plain values, plain containers and `argparse.Namespace`.
    """
    with reading.open_regular(path, "checkpoint", "checkpoint", CheckpointError) as stream:
        try:
            if stream.read(2) == b"PK":
                with zipfile.ZipFile(stream) as archive:
                    _screen_archive(path, archive)
            else:
                stream.seek(0)
                _screen_stream(path, stream)
        except Unreadable as error:
            raise CheckpointError(f"{path}: refused: {error}") from None
        except (zipfile.BadZipFile, NotImplementedError, OSError, *_UNPACKING) as error:
            raise CheckpointError(f"{path}: {_ARCHIVE} ({reading.one_line(error)})") from None


_ARCHIVE = "is a damaged or truncated archive, or not one written by torch.save"
_NO_CHECKPOINT = (
    "is not a checkpoint (neither a torch.save archive nor a pickle of plain types), or is truncated"
)


def _screen_archive(path: Path, archive: zipfile.ZipFile) -> None:
    records = archive.infolist()
    names = [record.filename for record in records]
    if any(name.split("/", 1)[-1].startswith(("code/", "constants.pkl")) for name in names):
        raise CheckpointError(f"{path}: is a TorchScript archive, must be a checkpoint of weights")
    pickles = [
        record
        for record in records
        if record.filename.count("/") == 1 and record.filename.endswith("/data.pkl")
    ]
    if len(pickles) != 1 or len({name.lower() for name in names}) < len(names):
        raise CheckpointError(f"{path}: {_ARCHIVE}")
    (pickle,) = pickles
    root = pickle.filename.removesuffix("data.pkl")
    _check_sizes(path, archive, records)
    if pickle.file_size > PICKLE_BYTES:
        size = f"{pickle.file_size:,} bytes of pickle, at most {PICKLE_BYTES:,} are read"
        raise CheckpointError(f"{path}: {size}")
    _check_sums(archive, records)
    sizes = {record.filename: record.file_size for record in records}

    def storage(key: str, nbytes: int, item: int) -> None:
        held = sizes.get(f"{root}data/{key}")
        if held != nbytes:
            found = "none" if held is None else f"{held:,}"
            raise Unreadable(f"storage {key!r} of {nbytes:,} bytes, for which the file has {found}")

    with io.BytesIO(archive.read(pickle)) as stream:
        _read(path, stream, storage, _ARCHIVE)


def _check_sizes(path: Path, archive: zipfile.ZipFile, records: list[zipfile.ZipInfo]) -> None:
    """Nothing is encrypted, and nothing unpacks to much more than the file has."""
    if any(record.flag_bits & 0x1 for record in records):
        raise CheckpointError(f"{path}: has encrypted records, must be as torch.save writes it")
    unpacked = sum(record.file_size for record in records)
    packed = path.stat().st_size
    if unpacked > reading.limit("checkpoint"):
        reading.too_large(f"{path}, unpacked", unpacked, "checkpoint", CheckpointError)
    if unpacked > GROWTH * packed + _DIRECTORY and not reading.told():
        raise CheckpointError(
            f"{path}: {packed:,} bytes that unpack to {unpacked:,}; torch.save does not compress: "
            "if you trust it, give a limit: snn-energy --max-bytes, snn_energy.reading.limits"
        )


def _check_sums(archive: zipfile.ZipFile, records: list[zipfile.ZipInfo]) -> None:
    """Raise `BadZipFile` where a record differs from its checksum, which `torch.load` does not look at.

    An archive without a single right sum was written without sums (`set_crc32_options(False)`) and passes.
    """
    damaged = [record.filename for record in records if not _is_whole(archive, record)]
    if damaged and len(damaged) < len(records):
        raise zipfile.BadZipFile(damaged[0])
    for record in records if damaged else ():
        del record.CRC  # what is read later is not compared either


def _is_whole(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(record) as stream:
            while stream.read(1 << 20):
                pass
    except (zipfile.BadZipFile, *_UNPACKING):
        return False
    return True


def _screen_stream(path: Path, stream: BinaryIO) -> None:
    """A file from before archives: magic number, protocol, machine, content, keys, then all storages."""
    if tarfile.is_tarfile(path):
        raise CheckpointError(f"{path}: is a tar archive, must be a file of torch.save")
    size = path.stat().st_size
    declared: dict[str, tuple[int, int]] = {}

    def storage(key: str, nbytes: int, item: int) -> None:
        declared[key] = nbytes, item
        total = sum(n for n, _ in declared.values()) if nbytes > size >> 10 else 0
        if total > size:
            raise Unreadable(f"storages of {total:,} bytes, more than the file has")

    magic = _read(path, stream, _no_storage, _NO_CHECKPOINT)
    if magic.what != MAGIC:
        raise CheckpointError(f"{path}: {_NO_CHECKPOINT}")
    for part in ("protocol", "machine", "content"):
        _read(path, stream, storage if part == "content" else _no_storage, _NO_CHECKPOINT)
    keys = _read(path, stream, _no_storage, _NO_CHECKPOINT)
    if keys.kind != "list" or {key.what for key in keys.parts or ()} != set(declared):
        raise CheckpointError(f"{path}: {_NO_CHECKPOINT}")
    for key in keys.parts or ():
        nbytes, item = declared[key.what]
        elements = int.from_bytes(stream.read(8), "little", signed=True)
        if elements * item != nbytes or stream.tell() + nbytes > size:
            raise Unreadable(
                f"storage {key.what!r} of {nbytes:,} bytes, of which the file has another number"
            )
        stream.seek(nbytes, 1)


def _no_storage(key: str, nbytes: int, item: int) -> None:
    raise Unreadable("a storage where none can be")


def _read(path: Path, stream: BinaryIO, storage: Any, otherwise: str) -> Value:
    try:
        return read(stream, storage)
    except Damaged:
        raise CheckpointError(f"{path}: {otherwise}") from None
