"""Training samples, varied: timm's own pipeline, plain rules, frames that move together, seeds alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snn_energy.data import Data, Images, Part, Stream, load_data
from snn_energy.data.events import Frames
from snn_energy.data.imagenet import MEAN, STD
from snn_energy.data.stream import seeded
from snn_energy.errors import ConfigError
from snn_energy.training import moves
from snn_energy.training.recipe import recipe_from_dict
from snn_energy.training.vary import Vary, _timm_policy, varied

MEANS, DEVIATIONS = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
GEOMETRY = (("crop_scale", None), ("crop_padding", 0), ("hflip", None), ("vflip", 0.0))
SMALL = {"name": "r", "model": "statten", "data": "x", "workers": 0}


def pictures(count: int = 6, channels: int = 3, height: int = 20, width: int = 14) -> Data:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, channels, height, width), generator=generator).byte()
    part = Images(pixels, torch.arange(count) % 3, 255.0, MEANS[:channels], DEVIATIONS[:channels])
    return Data("pictures", part, part, ("a", "b", "c"))


def frames(count: int = 5, steps: int = 4, height: int = 18, width: int = 12) -> Data:
    """Each sample's frames are one pattern: where they move together they stay equal."""
    generator = torch.Generator().manual_seed(1)
    one = torch.randint(0, 5, (count, 1, 2, height, width), generator=generator).float()
    part = Images(one.repeat(1, steps, 1, 1, 1), torch.arange(count) % 3)
    return Data("frames", part, part, ("a", "b", "c"))


def train(data: Data, **fields: object) -> Part:
    return varied(data, recipe_from_dict({**SMALL, **fields})).train


