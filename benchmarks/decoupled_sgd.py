"""The decoupled model under SGD: the four rows of its ablation over seeds, and its gradients at the start.

    python benchmarks/decoupled_sgd.py [--recipe NAME] [--seeds 0,1,2,3,4] [--out FILE.csv] [key=value ...]
    python benchmarks/decoupled_sgd.py --gradients [key=value ...]

The first trains a recipe (`digits-decoupled`, or `digits-dvs-decoupled` for events) without attention, with
each, and with both, seed by seed, one thread, and prints accuracies of the best and the last epoch: ranges,
means and standard deviations, and what each row has more than the one without, with its standard error.  With
`--out`, finished runs are appended to the file, and those that it holds already are not run again.
`key=value`: overrides of all runs.

The second prints |gradient| / |weight| of the first convolution of an untrained network (the mean of three
seeds, cross-entropy of random classes), without attention and with each form of its residual, for several
thresholds.
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
from torch import nn

from snn_energy.training import load_recipe, train

ROWS = {
    "neither": ("spatial=false", "temporal=false"),
    "spatial": ("spatial=true", "temporal=false"),
    "temporal": ("spatial=false", "temporal=true"),
    "both": ("spatial=true", "temporal=true"),
}
RESIDUALS = ("plain", "scaled", "or", "iand")
THRESHOLDS = (0.2, 0.3, 0.4, 0.45, 0.6, 1.0)


def trained(recipe: str, seed: int, overrides: list[str]) -> tuple[float, float, float]:
    """Accuracies of the best and the last epoch of one run, and its seconds of one core."""
    started = time.process_time()
    loaded = load_recipe(recipe, (*overrides, f"seed={seed}"))
    with tempfile.TemporaryDirectory() as folder:
        train(loaded, Path(folder), device="cpu")
        with (Path(folder) / "log.csv").open() as stream:
            accuracies = [float(row["test_accuracy"]) for row in csv.DictReader(stream)]
    return max(accuracies), accuracies[-1], time.process_time() - started


def finished(path: Path | None) -> dict[tuple[str, int], tuple[float, float]]:
    """(row, seed) -> accuracies of the best and the last epoch, as a file has them."""
    if path is None or not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        return {
            (row, int(seed)): (float(best), float(last)) for row, seed, best, last, *_ in csv.reader(stream)
        }


def ablation(recipe: str, seeds: list[int], overrides: list[str], out: Path | None) -> None:
    """Train every row with every seed; print the table."""
    found = finished(out)
    for seed in seeds:
        for row, switches in ROWS.items():
            if (row, seed) in found:
                continue
            best, last, seconds = trained(recipe, seed, [*overrides, *switches])
            found[row, seed] = best, last
            print(f"{row:9} seed {seed}: best {best:.2%}, last {last:.2%}, {seconds:.0f} s", flush=True)
            if out:
                with out.open("a", newline="", encoding="utf-8") as stream:
                    csv.writer(stream).writerow([row, seed, best, last, round(seconds), recipe, *overrides])
    for kind, what in enumerate(("best", "last")):
        plain = [100 * found["neither", seed][kind] for seed in seeds]
        for row in ROWS:
            values = [100 * found[row, seed][kind] for seed in seeds]
            mean, error = spread([v - p for v, p in zip(values, plain, strict=True)])
            against = "" if row == "neither" else f"; less neither, seed by seed: {mean:+.2f} ± {error:.2f}"
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            ends = f"{min(values):.2f} to {max(values):.2f} %"
            print(f"{row:9} {what}: {ends}, mean {statistics.mean(values):.2f}, sd {deviation:.2f}{against}")


def spread(values: list[float]) -> tuple[float, float]:
    """The mean and its standard error (0 for one value)."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.mean(values), error


def stem_ratio(seed: int, **fields: object) -> float:
    """|gradient| / |weight| of the first convolution, a batch of 8 images of 32×32, four steps."""
    import snn_energy

    torch.manual_seed(seed)
    model = snn_energy.create_model("decoupled", **fields).train()
    x, y = torch.rand(8, 3, 32, 32), torch.randint(10, (8,))
    nn.functional.cross_entropy(model(x), y).backward()
    weight = model.backbone.stem[0].conv.weight
    return (weight.grad.norm() / weight.norm()).item()


def gradients(overrides: list[str]) -> None:
    """Print the ratio for every threshold and form."""
    import yaml

    fields = {key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in overrides)}
    forms = {"none": {"spatial": False, "temporal": False}} | {r: {"residual": r} for r in RESIDUALS}
    print("v_threshold  " + "  ".join(f"{form:>10}" for form in forms))
    for threshold in THRESHOLDS:
        ratios = []
        for form in forms.values():
            chosen = {**fields, "v_threshold": threshold, **form}
            silent = form.get("residual", "plain") != "plain" and threshold >= 0.5  # refused
            runs = [] if silent else [stem_ratio(seed, **chosen) for seed in (0, 1, 2)]
            ratios.append(f"{statistics.mean(runs):10.2g}" if runs else f"{'-':>10}")
        print(f"{threshold:11}  " + "  ".join(ratios), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--recipe", default="digits-decoupled")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--gradients", action="store_true")
    args = parser.parse_args()
    if args.gradients:
        gradients(args.overrides)
    else:
        torch.set_num_threads(1)
        ablation(args.recipe, [int(seed) for seed in args.seeds.split(",")], args.overrides, args.out)


if __name__ == "__main__":
    main()
