"""IDX files of the real format, made here, and every way in which one can be wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from snn_energy.data import load_data
from snn_energy.data.idx import read_idx
from snn_energy.errors import DataError


def idx_bytes(array: np.ndarray) -> bytes:
    """The file format, written out again from its description."""
    code = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_folder(folder: Path, *, compress: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (7, 5, 3), dtype=np.uint8),
        "train-labels-idx1-ubyte": np.arange(7, dtype=np.uint8) % 4,
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (6, 5, 3), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(6, dtype=np.uint8) % 4,
    }
    for name, array in arrays.items():
        data = idx_bytes(array)
        (folder / (name + ".gz" * compress)).write_bytes(gzip.compress(data) if compress else data)
    return arrays


@given(st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]).flatmap(
    lambda t: hnp.arrays(t, hnp.array_shapes(max_dims=4, max_side=4))))  # fmt: skip
def test_any_array_comes_back(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "array"
    path.write_bytes(idx_bytes(array))
    np.testing.assert_array_equal(read_idx(path), array)


@pytest.mark.parametrize("compress", [False, True])
def test_a_folder_becomes_a_data_set(tmp_path: Path, compress: bool) -> None:
    arrays = write_folder(tmp_path, compress=compress)
    data = load_data(f"idx:{tmp_path}")
    assert data.sample_shape == (1, 5, 3)
    assert data.class_names == ("0", "1", "2", "3")
    images = arrays["train-images-idx3-ubyte"].astype(np.float64)
    x, y = data.train.batch(slice(None))
    np.testing.assert_allclose(x[:, 0], (images - images.mean()) / images.std(), rtol=1e-5, atol=1e-6)
    assert y.tolist() == arrays["train-labels-idx1-ubyte"].tolist()
    x, _ = data.test.batch(slice(2, 3))
    expected = (arrays["t10k-images-idx3-ubyte"][2] - images.mean()) / images.std()
    np.testing.assert_allclose(x[0, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG....", "not an IDX file"),
        (bytes([0, 0, 7, 1]) + (3).to_bytes(4, "big") + b"abc", "not an IDX file"),
        (bytes([0, 0, 8, 1]) + (3).to_bytes(4, "big") + b"ab", "holds 10 bytes, but its header .* says 11"),
        (b"\x1f\x8b broken", "cannot be read"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path)


def test_a_folder_that_is_not_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_data(f"idx:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\[.gz\] is missing"):
        load_data(f"idx:{tmp_path}")
    write_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(5, np.uint8)))
    with pytest.raises(DataError, match="6 test images, but 5 labels"):
        load_data(f"idx:{tmp_path}")
