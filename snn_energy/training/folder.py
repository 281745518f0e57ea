"""The folder of a run: whose it is, and the files in it, each written whole or not at all.

resume.pth   all that the run needs to go on
best.pth     the network of the best epoch
last.pth     the network of the last epoch
log.csv      a row per epoch
recipe.yaml  what is trained
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from snn_energy.errors import ConfigError, FileError
from snn_energy.files import write_text
from snn_energy.safe_load import safe_save
from snn_energy.training.recipe import Recipe

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out
    fcntl = None  # type: ignore[assignment]

STATE, BEST, LAST, LOG, RECIPE, LOCK, BOARD = (
    "resume.pth", "best.pth", "last.pth", "log.csv", "recipe.yaml", ".lock", "tensorboard",
)  # fmt: skip
OF_A_RUN = (STATE, BEST, LAST, LOG)
_locks: set[int] = set()


def _forget_locks() -> None:
    """In a forked process: a worker that outlives the run must not hold its lock."""
    while _locks:
        with contextlib.suppress(OSError):
            os.close(_locks.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


class Folder:
    """Where a run writes.  `resumable`: there is a state in it to go on from."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def resumable(self) -> bool:
        """Does it hold a state to go on from?"""
        return (self.path / STATE).is_file()

    def check_free(self, resume: bool, overwrite: bool) -> None:
        """Raise `ConfigError` if it holds a run that nobody has said what is to become of."""
        held = [name for name in OF_A_RUN if (self.path / name).exists()]
        if not held or overwrite or (resume and self.resumable):
            return
        if resume:
            raise ConfigError(
                f"{self.path}: holds {', '.join(held)} but no {STATE} to go on from; --overwrite begins anew"
            )
        on = "--resume goes on with it, " if self.resumable else ""
        raise ConfigError(f"{self.path}: holds a run ({', '.join(held)}); {on}--overwrite begins anew")

    def begin(self, state: Mapping[str, Any]) -> None:
        """Remove what another run left, and write the state in which this one begins."""
        for name in OF_A_RUN:
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / BOARD, ignore_errors=True)
        (self.path / RECIPE).unlink(missing_ok=True)
        self.save(state)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write what is trained, unless it is there: a run may have been killed before it was."""
        if not (self.path / RECIPE).exists():
            write_text(self.path / RECIPE, yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False))

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state, in place of the one before.  Raises `FileError`; that one then stays."""
        try:
            safe_save(self.path / STATE, state)
        except FileError as error:
            stays = f"; the state before it stays: make room, then --resume {self.path}"
            raise FileError(f"{error}{stays if self.resumable else ''}") from error

    def write_log(self, columns: Sequence[str], rows: Sequence[Mapping[str, float]]) -> None:
        """All rows, in one go: a reader sees the log with the new row or without it."""
        text = io.StringIO()
        log = csv.DictWriter(text, columns, lineterminator="\n")
        log.writeheader()
        for row in rows:
            log.writerow({key: f"{value:.6g}" for key, value in row.items() if key in columns})
        write_text(self.path / LOG, text.getvalue())

    def sweep(self) -> None:
        """Remove what was being written when a run was killed."""
        for name in (*OF_A_RUN, RECIPE):
            for left in self.path.glob(f".{name}.*"):
                left.unlink(missing_ok=True)


@contextlib.contextmanager
def claimed(path: Path, *, resume: bool = False, overwrite: bool = False) -> Iterator[Folder]:
    """The folder, for this run alone while the block lasts.

    It is made where it is missing, and removed again if nothing was written into it.  Raises `ConfigError` if
    it holds a run and neither `resume` nor `overwrite` says what to do, or if another run is writing there.
    """
    folder = Folder(path)
    folder.check_free(resume, overwrite)
    made = [p for p in (path, *path.parents) if not p.exists()]
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, made)
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(path / LOCK))
            folder.check_free(resume, overwrite)
            folder.sweep()
        except FileError:
            raise
        except OSError as error:
            raise FileError.of(error, path) from error
        yield folder


def _remove_empty(folders: Sequence[Path]) -> None:
    for one in folders:
        with contextlib.suppress(OSError):
            one.rmdir()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock that `path` is; the system lets it go when this process ends, however it ends."""
    if fcntl is None:
        yield
        return
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.read(handle, 256).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise ConfigError(f"{path.parent}: a run is writing there ({who}); give another --out") from None
        except OSError:  # a file system without locks: nobody is kept out
            break
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                break
        os.close(handle)  # its owner has just removed it
    _locks.add(handle)
    try:
        os.ftruncate(handle, 0)
        began = datetime.now().strftime("%Y-%m-%d %H:%M")
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}, since {began}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        _locks.discard(handle)
        with contextlib.suppress(OSError):
            os.close(handle)


def newest(runs: Path) -> Path:
    """The folder below `runs`, or `runs` itself, with the newest state.  Raises `ConfigError` for none."""
    found = [*runs.glob(STATE), *runs.glob(f"*/{STATE}")]
    if not found:
        raise ConfigError(f"{runs}: no run to go on with ({STATE}) there, nor in a folder in it")
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent
