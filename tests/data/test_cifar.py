"""CIFAR files in both published formats; pickles that want to run something."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_files import pixels, python2_pickle, write_cifar, write_cifar_binary

from snn_energy.data import load_data
from snn_energy.data.pickles import read_pickle
from snn_energy.errors import DataError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TRAIN = {f"data_batch_{i}": [i, 9 - i, (3 * i) % 10] for i in range(1, 6)}
LABELS = {**TRAIN, "test_batch": [7, 0, 3, 9]}


def expected(row: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """One image by the format's words: 1024 red, then green, then blue, each row by row."""
    image = torch.empty(3, 32, 32)
    for c in range(3):
        for i in range(32):
            for j in range(32):
                image[c, i, j] = (row[1024 * c + 32 * i + j] / 255 - mean[c]) / std[c]
    return image


@pytest.mark.parametrize("protocol", [-1, 2, 4, 5])
@pytest.mark.parametrize("inside", [False, True])
def test_cifar10_python(tmp_path: Path, protocol: int, inside: bool) -> None:
    place = tmp_path / "cifar-10-batches-py" if inside else tmp_path
    rows = write_cifar(place, LABELS, NAMES, protocol=protocol)
    data = load_data(f"cifar10:{tmp_path}")
    assert data.class_names == tuple(NAMES) and data.sample_shape == (3, 32, 32)
    assert (len(data.train), len(data.test)) == (15, 4)
    x, y = data.train.batch(slice(None))
    assert y is not None and y.tolist() == [label for classes in TRAIN.values() for label in classes]
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    torch.testing.assert_close(x[4], expected(rows["data_batch_2"][1], mean, std), rtol=1e-5, atol=1e-5)
    assert data.notes and "data_batch_1" in data.notes[0] and "MD5" in data.notes[0]


