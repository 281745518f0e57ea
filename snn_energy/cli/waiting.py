"""What is being waited for, on standard error, from the first tenth of a second: torch alone takes seconds.

Nothing here imports more than the standard library, so that it can be shown while the rest is imported.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Iterator

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PAUSE = 0.1
_QUIET = False


@contextlib.contextmanager
def quiet_about_progress() -> Iterator[None]:
    """No spinner and no bar inside the block."""
    global _QUIET
    before, _QUIET = _QUIET, True
    try:
        yield
    finally:
        _QUIET = before


def shown() -> bool:
    """Is progress shown: does a person read standard error, and did nobody ask for quiet?"""
    return sys.stderr.isatty() and not _QUIET


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner with `what` and the seconds so far while the block runs; nothing where none reads it.

    The line is gone afterwards.
    """
    if not shown():
        yield
        return
    stream, done, begun = sys.stderr, threading.Event(), time.monotonic()

    def turn() -> None:
        for frame in itertools.cycle(_frames(stream.encoding)):
            with contextlib.suppress(OSError, ValueError):
                stream.write(f"\r{frame} {what} {time.monotonic() - begun:.0f} s\x1b[K")
                stream.flush()
            if done.wait(PAUSE):
                break

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(1.0)
        with contextlib.suppress(OSError, ValueError):
            stream.write("\r\x1b[K")
            stream.flush()


def _frames(encoding: str | None) -> str:
    try:
        FRAMES.encode(encoding or "ascii")
    except (UnicodeError, LookupError):
        return "|/-\\"
    return FRAMES


def import_torch() -> None:
    """Import PyTorch, which takes seconds, with a word to whoever waits."""
    if "torch" not in sys.modules:
        with waiting("importing PyTorch"):
            import torch  # noqa: F401
