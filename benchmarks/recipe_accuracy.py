"""What recipes reach under the instruction sets and seeds asked for, one training run after another.

    python benchmarks/recipe_accuracy.py digits-statten digits-decoupled [--sets default,SSE41] [--seeds 0,1]
        [--threads 1] [--out FILE.csv] [key=value ...]

A set is what PyTorch and oneDNN are held to (`default`: what they choose; see `SETS`): under each, float sums
are rounded in another order, and training amplifies the difference.  Prints and appends to FILE.csv one line
per run (accuracy of the best and of the last epoch, seconds of processor time with the start of Python), then
prints of each recipe the range, the mean less two standard deviations, and the time of a run.  Runs that
FILE.csv holds are not made again.  `key=value`: overrides of all recipes.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SETS = {
    "default": {},
    "SSE41": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}


def run(recipe: str, kind: str, seed: int, threads: int, overrides: list[str]) -> tuple[float, float, float]:
    """Best and last test accuracy and the processor time of one run, in a process of its own."""
    before = processor_time()
    environment = {**os.environ, **SETS[kind], "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "snn_energy", "train", recipe, *overrides, f"seed={seed}"]
        command += ["--out", folder, "--device", "cpu"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        with (Path(folder) / "log.csv").open() as stream:
            log = list(csv.DictReader(stream))
    accuracies = [float(row["test_accuracy"]) for row in log]
    return max(accuracies), accuracies[-1], processor_time() - before


def processor_time() -> float:
    """Seconds of all processes that were started here and have ended, on all their cores together."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


Run = tuple[str, str, str, str, str]  # recipe, set, seed, threads, overrides


def finished(path: Path | None) -> dict[Run, tuple[float, float, float]]:
    """What a file holds."""
    if path is None or not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        return {
            (*row[:4], " ".join(row[8:])): (float(row[4]), float(row[5]), float(row[6]))  # type: ignore[misc]
            for row in csv.reader(stream)
        }


def summary(recipe: str, runs: list[tuple[float, float, float]]) -> Iterator[str]:
    """Lines on the best and the last epochs of a recipe's runs."""
    for kind, what in enumerate(("best epoch", "last epoch")):
        values = [run[kind] for run in runs]
        mean, deviation = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
        spread = f"mean {mean:.2%}, sd {deviation:.2%}, mean - 2 sd {mean - 2 * deviation:.2%}"
        yield f"{recipe}, {what}: from {min(values):.2%} to {max(values):.2%}, {spread}, {len(values)} runs"
    seconds = [run[2] for run in runs]
    yield f"{recipe}: {min(seconds):.0f} to {max(seconds):.0f} s of processor time"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="+", help="recipes, and key=value overrides of all of them")
    parser.add_argument("--sets", default="default,SSE41", help=f"of {', '.join(SETS)}")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    overrides = [word for word in args.recipes if "=" in word]
    known, found = finished(args.out), {}
    for recipe in (word for word in args.recipes if "=" not in word):
        for seed in map(int, args.seeds.split(",")):
            for kind in args.sets.split(","):
                name = (recipe, kind, str(seed), str(args.threads), " ".join(overrides))
                if name not in known:
                    known[name] = run(recipe, kind, seed, args.threads, overrides)
                    best, last, seconds = known[name]
                    line = [*name[:4], f"{best:.4f}", f"{last:.4f}", f"{seconds:.0f}", platform.machine()]
                    if args.out:
                        with args.out.open("a", newline="", encoding="utf-8") as stream:
                            csv.writer(stream).writerow([*line, *overrides])
                print(*name[:4], *(f"{value:.4g}" for value in known[name]), flush=True)
                found.setdefault(recipe, []).append(known[name])
    for recipe, runs in found.items():
        print("\n".join(summary(recipe, runs)))


if __name__ == "__main__":
    main()
