"""The Lava target without Lava: packages, hashes, netx files and their traps, finding an interpreter."""

import dataclasses
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from netlists import bias, chain, even, everything, messages

from snn_energy.errors import ConfigError, DataError, MissingDependency, UnsupportedOp
from snn_energy.exporters.lava.netx import netx_obstacle, write_netx
from snn_energy.exporters.lava.package import lava_python, read_package, watched, write_package
from snn_energy.exporters.netlist.files import content_digest, sha256
from snn_energy.exporters.netlist.record import Conv, Dense, Edge, Identity, Input, Netlist, Population

RNG = np.random.default_rng(0)


def with_node(netlist, name, **fields):
    nodes = dict(netlist.nodes) | {name: dataclasses.replace(netlist.nodes[name], **fields)}
    return dataclasses.replace(netlist, nodes=nodes)


def test_package_has_everything_and_its_hashes(tmp_path):
    netlist = chain(RNG)
    x = messages(netlist, RNG, 2)
    folder = write_package(netlist, tmp_path / "out", {"x": x, "y": np.array([1, 2])})
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    program = {"run.py", "network.py", "shim.py", "staa_lif.py"}
    program |= {"processes/process.py", "processes/models.py"}
    data = {"netlist.json", "netlist.h5", "model.net", "samples.npz", "manifest.json"}
    assert names == program | data | {"README.md"}
    again, samples = read_package(folder)
    assert again.edges == netlist.edges
    np.testing.assert_array_equal(samples["x"], x)
    write_package(netlist, folder)  # an earlier package may be replaced
    assert "snn_energy" not in (folder / "run.py").read_text() + (folder / "network.py").read_text()


@pytest.mark.parametrize("name", ["run.py", "netlist.h5", "processes/models.py", "samples.npz"])
def test_a_tampered_package_fails_its_hashes(name, tmp_path):
    netlist = chain(RNG)
    folder = write_package(netlist, tmp_path / "out", {"x": messages(netlist, RNG, 1)})
    path = folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(DataError, match=f"{name} was changed after export"):
        read_package(folder)
    path.unlink()
    with pytest.raises(DataError, match=f"cannot read .*{name}"):
        read_package(folder)


ADDED = [
    "numpy.py",
    "__pycache__/network.cpython-310.pyc",
    "processes/extra.py",
    "lava/__init__.py",
    ".pth",
    "notes.txt",
]


