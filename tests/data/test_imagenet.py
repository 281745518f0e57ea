"""Folders of pictures: what is read, in which order, by how many processes; what is random about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snn_energy.data import Stream, load_data
from snn_energy.errors import ConfigError, DataError

SIZES = ((40, 30), (25, 60), (33, 33), (90, 31))


def write_folder(folder: Path, count: int = 3) -> None:
    """Pictures (width, height) of several sizes, one of them grey and one with transparency."""
    rng = np.random.default_rng(0)
    for part, each in (("train", count), ("val", 2)):
        for k, name in enumerate(("n02", "n01")):
            place = folder / part / name
            place.mkdir(parents=True)
            for i in range(each):
                width, height = SIZES[(i + k) % len(SIZES)]
                pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
                mode = {0: "RGB", 1: "L", 2: "RGBA"}[i % 3]
                Image.fromarray(pixels).convert(mode).save(place / f"p{i}.{'png' if i % 3 == 2 else 'JPEG'}")


def test_pictures_are_those_of_timms_evaluation(tmp_path: Path) -> None:
    from timm.data import create_transform

    write_folder(tmp_path)
    data = load_data(f"imagenet:{tmp_path}?size=24&crop=0.8", workers=0)
    theirs = create_transform((3, 24, 24), interpolation="bicubic", crop_pct=0.8)
    files = [f"val/{name}/p{i}.JPEG" for i in range(2) for name in ("n01", "n02")]
    x, y = data.test.batch(slice(None))
    assert y is not None and y.tolist() == [0, 1, 0, 1] and data.class_names == ("n01", "n02")
    for k, file in enumerate(files):
        torch.testing.assert_close(x[k], theirs(Image.open(tmp_path / file).convert("RGB")))
    assert data.sample_shape == (3, 24, 24) and (len(data.train), len(data.test)) == (6, 4)
    assert load_data(f"imagenet:{tmp_path}", workers=0).sample_shape == (3, 224, 224)


def test_batches_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    write_folder(tmp_path, count=5)

    def read(workers: int, seed: int, start: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
        part = load_data(f"imagenet:{tmp_path}?size=16", workers=workers).train
        return list(part.batches(2, torch.Generator().manual_seed(seed), start=start))

    before = torch.get_rng_state()
    plain, worked, other = read(0, 1), read(2, 1), read(0, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(plain) == 5 and sorted(torch.cat([y for _, y in plain]).tolist()) == [0] * 5 + [1] * 5
    for (x, y), (x2, y2) in zip(plain, worked, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)
    assert not all(torch.equal(x, x2) for (x, _), (x2, _) in zip(plain, other, strict=True))
    rest = read(0, 1, start=3)
    assert len(rest) == 2 and all(torch.equal(a[0], b[0]) for a, b in zip(rest, plain[3:], strict=True))


def test_only_shuffled_pictures_are_varied(tmp_path: Path) -> None:
    write_folder(tmp_path)
    part = load_data(f"imagenet:{tmp_path}?size=16", workers=0).train
    still, _ = part.batch(slice(None))
    assert torch.equal(torch.cat([x for x, _ in part.batches(4)]), still)
    varied = torch.cat([x for x, _ in part.batches(6, torch.Generator().manual_seed(0))])
    assert not any(torch.equal(a, b) for a in varied for b in still)


def test_parts_of_a_part(tmp_path: Path) -> None:
    write_folder(tmp_path, count=4)
    data = load_data(f"imagenet:{tmp_path}?size=16", workers=0, val_fraction=0.25)
    assert data.validation is not None and isinstance(data.train, Stream)
    assert isinstance(data.validation, Stream) and isinstance(data.test, Stream)
    assert (
        data.validation.labels.tolist() == [0, 1] and sorted(data.train.labels.tolist()) == [0] * 3 + [1] * 3
    )
    assert set(data.train.paths) & set(data.validation.paths) == set()
    few = data.test.some(torch.tensor([3, 0]))
    assert few.paths == (data.test.paths[3], data.test.paths[0]) and few.labels.tolist() == [1, 0]
    assert torch.equal(few.batch(slice(1))[0], data.test.batch(slice(3, 4))[0])


def test_no_batch_fills_the_memory(tmp_path: Path) -> None:
    write_folder(tmp_path)
    part = load_data(f"imagenet:{tmp_path}?size=224", workers=0).train
    assert isinstance(part, Stream)
    many = part.some(torch.zeros(8000, dtype=torch.int64))
    with pytest.raises(
        DataError, match=r"8000 samples of \(3, 224, 224\) at once are 4 GiB: take at most 7133"
    ):
        many.batch(slice(None))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_read_is_one_line(tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path, count=5)
    whole = (tmp_path / "train/n01/p0.JPEG").read_bytes()
    for content in (whole[:200], b"no picture"):
        (tmp_path / "train/n01/p0.JPEG").write_bytes(content)
        part = load_data(f"imagenet:{tmp_path}?size=16", workers=workers).train
        with pytest.raises(DataError, match=r"n01/p0\.JPEG: not a picture that can be read") as info:
            list(part.batches(2))
        assert "\n" not in str(info.value)


def test_folders_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train is missing; get ILSVRC2012 from https://image-net\.org"):
        load_data(f"imagenet:{tmp_path}")
    write_folder(tmp_path)
    for query, message in (
        ("size=0", "size = 0, must be above 0"),
        ("size=a", "size = 'a', must be int"),
        ("crop=1.5", "crop = 1.5, must be at most 1"),
        ("sise=3", r"unknown option 'sise' \(it has size, crop\)"),
    ):
        with pytest.raises(DataError, match=message):
            load_data(f"imagenet:{tmp_path}?{query}")
    with pytest.raises(ConfigError, match="workers = -2"):
        load_data(f"imagenet:{tmp_path}", workers=-2)
    (tmp_path / "train" / "n03").mkdir()
    with pytest.raises(DataError, match="n03 is in one of them only"):
        load_data(f"imagenet:{tmp_path}")
    (tmp_path / "val" / "n03").mkdir()
    with pytest.raises(DataError, match=r"n03: holds no \.jpeg or"):
        load_data(f"imagenet:{tmp_path}")
