"""Folders of frames as SpikingJelly makes them, and the events that it makes them of."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from published_files import random_events, write_aedat2, write_aedat3, write_atis

from snn_energy.data import Stream, load_data
from snn_energy.errors import DataError

T, H, W = 3, 6, 4


def write_frames(folder: Path, counts: dict[str, int], shape: tuple[int, ...] = (T, 2, H, W)) -> None:
    """Files of frames: folder of a class -> how many, named so that their order as text is not by number."""
    rng = np.random.default_rng(len(str(folder)))
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            frames = rng.integers(0, 9, shape).astype(np.float32)
            np.savez_compressed(folder / name / f"s_{i}.npz", frames=frames)


def frames_of(path: str | Path) -> np.ndarray:
    with np.load(path) as file:
        return file["frames"]


@pytest.mark.parametrize("kind", ["cifar10-dvs", "ncaltech101"])
def test_nine_tenths_of_each_class_are_the_training_part(tmp_path: Path, kind: str) -> None:
    counts = {"dog": 12, "cat": 5, "emu": 21}
    write_frames(tmp_path / "frames_number_3_split_by_number", counts)
    data = load_data(f"{kind}:{tmp_path}?size=4", workers=0)
    assert data.class_names == ("cat", "dog", "emu") and data.sample_shape == (T, 2, 4, 4) and data.steps == T
    for label, name in enumerate(data.class_names):
        order = sorted(f"s_{i}.npz" for i in range(counts[name]))
        share = math.ceil(0.9 * counts[name])
        for part, wanted in ((data.train, order[:share]), (data.test, order[share:])):
            assert isinstance(part, Stream) and part.labels is not None
            mine = [Path(p) for p, y in zip(part.paths, part.labels.tolist(), strict=True) if y == label]
            assert [p.name for p in mine] == wanted and {p.parent.name for p in mine} <= {name}
    assert isinstance(data.train, Stream) and data.train.labels[:3].tolist() == [0, 1, 2]


def test_frames_are_resized_as_when_the_networks_were_published(tmp_path: Path) -> None:
    """Halved, the mean of two by two (CIFAR10-DVS); elsewhere the nearest pixel (N-Caltech101)."""
    for kind, shape in (("cifar10-dvs", (T, 2, 128, 128)), ("ncaltech101", (T, 2, 180, 240))):
        write_frames(tmp_path / kind / "frames_number_3_split_by_number", {"a": 2, "b": 10}, shape)
    data = load_data(f"cifar10-dvs:{tmp_path}/cifar10-dvs", workers=0)
    assert isinstance(data.train, Stream) and data.sample_shape == (T, 2, 64, 64)
    plain = frames_of(data.train.paths[1]).reshape(T, 2, 64, 2, 64, 2).mean((3, 5))
    torch.testing.assert_close(data.train.batch(slice(1, 2))[0][0], torch.from_numpy(plain))
    data = load_data(f"ncaltech101:{tmp_path}/ncaltech101", workers=0)
    assert isinstance(data.train, Stream)
    rows, columns = (np.arange(64) * n // 64 for n in (180, 240))
    plain = frames_of(data.train.paths[1])[:, :, rows][:, :, :, columns]
    torch.testing.assert_close(data.train.batch(slice(1, 2))[0][0], torch.from_numpy(plain))


def test_gestures_have_parts_of_their_own_and_spikingjellys_classes(tmp_path: Path) -> None:
    place = tmp_path / "frames_number_3_split_by_number"
    counts = {str(i): 1 + i % 2 for i in range(11)}
    write_frames(place / "train", counts)
    write_frames(place / "test", dict.fromkeys(counts, 1))
    data = load_data(f"dvs-gesture:{tmp_path}", workers=0)
    assert (len(data.train), len(data.test), data.sample_shape) == (16, 11, (T, 2, H, W))
    assert isinstance(data.test, Stream)
    for path, label in zip(data.test.paths, data.test.labels.tolist(), strict=True):
        assert sorted(map(str, range(11)))[label] == Path(path).parent.name
    x, _ = data.test.batch(slice(4, 5))
    np.testing.assert_array_equal(x[0].numpy(), frames_of(data.test.paths[4]))


def plain_frames(events: dict[str, np.ndarray], steps: int, height: int, width: int) -> np.ndarray:
    """Event by event."""
    frames, each = np.zeros((steps, 2, height, width)), len(events["t"]) // steps
    for k, (x, y, p) in enumerate(zip(events["x"], events["y"], events["p"], strict=True)):
        frames[min(k // each, steps - 1), p, y, x] += 1
    return frames


def test_frames_are_made_of_the_unpacked_archive(tmp_path: Path) -> None:
    """N-Caltech101's own files: every frame holds the events that a loop puts there."""
    events = {}
    for name, count in (("ant", 10), ("bee", 3)):
        for i in range(count):
            events[name, i] = random_events(50 + 7 * i, i, 180, 240)
            write_atis(tmp_path / "extract" / "Caltech101" / name / f"image_{i}.bin", events[name, i])
    with pytest.raises(DataError, match=r"how many frames of the events in .*say T"):
        load_data(f"ncaltech101:{tmp_path}")
    data = load_data(f"ncaltech101:{tmp_path}", frames=4, workers=0)
    assert data.steps == 4 and (len(data.train), len(data.test)) == (12, 1)
    for (name, i), raw in events.items():
        found = frames_of(tmp_path / "frames_number_4_split_by_number" / name / f"image_{i}.npz")
        np.testing.assert_array_equal(found, plain_frames(raw, 4, 180, 240))
    assert {p.name for p in tmp_path.iterdir()} == {"extract", "events_np", "frames_number_4_split_by_number"}
    assert load_data(f"ncaltech101:{tmp_path}?T=2", workers=0).steps == 2
    with pytest.raises(DataError, match=r"has frames for T = 2, 4: say which \(ncaltech101:.*\?T=2\)"):
        load_data(f"ncaltech101:{tmp_path}")


