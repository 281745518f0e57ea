"""`snn-energy evaluate`: accuracy and loss against a plain loop, after each step, and refusals in words."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from command import refused, run
from torch import nn

import snn_energy
from snn_energy.errors import DataError
from snn_energy.evaluation import evaluate
from snn_energy.profiling import Profile

SCORES = """\
import torch
from torch import nn

class Scores(nn.Module):
    '''Puts out what it takes in, (T, B, K), or its mean over T.'''

    def __init__(self, mean=False):
        super().__init__()
        self.one = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.one.weight.fill_(1)
        self.mean = mean

    def forward(self, x):
        x = self.one(x.unsqueeze(-1)).squeeze(-1)
        return x.mean(0) if self.mean else x
"""


def by_hand(x: np.ndarray, y: np.ndarray) -> dict[str, object]:
    """Counted sample by sample in plain Python."""
    steps, samples, classes = x.shape
    after, top5, loss = [0] * steps, 0, 0.0
    for b in range(samples):
        for t in range(steps):
            mean = [sum(float(x[s, b, k]) for s in range(t + 1)) / (t + 1) for k in range(classes)]
            after[t] += mean.index(max(mean)) == y[b]
        above = sum(value > mean[y[b]] for value in mean)
        top5 += above < 5
        loss += math.log(sum(math.exp(value) for value in mean)) - mean[y[b]]
    return {"after": after, "top5": top5, "loss": loss / samples}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(SCORES)
    return tmp_path


@pytest.mark.parametrize("classes", [4, 9])
def test_accuracy_and_loss_are_those_of_a_plain_loop(folder: Path, classes: int) -> None:
    x = np.random.default_rng(classes).permuted(np.arange(3 * 11 * classes)).reshape(3, 11, classes) / 64
    y = np.arange(11) % classes
    np.savez("x.npz", x=x, y=y)
    want = by_hand(x, y)
    command = ("evaluate", "--model", "net.py:Scores", "--input", "x.npz", "--layout", "TB")
    done = run(*command, "--batch-size", 4, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["samples"], found["classes"], found["correct"]) == (11, classes, want["after"][-1])
    assert found["correct_after"] == want["after"]
    assert found["in_top5"] == (want["top5"] if classes > 5 else None)
    assert found["loss"] == pytest.approx(want["loss"], rel=1e-6)
    assert found["accuracy"] == want["after"][-1] / 11
    told = run(*command)
    assert f"top-1 {found['accuracy']:.2%}" in told.stdout and "11 samples of x.npz" in told.stdout
    assert f"top-1 after T steps: 1: {want['after'][0] / 11:.2%}, 2: " in told.stdout
    assert ("top-5" in told.stdout) == (classes > 5)
    assert "note: random weights" in told.stderr
    mean = json.loads(run(*command, "--set", "mean=true", "--json").stdout)
    assert mean["correct_after"] == want["after"], "its last layer gives what its output is the mean of"
    assert mean["correct"] == found["correct"]
    assert mean["loss"] == pytest.approx(found["loss"], rel=1e-5)


def test_it_agrees_with_the_profile(folder: Path) -> None:
    x = np.random.default_rng(0).random((3, 11, 4))
    np.savez("x.npz", x=x, y=np.arange(11) % 4)
    common = ("--model", "net.py:Scores", "--input", "x.npz", "--layout", "TB", "--batch-size", 3)
    assert run("profile", *common, "--out", "p").returncode == 0
    found = json.loads(run("evaluate", *common, "--json").stdout)
    assert found["correct"] == Profile.load(folder / "p" / "profile.json").correct


def test_samples_without_classes_are_refused(folder: Path) -> None:
    x = np.random.default_rng(0).random((3, 11, 4))
    np.savez("none.npz", x=x)
    np.savez("high.npz", x=x, y=np.arange(11))
    common = ("evaluate", "--model", "net.py:Scores", "--layout", "TB")
    assert "batch 1 has no labels" in refused(*common, "--input", "none.npz")
    assert "the network has 4 classes, 0 to 3" in refused(*common, "--input", "high.npz")
    with pytest.raises(DataError, match="no samples to evaluate on"):
        evaluate(nn.Linear(3, 4), [])


def test_probabilities_are_labels_too() -> None:
    """As mixup makes them: the most probable class counts, the loss is the expected one."""
    torch.manual_seed(0)
    net, x = nn.Linear(3, 7).train(), torch.rand(5, 3)
    y = torch.full((5, 7), 0.05) + torch.eye(7)[[0, 6, 2, 2, 5]] * 0.65
    found = snn_energy.evaluate(net, [(x, y)])
    scores = net(x).detach().double()
    want = -(y.double() * scores.log_softmax(1)).sum(1).mean()
    assert found.correct == int((scores.argmax(1) == y.argmax(1)).sum())
    assert found.loss == pytest.approx(float(want), rel=1e-6)
    assert net.training


class Passed(nn.Module):
    """One step per call; what it sums up is given and returned, as Norse's neurons do."""

    def forward(
        self, x: torch.Tensor, state: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert x.dim() == 2
        total = x if state is None else state + x
        return total, total


def test_state_that_is_passed_goes_from_step_to_step() -> None:
    x = torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(0))
    sums = x.double().cumsum(0)
    y = sums.mean(0).argmax(1)
    found = evaluate(Passed(), [(x, y)], layout="TB", time_steps=4)
    assert found.correct == 9
    means = sums.cumsum(0)  # of the outputs so far, up to a factor
    assert list(found.correct_after) == [int((m.argmax(1) == y).sum()) for m in means]
