"""The checkpoints with fixed weights are what the tests that use them take them for, on every processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from trained_statten import ACCURACY, TRAINED, TUNED

from snn_energy.checkpoints import load, read_checkpoint
from snn_energy.data import load_data
from snn_energy.profiling import record_spikes
from snn_energy.training.scores import evaluate


@pytest.mark.parametrize("path", [TRAINED, TUNED], ids=lambda path: path.stem)
def test_it_is_small_and_as_accurate_as_recorded(path: Path) -> None:
    """In any batches: rounding may move two images of 360 at most."""
    assert path.stat().st_size < 64_000
    model, test = load(path), load_data("digits").test
    for size in (64, 360):
        found = evaluate(model, test, size, torch.device("cpu"))
        assert found == pytest.approx(ACCURACY[path], abs=2.5 / 360)


@pytest.mark.parametrize("path", [TRAINED, TUNED], ids=lambda path: path.stem)
def test_all_its_neurons_fire_in_two_images(path: Path) -> None:
    """By far, so that no rounding silences a population."""
    x, _ = load_data("digits").test.batch(slice(0, 2))
    spikes = record_spikes(load(path), x)
    assert len(spikes) == 12
    assert min(int(fired.sum()) for fired in spikes.values()) >= 40


def test_the_tuned_one_says_how_it_was_made() -> None:
    recipe = read_checkpoint(TUNED).recipe
    assert recipe is not None
    assert (recipe["quantize"], recipe["init"]) == ("loihi", TRAINED.name)
    assert read_checkpoint(TRAINED).recipe["quantize"] == "none"
