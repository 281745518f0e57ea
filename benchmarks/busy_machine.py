"""An epoch of digits on a busy machine: threads that spin while they wait, against threads that sleep.

    python benchmarks/busy_machine.py [--loops 3] [--rounds 3] [--recipe digits-statten]

Runs `snn-energy train RECIPE epochs=1` in turns with OMP_WAIT_POLICY=ACTIVE, as OpenMP itself behaves with
this many threads as processors, with PASSIVE, and with the variable unset, where the command line chooses;
first beside nothing, then beside `loops` busy processes.  Prints wall seconds, median over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

POLICIES = ("ACTIVE", "PASSIVE", "unset")


def spin() -> None:
    """A busy loop."""
    while True:
        pass


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """`loops` busy processes beside what runs in the block."""
    processes = [multiprocessing.Process(target=spin, daemon=True) for _ in range(loops)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def epoch(recipe: str, policy: str) -> float:
    """Wall seconds of one epoch."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if policy != "unset":
        environment["OMP_WAIT_POLICY"] = policy
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "snn_energy", "train", recipe, "epochs=1", "--out", f"{folder}/run"]
        start = time.perf_counter()
        subprocess.run(command, env=environment, capture_output=True, check=True)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loops", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipe", default="digits-statten")
    args = parser.parse_args()
    print(f"{os.cpu_count()} processors, {args.recipe}, one epoch, wall seconds, {args.rounds} rounds")
    for loops in (0, args.loops):
        times: dict[str, list[float]] = {policy: [] for policy in POLICIES}
        with busy(loops):
            for _ in range(args.rounds):
                for policy in POLICIES:
                    times[policy].append(epoch(args.recipe, policy))
        found = "   ".join(f"{policy} {statistics.median(v):6.1f}" for policy, v in times.items())
        print(f"beside {loops} busy loops: {found}")


if __name__ == "__main__":
    main()
