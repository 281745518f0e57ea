"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from snn_energy.errors import FileError, SnnEnergyError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, delete it on an exception.

    Parent directories are made.  A reader sees the old file or the new one, never half of it.  Raises
    `FileError` for what the operating system refuses.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        with _replacing(path, Path(name)) as temporary:
            yield temporary
    except SnnEnergyError:
        raise
    except OSError as error:
        raise FileError.of(error, path) from error


@contextlib.contextmanager
def _replacing(path: Path, temporary: Path) -> Iterator[Path]:
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically.

    Raises `FileError` where that cannot be; the text then lies in a temporary file that the message names,
    if there is room for it.
    """
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    except FileError as error:
        saved = _elsewhere(Path(path).suffix, text)
        raise FileError(f"{error}; what was to be written is in {saved}" if saved else str(error)) from error


def _elsewhere(suffix: str, text: str) -> Path | None:
    """The text in a temporary file, or None where that has no room either."""
    saved = None
    try:
        handle, name = tempfile.mkstemp(prefix="snn-energy-", suffix=suffix[:16])
        saved = Path(name)
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError:
        if saved is not None:
            saved.unlink(missing_ok=True)
        return None
    return saved


def try_folder(folder: str | os.PathLike[str]) -> None:
    """Raise `FileError` where nothing can be written into `folder`, or it cannot be made; leave no trace.

    To be called before long work whose result is to go there.
    """
    folder = Path(folder)
    try:
        nearest = next((p for p in (folder, *folder.absolute().parents) if p.exists()), Path("/"))
        if not nearest.is_dir():
            raise FileError(f"{folder}: {nearest} is a file; a folder is needed to write into")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except SnnEnergyError:
        raise
    except OSError as error:
        raise FileError.of(error, folder) from error


def try_file(path: str | os.PathLike[str]) -> None:
    """The same for a file: raise `FileError` where it cannot be written."""
    path = Path(path)
    try_folder(path.parent)
    try:
        if path.is_dir():
            raise FileError(f"{path}: is a folder; a file is to be written")
    except SnnEnergyError:
        raise
    except OSError as error:  # the name is too long
        raise FileError.of(error, path) from error


def sha256(path: str | os.PathLike[str]) -> str:
    """The file's SHA-256, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