def test_cifar10_dvs_from_its_recordings(tmp_path: Path) -> None:
    events = {i: random_events(40 + i, i, 128, 128) for i in range(10)}
    for i, raw in events.items():
        write_aedat2(tmp_path / "extract" / "frog" / f"cifar10_frog_{i}.aedat", raw)
    data = load_data(f"cifar10-dvs:{tmp_path}?T=3&size=128", workers=0)
    assert (len(data.train), len(data.test), data.class_names) == (9, 1, ("frog",))
    for part, first in ((data.train, 0), (data.test, 9)):
        for k, x in enumerate(part.batch(slice(None))[0]):
            np.testing.assert_array_equal(x.numpy(), plain_frames(events[first + k], 3, 128, 128))


def test_gestures_are_cut_out_of_their_recordings(tmp_path: Path) -> None:
    """Eleven gestures of ten events in each of two recordings; one event before the first, one after all."""
    place = tmp_path / "extract" / "DvsGesture"
    recordings = {}
    for part in ("train", "test"):
        raw = random_events(112, len(part), 128, 128) | {"t": 5 + 10 * np.arange(112)}
        recordings[part] = raw
        write_aedat3(place / f"user_{part}.aedat", raw)
        rows = [f"{k + 1},{10 + 100 * k},{110 + 100 * k}" for k in range(11)]
        (place / f"user_{part}_labels.csv").write_text(
            "class,startTime_usec,endTime_usec\n" + "\n".join(rows)
        )
        (place / f"trials_to_{part}.txt").write_text(f"user_{part}.aedat\n")
    data = load_data(f"dvs-gesture:{tmp_path}", frames=3, workers=0)
    for part, name in ((data.train, "train"), (data.test, "test")):
        x, y = part.batch(slice(None))
        assert y is not None and len(x) == 11
        for frames, label in zip(x.numpy(), y.tolist(), strict=True):
            k = int(data.class_names[label])
            mine = {key: v[1 + 10 * k : 11 + 10 * k] for key, v in recordings[name].items()}
            np.testing.assert_array_equal(frames, plain_frames(mine, 3, 128, 128))


def test_frames_that_cannot_be_made_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "events_np" / "train" / "0").mkdir(parents=True)
    for content in (b"no archive", b"PK\x03\x04 broken", b""):
        (tmp_path / "events_np" / "train" / "0" / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match="frames could not be made") as info:
            load_data(f"dvs-gesture:{tmp_path}?T=2")
        assert "\n" not in str(info.value) and [p.name for p in tmp_path.iterdir()] == ["events_np"]


def test_what_is_missing_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    for kind, where in (
        ("cifar10-dvs", r"airplane\.zip … truck\.zip from https://figshare"),
        ("ncaltech101", r"Caltech101\.zip from https://www\.garrickorchard"),
        ("dvs-gesture", r"DvsGesture\.tar\.gz from https://"),
    ):
        with pytest.raises(DataError, match=rf"frames_number_T_split_by_number is missing; put {where}"):
            load_data(f"{kind}:{tmp_path}")
    write_frames(tmp_path / "frames_number_3_split_by_number", {"a": 2, "b": 2})
    with pytest.raises(DataError, match=r"frames_number_5_.*is missing \(there are T = 3\)"):
        load_data(f"cifar10-dvs:{tmp_path}?T=5")
    (tmp_path / "frames_number_4_split_by_number").mkdir()
    with pytest.raises(DataError, match="frames_number_4_split_by_number has no folders of classes"):
        load_data(f"cifar10-dvs:{tmp_path}?T=4")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"frame": np.zeros((T, 2, H, W))}, "has no array 'frames'"),
        (
            {"frames": np.zeros((T, 3, H, W))},
            r"frames are float64 \(3, 3, 6, 4\); must be numbers \(T, 2, H, W\)",
        ),
        ({"frames": np.zeros((T, 2, H, W), object)}, "not an .npz file of frames"),
        ({"frames": np.zeros((T + 1, 2, H, W))}, "has 4 frames, its folder says 3"),
    ],
)
def test_files_that_are_no_frames(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    place = tmp_path / "frames_number_3_split_by_number"
    write_frames(place, {"a": 10, "b": 10})
    np.savez(place / "a" / "s_0.npz", **arrays)
    with pytest.raises(DataError, match=message) as info:
        load_data(f"cifar10-dvs:{tmp_path}", workers=0)
    assert "s_0.npz" in str(info.value)


def test_a_sample_of_another_shape_is_named(tmp_path: Path) -> None:
    place = tmp_path / "frames_number_3_split_by_number"
    write_frames(place, {"a": 10, "b": 10})
    np.savez(place / "b" / "s_3.npz", frames=np.zeros((T + 2, 2, H, W)))
    data = load_data(f"cifar10-dvs:{tmp_path}?size=4", workers=0)
    with pytest.raises(
        DataError, match=r"s_3\.npz: has shape \(5, 2, 4, 4\); the other samples have \(3, 2, 4, 4\)"
    ):
        list(data.train.batches(4))
