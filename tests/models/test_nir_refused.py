"""What is no NIR file, or one that cannot be run: one clear line, of the package's own errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

nir = pytest.importorskip("nir")
import h5py  # noqa: E402
from nir_graphs import DT, chain, load, neuron  # noqa: E402

import snn_energy  # noqa: E402
from snn_energy.errors import CheckpointError, ConfigError, DataError, SnnEnergyError  # noqa: E402


def net() -> Any:
    ones = np.ones((4, 5), np.float32)
    return chain((5,), (4,), fc=nir.Affine(ones, ones[:, 0]), lif=neuron("LIF", (4,)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    nir.write(str(tmp_path / "net.nir"), net())
    return tmp_path / "net.nir"


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(SnnEnergyError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        snn_energy.load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert isinstance(caught.value, CheckpointError | ConfigError)
    assert caught.value.__cause__ is None and (
        caught.value.__suppress_context__ or not caught.value.__context__
    )
    return message


def test_no_file_of_that_kind(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    assert refusal(path).endswith("No such file or directory")
    path.write_bytes(b"")
    assert refusal(path).endswith("is empty")
    path.write_bytes(b"<!DOCTYPE html><html>404</html>")
    assert "is a web page" in refusal(path)
    path.write_bytes(b"nonsense" * 99)
    assert "not a NIR file, or a damaged one" in refusal(path)
    torch.save({"weight": torch.ones(3)}, path)
    assert "not a NIR file, or a damaged one" in refusal(path)
    path.unlink()
    path.mkdir()
    assert "is a directory" in refusal(path)


def test_hdf5_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as made:
        made["conv/kernel"] = np.ones(3)
    assert refusal(path).endswith("an HDF5 file, but no NIR graph (it has no group 'node')")
    with h5py.File(path, "a") as made:
        made.create_group("node")["weight"] = np.ones(3)
    assert "must hold a NIRGraph" in refusal(path)


def test_a_single_node_is_no_network(tmp_path: Path) -> None:
    nir.write(str(tmp_path / "one.nir"), nir.Linear(np.ones((2, 3))))
    assert refusal(tmp_path / "one.nir").endswith("holds Linear, must hold a NIRGraph")


def test_nir_is_told_by_its_bytes_too(file: Path) -> None:
    other = file.rename(file.with_name("network.bin"))
    with pytest.warns(UserWarning, match="dt = 0.0001 s per step, the default"):
        assert type(snn_energy.load(other)).__name__ == "NirNetwork"


@pytest.mark.parametrize("part", range(1, 20))
def test_a_truncated_file(part: int, file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * part // 20])
    assert "damaged" in refusal(file)


def test_damaged_weights(file: Path) -> None:
    with h5py.File(file) as opened:
        chunk = opened[f"{NODES}/fc/weight"].id.get_chunk_info(0)
    content = bytearray(file.read_bytes())
    for at in range(chunk.byte_offset, chunk.byte_offset + chunk.size):
        content[at] ^= 0x5A
    file.write_bytes(bytes(content))
    assert "not a NIR file, or a damaged one" in refusal(file)


def test_arrays_of_other_things_are_not_read(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened.create_dataset(f"{NODES}/fc/ragged", (2,), h5py.vlen_dtype(np.int32))
    assert refusal(file).endswith("fc/ragged holds neither numbers nor text")


def test_names_that_are_no_text(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        del opened["node/edges"]
        opened["node/edges"] = np.array([[b"input", b"\xe3"]])
    assert "an edge names '\ufffd', which is no node" in refusal(file)


def change(field: str, value: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with h5py.File(path, "a") as opened:
            if field in opened:
                del opened[field]
            if value is not None:
                opened[field] = value

    return edit


NODES = "node/nodes"
CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "unknown node": (
        change(f"{NODES}/lif/type", "AdEx"),
        r"node 'lif' is of type AdEx, which is not read; read are: Input, .*Conv2d.*CubaLIF",
    ),
    "no type": (change(f"{NODES}/lif/type", None), r"node 'lif' has no type"),
    "no tau": (change(f"{NODES}/lif/tau", None), r"node 'lif' \(LIF\): has no tau"),
    "tau 0": (change(f"{NODES}/lif/tau", np.zeros(4)), r"node 'lif' \(LIF\): tau = 0 s: must be above 0"),
    "text": (change(f"{NODES}/lif/tau", "fast"), r"node 'lif' \(LIF\): tau holds <U4, must hold numbers"),
    "NaN": (
        change(f"{NODES}/fc/weight", np.full((4, 5), np.nan)),
        r"fc.weight holds 20 NaN or infinite of 20",
    ),
    "shapes within": (
        change(f"{NODES}/lif/r", np.ones(3)),
        r"node 'lif' \(LIF\): parameters of different shapes: tau \(4,\), r \(3,\)",
    ),
    "too many inputs": (
        change(f"{NODES}/fc/weight", np.ones((4, 6))),
        r"node 'fc' \(Affine\): takes \(6,\), gets \(5,\)",
    ),
    "too many outputs": (
        change(f"{NODES}/fc/weight", np.ones((3, 5))),
        r"node 'fc' \(Affine\): bias of shape \(4,\), must be \(3,\)",
    ),
    "weight of three axes": (
        change(f"{NODES}/fc/weight", np.ones((2, 4, 5))),
        r"node 'fc' \(Affine\): weight of shape \(2, 4, 5\), must be \(outputs, inputs\)",
    ),
    "no edges": (change("node/edges", None), r"nothing leads to node"),
    "edges of three": (
        change("node/edges", np.full((2, 3), b"fc", dtype="S5")),
        r"edges of shape \(2, 3\), must be pairs of names",
    ),
    "no shape": (
        lambda path: (
            change(f"{NODES}/input/shape", None)(path),
            change(f"{NODES}/fc/type", "Flatten")(path),
        ),
        r"node 'input' \(Input\) does not say its shape",
    ),
    "shape of nothing": (change(f"{NODES}/input/shape", [0]), r"Input node of shape \[0\]: must be whole"),
    "no output": (
        change(f"{NODES}/output/type", "Input"),
        r"has 2 Input and 0 Output nodes, must have one Input",
    ),
    "no nodes": (change(NODES, None), r"a NIRGraph without nodes"),
}


@pytest.mark.parametrize("case", CASES)
def test_graphs_that_cannot_be(case: str, file: Path) -> None:
    import re

    edit, message = CASES[case]
    edit(file)
    found = refusal(file)
    assert re.search(message, found), found
    assert str(file) in found


def test_links_out_of_the_file_are_not_followed(file: Path, tmp_path: Path) -> None:
    nir.write(str(tmp_path / "other.nir"), net())
    with h5py.File(file, "a") as opened:
        del opened[f"{NODES}/fc/weight"]
        opened[f"{NODES}/fc/weight"] = h5py.ExternalLink(str(tmp_path / "other.nir"), f"{NODES}/fc/weight")
    assert refusal(file).endswith("fc/weight is a link, must be in the file itself")


def test_groups_without_a_bottom(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened["node/nodes/again"] = opened["node"]
    assert refusal(file).endswith("groups in groups, more than 32 deep")


def conv2d(shape: tuple[int, ...], *weight: int, padding: int = 1, dilation: int = 1) -> Any:
    return nir.Conv2d(shape, np.ones(weight), 1, padding, dilation, 1, np.ones(weight[0]))


def sum_pool(kernel: Any) -> Any:
    return nir.SumPool2d(np.array(kernel), np.array([2, 2]), np.array([0, 0]))


@pytest.mark.parametrize(
    ("shape", "node", "message"),
    [
        ((2, 9, 8), conv2d((9, 8), 4, 3, 3, 3), r"takes \(3, H, W\), gets \(2, 9, 8"),
        ((2, 9, 8), conv2d((9, 8), 4, 2, 3, 3, dilation=0), r"dilation = \[0, 0\]: must be 2 whole"),
        ((2, 2, 2), conv2d((2, 2), 4, 2, 3, 3, padding=0), r"\(Conv2d\): .*[Kk]ernel size"),
        ((4, 9), nir.Conv1d(9, np.ones((3, 2, 3)), 1, 1, 1, 2, np.ones(3)), r"groups = 2: must divide the 3"),
        ((5,), sum_pool([2, 2]), r"takes \(C, H, W\), gets \(5,\)"),
        ((2, 9, 8), sum_pool([2, 2, 2]), r"kernel_size = \[2, 2, 2\]"),
        ((2, 9), nir.Scale(np.ones((9, 2))), r"takes \(9, 2\), gets \(2, 9\)"),
        ((2, 9), nir.Threshold(np.ones(9)), r"takes \(9,\), gets \(2, 9\)"),
        ((3,), nir.Delay(np.full(3, 1.5 * DT)), r"delay of 1.5 steps of dt = 0.0001 s: must be whole steps"),
        ((3,), nir.Delay(np.full(3, -DT)), r"delay = -0.0001 s: must be 0 or more"),
    ],
)
def test_nodes_that_cannot_take_what_they_get(shape, node, message: str, tmp_path: Path) -> None:
    nir.write(str(tmp_path / "net.nir"), chain(shape, (1,), node=node))
    with pytest.raises(CheckpointError, match=f"node 'node' .*{message}"):
        snn_energy.load(tmp_path / "net.nir")


def test_what_our_export_could_only_mark(tmp_path: Path) -> None:
    empty = chain((5,), (5,))
    empty.metadata = {"unsupported": "spike attention"}
    nir.write(str(tmp_path / "net.nir"), chain((5,), (5,), attention=empty))
    assert "node 'attention' stands for spike attention, which NIR cannot say" in refusal(
        tmp_path / "net.nir"
    )


@pytest.mark.parametrize("dt", [0.0, -1e-4, float("nan"), float("inf"), "fast", True])
def test_a_step_that_is_none(dt: Any, file: Path) -> None:
    assert f"dt = {dt!r} (argument): must be seconds per step, above 0" in refusal(file, dt=dt)


def test_what_a_nir_file_does_not_take(file: Path) -> None:
    assert "T = 4 cannot be set; dt can" in refusal(file, T=4)
    assert "holds no averaged weights" in refusal(file, ema=True)


def test_input_of_another_shape(tmp_path: Path) -> None:
    model = load(net(), tmp_path)
    for shape in [(5,), (7, 5), (7, 2, 4), (7, 2, 5, 2), (0, 2, 5)]:
        with pytest.raises(DataError, match=r"this network takes \(T, B, 5\), time first"):
            model(torch.zeros(shape))


def test_what_is_taken_otherwise_than_written_is_said(tmp_path: Path) -> None:
    conv = nir.Conv2d((9, 9), np.ones((4, 2, 9, 8), np.float32), 1, 0, 1, 1, np.ones(4, np.float32))
    parts = {"conv": conv, "lif": neuron("LIF", (4,)), "fc": nir.Linear(np.ones((3, 4), np.float32))}
    model = load(chain((2, 9, 8), (1, 3), **parts), tmp_path, dt=1e-4)
    assert model.notes == (
        "conv says input_shape = [9, 9], is given (2, 9, 8)",
    )  # (4, 1, 1) is (4,): no note
    assert model(torch.zeros(3, 2, 2, 9, 8)).shape == (3, 2, 3)
    model = load(chain((4, 3), (2,), fc=nir.Linear(np.ones((2, 12), np.float32))), tmp_path)
    assert model.notes == ("fc takes (12,), is given (4, 3): flattened, the last axis fastest",)
    model = load(net(), tmp_path, dt=1e-3)
    assert model.notes == ("lif: dt = 0.001 s is longer than a time constant: the steps overshoot",)


@pytest.mark.parametrize("stated", [(2, 9, 8), (1, 1, 2, 9, 8), (2, 9, 8, 1), None], ids=str)
def test_an_input_that_says_more_axes_of_length_1_or_nothing(stated: Any, file: Path) -> None:
    ones = np.ones(4, np.float32)
    conv = nir.Conv2d((9, 8), np.ones((4, 2, 3, 3), np.float32), 1, 1, 1, 1, ones)
    nir.write(str(file), chain(stated or (1,), (4, 9, 8), conv=conv))
    change(f"{NODES}/input/shape", stated)(file)
    model = snn_energy.load(file)
    assert model.notes == ()
    for shape in {(2, 9, 8), stated or (2, 9, 8)}:
        assert model(torch.zeros(6, 3, *shape)).shape == (6, 3, 4, 9, 8)


@pytest.mark.parametrize(
    ("node", "takes"),
    [
        (nir.Linear(np.ones((3, 7))), (7,)),
        (neuron("LIF", (5, 2)), (5, 2)),
        (nir.Scale(np.ones((2, 3))), (2, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_input_without_a_shape_is_what_the_first_node_takes(node, takes, file: Path) -> None:
    gives = (3,) if isinstance(node, nir.Linear) else takes
    nir.write(str(file), chain((1,), gives, node=node))
    change(f"{NODES}/input/shape", None)(file)
    model = snn_energy.load(file, dt=DT)
    assert model.input_shape == takes and model(torch.zeros(6, 3, *takes)).shape[:2] == (6, 3)


def test_dt_of_the_file(tmp_path: Path) -> None:
    graph = net()
    graph.metadata = {"dt": 2.5e-4}
    assert load(graph, tmp_path).config == {"dt": 2.5e-4, "dt_from": "metadata"}
    assert load(graph, tmp_path, dt=1e-5).config == {"dt": 1e-5, "dt_from": "argument"}
    assert load(net(), tmp_path).config == {"dt": 1e-4, "dt_from": "default"}
