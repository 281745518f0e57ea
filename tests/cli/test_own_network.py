"""A network of one's own from the command line, end to end: built, filled, counted, and refused in words."""

from __future__ import annotations

import importlib
import json
import re
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

class Net(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.fc = nn.Linear(6, width)
        self.lif = neuron.LIFNode(step_mode="m")
        self.head = nn.Linear(width, classes)

    def forward(self, x):  # (T, B, 6)
        return self.head(self.lif(self.fc(x)))

def build(num_classes, width=7):
    print("building")
    return Net(width, num_classes)
"""
COMMAND = ("profile", "w.pth", "--model", "net.py:build", "--set", "num_classes=4", "--input", "x.npz")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a network, its weights in a trainer's file, samples (T, B, 6) = (5, 3, 6)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    generator = torch.Generator().manual_seed(0)
    state = {
        "fc.weight": torch.randint(-8, 17, (7, 6), generator=generator) / 16,
        "fc.bias": torch.randint(0, 5, (7,), generator=generator) / 16,
        "head.weight": torch.randint(-8, 9, (4, 7), generator=generator) / 16,
        "head.bias": torch.zeros(4),
    }
    torch.save({"epoch": 2, "state_dict": {"model." + k: v for k, v in state.items()}}, tmp_path / "w.pth")
    x = np.random.default_rng(0).integers(0, 17, (5, 3, 6)) / 16
    np.savez(tmp_path / "x.npz", x=x, y=np.array([0, 3, 1]))
    return tmp_path


def spikes_by_hand(folder: Path) -> int:
    """Events of the LIF layer in a plain loop: τ = 2, threshold 1, reset to 0."""
    state = {k.removeprefix("model."): v for k, v in torch.load(folder / "w.pth")["state_dict"].items()}
    x = torch.from_numpy(np.load(folder / "x.npz")["x"]).float()
    v, total = torch.zeros(3, 7), 0
    for step in x:
        v = v + (step @ state["fc.weight"].T + state["fc.bias"] - v) / 2
        fired = v >= 1
        total += int(fired.sum())
        v = torch.where(fired, 0.0, v)
    return total


def test_a_checkpoint_of_ones_own_is_counted(folder: Path) -> None:
    done = run(*COMMAND, "--layout", "TB", "--out", "p", "--format", "json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert "building\n" in done.stderr, "what the user's code prints is not lost"
    profile = Profile.load(folder / "p" / "profile.json")
    assert (profile.samples, profile.time_steps, profile.model) == (3, 5, "Net")
    spikes = spikes_by_hand(folder)
    assert spikes > 5
    (head,) = [row for row in profile.rows if row.name == "head" and row.op == "linear"]
    assert head.ac == spikes * 4 and head.mac == 0
    assert profile.environment["code"] == "net.py:build"
    assert profile.environment["settings"] == "{'num_classes': 4}"
    assert profile.environment["checkpoint"] == "w.pth"
    said = ("weights taken from 'state_dict' in the file", "names in the file fit with 'model.' taken off")
    assert all(note in profile.notes and f"note: {note}" in done.stderr for note in said)


def test_without_a_checkpoint_the_weights_are_random_and_that_is_said(folder: Path) -> None:
    command = ("profile", "--model", "net.py:build", "--set", "num_classes=4", "--set", "width=9")
    first = run(*command, "--input", "x.npz", "--layout", "TB", "--out", "p")
    assert first.returncode == 0, first.stderr
    assert "note: random weights (seed 0): no checkpoint was given" in first.stdout
    profile = Profile.load(folder / "p" / "profile.json")
    assert any(note.startswith("random weights") for note in profile.notes)
    assert "random weights" in (folder / "p" / "report.html").read_text(encoding="utf-8")
    assert profile.parameters == 6 * 9 + 9 + 9 * 4 + 4
    again = run(*command, "--input", "x.npz", "--layout", "TB", "--out", "q")
    assert again.stdout.replace("q/report", "p/report") == first.stdout


def test_a_registered_network_needs_no_checkpoint_either(folder: Path) -> None:
    fields = ("--dim", 16, "--num-heads", 2, "--set", "depths=1", "--in-channels", 1, "--num-classes", 10)
    more = ("--time-steps", 2, "--pooling-stat", "0110", "--data", "digits", "--samples", 3, "--out", "p")
    done = run("profile", "--model", "statten", *fields, *more)
    assert done.returncode == 0, done.stderr
    assert "note: random weights (seed 0)" in done.stdout
    assert Profile.load(folder / "p" / "profile.json").config["depths"] == 1
    assert "give a checkpoint, or --model" in refused("profile", "--input", "x.npz")


def test_what_is_printed_for_an_unknown_checkpoint_works(folder: Path) -> None:
    """The command and the four lines, with the names that the user has to fill in filled in."""
    done = run("profile", "w.pth", "--input", "x.npz")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "error: w.pth: the file does not say which model it is for; give --model or --config"
    (command,) = [line.strip() for line in lines if line.strip().startswith("snn-energy profile")]
    command = command.replace("path/to/net.py", "net.py").replace("num_classes=10", "num_classes=4")
    ran = run(*command.split()[1:], "--out", "p")
    assert ran.returncode == 0, ran.stderr
    code = [line[4:] for line in lines if line.startswith("    ") and "snn-energy profile" not in line]
    assert len(code) == 4
    text = (
        "\n".join(code).replace("path/to/net.py", "net.py").replace('"num_classes": 10', '"num_classes": 4')
    )
    said: list[object] = []
    with pytest.warns(UserWarning, match="weights taken from 'state_dict'|names in the file fit"):
        exec(text, {"print": lambda *words: said.append(words)})
    (words,) = said
    assert words[1] == "mJ"
    assert words[0] == Profile.load(folder / "p" / "profile.json").energy().mj


def test_other_weights_in_the_file(folder: Path) -> None:
    stored = torch.load(folder / "w.pth")["state_dict"]
    ema = {"model": {k: v * 0 for k, v in stored.items()}}
    torch.save({"state_dict": stored, "ema": ema}, folder / "w.pth")
    done = run(*COMMAND, "--layout", "TB", "--out", "p", "--weights-key", "ema.model")
    assert done.returncode == 0, done.stderr
    profile = Profile.load(folder / "p" / "profile.json")
    assert sum(row.ac for row in profile.rows if row.name == "head" and row.op == "linear") == 0
    line = refused(*COMMAND, "--weights-key", "ema.modl")
    assert "holds nothing at --weights-key ema.modl; did you mean 'ema.model'?" in line


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--set", "num_classes"), "--set 'num_classes': must be NAME=VALUE, such as --set T=4"),
        (("--set", "a-b=3"), "--set 'a-b=3': must be NAME=VALUE"),
        (("--set", "width=[3"), "--set width=[3, line 1: not YAML"),
        (("--set", "num_classes=5"), "num_classes was given before, as 4"),
        (
            ("--set", "widht=8"),
            "net.py:build takes no argument 'widht' (--set widht=…); did you mean 'width'?",
        ),
        (("--set", "width=8"), "fc.weight has shape (7, 6), net.py:build expects (8, 6); 2 more differ"),
        (("--num-classes", "4"), "--num-classes is for networks of the registry; for net.py:build: --set"),
        (("--ema",), "--ema is for networks of the registry; for net.py:build: --weights-key"),
        (("--neuron", "net.LIF"), "--neuron 'net.LIF': must be MODULE.CLASS=lif"),
        (("--model", "net.py:bild"), "has no 'bild'; did you mean 'build'?"),
        (("--model", "nett"), "unknown model 'nett'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(folder: Path, args: tuple[str, ...], message: str) -> None:
    before = sorted(folder.iterdir())
    assert message in refused(*COMMAND, "--out", "p", *args)
    assert sorted(folder.iterdir()) == before


def test_settings_are_yaml(folder: Path) -> None:
    code = "import json\nfrom torch import nn\ndef build(**given):\n    raise ValueError(json.dumps(given))\n"
    (folder / "net.py").write_text(code)
    given = ("a=3", "b=0.5", "c=relu", "d=true", "e=[1, 2e-3]", "f=3e-4", "g=", "h='7'", "i=x=y", "j=-1e-2")
    line = refused("profile", "--model", "net.py:build", *(w for g in given for w in ("--set", g)))
    found = json.loads(re.search(r"\{.*\}", line)[0])  # type: ignore[index]
    assert found == {
        "a": 3, "b": 0.5, "c": "relu", "d": True, "e": [1, 0.002], "f": 3e-4, "g": None, "h": "7", "i": "x=y",
        "j": -0.01,
    }  # fmt: skip


def test_export_takes_such_a_network(folder: Path) -> None:
    code = NET.replace("x):  # (T, B, 6)", "x):").replace(
        "return self.head(self.lif(self.fc(x)))",
        "x = self.fc(x)\n        return self.head(self.lif(x.unsqueeze(0).repeat(4, 1, 1))).mean(0)",
    )
    (folder / "net.py").write_text(code)
    np.savez(folder / "x.npz", x=np.load("x.npz")["x"][0])
    done = run("export", *COMMAND[1:], "--target", "onnx", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "3 of 3 predictions equal" in done.stdout
    assert "note: weights taken from 'state_dict' in the file" in done.stderr
    origin = json.loads((folder / "out" / "verification.json").read_text())["parts"]["source"]["origin"]
    assert origin["code"] == "net.py:build" and origin["checkpoint"] == "w.pth"
    done = run("verify", "out", "--input", "x.npz")
    assert done.returncode == 0, done.stderr
    line = refused("export", *COMMAND[1:], "--target", "onnx", "--time-steps", 3, "--out", "other")
    assert "time_steps = 3 contradicts the network: its spiking layer 'lif' ran 4 steps" in line


@pytest.mark.parametrize("target", ["onnx", "nir", "netlist"])
def test_export_takes_time_first_and_a_loop_of_its_own(target: str, folder: Path) -> None:
    """(T, B, 6), a neuron that the forward writes out, (scores per step, None): as it is, to every target."""
    (folder / "loop.py").write_text(LOOP)
    x = np.random.default_rng(0).random((4, 5, 6), np.float32) * 4
    np.savez(folder / "frames.npz", x=x, y=np.array([0, 1, 2, 1, 0]))
    command = ("--model", "loop.py:build", "--input", "frames.npz", "--layout", "TB", "--target", target)
    done = run("export", *command, "--out", "made")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical") and "5 of 5 predictions equal" in done.stdout
    assert ("loihi2  fits" in done.stdout) == (target == "netlist")
    assert run("verify", "made").returncode == 0
    assert (
        run("verify", "made", "--input", "frames.npz", "--samples", 2).stdout.count("2 of 2 predictions") == 1
    )
    assert "--overwrite" in refused("export", *command, "--out", "made")
    assert run("export", *command, "--out", "made", "--overwrite").returncode == 0
    if target == "netlist":
        assert run("export", *command, "--out", "fit", "--require-fit", "loihi2").returncode == 0
        done = run("export", *command, "--out", "unfit", "--require-fit", "loihi1")
        assert done.returncode == 1 and "does not fit Loihi (2018)" in done.stderr
        said = json.loads(run("export", *command, "--out", "json", "--json").stdout)
        assert [chip["fits"] for chip in said["chips"]] == [False, True]
    else:
        assert f"target {target} has no chip" in refused("export", *command, "--require-fit", "loihi2")


LOOP = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(6, 7), nn.Linear(7, 3)

    def forward(self, x):
        v, out = torch.zeros(x.shape[1], 7), []
        for frame in x:
            v = v + (self.fc(frame) * 2 - v) / 2
            spikes = (v >= 1).float()
            v = v * (1 - spikes)
            out.append(self.head(spikes))
        return torch.stack(out), None

def build():
    return Net()
"""

OLD = """\
import torch
from timm.models.layers import trunc_normal_
from timm.models.registry import register_model
from spikingjelly.clock_driven.neuron import MultiStepLIFNode
from torch import nn

class Old(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(6, 7)
        self.lif = MultiStepLIFNode(tau=2.0, detach_reset=True, backend="cupy")
        self.head = nn.Linear(7, num_classes)
        trunc_normal_(self.head.weight, std=0.02)

    def forward(self, x):
        return self.head(self.lif(self.fc(x))).mean(0), None

@register_model
def old_style(num_classes=4, **kwargs):
    return Old(num_classes)
"""


def test_files_in_the_style_of_years_ago_run_as_they_are(folder: Path) -> None:
    """Import names of SpikingJelly 0.0.0.0.12 and timm 0.6: only while `--model` imports and builds."""
    (folder / "old.py").write_text(OLD)
    command = ("profile", "w.pth", "--model", "old.py:old_style", "--input", "x.npz")
    done = run(*command, "--layout", "TB", "--out", "p")
    assert done.returncode == 0, done.stderr
    profile = Profile.load(folder / "p" / "profile.json")
    (head,) = [row for row in profile.rows if row.name == "head" and row.op == "linear"]
    assert head.ac == spikes_by_hand(folder) * 4 > 0
    assert profile.accuracy is not None and "MultiStepLIFNode" in profile.contract
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("spikingjelly.clock_driven")


def test_token_ids_stay_whole_numbers(folder: Path) -> None:
    code = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.h = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, x):
        assert x.dtype == torch.int64
        return self.h(self.e(x).mean(1))
"""
    (folder / "net.py").write_text(code)
    np.savez(folder / "x.npz", x=np.random.default_rng(0).integers(0, 50, (5, 7), dtype=np.uint16))
    done = run("profile", "--model", "net.py:Net", "--input", "x.npz", "--out", "p", "--batch-size", 2)
    assert done.returncode == 0, done.stderr
    profile = Profile.load(folder / "p" / "profile.json")
    assert profile.samples == 5
    (head,) = [row for row in profile.rows if row.name == "h"]
    assert head.mac == 5 * 8 * 3
