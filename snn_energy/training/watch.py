"""What interrupts a run or makes it save: Ctrl-C, the end that a job scheduler announces, the clock."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from snn_energy.errors import ConfigError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Stopped(Exception):
    """The run was asked to stop; what it holds is whole and can be saved."""


class Watch:
    """Asked after every step: is it time to save, was a stop asked for?

    `every`: "10m", "90s", "1h", or a number of steps.  Raises `ConfigError` for anything else.
    """

    def __init__(self, every: str) -> None:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])|(\d+)", every.strip())
        if match is None or not float(match[1] or match[3]):
            raise ConfigError(
                f"save_every = {every!r}: must be a time, such as 90s, 10m or 1h, or steps, 500"
            )
        self.seconds = float(match[1]) * UNITS[match[2]] if match[2] else None
        self.steps = int(match[3]) if match[3] else None
        self.stop = False
        self._saved = time.monotonic()

    def due(self, updates: int) -> bool:
        """Is it time to save, after so many steps?"""
        if self.steps is not None:
            return updates % self.steps == 0
        return time.monotonic() - self._saved >= (self.seconds or 0)

    def saved(self) -> None:
        """It was saved just now."""
        self._saved = time.monotonic()

    def check(self) -> None:
        """Raise `Stopped` if a stop was asked for."""
        if self.stop:
            raise Stopped

    @contextlib.contextmanager
    def signals(self, *, alone: bool = True) -> Iterator[None]:
        """In the block, the first SIGINT or SIGTERM asks for a stop; the next one ends the block at once.

        Not `alone`, further ones are not heard: torchrun hands on to its processes what they got from the
        terminal already.  Only in the main thread: elsewhere Python lets nobody listen.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        owner = os.getpid()

        def heard(number: int, frame: FrameType | None) -> None:
            if os.getpid() != owner:  # a worker that reads data: its owner ends it
                if number == signal.SIGTERM:
                    os._exit(128 + number)
            elif self.stop and alone:
                raise KeyboardInterrupt
            else:
                self.stop = True

        for number in before:
            signal.signal(number, heard)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
