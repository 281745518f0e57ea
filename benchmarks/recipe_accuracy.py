"""What recipes reach under the instruction sets and seeds asked for, one training run after another.

    python benchmarks/recipe_accuracy.py digits-statten digits-decoupled [--sets default,SSE41] [--seeds 0,1]
        [--threads 1] [--out FILE.csv] [key=value ...]

A set is what PyTorch and oneDNN are held to (`default`: what they choose; see `SETS`): under each, float sums
are rounded in another order, and training amplifies the difference.  Prints and appends to FILE.csv one line
per run (accuracy of the best and of the last epoch, seconds), then prints the range of each recipe.
`key=value`: overrides of all recipes.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

SETS = {
    "default": {},
    "SSE41": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}


def run(recipe: str, kind: str, seed: int, threads: int, overrides: list[str]) -> tuple[float, float, float]:
    """Best and last test accuracy and the seconds of one run, in a process of its own."""
    environment = {**os.environ, **SETS[kind], "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "snn_energy", "train", recipe, *overrides, f"seed={seed}"]
        command += ["--out", folder, "--device", "cpu"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        with (Path(folder) / "log.csv").open() as stream:
            log = list(csv.DictReader(stream))
    accuracies = [float(row["test_accuracy"]) for row in log]
    return max(accuracies), accuracies[-1], float(log[-1]["seconds"])


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
    found: dict[str, list[float]] = {}
    for recipe in (word for word in args.recipes if "=" not in word):
        for seed in map(int, args.seeds.split(",")):
            for kind in args.sets.split(","):
                best, last, seconds = run(recipe, kind, seed, args.threads, overrides)
                found.setdefault(recipe, []).append(best)
                line = (recipe, kind, seed, args.threads, f"{best:.4f}", f"{last:.4f}", f"{seconds:.0f}")
                print(*line, flush=True)
                if args.out:
                    with args.out.open("a", newline="", encoding="utf-8") as stream:
                        csv.writer(stream).writerow([*line, platform.machine(), *overrides])
    for recipe, values in found.items():
        print(f"{recipe}: from {min(values):.2%} to {max(values):.2%} over {len(values)} runs")


if __name__ == "__main__":
    main()
