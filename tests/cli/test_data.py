"""Data sets by name on the command line: what is said of them, from training to evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import refused, run
from published_files import random_events, write_atis, write_cifar

TINY = ("embed_dims=16", "num_heads=2", "depths=1", "T=2", "epochs=1", "batch_size=6", "pooling_stat=1111")
NAMES = [f"class {i}" for i in range(10)]


def test_cifar_from_training_to_evaluation(tmp_path: Path) -> None:
    labels = {f"data_batch_{i}": [0, 1, 1, 0] for i in range(1, 6)} | {"test_batch": [1, 0, 1]}
    write_cifar(tmp_path / "cifar", labels, NAMES)
    size = ("img_size_h=32", "img_size_w=32", "in_channels=3", "random_affine=0")
    data = f"data=cifar10:{tmp_path}/cifar"
    done = run(
        "train", "digits-statten", *TINY, *size, data, "val_fraction=0.2", "--out", tmp_path / "run",
        "--device", "cpu",
    )  # fmt: skip
    assert not done.returncode, done.stderr
    assert "best validation accuracy" in done.stdout and ", test accuracy" in done.stdout
    note = "note: cifar10: not the published files, by their MD5 sums: data_batch_1,"
    assert note in done.stderr
    done = run("evaluate", tmp_path / "run" / "best.pth")
    assert not done.returncode and f"3 samples of cifar10:{tmp_path}/cifar (test)" in done.stdout
    assert note in done.stderr
    assert "takes 0 of 20 samples" in refused(
        "train", "digits-statten", *TINY, *size, data, "val_fraction=0.01"
    )


def test_events_from_their_recordings_to_evaluation(tmp_path: Path) -> None:
    for i in range(10):
        for name in ("ant", "bee"):
            events = random_events(30 + i, i, 180, 240)
            write_atis(tmp_path / "extract" / "Caltech101" / name / f"image_{i}.bin", events)
    data = f"ncaltech101:{tmp_path}?size=16"
    size = ("img_size_h=16", "img_size_w=16", "in_channels=2", "num_classes=2", f"data={data}", "workers=0")
    done = run("train", "digits-statten", *TINY, *size, "--out", tmp_path / "run", "--device", "cpu")
    assert not done.returncode, done.stderr
    assert "note: the epoch was chosen on the test part" in done.stderr
    assert (tmp_path / "frames_number_2_split_by_number").is_dir()
    done = run("evaluate", tmp_path / "run" / "best.pth")
    assert not done.returncode and f"2 samples of {data} (test)" in done.stdout
    assert "T = 2" in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar100:/nowhere", "no train or train.bin in /nowhere; get the python or the binary version"),
        ("imagenet:/nowhere", "/nowhere/train is missing; get ILSVRC2012 from"),
        ("cifar10-dvs:/nowhere?T=16", "/nowhere/frames_number_16_split_by_number is missing; put"),
        ("imagenet", "give its place, imagenet:DIR"),
    ],
)
def test_what_is_missing_is_one_line_and_leaves_nothing(tmp_path: Path, name: str, message: str) -> None:
    out = tmp_path / "out"
    assert message in refused("train", "digits-statten", f"data={name}", "--out", out)
    assert not out.exists()
