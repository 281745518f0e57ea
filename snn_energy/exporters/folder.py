"""The folder of an export: filled whole or not at all, and never over another one unasked."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from snn_energy.errors import ConfigError, DataError
from snn_energy.exporters.verification import VERIFICATION_FILE, read_verification


@contextlib.contextmanager
def filled(out: Path, *, overwrite: bool = False, alone: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `out`; at the end what it holds is moved into `out`.

    On an exception nothing of it stays, and what `out` held is as before.  Raises `ConfigError` where `out`
    is no folder or, unless `overwrite`, holds another export or a file of a name that is to be written;
    with `alone`, where it holds anything that is no export.
    """
    out = out.resolve()
    _claim(out, overwrite, alone)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield temporary
        out.mkdir(exist_ok=True)
        _clear(out)
        made = sorted(temporary.iterdir(), key=lambda path: path.name == VERIFICATION_FILE)  # the record last
        for path in made:
            if (out / path.name).exists() and not overwrite:
                raise ConfigError(f"{out / path.name} is there already: name another folder, or --overwrite")
        for path in made:
            if (out / path.name).is_dir():
                shutil.rmtree(out / path.name)
            path.replace(out / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _claim(out: Path, overwrite: bool, alone: bool) -> None:
    """Refuse a place that is taken."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file: name a folder")
    if (out / VERIFICATION_FILE).is_file():
        if not overwrite:
            raise ConfigError(f"{out} holds {_what(out)}: name another folder, or give --overwrite")
        if alone and (strange := _strange(out)):
            raise ConfigError(f"{out} holds {strange}, which is no part of its export: name a new folder")
    elif alone and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and no earlier export: name a new folder")


def _what(out: Path) -> str:
    try:
        return f"an export for {read_verification(out / VERIFICATION_FILE)['target']}"
    except DataError:
        return "an export"


def _listed(out: Path) -> list[str]:
    """The files of the export in `out`, as its record lists them."""
    try:
        return list(read_verification(out / VERIFICATION_FILE)["files"])
    except DataError:
        return []


def _strange(out: Path) -> str | None:
    listed = {VERIFICATION_FILE, *_listed(out)}
    names = (path.relative_to(out).as_posix() for path in sorted(out.rglob("*")) if not path.is_dir())
    return next((name for name in names if name not in listed), None)


def _clear(out: Path) -> None:
    """Remove what an earlier export wrote; what else lies there stays."""
    for name in _listed(out):
        place = out / name
        if out.resolve() in place.resolve().parents:
            place.unlink(missing_ok=True)
            if place.parent != out:
                with contextlib.suppress(OSError):
                    place.parent.rmdir()  # a folder that became empty
    (out / VERIFICATION_FILE).unlink(missing_ok=True)
