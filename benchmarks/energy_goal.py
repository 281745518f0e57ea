"""Energy as a goal: what a penalty on accumulates saves, and what it costs in accuracy, over seeds.

    python benchmarks/energy_goal.py [RECIPE] [--weights 0,0.3] [--seeds 0,1,2,3,4] [--out FILE.csv]
        [key=value ...]

Trains the recipe (`digits-statten`) with every `energy_weight` and every seed, one thread, profiles the last
epoch's network on the whole test part, and prints accuracy, accumulates and energy (`exact`, 45nm-fp32) of
each run; then, for every weight, the means over seeds beside those of weight 0, and the difference seed by
seed with its standard error.  The last epoch, not the best: nothing is chosen on the test part.  With
`--out`, finished runs are appended to the file, and those that it holds already are not run again.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import snn_energy
from snn_energy.data import load_data
from snn_energy.training import load_recipe, train

COLUMNS = ("recipe", "weight", "seed", "accuracy", "accumulates", "nanojoules", "cpu_seconds")


def run(recipe: str, weight: float, seed: int, overrides: list[str]) -> dict[str, float | str]:
    """Train, profile, and put both into a row."""
    started = time.process_time()
    loaded = load_recipe(recipe, (*overrides, f"energy_weight={weight}", f"seed={seed}"))
    with tempfile.TemporaryDirectory() as folder:
        train(loaded, Path(folder), device="cpu")
        model = snn_energy.load(Path(folder) / "last.pth")
    spent = time.process_time() - started
    profile = snn_energy.profile(model, load_data(loaded.data).test.batches(120))
    energy = snn_energy.estimate(profile, "exact")
    return {
        "recipe": recipe,
        "weight": weight,
        "seed": seed,
        "accuracy": profile.accuracy or 0.0,
        "accumulates": energy.ac,
        "nanojoules": energy.total_pj / 1e3,
        "cpu_seconds": round(spent),
    }


def finished(path: Path | None) -> dict[tuple[str, float, int], dict[str, float | str]]:
    """(recipe, weight, seed) -> row, as a file has them."""
    if path is None or not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [
            {k: v if k == "recipe" else float(v) for k, v in row.items()} for row in csv.DictReader(stream)
        ]
    return {(str(r["recipe"]), float(r["weight"]), int(r["seed"])): r for r in rows}


def keep(path: Path, row: dict[str, float | str]) -> None:
    """Append a row, under a head where the file is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def spread(values: list[float]) -> tuple[float, float]:
    """Mean, and the standard error of it (0 for one value)."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.mean(values), error


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="RECIPE | key=value")
    parser.add_argument("--weights", default="0,0.3")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    overrides = [word for word in args.words if "=" in word]
    recipe = next((word for word in args.words if "=" not in word), "digits-statten")
    weights, seeds = [float(w) for w in args.weights.split(",")], [int(s) for s in args.seeds.split(",")]
    found = finished(args.out)
    for seed in seeds:
        for weight in weights:
            if (recipe, weight, seed) not in found:
                row = found[recipe, weight, seed] = run(recipe, weight, seed, overrides)
                if args.out:
                    keep(args.out, row)
            row = found[recipe, weight, seed]
            print(
                f"seed {seed} energy_weight {weight:g}: accuracy {float(row['accuracy']):.2%}, "
                f"{float(row['accumulates']) / 1e3:.1f} k accumulates, {float(row['nanojoules']):.1f} nJ, "
                f"{float(row['cpu_seconds']):.0f} s of one core",
                flush=True,
            )
    for weight in weights:
        rows = [found[recipe, weight, seed] for seed in seeds]
        accuracy = spread([float(r["accuracy"]) for r in rows])
        energy = spread([float(r["nanojoules"]) for r in rows])
        line = f"energy_weight {weight:g}: accuracy {accuracy[0]:.2%} ± {accuracy[1]:.2%}, "
        line += f"{energy[0]:.1f} ± {energy[1]:.1f} nJ"
        if weight and 0.0 in weights:
            plain = [found[recipe, 0.0, seed] for seed in seeds]
            pairs = list(zip(rows, plain, strict=True))
            points = spread([100 * (float(a["accuracy"]) - float(b["accuracy"])) for a, b in pairs])
            less = spread([1 - float(a["nanojoules"]) / float(b["nanojoules"]) for a, b in pairs])
            line += f"; against 0, seed by seed: {points[0]:+.2f} ± {points[1]:.2f} points, "
            line += f"{less[0]:.1%} ± {less[1]:.1%} less energy"
        print(line + f" (mean ± standard error, {len(seeds)} seeds)")


if __name__ == "__main__":
    main()