def test_cifar100_python_and_binary_are_one_data_set(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(100)]
    classes = {"train": [99, 0, 50], "test": [7, 63]}
    write_cifar(tmp_path / "python", classes, names, fine=True)
    heads = {f"{part}.bin": [(label % 20, label) for label in labels] for part, labels in classes.items()}
    write_cifar_binary(tmp_path / "binary", heads)
    (tmp_path / "binary" / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    theirs, ours = (load_data(f"cifar100:{tmp_path / kind}") for kind in ("python", "binary"))
    assert theirs.class_names == ours.class_names == tuple(names)
    for a, b in ((theirs.train, ours.train), (theirs.test, ours.test)):
        assert a.labels is not None and b.labels is not None
        assert a.labels.tolist() == b.labels.tolist() in ([99, 0, 50], [7, 63])
        assert torch.equal(a.batch(slice(None))[0], b.batch(slice(None))[0])


def test_cifar10_binary(tmp_path: Path) -> None:
    heads = {f"{name}.bin": [(label,) for label in labels] for name, labels in LABELS.items()}
    rows = write_cifar_binary(tmp_path / "cifar-10-batches-bin", heads)
    data = load_data(f"cifar10:{tmp_path}")
    x, y = data.test.batch(slice(None))
    assert y is not None and y.tolist() == LABELS["test_batch"] and data.class_names[3] == "3"
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    torch.testing.assert_close(x[3], expected(rows["test_batch.bin"][3], mean, std), rtol=1e-5, atol=1e-5)


def test_the_published_files_carry_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the sums of these small files in the place of the published ones."""
    from torchvision.datasets import CIFAR10

    write_cifar(tmp_path, LABELS, NAMES)
    md5 = {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in tmp_path.iterdir()}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5[name]] for name in TRAIN])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    assert load_data(f"cifar10:{tmp_path}").notes == ()
    write_cifar(tmp_path, {"data_batch_4": [1, 1]}, NAMES)
    assert load_data(f"cifar10:{tmp_path}").notes == (
        "cifar10: not the published files, by their MD5 sums: data_batch_4",
    )


def test_our_reader_and_pickle_itself_read_the_same(tmp_path: Path) -> None:
    batch = {"labels": [3, 250], "data": pixels(2), "batch_label": "x" * 300}
    (tmp_path / "file").write_bytes(python2_pickle(batch))
    found = read_pickle(tmp_path / "file")
    for theirs in (pickle.loads(python2_pickle(batch), encoding="latin1"), batch):
        np.testing.assert_array_equal(found["data"], theirs["data"])
        assert {k: v for k, v in found.items() if k != "data"} == {
            k: v for k, v in theirs.items() if k != "data"
        }


class Payload:
    """Pickled, it calls `os.mkdir`, or what it is given."""

    def __init__(self, call: Any, *args: Any) -> None:
        self.call = call, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_that_runs_something_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "made"
    write_cifar(tmp_path, LABELS, NAMES)
    batch = {"labels": [0], "data": pixels(1), "more": Payload(os.mkdir, str(victim))}
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(batch, protocol))
    with pytest.raises(
        DataError, match=r"data_batch_3: .*import (posix|nt)\.mkdir, which was not done"
    ) as info:
        load_data(f"cifar10:{tmp_path}")
    assert not victim.exists() and "\n" not in str(info.value)


@pytest.mark.parametrize(
    "raw",
    [
        pickle.dumps(Payload(eval, "1")),
        pickle.dumps(np.array([{}, []], object)),
        pickle.dumps(np.array(["a"])),
        pickle.dumps(np.zeros(2, [("a", "u1")])),
        b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
        b"cnumpy\nndarray\n(I1000000000000\ntR(I1\n(I5\ntcnumpy\ndtype\n(S'u1'\ntRI00\nS'ab'\ntb.",
        b"c__builtin__\ngetattr\n.",
        b"\x80\x02",
        b"",
        b"not a pickle",
    ],
)
def test_pickles_that_are_no_arrays(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "file").write_bytes(raw)
    with pytest.raises(DataError, match="file: not a") as info:
        read_pickle(tmp_path / "file")
    assert "\n" not in str(info.value)


def test_a_place_of_the_memo_takes_no_memory(tmp_path: Path) -> None:
    for put in (b"r\xff\xff\xff\x7f", b"p2147483647\n"):
        (tmp_path / "batch").write_bytes(b"\x80\x02}" + put + b".")
        with pytest.raises(DataError, match="place 2,147,483,647 of its memo"):
            read_pickle(tmp_path / "batch")


def test_a_pickle_within_a_pickle_takes_no_time(tmp_path: Path) -> None:
    """Forty lists of ten times the one before: 10^40 entries if each were walked through."""
    nested: list[Any] = [pixels(1)]
    for _ in range(40):
        nested = [nested] * 10
    (tmp_path / "file").write_bytes(pickle.dumps(nested, 2))
    found = read_pickle(tmp_path / "file")
    for _ in range(41):
        found = found[-1]
    np.testing.assert_array_equal(found, pixels(1))
    endless: list[Any] = []
    endless.append(endless)
    (tmp_path / "file").write_bytes(pickle.dumps(endless, 2))
    with pytest.raises(DataError, match="not a pickle that can be read"):
        read_pickle(tmp_path / "file")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["u1", "<i2", ">i4", "i8", "f4", ">f8", "?"])
def test_arrays_come_back_as_numpy_reads_them(tmp_path: Path, protocol: int, kind: str) -> None:
    plain = np.arange(30).reshape(2, 3, 5).astype(kind)
    value = {"a": plain, "b": [np.asfortranarray(plain), (plain[:, ::2], 3, b"\xff\x00", "é")]}
    (tmp_path / "file").write_bytes(pickle.dumps(value, protocol))
    found = read_pickle(tmp_path / "file")
    np.testing.assert_array_equal(found["a"], plain)
    np.testing.assert_array_equal(found["b"][0], plain)
    np.testing.assert_array_equal(found["b"][1][0], plain[:, ::2])
    assert found["b"][1][1:] == (3, b"\xff\x00", "é")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"labels": [0, 1], "data": pixels(3)}, "labels is a list of 2; must be 3 whole numbers"),
        ({"labels": [0, 10], "data": pixels(2)}, "image 1 has label 10; must be 0 to 9"),
        ({"labels": [0, -1], "data": pixels(2)}, "image 1 has label -1"),
        (
            {"labels": [0, 1], "data": pixels(2)[:, :-3]},
            r"data is uint8 \(2, 3069\); must be uint8 \(N, 3072\)",
        ),
        ({"labels": ["a", "b"], "data": pixels(2)}, "labels is a list of 2; must be 2 whole numbers"),
        ({"labels": [0, 1]}, "has no entry 'data'"),
        ({"fine_labels": [0], "data": pixels(1)}, "has no entry 'labels'"),
        ({"labels": [], "data": "none"}, "data is a str of 4"),
    ],
)
def test_batches_that_are_not_what_they_should_be(
    tmp_path: Path, batch: dict[str, Any], message: str
) -> None:
    write_cifar(tmp_path, LABELS, NAMES)
    (tmp_path / "data_batch_2").write_bytes(python2_pickle(batch))
    with pytest.raises(DataError, match=f"data_batch_2: {message}"):
        load_data(f"cifar10:{tmp_path}")


def test_what_is_missing_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no data_batch_1 or data_batch_1\.bin in .*kriz/cifar\.html and unpack"
    ):
        load_data(f"cifar10:{tmp_path}")
    write_cifar(tmp_path, {"data_batch_1": [0]}, NAMES)
    with pytest.raises(DataError, match=r"data_batch_2 is missing; get the whole archive"):
        load_data(f"cifar10:{tmp_path}")
    heads = {f"{name}.bin": [(label,) for label in labels] for name, labels in LABELS.items()}
    write_cifar_binary(tmp_path / "binary", heads)
    short = tmp_path / "binary" / "data_batch_5.bin"
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_5\.bin: holds 9218 bytes; must be a multiple of 3073"):
        load_data(f"cifar10:{tmp_path / 'binary'}")
    write_cifar(tmp_path / "few", LABELS, NAMES[:4])
    with pytest.raises(DataError, match=r"batches\.meta: holds 4 names of classes; must be 10"):
        load_data(f"cifar10:{tmp_path / 'few'}")
