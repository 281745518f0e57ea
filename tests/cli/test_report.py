"""`snn-energy report`: its files, the exports that it finds, and what it says of how a profile was made."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from command import refused, run
from energy_builders import profile as pencil

from snn_energy.checkpoints import build, read_checkpoint, save_checkpoint
from snn_energy.cli.origin import Fingerprint
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
    assert "compared under one" in refused("report", folder, folder, "--convention", "exact,sdt")


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
    text = b"0 torch.float32 (1, 8, 8)" + images.tobytes()
    assert made["samples_sha256"] == hashlib.sha256(text).hexdigest()
    page = (tmp_path / "p" / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") > 2 * 2 * 8 and "sample 2: predicted" in page and "sample 3" not in page
    assert "--maps 2" in page


def test_the_log_of_a_training_reaches_the_report(tmp_path: Path) -> None:
    stored = read_checkpoint(CHECKPOINT)
    rows = [{"epoch": e, "test_accuracy": 0.5 + e / 10, "energy_uj_exact": 0.2} for e in range(3)]
    path = tmp_path / "c.pth"
    save_checkpoint(path, build(stored), name="statten", recipe=stored.recipe, history=rows)
    done = run("profile", path, "--samples", "2", "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    assert Profile.load(tmp_path / "p" / "profile.json").history == tuple(rows)
    page = (tmp_path / "p" / "report.html").read_text(encoding="utf-8")
    assert "3 epochs; test accuracy at most 70.00 %, in epoch 2" in page


def test_the_fingerprint_does_not_hang_on_batches() -> None:
    """Several entries, samples along another axis, the last batch smaller: the same bytes, the same hash."""
    x = torch.arange(2 * 7 * 3).reshape(2, 7, 3).float()
    y = torch.arange(2 * 7).reshape(2, 7)

    def of(size: int, entries: bool = True, a: torch.Tensor = x) -> str:
        found = Fingerprint(axis=1)
        parts = zip(a.split(size, 1), y.split(size, 1), strict=True)
        passed = list(found.passing(({"a": p, "b": q} if entries else p, None) for p, q in parts))
        assert len(passed) == -(-7 // size)
        return found.hexdigest()

    assert len({of(1), of(3), of(7)}) == 1 and len({of(2, False), of(7, False)}) == 1
    assert len({of(3), of(3, False), of(3, a=x.flip(1)), of(3, a=x.double())}) == 4
