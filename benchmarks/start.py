"""How long the command line takes to start: processor time of commands over that of importing torch alone.

    python benchmarks/start.py [--rounds 5]

Each round runs in turns `python -c "import torch"`, `snn-energy --help` and `snn-energy profile` of a small
checkpoint (4 samples of the embedded digits), each in a Python of its own and on one thread; the first round,
which compiles Python files and fills the file cache, does not count.  Printed are medians of user and system
time together, so that what else the machine does matters little, what a command takes beyond torch's import,
and the ratio.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "tests" / "checkpoints" / "trained-statten.pth"


def seconds(*command: str) -> float:
    """Processor time of a process and its children, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    subprocess.run(
        [sys.executable, *command],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as out:
        profile = ("-m", "snn_energy", "profile", str(CHECKPOINT), "--samples", "4", "--out", f"{out}/p")
        commands = {
            "import torch": ("-c", "import torch"),
            "snn-energy --help": ("-m", "snn_energy", "--help"),
            "snn-energy profile": profile,
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(rounds + 1):
            for name, command in commands.items():
                spent = seconds(*command)
                if turn:
                    taken[name].append(spent)
    torch = statistics.median(taken["import torch"])
    print(f"{'median of ' + str(rounds) + ' rounds':24} {'s':>6} {'beyond torch':>13} {'ratio':>6}")
    for name, spent in taken.items():
        own = statistics.median(spent)
        print(f"{name:24} {own:6.2f} {own - torch:13.2f} {own / torch:6.2f}")


if __name__ == "__main__":
    main()
