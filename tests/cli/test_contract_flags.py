"""What a user declares of a network on the command line, and what a look at it finds without that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import refused, run

from snn_energy.profiling import Profile

NET = """\
import torch
from spikingjelly.activation_based import neuron
from torch import nn

class LIF(nn.Module):
    '''(T, B, …): tau 2, threshold 1, reset to 0.'''

    def forward(self, x):
        v, out = torch.zeros_like(x[0]), []
        for step in x:
            v = v + (step - v) / 2
            fired = (v >= 1).float()
            v = v * (1 - fired)
            out.append(fired)
        return torch.stack(out)

class Net(nn.Module):
    def __init__(self, order="TB"):
        super().__init__()
        self.fc, self.lif, self.head = nn.Linear(6, 7), LIF(), nn.Linear(7, 4)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for layer in (self.fc, self.head):
                layer.weight.copy_(torch.randint(-8, 17, layer.weight.shape, generator=generator) / 16)
                layer.bias.zero_()
        self.order = order

    def forward(self, x):
        x = {"TB": x, "BT": x.transpose(0, 1) if x.dim() > 2 else x, "BT-last": x.movedim(-1, 0)}[self.order]
        return self.answer(self.head(self.lif(self.fc(x))))

    def answer(self, y):
        return y

class Several(Net):
    def answer(self, y):
        return {"aux": -y, "scores": y, "hidden": None}

class Pair(Net):
    def answer(self, y):
        return [-y, y]

class Step(nn.Module):
    '''Knows nothing of time.'''

    def __init__(self):
        super().__init__()
        self.fc, self.lif, self.head = nn.Linear(6, 7), neuron.LIFNode(tau=2.0), nn.Linear(7, 4)
        self.load_state_dict(Net().state_dict())

    def forward(self, x):
        return self.head(self.lif(self.fc(x)))

class Two(Net):
    def forward(self, frames, mask):
        return super().forward(frames * mask[None, :, None])

KEPT = []

class Keeps(Net):
    '''State where no reset finds it.'''

    def forward(self, x):
        KEPT.append(1)
        return super().forward(x * len(KEPT))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def samples(steps: int, batch: int) -> np.ndarray:
    """(T, B, 6), sixteenths."""
    return np.random.default_rng(0).integers(0, 17, (steps, batch, 6)) / 16


def spikes_by_hand(x: np.ndarray) -> int:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-8, 17, (7, 6), generator=generator) / 16
    v, total = torch.zeros(x.shape[1], 7), 0
    for step in torch.from_numpy(x).float():
        v = v + (step @ weight.T - v) / 2
        fired = v >= 1
        total += int(fired.sum())
        v = torch.where(fired, 0.0, v)
    return total


def profiled(*args: object) -> Profile:
    done = run("profile", "--input", "x.npz", "--out", "p", *args)
    assert done.returncode == 0, done.stderr
    profile = Profile.load("p/profile.json")
    assert done.stdout.startswith(f"{profile.contract}\n")
    odd = [record for record in profile.crosscheck if record["difference"]]
    assert not odd, "fvcore finds other dense MACs"
    return profile


def head(profile: Profile) -> int:
    return sum(row.ac for row in profile.rows if row.name == "head" and row.op == "linear")


@pytest.mark.parametrize("layout", ["TB", "BT", "BT-last"])
def test_the_same_samples_in_any_layout_count_the_same(folder: Path, layout: str) -> None:
    x = samples(5, 3)
    spikes = spikes_by_hand(x)
    assert spikes > 5
    moved = {"TB": x, "BT": x.transpose(1, 0, 2), "BT-last": x.transpose(1, 2, 0)}[layout]
    np.savez("x.npz", x=moved)
    command = (
        "--model",
        "net.py:Net",
        "--set",
        f"order={layout}",
        "--layout",
        layout,
        "--neuron",
        "net.LIF=lif",
    )
    profile = profiled(*command, "--batch-size", 2)
    assert (profile.samples, profile.time_steps) == (3, 5)
    assert head(profile) == spikes * 4
    (lif,) = [row for row in profile.rows if row.op == "lif"]
    assert lif.name == "lif" and lif.output_nonzero == spikes
    assert f"layout {layout}" in profile.contract and "declared: LIF" in profile.contract


