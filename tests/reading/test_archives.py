"""Archives of arrays and IDX files of strangers: refused by their headers, before memory is taken."""

from __future__ import annotations

import gzip
import io
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_energy.arrays import read_npz
from snn_energy.data import load_data, read_input
from snn_energy.data.idx import read_idx
from snn_energy.errors import DataError
from snn_energy.reading import limits


@contextmanager
def at_once() -> Iterator[None]:
    """The block takes under a second and under 50 MB."""
    tracemalloc.start()
    started = time.perf_counter()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - started < 1 and peak < 50e6


def npy(array: np.ndarray, pickled: bool = False) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=pickled)
    return out.getvalue()


def header(shape: Any, descr: Any = "<f4", extra: bytes = b"") -> bytes:
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + extra


def archive(path: Path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("x.npy", "w", force_zip64=True) as member,
    ):
        block = bytes(16 << 20)
        member.write(header((20, len(block) // 4)))
        for _ in range(20):
            member.write(block)
    assert path.stat().st_size < 3e6
    with at_once(), limits("256M"), pytest.raises(DataError, match="335,544,320 bytes, more than the limit"):
        read_input(path)


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (header((100_000_000_000_000,)), "400,000,000,000,000 bytes"),
        (header((2**40, 2**40)), "its header says"),
        (header((-1, 4), extra=bytes(16)), "none that an array can have"),
        (header((True, 4), extra=bytes(16)), "none that an array can have"),
        (header((3,), "|O", bytes(24)), "Python objects"),
        (header((2,), [("a", "<f4")], bytes(8)), "records"),
        (header((2,), "nonsense", bytes(8)), "plain arrays"),
        (header((2, 3), extra=bytes(23)), "its header says 24 bytes"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "a header of"),
        (b"no array", "is no array"),
        (b"", "is no array"),
    ],
)
def test_members_that_are_no_arrays(member: bytes, words: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", y=npy(np.arange(3)), x=member)
    with at_once(), pytest.raises(DataError, match=words) as error:
        read_input(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_what_numpy_does_not_write(method: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="compressed in a way"):
        read_input(archive(tmp_path / "x.npz", method, x=npy(np.ones((2, 3)))))


def test_encrypted_and_doubled_members(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", x=npy(np.ones((2, 3))))
    raw = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + at] |= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="encrypted"):
        read_input(path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", npy(np.ones(3)))
        file.writestr("x.npy", npy(np.ones(4)))
    with pytest.raises(DataError, match="not all of another name"):
        read_input(path)


@pytest.mark.parametrize("order", ["C", "F"])
def test_good_archives_are_read_as_numpy_reads_them(order: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    arrays = {
        "x": np.asarray(rng.random((2, 3, 5)), order=order), "n": np.arange(7, dtype=">i2"),
        "e": np.zeros((0, 4), "f4"), "s": np.asarray(2.5), "b": rng.random(9) < 0.5,
        "t": np.array(["ab", "c"]),
    }  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
        names, found = read_npz(tmp_path / "a.npz", "file")
        assert names == list(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_damaged_archive_is_read_as_it_was_or_refused(changes: list[tuple[float, int]]) -> None:
    import tempfile

    x = np.arange(24, dtype="f4").reshape(2, 3, 4)
    with tempfile.TemporaryDirectory() as folder:
        path = archive(Path(folder) / "x.npz", x=npy(x))
        raw = bytearray(path.read_bytes())
        for where, flip in changes:
            raw[int(where * len(raw))] ^= flip
        path.write_bytes(raw)
        try:
            found = read_input(path).inputs
        except DataError as error:
            assert "\n" not in str(error)
        else:
            found = next(iter(found.values())) if isinstance(found, dict) else found
            assert found.numel() == x.size


def test_labels_that_are_no_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((2, 5)), y=np.asarray([0, 2**40]))
    with pytest.raises(DataError, match="must be 0 to"):
        read_input(tmp_path / "x.npz")


def idx(code: int, shape: tuple[int, ...], data: bytes) -> bytes:
    return bytes([0, 0, code, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape) + data


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (idx(8, (2**31, 2**31), b"x"), "more than the limit"),
        (idx(8, (1,) * 200, b"x"), "200 axes"),
        (idx(8, (4, 5), bytes(19)), "holds 31 bytes, but its header"),
        (idx(8, (4, 5), bytes(21)), "holds more than"),
        (idx(8, (4, 5), b"")[:9], "header"),
        (b"\x1f\x8bnonsense", "cannot be read"),
        (gzip.compress(idx(8, (4, 5), bytes(20)), mtime=0)[:-9], "cannot be read"),
        (gzip.compress(idx(8, (4, 5), bytes(100_000_000)), 1, mtime=0), "holds more than"),
    ],
)
def test_idx_files_that_lie(raw: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(raw)
    with at_once(), pytest.raises(DataError, match=words) as error:
        read_idx(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_good_idx_file(pack: Any, tmp_path: Path) -> None:
    array = np.arange(-12, 12, dtype=">i2").reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(pack(idx(0xB, array.shape, array.tobytes())))
    assert np.array_equal(read_idx(tmp_path / "a"), array)


@pytest.mark.parametrize("value", [2**31 - 1, -7, 0.5])
def test_idx_labels_make_no_names_without_end(value: float, tmp_path: Path) -> None:
    images = idx(8, (3, 4, 5), bytes(range(60)))
    code, kind = (0xD, ">3f") if isinstance(value, float) else (0xC, ">3i")
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(images)
        labels = idx(code, (3,), struct.pack(kind, 0, 1, value))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    with at_once(), pytest.raises(DataError, match="labels"):
        load_data(f"idx:{tmp_path}")
