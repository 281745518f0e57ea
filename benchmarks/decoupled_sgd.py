"""The decoupled model under SGD: the four rows of its ablation over seeds, and its gradients at the start.

    python benchmarks/decoupled_sgd.py [--seeds 0,1,2,3,4] [--events] [--out FILE.csv] [key=value ...]
    python benchmarks/decoupled_sgd.py --gradients [key=value ...]

The first trains the recipe `digits-decoupled` without attention, with each, and with both, seed by seed, one
thread, and prints accuracies of the best and the last epoch.  With `--out`, finished runs are appended to the
file, and those that it holds already are not run again.  `key=value`: overrides of all runs.  `--events`: on
events of digits that move before a camera, four frames of 2×8×8 (`events`), instead of still images.

The second prints |gradient| / |weight| of the first convolution of an untrained network (the mean of three
seeds, cross-entropy of random classes), without attention and with each form of its residual, for several
thresholds.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from recipe_accuracy import run
from torch import nn

from snn_energy.data import Data, Images, load_data, register_dataset
from snn_energy.training import load_recipe, train

ROWS = {
    "neither": ("spatial=false", "temporal=false"),
    "spatial": ("spatial=true", "temporal=false"),
    "temporal": ("spatial=false", "temporal=true"),
    "both": ("spatial=true", "temporal=true"),
}
RESIDUALS = ("plain", "scaled", "or", "iand")
THRESHOLDS = (0.2, 0.3, 0.4, 0.45, 0.6, 1.0)


PATH = ((0, 0), (2, 1), (1, -2), (-2, -1), (0, 0))
"""Where the camera looks, one frame between two of them: down and right, in half pixels."""
LEAST = 16
"""Smallest change of brightness that is an event, of 64."""


def shifted(pixels: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """4 × the images (N, 1, H, W) moved by half pixels, whole numbers: bilinear, black outside."""
    out = pixels.long()
    for axis, halves in ((2, down), (3, right)):
        whole, half = divmod(halves, 2)
        moved = [moved_by(out, whole + step, axis) for step in (0, 1)]
        out = (2 - half) * moved[0] + half * moved[1]
    return out


def moved_by(x: torch.Tensor, steps: int, axis: int) -> torch.Tensor:
    """`x` moved by whole pixels along an axis, zeros where nothing comes from."""
    out, size = torch.zeros_like(x), x.shape[axis] - abs(steps)
    out.narrow(axis, max(steps, 0), size).copy_(x.narrow(axis, max(-steps, 0), size))
    return out


def events() -> Data:
    """The digits as events of a camera that moves: (N, 4, 2, 8, 8) of 0 and 1, brighter and darker.

    Whole numbers only, so they are the same everywhere.  A stand-in for this script.
    """
    digits = load_data("digits")

    def recorded(images: Images) -> Images:
        seen = [shifted(images.pixels, *place) for place in PATH]
        changes = [after - before for before, after in itertools.pairwise(seen)]
        frames = [torch.cat([change >= LEAST, change <= -LEAST], 1) for change in changes]
        return Images(torch.stack(frames, 1).to(torch.uint8), images.labels)

    return replace(digits, name="digit-events", train=recorded(digits.train), test=recorded(digits.test))


def run_on_events(seed: int, overrides: list[str]) -> tuple[float, float, float]:
    """As `run`, on `events`, in this process."""
    given = ["data=digit-events", "in_channels=2", "T=4", "random_affine=0", f"seed={seed}", *overrides]
    recipe = load_recipe("digits-decoupled", tuple(given))
    with tempfile.TemporaryDirectory() as folder:
        result = train(recipe, Path(folder), device="cpu")
        with (Path(folder) / "log.csv").open() as stream:
            last = float(list(csv.DictReader(stream))[-1]["test_accuracy"])
    return result.accuracy, last, result.seconds


def finished(path: Path | None) -> dict[tuple[str, int], tuple[float, float]]:
    """(row, seed) -> accuracies of the best and the last epoch, as a file has them."""
    if path is None or not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        return {
            (row, int(seed)): (float(best), float(last)) for row, seed, best, last, *_ in csv.reader(stream)
        }


def ablation(seeds: list[int], overrides: list[str], out: Path | None, on_events: bool) -> None:
    """Train every row with every seed; print the table."""
    found = finished(out)
    for seed in seeds:
        for row, switches in ROWS.items():
            if (row, seed) in found:
                continue
            chosen = [*overrides, *switches]
            trained = (
                run_on_events(seed, chosen)
                if on_events
                else run("digits-decoupled", "default", seed, 1, chosen)
            )
            best, last, seconds = trained
            found[row, seed] = best, last
            print(f"{row:9} seed {seed}: best {best:.2%}, last {last:.2%}, {seconds:.0f} s", flush=True)
            if out:
                with out.open("a", newline="", encoding="utf-8") as stream:
                    csv.writer(stream).writerow([row, seed, best, last, round(seconds), *overrides])
    for row in ROWS:
        for kind, what in enumerate(("best", "last")):
            values = [found[row, seed][kind] for seed in seeds]
            mean = statistics.mean(values)
            print(
                f"{row:9} {what}: {min(values):.2%} to {max(values):.2%}, mean {mean:.2%}, {len(seeds)} seeds"
            )


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
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--events", action="store_true")
    parser.add_argument("--gradients", action="store_true")
    args = parser.parse_args()
    if args.gradients:
        gradients(args.overrides)
    else:
        torch.set_num_threads(1)
        register_dataset("digit-events", events)
        ablation([int(seed) for seed in args.seeds.split(",")], args.overrides, args.out, args.events)


if __name__ == "__main__":
    main()