@pytest.mark.parametrize("name", [*ADDED, ".pth", "notes.txt"])
def test_a_file_that_was_added_is_refused(name, tmp_path):
    folder = write_package(chain(RNG), tmp_path / "out")
    (folder / "verification.json").write_text("{}")  # written after the package is sealed
    read_package(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("raise SystemExit('ran')")
    with pytest.raises(DataError, match="was added after export"):
        read_package(folder)


def test_a_link_is_no_file_of_a_package(tmp_path):
    folder = write_package(chain(RNG), tmp_path / "out")
    moved = tmp_path / "run.py"
    (folder / "run.py").rename(moved)
    (folder / "run.py").symlink_to(moved)
    with pytest.raises(DataError, match="was added after export"):
        read_package(folder)


def sealed_again(folder, change):
    """The manifest after `change(files)`, with a hash of its own that is right."""
    content = json.loads((folder / "manifest.json").read_text())
    change(content["files"])
    (folder / "manifest.json").write_text(json.dumps(content | {"sha256": content_digest(content)}))


def test_a_manifest_that_leaves_out_what_every_package_has_is_refused(tmp_path):
    folder = write_package(chain(RNG), tmp_path / "out")
    sealed_again(folder, lambda files: files.clear())
    with pytest.raises(DataError, match=r"it does not list README\.md"):
        read_package(folder)
    folder = write_package(chain(RNG), tmp_path / "two")
    sealed_again(folder, lambda files: files.update({"../evil.py": "0"}))
    with pytest.raises(DataError, match="outside the package"):
        read_package(folder)


def test_a_program_that_is_not_ours_is_refused_though_its_hashes_are_right(tmp_path):
    folder = write_package(chain(RNG), tmp_path / "out")
    path = folder / "network.py"
    path.write_text(path.read_text() + "\nprint('mine')\n")
    sealed_again(folder, lambda files: files.update({"network.py": sha256(path)}))
    with pytest.raises(DataError, match=r"network\.py is not the program of snn-energy .*: export again"):
        read_package(folder)


def test_a_tampered_manifest_fails_its_own(tmp_path):
    folder = write_package(chain(RNG), tmp_path / "out")
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["watch"] = ["nothing"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"manifest\.json was changed after export"):
        read_package(folder)
    for text in ("", "{}", "[]", '{"files": {}}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"was changed after export|exported package"):
            read_package(folder)
    path.unlink()
    with pytest.raises(DataError, match="an exported package was expected"):
        read_package(folder)


def test_run_py_itself_refuses_before_it_imports_anything(tmp_path):
    """In any Python, with no Lava: a numpy.py beside it is never run, nor a json.py."""
    folder = write_package(chain(RNG), tmp_path / "out")
    for name in ("numpy.py", "json.py", "argparse.py"):
        (folder / name).write_text("import pathlib; pathlib.Path(__file__).with_suffix('.ran').touch()")
    command = [sys.executable, str(folder / "run.py"), "--input", "x.npz", "--out", str(tmp_path / "o.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "was added after export" in done.stderr
    assert not list(folder.glob("*.ran")) and not (folder / "__pycache__").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match="is not empty and no earlier export"):
        write_package(chain(RNG), tmp_path)


def test_only_populations_that_could_overflow_are_watched():
    assert watched(chain(RNG)) == []
    assert "head_lif" in watched(everything(RNG))


def test_interpreter_is_named_or_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNN_ENERGY_LAVA_PYTHON", raising=False)
    with pytest.raises(MissingDependency, match="running Lava needs a Lava environment"):
        lava_python()
    with pytest.raises(ConfigError, match="no Python at nowhere"):
        lava_python("nowhere")
    made = tmp_path / ".lava-env" / "bin" / "python"
    made.parent.mkdir(parents=True)
    made.touch()
    assert lava_python() == made
    monkeypatch.setenv("SNN_ENERGY_LAVA_PYTHON", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"no Python at .*gone"):
        lava_python()


# ---------------------------------------------------------------------------------------------------- netx


def test_netx_file_holds_what_netx_reads(tmp_path):
    netlist = chain(RNG)
    write_netx(netlist, tmp_path / "model.net")
    with h5py.File(tmp_path / "model.net") as file:
        layers = [file[f"layer/{i}"] for i in range(len(file["layer"]))]
        assert [layer["type"][0].decode() for layer in layers] == [
            "input",
            "conv",
            "conv",
            "flatten",
            "dense",
        ]
        assert layers[0]["shape"][()].tolist() == [2, 7, 9]
        np.testing.assert_array_equal(layers[2]["weight"][()], netlist.nodes["conv2"].weight)
        np.testing.assert_array_equal(layers[1]["bias"][()], netlist.nodes["lif1"].bias_mantissa.ravel())
        assert layers[2]["groups"][()] == 2 and layers[2]["stride"][()].tolist() == [2, 2]
        assert layers[4]["neuron/vThMant"][()] == 400 and layers[4]["neuron/iDecay"][()] == 4096


@pytest.mark.parametrize(
    ("change", "obstacle"),
    [
        (lambda n: with_node(n, "conv1", exponent=1), "conv1 has weight exponent 1"),
        (lambda n: with_node(n, "dense", weight=np.zeros((5, 96), int)), "dense has only zero weights"),
        (lambda n: with_node(n, "lif1", bias_exponent=7), "lif1 has bias exponent 7"),
        (lambda n: with_node(n, "lif2", bias_mantissa=np.ones((8, 3, 4), int)), "lif2 has a bias per neuron"),
    ],
)
def test_netx_traps_are_refused_before_writing(change, obstacle, tmp_path):
    netlist = change(chain(RNG))
    assert netx_obstacle(netlist).startswith(obstacle)
    with pytest.raises(UnsupportedOp, match=obstacle.split()[0]):
        write_netx(netlist, tmp_path / "model.net")
    assert not (tmp_path / "model.net").exists()
    assert obstacle in (write_package(netlist, tmp_path / "out") / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda n: with_node(n, "dense", weight=even(RNG, 5, 96) + 1), "must be even"),
        (lambda n: with_node(n, "dense", weight=np.full((5, 96), 256)), "do not fit 8 bits"),
        (lambda n: with_node(n, "dense", weight=even(RNG, 5, 96) * 3), "do not fit 8 signed bits"),
        (lambda n: with_node(n, "lif1", bias_mantissa=bias(RNG, 6) + 40000), "do not fit 13 bits"),
        (lambda n: with_node(n, "lif3", threshold=200000), "does not fit 17 unsigned bits"),
        (lambda n: with_node(n, "lif3", threshold=-1), "does not fit 17 unsigned bits"),
    ],
)
def test_netx_traps_that_no_register_holds_are_refused(change, problem, tmp_path):
    with pytest.raises(ConfigError, match=problem):
        write_netx(change(chain(RNG)), tmp_path / "model.net")


def test_netx_holds_chains_only():
    assert netx_obstacle(everything(RNG)) == "stem has weight exponent 1, and netx reads none"
    branching = with_node(everything(RNG), "stem", exponent=0)
    assert netx_obstacle(branching) == "pool is a GradedMaxPool, and netx knows none"
    shape = (2, 1, 1)
    nodes = {"x": Input(shape), "a": Dense(shape, even(RNG, 2, 2)), "p": Population(shape, 1),
             "b": Conv(shape, even(RNG, 2, 2, 1, 1)), "q": Population(shape, 1)}  # fmt: skip
    pairs = [("x", "a"), ("a", "p"), ("p", "b"), ("b", "q")]
    netlist = Netlist(nodes, tuple(Edge(*pair) for pair in pairs), 2)
    assert (
        netx_obstacle(netlist)
        == "b convolves after a dense layer, and netx cannot fold a vector back into a map"
    )
    nodes = {"x": Input(shape), "i": Identity(shape), "p": Population(shape, 1)}
    assert (
        netx_obstacle(Netlist(nodes, (Edge("x", "i"), Edge("i", "p")), 2))
        == "i is a Identity, and netx knows none"
    )
