"""The command line from end to end on a tiny checkpoint, and one clear line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command import refused, run

from snn_energy.checkpoints import save_checkpoint
from snn_energy.exporters.onnx.run import OnnxModel
from snn_energy.models.zoo import create_model
from snn_energy.profiling import Profile

RECIPE = {"model": "statten", "data": "digits"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that fires, untrained."""
    torch.manual_seed(1)
    model = create_model(
        "statten",
        in_channels=1,
        num_classes=10,
        embed_dims=16,
        num_heads=2,
        depths=1,
        T=4,
        pooling_stat="0011",
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.weight, 3.0)
            torch.nn.init.constant_(module.bias, 0.5)
            module.momentum = None
    model.train()(torch.randn(32, 1, 8, 8))
    path = tmp_path_factory.mktemp("run") / "best.pth"
    save_checkpoint(path, model.eval(), name="statten", recipe=RECIPE, class_names=list("0123456789"))
    return path


@pytest.mark.slow
def test_profile_export_verify_report(checkpoint: Path, tmp_path: Path) -> None:
    done = run(
        "profile",
        checkpoint,
        "--samples",
        20,
        "--batch-size",
        7,
        "--out",
        tmp_path / "p",
        "--convention",
        "all",
    )
    assert done.returncode == 0, done.stderr
    profile = Profile.load(tmp_path / "p" / "profile.json")
    assert (profile.samples, profile.time_steps, profile.model) == (20, 4, "statten")
    assert f"{profile.energy().mj:.6g} mJ" in done.stdout
    assert f"accuracy {profile.accuracy:.2%}" in done.stdout
    assert "than the dense ANN" in done.stdout and "than the 3-bit ANN" in done.stdout
    assert "block.0.attn.q_conv" in done.stdout
    layers = pd.read_csv(tmp_path / "p" / "layers.csv", keep_default_na=False)
    assert layers.ac_total.sum() == sum(row.ac for row in profile.rows) > 0
    assert {"block.0.attn.q_conv", "patch_embed.proj_lif1", "head"} <= set(layers.name)

    out = ("--out", tmp_path / "onnx")
    done = run("export", checkpoint, "--target", "onnx", *out, "--samples", 20, "--debug-outputs")
    assert done.returncode == 0, done.stderr
    runner = OnnxModel(tmp_path / "onnx" / "model.onnx")
    assert runner.class_names == [str(digit) for digit in range(10)]
    assert "block.0.attn.q_lif" in runner.outputs
    verdict = json.loads((tmp_path / "onnx" / "verification.json").read_text())
    assert verdict["samples"] == 20
    assert verdict["predictions_differ"] == 0
    assert verdict["logits_difference"] <= 1e-5

    np.savez(tmp_path / "mine.npz", x=np.random.default_rng(0).normal(size=(3, 1, 8, 8)))
    done = run("verify", tmp_path / "onnx", "--input", tmp_path / "mine.npz")
    assert done.returncode == 0, done.stderr
    assert "3 of 3 predictions equal" in done.stdout

    page = tmp_path / "report.html"
    done = run(
        "report", tmp_path / "p", "--verification", tmp_path / "onnx", "--out", page, "--costs", "45nm-int8"
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert verdict["verdict"] in text
    assert "45nm-int8" in text


@pytest.mark.slow
def test_the_headline_says_which_price_is_missing(checkpoint: Path, tmp_path: Path) -> None:
    done = run("profile", checkpoint, "--samples", 4, "--out", tmp_path, "--costs", "loihi")
    assert done.returncode == 0, done.stderr
    assert "no ratio to the dense ANN: loihi has no price for MAC" in done.stdout
    page = " ".join((tmp_path / "report.html").read_text(encoding="utf-8").split())
    assert "no ratio to the dense ANN" in page and "loihi has no price for MAC" in page


def test_profile_writes_machine_formats_to_standard_output_alone(checkpoint: Path, tmp_path: Path) -> None:
    done = run("profile", checkpoint, "--samples", 4, "--out", tmp_path, "--format", "json", "--by", "block")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {"patch_embed", "block.0"} <= {row["name"] for row in rows}


@pytest.mark.slow
def test_flags_win_over_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    done = run(
        "profile", checkpoint, "--samples", 4, "--out", tmp_path, "--attention-mode", "SDT", "--time-steps", 3
    )
    assert done.returncode == 0, done.stderr
    profile = Profile.load(tmp_path / "profile.json")
    assert (profile.config["attention_mode"], profile.time_steps) == ("SDT", 3)
    assert "block.0.attn.talking_heads_lif" in {row.name for row in profile.neurons}


def test_train(tmp_path: Path) -> None:
    tiny = (
        "embed_dims=16",
        "num_heads=2",
        "depths=1",
        "T=2",
        "pooling_stat=0110",
        "epochs=1",
        "batch_size=96",
    )
    done = run("train", "digits-statten", *tiny, "--out", tmp_path / "run", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "best test accuracy" in done.stdout
    assert str(tmp_path / "run" / "best.pth") in done.stdout


MISTAKES = [
    (("train", "digits-stattn"), "did you mean 'digits-statten'"),
    (("train", "digits-statten", "epoch=3"), "did you mean epochs"),
    (("train", "digits-statten", "T=5"), "chunk_size = 2: must divide T = 5"),
    (("train", "digits-statten", "chunk_size=3"), "chunk_size = 3: must divide T = 4"),
    (("train", "digits-statten", "--device", "gpu"), "device = 'gpu'"),
    (("profile", "nowhere.pth"), "nowhere.pth"),
    (("profile", __file__), "test_cli.py"),
    (("profile", "CKPT", "--data", "digit"), "did you mean 'digits'"),
    (("profile", "CKPT", "--input", "none.npz"), "none.npz: no such file"),
    (("profile", "CKPT", "--samples", "99999"), "has 360"),
    (("profile", "CKPT", "--chunk-size", "3"), "chunk_size = 3: must divide T = 4"),
    (("profile", "CKPT", "--convention", "exakt"), "did you mean 'exact'"),
    (("profile", "CKPT", "--costs", "28nm"), "28nm"),
    (("export", "CKPT", "--target", "onix"), "did you mean 'onnx'"),
    (("verify", "nowhere"), "nowhere"),
    (("report", "nowhere.json"), "nowhere.json"),
    (("reproduce", "spikformr"), "spikformr"),
    (("audit", "nowhere.csv"), "nowhere.csv: No such file"),
    (("audit", __file__), "no column of energies"),
    (("audit", "table.csv", "--json", "--markdown"), "one output at a time"),
    (("list", "modles"), "did you mean 'models'"),
]


@pytest.mark.parametrize(
    ("args", "message"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, tuple) else ""
)
def test_a_mistake_is_one_line_and_exit_code_2(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(*(checkpoint if a == "CKPT" else a for a in args))
    assert not list(tmp_path.iterdir()), "a refused command left something behind"


def test_nonsense_is_refused_by_name_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)
    bad = x.copy()
    bad[3, 0, 2, 7] = np.nan
    labels = np.arange(5)
    for name, arrays, message in (
        (
            "nan",
            {"x": bad},
            "nan.npz: x must hold finite numbers; 1 of 320 are not, the first nan at index (3, 0, 2",
        ),
        ("large", {"x": x.astype(np.float64) * 1e300}, "large.npz: x must hold finite numbers; 320 of 320"),
        (
            "high",
            {"x": x, "y": labels + 7},
            "batch 2: sample 1 has label 10, but the network has 10 classes, 0 to 9",
        ),
        ("low", {"x": x, "y": labels - 1}, "sample 0 has label -1"),
        ("real", {"x": x, "y": labels / 2}, "real.npz: y has shape (5,) of float64"),
        ("row", {"x": x, "y": labels[None]}, "row.npz: y has shape (1, 5) of int64"),
        ("high2", {"x": x, "y": np.array([0, 1, 2, 3, 99])}, "labels of batch 3: sample 0 has label 99"),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        line = refused("profile", checkpoint, "--input", f"{name}.npz", "--out", "made", "--batch-size", 2)
        assert message in line
        (tmp_path / f"{name}.npz").unlink()
        assert not list(tmp_path.iterdir()), name


def test_weights_and_samples_that_are_not_finite_with_leave(checkpoint: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 1, 8, 8)).astype(np.float32)
    x[2, 0, 1, 5] = np.inf
    np.savez(tmp_path / "x.npz", x=x, y=np.array([[1], [2], [0], [9]]))
    stored = torch.load(checkpoint, weights_only=True)
    stored["state_dict"]["head.weight"][3, 4] = float("nan")
    torch.save(stored, tmp_path / "nan.pth")
    options = ("profile", tmp_path / "nan.pth", "--input", tmp_path / "x.npz", "--out", tmp_path / "p")
    assert "head.weight holds 1 NaN or infinite" in refused(*options)
    assert not (tmp_path / "p").exists()
    done = run(*options, "--allow-nonfinite")
    assert done.returncode == 0, done.stderr
    profile = Profile.load(tmp_path / "p" / "profile.json")
    assert profile.samples == 4 and profile.correct is not None
    assert any("'weight' of module 'head' holds nan in 1 of 160" in note for note in profile.notes)
    assert any("input of batch 1 is not finite: inf in 1 of 256" in note for note in profile.notes)
    page = (tmp_path / "p" / "report.html").read_text(encoding="utf-8")
    assert all(f"note: {note}\n" in done.stdout for note in profile.notes)
    assert "of batch 1 is not finite: inf in 1 of 256 values" in page
    again = run("report", tmp_path / "p", "--out", tmp_path / "again.html")
    assert again.returncode == 0 and "is not finite" in (tmp_path / "again.html").read_text(encoding="utf-8")


def test_frames_and_pixels_are_remarked_upon(checkpoint: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    np.savez(tmp_path / "x.npz", x=random.integers(0, 256, (3, 2, 1, 8, 8), dtype=np.uint8))
    options = ("profile", checkpoint, "--input", tmp_path / "x.npz", "--out", tmp_path / "p")
    done = run(*options)
    assert done.returncode == 0, done.stderr
    assert "note: T = 2 is that of the data; the network declares T = 4.\n" in done.stdout
    assert "looks like raw pixels 0…255" in done.stdout
    assert Profile.load(tmp_path / "p" / "profile.json").time_steps == 2
    table = run(*options, "--format", "json")
    assert json.loads(table.stdout) and "note: T = 2" in table.stderr


def test_the_installed_command_exits_with_2(tmp_path: Path) -> None:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "snn_energy", "train", "nothing", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown recipe 'nothing'")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["models", "recipes", "data", "conventions", "costs", "targets"])
def test_lists(what: str) -> None:
    done = run("list", what)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 1


def test_audit_needs_no_model(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("model,sops_g,mj\nA,6.82,7.734\nB,11.09,11.577\nC,13.67,13.899\nD,22.09,23.1\n")
    done = run("audit", path)
    assert done.returncode == 0, done.stderr
    assert "mJ = 0.9 pJ × SOPs + 1.596 mJ" in done.stdout and "contradict it: D" in done.stdout
    record = json.loads(run("audit", path, "--json").stdout)
    assert record["finding"]["constant_macs"] == pytest.approx(0.347e9, rel=1e-3)
    assert [row["verdict"] for row in record["rows"]] == ["fits", "fits", "fits", "contradicts"]
    assert "| A | 6.82 | 7.734 |" in run("audit", path, "--markdown").stdout
    assert "3.2 pJ" in run("audit", path, "--costs", "45nm-int32").stdout
    assert not [p for p in tmp_path.iterdir() if p != path]


def test_event_counts_are_declared_on_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    counts = np.random.default_rng(3).integers(0, 90, (3, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "counts.npz", x=counts)
    np.savez(tmp_path / "reals.npz", x=counts / 7)
    options = ("--out", tmp_path / "p", "--input-kind", "events")
    assert run("profile", checkpoint, "--input", tmp_path / "counts.npz", *options).returncode == 0
    first = Profile.load(tmp_path / "p" / "profile.json").rows[0]
    assert (first.input_kind, first.input_units, first.mac) == ("integer", 4 * int(counts.sum()), 0)
    line = refused("profile", checkpoint, "--input", tmp_path / "reals.npz", *options)
    assert "whole numbers" in line and "batch 1" in line
