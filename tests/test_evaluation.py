"""What an evaluation says beyond accuracy: rates per layer and step, accuracy per step, confusion."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import refused, run
from PIL import Image
from trained_statten import TRAINED

import snn_energy
from snn_energy.data import load_data
from snn_energy.evaluation import evaluate
from snn_energy.models.neurons import LIF


@pytest.mark.parametrize(
    ("name", "fields", "shape"),
    [
        ("statten", {"img_size_h": 8, "img_size_w": 12, "in_channels": 3, "embed_dims": 16, "num_heads": 2,
                     "depths": 1, "T": 4, "chunk_size": 2, "pooling_stat": "0110", "num_classes": 7},
         (3, 8, 12)),
        ("staa-resnet20", {"width": 1 / 16, "T": 3, "num_classes": 6}, (3, 8, 12)),
        ("decoupled", {"width": 1 / 16, "T": 3, "num_classes": 6, "num_heads": 2}, (3, 3, 8, 12)),
        ("spikformer", {"num_classes": 6, "T": 2}, (3, 32, 32)),
    ],
)  # fmt: skip
def test_rates_and_accuracy_per_step_are_those_of_the_spikes(
    name: str, fields: dict, shape: tuple[int, ...]
) -> None:
    """Against the recorded spikes of each batch, and the scores of the last layer, summed up by hand."""
    torch.manual_seed(0)
    model = snn_energy.create_model(name, **fields).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so that some fire
            torch.nn.init.uniform_(module.weight, 1.0, 3.0)
            torch.nn.init.uniform_(module.bias, -1.0, 4.0)
    steps, classes = fields["T"], fields["num_classes"]
    x, y = torch.rand(7, *shape), torch.arange(7) % classes
    batches = [(x[:4], y[:4]), (x[4:], y[4:])]
    found = evaluate(model, batches)
    fired: dict[str, list[torch.Tensor]] = {}
    for part, _ in batches:
        for path, spikes in snn_energy.record_spikes(model, part).items():
            fired.setdefault(path, []).append(spikes)
    assert list(found.rates) == list(fired)
    for path, parts in fired.items():
        rates = torch.cat(parts, 1).double().flatten(1).mean(1)
        assert found.rates[path] == pytest.approx(rates.tolist(), abs=1e-12), path
        assert len(found.rates[path]) == steps
    assert any(0 < rate < 1 for rates in found.rates.values() for rate in rates)
    kept: list[torch.Tensor] = []
    last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1]
    handle = last.register_forward_hook(lambda m, a, out: kept.append(out.detach()))
    with torch.no_grad():
        snn_energy.record_spikes(model, x)
        scores = model(x)
    handle.remove()
    each = kept[-1].reshape(steps, 7, classes)
    torch.testing.assert_close(each.mean(0), scores)
    sums = each.double().cumsum(0).argmax(2)
    assert list(found.correct_after) == [int((s == y).sum()) for s in sums]
    assert found.correct_after[-1] == found.correct


class Clamped(torch.nn.Module):
    """Whose output is the mean of its last layer over the steps only where that is not below zero."""

    def __init__(self) -> None:
        super().__init__()
        self.T = 3
        self.lif = LIF()
        self.fc = torch.nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, 1, -1, -1], [0.5, 0.5, -2, -2]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.lif(x.expand(self.T, *x.shape))).mean(0).clamp(min=0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_answers_are_the_networks_own_in_every_batch(order: tuple[int, int]) -> None:
    """The last layer agrees with the output in one batch and not in the other: it then says nothing."""
    batches = [(torch.eye(4)[:2] * 4, torch.tensor([0, 0])), (torch.eye(4)[2:] * 4, torch.tensor([0, 0]))]
    net = Clamped().eval()
    found = evaluate(net, [batches[i] for i in order])
    with torch.no_grad():
        scores = torch.cat([net(x) for x, _ in batches]).double()
    y = torch.cat([y for _, y in batches])
    assert found.correct == int((scores.argmax(1) == y).sum()) == 4
    assert found.loss == pytest.approx(float(torch.nn.functional.cross_entropy(scores, y)), rel=1e-9)
    assert found.confusion == ((4, 0), (0, 0)) and found.correct_after == ()
    assert len(evaluate(net, batches[:1]).correct_after) == 3


def test_the_confusion_matrix_by_hand(tmp_path: Path) -> None:
    model = snn_energy.load(TRAINED)
    test = load_data("digits").test.take(60)
    x, y = test.batch(slice(None))
    with torch.no_grad():
        taken = model(x).argmax(1)
    found = evaluate(model, test.batches(17), class_names=[f"digit {i}" for i in range(10)])
    for true in range(10):
        for wrong in range(10):
            assert found.confusion[true][wrong] == int(((y == true) & (taken == wrong)).sum())
    assert sum(map(sum, found.confusion)) == 60
    assert sum(found.confusion[i][i] for i in range(10)) == found.correct
    wrong = [(t, p) for t, p in zip(y.tolist(), taken.tolist(), strict=True) if t != p]
    assert sum(pair[2] for pair in found.confused(100)) == len(wrong)
    for true, other, count, of in found.confused(100):
        pair = (int(true.split()[1]), int(other.split()[1]))
        assert wrong.count(pair) == count and of == int((y == pair[0]).sum())
    rows = list(csv.reader(io.StringIO(found.confusion_table())))
    assert rows[0] == ["true class", *(f"digit {i}" for i in range(10))]
    assert [list(map(int, row[1:])) for row in rows[1:]] == [list(row) for row in found.confusion]


def test_the_command_says_it_and_writes_it(tmp_path: Path) -> None:
    common = ("evaluate", TRAINED, "--samples", 40, "--batch-size", 16)
    done = run(*common, "--json", "--confusion", tmp_path / "c.csv")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["top1"] == record["accuracy"] == record["correct"] / 40
    assert record["top5"] == record["in_top5"] / 40 and record["loss"] > 0
    assert len(record["accuracy_after"]) == 4 and record["accuracy_after"][-1] == record["top1"]
    assert len(record["confusion"]) == 10 and record["class_names"] == [str(i) for i in range(10)]
    assert all(len(steps) == 4 for steps in record["rates"].values())
    assert (tmp_path / "c.csv").read_text().startswith("true class,0,1,")
    told = run(*common).stdout
    assert "firing rates of" in told and "--rates prints all" in told
    table = run(*common, "--rates").stdout
    assert all(path in table for path in record["rates"]) and "per step:" in table


def test_sizes_and_crops_of_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("n01", "n02"):
            (tmp_path / part / name).mkdir(parents=True)
            pixels = rng.integers(0, 256, (70, 90, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / name / "a.png")
    model = ("--model", "staa-resnet18", "--set", "width=0.015625", "--num-classes", 2, "--time-steps", 2)
    data = ("--data", f"imagenet:{tmp_path}?size=32&crop=0.9")
    found = json.loads(run("evaluate", *model, *data, "--size", 48, "--val-crop", 1, "--json").stdout)
    assert found["data"] == f"imagenet:{tmp_path}?size=48&crop=1.0 (test)" and found["samples"] == 2
    kept = json.loads(run("evaluate", *model, *data, "--size", 48, "--json").stdout)
    assert "?crop=0.9&size=48" in kept["data"]
    assert "crop = 1.5" in refused("evaluate", *model, *data, "--val-crop", 1.5)
    assert "unknown option 'size'" in refused("evaluate", TRAINED, "--size", 12)
    np.savez(tmp_path / "x.npz", x=rng.random((2, 3, 8, 8)), y=[0, 1])
    assert "not --input" in refused("evaluate", *model, "--input", tmp_path / "x.npz", "--size", 12)
