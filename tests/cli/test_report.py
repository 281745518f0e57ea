"""`snn-energy report`: its files, the exports that it finds, and what it says of how a profile was made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from command import refused, run
from energy_builders import profile as pencil

from snn_energy.exporters.verification import NeuronCheck, Source, Verification
from snn_energy.files import sha256
from snn_energy.profiling.profile import Profile

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "trained-statten.pth"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = dataclasses.replace(pencil(), environment={"checkpoint_sha256": "abc", "snn-energy": "0.1.0"})
    made.save(tmp_path / "profile.json")
    return tmp_path


def test_figures_and_tables_are_written_and_named(folder: Path) -> None:
    done = run("report", folder, "--tables", folder / "t", "--convention", "exact,sdt")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split()
    assert printed[0] == str(folder / "report.html") and len(printed) == 9
    assert all(Path(path).is_file() for path in printed)
    assert (
        "exact" in (folder / "t" / "layers.md").read_text()
        and "sdt" in (folder / "t" / "layers.md").read_text()
    )


def test_exports_of_the_same_checkpoint_are_shown(folder: Path) -> None:
    for name, whose in (("onnx", "abc"), ("nir", "other")):
        record = Verification(name, "multi-step", 4, 0.0, 0, (NeuronCheck("lif", 40, 5, 0),))
        (folder / name).mkdir()
        record.with_parts(Source(origin={"checkpoint_sha256": whose})).save(
            folder / name / "verification.json"
        )
    assert run("report", folder).returncode == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "onnx: identical" in page and "nir: identical" not in page
    assert run("report", folder, "--exports", folder / "nir").returncode == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "nir: identical" in page and "onnx: identical" not in page
    assert "verification.json" in refused("report", folder, "--verification", folder)


def test_nothing_is_written_where_something_is_wrong(folder: Path) -> None:
    (folder / "file").write_text("x")
    assert "is a file" in refused("report", folder, "--figures", folder / "file")
    assert not (folder / "report.html").exists()
    assert "did you mean 'exact'" in refused("report", folder, "--convention", "exat")


def test_a_profile_says_how_it_was_made(tmp_path: Path) -> None:
    """The command as it was given, the device, and hashes of what was read; maps where they are asked for."""
    images = np.random.default_rng(0).integers(0, 17, (3, 1, 8, 8)).astype(np.float32) / 16
    np.savez(tmp_path / "in put.npz", x=images, y=np.array([1, 2, 3]))
    done = run("profile", CHECKPOINT, "--input", tmp_path / "in put.npz", "--out", tmp_path / "p", "--device",
               "cpu", "--maps", 2)  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = Profile.load(tmp_path / "p" / "profile.json").environment
    assert made["command"].startswith(f"snn-energy profile {CHECKPOINT} --input '{tmp_path}/in put.npz'")
    assert made["device"] == "cpu" and made["input_sha256"] == sha256(tmp_path / "in put.npz")
    assert len(made["recipe_sha256"]) == 64
    page = (tmp_path / "p" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") > 2 * 2 * 8 and "sample 2: predicted" in page and "sample 3" not in page
    assert "--maps 2" in page
    assert json.loads((tmp_path / "p" / "profile.json").read_text())["history"] == []
