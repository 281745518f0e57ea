"""Work in forked processes: torch is imported once, for all of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
GLOO = hasattr(os, "fork") and dist.is_available() and dist.is_gloo_available()
GROUPS = pytest.mark.skipif(not GLOO, reason="needs fork and gloo")


def start(work: Callable[[], object]) -> int:
    """The number of a new process that does `work`; it ends with 9 after an exception, which it prints."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 9
    try:
        torch.set_num_threads(1)  # the pool of threads does not live on in a forked process
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.__stderr__, flush=True)
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Its exit code, negative for the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_a_child(work: Callable[[], object], kill_after: float | None = None) -> int:
    """The exit code of `work` in a process that is killed after so many seconds."""
    child = start(work)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return ended(child)


def in_processes(count: int, work: Callable[[int], object], folder: Path) -> list[int]:
    """The exit codes of `work(rank)` in as many processes of one group, which meet in `folder`."""
    meeting = folder / "meeting"
    meeting.unlink(missing_ok=True)

    def joined(rank: int) -> None:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
        work(rank)
        dist.destroy_process_group()

    return [ended(child) for child in [start(lambda k=rank: joined(k)) for rank in range(count)]]


def same(a: object, b: object) -> bool:
    """Bit for bit the same, whatever is in them; how long it took aside."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        alike = isinstance(b, dict) and a.keys() == b.keys()
        return alike and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list | tuple):
        return isinstance(b, type(a)) and len(a) == len(b) and all(map(same, a, b))
    return a == b
