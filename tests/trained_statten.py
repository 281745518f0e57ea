"""A small STAtten that was really trained, on the embedded digits: its weights are files beside the tests.

Float sums are rounded in another order on every processor, and training amplifies that: a network trained in
a test is another one on each.  So tests that say something about a trained network take these checkpoints:

    trained-statten.pth        TRAINING, the averaged weights of the best of its epochs
    trained-statten-loihi.pth  the same after TUNING, training in the numbers of a Loihi netlist

`python tests/trained_statten.py` makes them anew (half a minute); on another processor these are other files,
for which ACCURACY must be adjusted.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent / "checkpoints"
TRAINED, TUNED = FOLDER / "trained-statten.pth", FOLDER / "trained-statten-loihi.pth"
TRAINING = (
    "embed_dims=16", "num_heads=2", "depths=1", "T=4", "pooling_stat=0001", "batch_size=32", "epochs=20",
    "lr=0.02", "warmup_epochs=0.5", "random_affine=0",
)  # fmt: skip
TUNING = {"quantize": "loihi", "init": TRAINED.name, "epochs": 4, "lr": 1e-3, "warmup_epochs": 0}
ACCURACY = {TRAINED: 342 / 360, TUNED: 340 / 360}
"""On the 360 test images of digits; rounding that moves a spike may move one image or two."""


def make() -> None:
    """Train both and put them where the tests find them."""
    from snn_energy.training import load_recipe, train
    from snn_energy.training.recipe import recipe_from_dict

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        first = train(load_recipe("digits-statten", TRAINING), Path(folder) / "first", device="cpu")
        shutil.copyfile(first.best, TRAINED)
        written = yaml.safe_load((first.out / "recipe.yaml").read_text())
        with contextlib.chdir(FOLDER):  # a file name, not a path, is what the checkpoint remembers
            tuned = train(recipe_from_dict(written | TUNING), Path(folder) / "tuned", device="cpu")
        shutil.copyfile(tuned.best, TUNED)
    print(f"{TRAINED}: {first.accuracy:.4f}\n{TUNED}: {tuned.accuracy:.4f}")


if __name__ == "__main__":
    make()