def shuffled(part: Part, seed: int = 0, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(part.batches(size, torch.Generator().manual_seed(seed)))


OFFICIAL = {
    "crop_scale": [1.0, 1.0],
    "crop_ratio": [1.0, 1.0],
    "hflip": 0.5,
    "auto_augment": "rand-m9-n1-mstd0.4-inc1",
    "color_jitter": 0.5,
}


@pytest.mark.parametrize(
    "fields",
    [
        OFFICIAL,
        {"crop_scale": [0.2, 1.0], "hflip": 0.5, "auto_augment": "rand-m7-mstd0.5-inc1", "erase_prob": 0.7},
        {"crop_scale": [0.08, 1.0], "vflip": 0.5, "hflip": 0.0, "auto_augment": "original"},
        {"crop_scale": [0.3, 0.6], "hflip": 0.2, "color_jitter": 0.4, "interpolation": "bilinear"},
    ],
    ids=["cifar", "imagenet", "original", "jitter"],
)
def test_pictures_are_those_of_timms_pipeline(fields: dict) -> None:
    """Sample for sample, with the generators where ours starts each of them."""
    from timm.data import create_transform

    data = pictures(height=16, width=16)
    assert isinstance(data.train, Images)
    theirs = create_transform(
        (3, 16, 16),
        is_training=True,
        scale=fields["crop_scale"],
        ratio=fields.get("crop_ratio"),
        hflip=fields["hflip"],
        vflip=fields.get("vflip", 0.0),
        color_jitter=fields.get("color_jitter") or None,
        auto_augment=fields.get("auto_augment"),
        interpolation=fields.get("interpolation", "bicubic"),
        mean=MEANS,
        std=DEVIATIONS,
        re_prob=fields.get("erase_prob", 0.0),
    )
    part = train(data, **fields)
    assert isinstance(part, Stream)
    changed = 0
    for i in range(len(data.train)):
        picture = Image.fromarray(data.train.pixels[i].permute(1, 2, 0).numpy())
        with seeded(11 + i):
            ours = part.reader(str(i), random=True)
        with seeded(11 + i):
            expected = theirs(picture)
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
        changed += not torch.equal(ours, data.train.batch(slice(i, i + 1))[0][0])
    assert changed >= 3
    torch.testing.assert_close(part.batch(slice(2))[0], data.train.batch(slice(2))[0])


def test_a_recipe_that_varies_nothing_leaves_the_part() -> None:
    data = pictures()
    assert train(data) is data.train
    part = train(data, hflip=0.0)
    assert all(any(torch.equal(x, y) for y in data.train.batch(slice(None))[0]) for x in shuffled(part)[0][0])


def test_padding_mirror_images_and_cutout_by_plain_rules() -> None:
    """Pixels of a crop are the picture's at one offset, or its border; mirrored ones those of the mirror."""
    data = pictures(count=9, height=10, width=7)
    still = data.train.batch(slice(None))[0]
    black = -torch.tensor(MEANS)[:, None, None] / torch.tensor(DEVIATIONS)[:, None, None]

    def framed(image: torch.Tensor) -> torch.Tensor:
        wide = black.repeat(1, 14, 11)
        wide[:, 2:12, 2:9] = image
        return wide

    part = train(data, crop_padding=2, hflip=0.5)
    seen = set()
    for x, y in shuffled(part, size=9):
        for image, label in zip(x, y, strict=True):
            found = [
                (top, left, mirrored)
                for mirrored in (False, True)
                for top in range(5)
                for left in range(5)
                for original in still[data.train.labels == label]
                if torch.equal(
                    framed(original)[:, top : top + 10, left : left + 7],
                    image.flip(-1) if mirrored else image,
                )
            ]
            assert found
            seen.add(found[0])
    assert len({s[:2] for s in seen}) > 3 and len({s[2] for s in seen}) == 2
    cut = train(data, cutout=4, hflip=0.0)
    sizes = set()
    for x, y in shuffled(cut, size=9):
        for image, label in zip(x, y, strict=True):
            changed = ((image != original).any(0) for original in still[data.train.labels == label])
            rest = min(changed, key=lambda pixels: int(pixels.sum()))
            rows, columns = rest.any(1).nonzero().flatten(), rest.any(0).nonzero().flatten()
            assert (image[:, rest] == 0).all()
            height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
            assert int(rest.sum()) == height * width and height <= 4 and width <= 4
            sizes.add((height, width))
    assert (4, 4) in sizes and len(sizes) > 1


@pytest.mark.parametrize("policy", ["rand-m9-n2-mstd0.5-inc1", "original", "v0", "3a", "cifar10", "imagenet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_policies_know_grey_and_coloured_pictures(policy: str, channels: int) -> None:
    data = pictures(count=12, channels=channels)
    part = train(data, auto_augment=policy)
    (x, _), (again, _) = (shuffled(part, seed=3, size=12)[0] for _ in range(2))
    (other, _) = shuffled(part, seed=4, size=12)[0]
    assert x.shape == (12, channels, 20, 14) and x.isfinite().all()
    assert torch.equal(x, again) and not torch.equal(x, other)


@pytest.mark.parametrize(("policy", "bits"), [("rand-m10-n1-inc1", 0), ("rand-m4-n1-inc1", 3)])
def test_a_picture_of_no_bits_is_black(policy: str, bits: int) -> None:
    """The end of timm's scale, at which Pillow gives up."""
    vary = Vary((("auto_augment", policy), ("interpolation", "bicubic"), *GEOMETRY), (20, 14))
    transform = _timm_policy(policy, vary, MEANS)
    (op,) = (op for op in transform.ops if op.name == "PosterizeIncreasing")  # type: ignore[attr-defined]
    op.prob = 1.0
    pixels = np.random.default_rng(0).integers(0, 256, (20, 14, 3), np.uint8)
    kept = pixels.astype(int) // 2 ** (8 - bits) * 2 ** (8 - bits)
    assert np.array_equal(np.asarray(op(Image.fromarray(pixels))), kept)


def test_workers_and_a_resumed_epoch_change_nothing() -> None:
    data = pictures(count=23)
    plain = train(data, **OFFICIAL)
    worked = train(data, **{**OFFICIAL, "workers": 2})
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    batches, theirs = shuffled(plain), shuffled(worked)
    assert len(batches) == len(theirs) == 6
    for (x, y), (x2, y2) in zip(batches, theirs, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)
    rest = list(plain.batches(4, torch.Generator().manual_seed(0), start=4))
    assert len(rest) == 2 and torch.equal(rest[1][0], batches[5][0])
    assert torch.equal(torch.get_rng_state(), state[0]) and np.random.get_state()[1].tolist() == state[1]


@pytest.mark.parametrize(
    "fields", [{"event_augment": "roll-rotate-shear"}, {"event_augment": "trivial"}, {"event_cutout": 6}]
)
def test_frames_of_a_sample_move_together_and_keep_their_counts(fields: dict) -> None:
    data = frames(count=24)
    part = train(data, **fields)
    still = data.train.batch(slice(None))[0]
    moved = 0
    for x, _ in shuffled(part, size=8):
        assert x.shape == (8, 4, 2, 18, 12)
        assert torch.equal(x, x[:, :1].expand_as(x)), "every frame of a sample moves as its first"
        assert torch.equal(x, x.round()), "counts stay counts"
        moved += sum(not any(torch.equal(one, original) for original in still) for one in x)
    assert moved > 8


def test_moves_of_events_against_plain_loops() -> None:
    x = torch.arange(2 * 1 * 7 * 5).reshape(2, 1, 7, 5).float() + 1
    shifted = moves.moved(x, right=2, down=-1)
    for i in range(7):
        for j in range(5):
            inside = i + 1 < 7 and j >= 2
            expected = x[..., i + 1, j - 2] if inside else torch.zeros(2, 1)
            assert torch.equal(shifted[..., i, j], expected)
    sheared = moves.moved(x, shear=20.0)  # a row moves along itself, the further the further out
    for i in range(7):
        row, original = sheared[0, 0, i], x[0, 0, i]
        assert any(
            torch.equal(row[max(s, 0) : 5 + min(s, 0)], original[max(-s, 0) : 5 - max(s, 0)])
            for s in range(-4, 5)
        )
    assert torch.equal(sheared[..., 3, :], x[..., 3, :]) and not torch.equal(sheared, x)
    turned = moves.turned(x, 180.0)
    assert torch.equal(turned, x.flip(-1, -2))
    rolled = set()
    for seed in range(150):
        with seeded(seed):
            y = moves.roll_rotate_or_shear(x, 1, 0.0, 0.0)
        places = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if torch.equal(y, x.roll((a, b), (2, 3)))]
        assert places, "with no angle it is rolled, or as it was"
        rolled.add(places[0])
    assert len(rolled) == 9


def test_files_of_events_and_pictures_are_varied_as_they_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "frames_number_3_split_by_number" / name).mkdir(parents=True)
        for part in ("train", "val"):
            (tmp_path / part / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 9, (3, 2, 8, 6)).astype(np.float32)
            np.savez(tmp_path / f"frames_number_3_split_by_number/{name}/{i}.npz", frames=pixels)
            for part in ("train", "val"):
                picture = rng.integers(0, 256, (20, 30, 3), np.uint8)
                Image.fromarray(picture).save(tmp_path / part / name / f"{i}.png")
    data = load_data(f"ncaltech101:{tmp_path}?size=8", workers=0)
    part = train(data, event_augment="roll-rotate-shear")
    assert isinstance(part, Stream) and isinstance(data.train, Stream)
    assert isinstance(data.train.reader, Frames) and part.shape == (3, 2, 8, 8)
    assert torch.equal(part.batch(slice(3))[0], data.train.batch(slice(3))[0])
    x = torch.cat([x for x, _ in shuffled(part)])
    assert x.shape == (18, 3, 2, 8, 8) and torch.equal(x, x.round())
    data = load_data(f"imagenet:{tmp_path}?size=16", workers=0)
    from timm.data import create_transform

    part = train(data, auto_augment="rand-m5-mstd0.5-inc1")
    assert isinstance(part, Stream) and isinstance(data.train, Stream)
    theirs = create_transform((3, 16, 16), is_training=True, auto_augment="rand-m5-mstd0.5-inc1",
                              interpolation="bicubic", mean=MEAN, std=STD)  # fmt: skip
    for path in part.paths[:4]:
        with seeded(5):
            ours = part.reader(path, random=True)
        with seeded(5):
            torch.testing.assert_close(ours, theirs(Image.open(path)), rtol=1e-5, atol=1e-5)
    assert torch.equal(part.batch(slice(2))[0], data.train.batch(slice(2))[0])


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (
            "digits",
            {"auto_augment": "cifar10"},
            "needs 8-bit pictures of 1 or 3 channels; digits has torch.uint8",
        ),
        ("digits-dvs", {"color_jitter": 0.4}, "color_jitter = 0.4: needs 8-bit pictures"),
        ("digits", {"event_augment": "trivial"}, "digits holds still images"),
        ("pictures", {"auto_augment": "rand-q9"}, "auto_augment = 'rand-q9': timm cannot read it"),
    ],
)
def test_what_cannot_be_varied_so(name: str, fields: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(pictures() if name == "pictures" else load_data(name), **fields)