def test_a_network_that_knows_nothing_of_time_is_called_once_per_step(folder: Path) -> None:
    still = samples(1, 3)[0]
    np.savez("x.npz", x=still)
    profile = profiled("--model", "net.py:Step", "--layout", "B", "--time-steps", 4)
    assert (profile.samples, profile.time_steps) == (3, 4)
    assert head(profile) == spikes_by_hand(np.stack([still] * 4)) * 4
    line = refused(
        "profile", "--model", "net.py:Net", "--input", "x.npz", "--layout", "TB", "--time-steps", 4
    )
    assert "time_steps = 4 contradicts the input (3, 3, 6)" in line or "(3, 6)" in line


def test_samples_without_layout_and_classes_are_found_by_a_look(folder: Path) -> None:
    """More steps than are looked at, and more than a batch: the steps are not taken for samples."""
    x = samples(40, 3)
    np.savez("x.npz", x=x)
    profile = profiled("--model", "net.py:Net", "--neuron", "LIF=lif", "--batch-size", 2)
    assert (profile.samples, profile.time_steps) == (3, 40)
    assert head(profile) == spikes_by_hand(x) * 4


def test_which_output_holds_the_scores(folder: Path) -> None:
    x = samples(5, 8)
    np.savez("plain.npz", x=x)
    done = run("evaluate", "--model", "net.py:Net", "--input", "plain.npz", "--layout", "TB", "--json")
    assert "batch 1 has no labels" in done.stderr
    from snn_energy.own import build_own

    with torch.no_grad():
        scores = build_own("net.py:Net")(torch.from_numpy(x).float()).double()
    right, wrong = scores.mean(0).argmax(1), scores.mean(0).argmin(1)
    np.savez("x.npz", x=x, y=right.numpy())

    def correct(*args: object) -> tuple[int, list[int]]:
        done = run("evaluate", "--input", "x.npz", "--layout", "TB", "--json", *args)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return found["correct"], found["correct_after"]

    assert correct("--model", "net.py:Pair", "--output", 1)[0] == 8
    assert correct("--model", "net.py:Pair")[0] == int((right == wrong).sum())
    assert correct("--model", "net.py:Several", "--output", "scores:mean-T")[0] == 8
    last = [int((s.argmax(1) == right).sum()) for s in scores]
    assert correct("--model", "net.py:Several", "--output", "scores:last-T") == (last[-1], last)
    summed = [int((s.argmax(1) == right).sum()) for s in scores.cumsum(0)]
    assert correct("--model", "net.py:Pair", "--output", "-1:sum-T") == (8, summed)
    profile = profiled("--model", "net.py:Several", "--output", "scores", "--layout", "TB")
    assert profile.correct == 8
    common = ("evaluate", "--input", "x.npz", "--layout", "TB", "--model", "net.py:Several")
    assert "with keys aux, scores, hidden" in refused(*common, "--output", "logit")
    assert "after the colon must be one of mean-T" in refused(*common, "--output", "0:mean")


def test_several_inputs_by_name(folder: Path) -> None:
    x, mask = samples(5, 4), np.array([1.0, 0.0, 1.0, 1.0])
    np.savez("x.npz", frames=x, mask=mask)
    profile = profiled("--model", "net.py:Two", "--layout", "TB", "--neuron", "LIF=lif", "--batch-size", 3)
    assert profile.samples == 4
    assert head(profile) == spikes_by_hand(x * mask[None, :, None]) * 4


def test_checks_can_be_left_out(folder: Path) -> None:
    np.savez("x.npz", x=samples(5, 3))
    common = ("--model", "net.py:Keeps", "--layout", "TB")
    assert "state survives the reset" in refused("profile", "--input", "x.npz", *common)
    assert profiled(*common, "--no-check").samples == 3


def test_what_a_network_prints_is_no_part_of_the_table(folder: Path) -> None:
    np.savez("x.npz", x=samples(5, 3))
    loud = "class Loud(Net):\n    def answer(self, y):\n        print('loud')\n        return y\n"
    (folder / "net.py").write_text(NET + loud)
    done = run("profile", "--input", "x.npz", "--out", "p", "--model", "net.py:Loud", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "loud\n" in done.stderr and json.loads(done.stdout)


def test_a_class_that_is_not_there_is_named(folder: Path) -> None:
    np.savez("x.npz", x=samples(5, 3))
    line = refused("profile", "--input", "x.npz", "--model", "net.py:Net", "--neuron", "net.Lif=lif")
    assert "neuron 'net.Lif': the network has no module of this class; it has LIF, Net" in line
