"""The real Lava runtime, spike for spike: netx chain, every kind of node, STAtten, SDT, the DVS branch.

Needs a Lava environment: SNN_ENERGY_LAVA_PYTHON names one, else scripts/lava_env makes .lava-env.
"""

import subprocess

import numpy as np
import pytest
from lava_environment import lava_python
from netlists import chain, everything, messages
from test_lower import counts, images, statten
from trained_statten import TRAINED
from typer.testing import CliRunner

from snn_energy.cli.app import app
from snn_energy.errors import DataError, VerificationError
from snn_energy.exporters.chip.parts import NetlistPart
from snn_energy.exporters.lava.package import run_lava, write_package
from snn_energy.exporters.netlist.record import (
    Dense,
    Edge,
    Identity,
    Input,
    Netlist,
    Population,
    Relay,
    Sparse,
    align,
)
from snn_energy.exporters.netlist.simulate import simulate
from snn_energy.exporters.verification import read_verification

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(3)

NETX = """
import sys, numpy as np, shim
shim.install(netx=True)
from lava.lib.dl.netx import hdf5
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc import io
folder, steps, bits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = dict(reset_interval=steps, reset_offset=1, input_message_bits=bits)
net = hdf5.Network(net_config=folder + "/model.net", **options)
net.net_config.f.close()
data = np.load(folder + "/x.npy")
source, sink = io.source.RingBuffer(data=data), io.sink.RingBuffer(shape=net.out.shape, buffer=data.shape[-1])
source.s_out.connect(net.inp)
net.out.connect(sink.a_in)
net.run(condition=RunSteps(num_steps=data.shape[-1]), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
np.save(folder + "/out.npy", sink.data.get())
net.stop()
"""


def assert_lava_agrees(netlist, x, folder):
    package = write_package(netlist, folder, {"x": x})
    lava, ours = run_lava(package, x, python=lava_python(), timeout=300), simulate(netlist, x)
    assert set(lava.outputs) == set(ours.outputs)
    for name, values in ours.outputs.items():
        np.testing.assert_array_equal(lava.outputs[name], values, err_msg=name)
    for name, logits in ours.logits.items():
        np.testing.assert_allclose(lava.logits[name], logits, rtol=1e-12)
    return package, ours


def test_every_kind_of_node(tmp_path):
    netlist = everything(np.random.default_rng(3))
    _, ours = assert_lava_agrees(netlist, messages(netlist, RNG, 3), tmp_path / "out")
    assert sum(0 < ours.outputs[n].mean() < 1 for n in netlist.populations()) >= 7


def test_netx_runs_the_chain(tmp_path):
    """The package and netx itself give the simulator's spikes, samples streamed with resets between them."""
    netlist = chain(np.random.default_rng(1))
    x = messages(netlist, RNG, 3)
    package, ours = assert_lava_agrees(netlist, x, tmp_path / "out")
    depth, steps = 3, netlist.time_steps
    stream = np.moveaxis(x.reshape(-1, *x.shape[2:]), 0, -1).transpose(2, 1, 0, 3)
    np.save(
        package / "x.npy",
        np.concatenate([stream, np.zeros((*stream.shape[:3], depth), int)], -1).astype(np.int32),
    )
    command = [lava_python(), "-c", NETX, str(package), str(steps), "0"]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    spikes = np.load(package / "out.npy")[:, depth:].reshape(5, 3, steps).transpose(1, 2, 0)
    np.testing.assert_array_equal(spikes, ours.outputs["lif3"].reshape(3, steps, 5))


def test_graded_messages_reach_dense_and_sparse_synapses(tmp_path):
    shape = (3, 1, 2)
    nodes = {
        "x": Input(shape, 6), "w": Identity(shape, -3, 2), "relay": Relay(shape), "late": Identity(shape, 1),
        "dense": Dense(shape, np.arange(-12, 12).reshape(4, 6) * 2, 1), "a": Population((4, 1, 1), 900),
        "sparse": Sparse(shape, (4, 1, 1), *np.array([[0, 3, 5], [3, 0, 1], [-7, -2, -9]]), 3),
        "link": Identity((4, 1, 1), 200), "b": Population((4, 1, 1), 2100, current_decay=2000),
    }  # fmt: skip
    pairs = "x-w w-relay relay-dense dense-a relay-sparse a-link link-b sparse-b x-late late-relay"
    netlist = align(Netlist(nodes, tuple(Edge(*p.split("-")) for p in pairs.split()), 5))
    _, ours = assert_lava_agrees(netlist, messages(netlist, RNG, 4), tmp_path / "out")
    assert all(0 < ours.outputs[n].mean() < 1 for n in "ab")


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({}, images(2, 2, 8, 12)),
        ({"attention_mode": "SDT", "pooling_stat": "0110"}, images(2, 2, 8, 12)),
        ({"dvs_mode": True}, counts(2, 4, 2, 8, 12)),
    ],
    ids=["statten", "sdt-stock-processes", "dvs"],
)
def test_whole_transformers(fields, data, tmp_path):
    from snn_energy.exporters.lava.export import export_lava, verify_dir

    verdict = export_lava(statten(**fields), tmp_path / "out", data)
    assert verdict.verdict == "identical"
    assert (verdict.part(NetlistPart).own_processes == ()) == ("attention_mode" in fields)
    in_lava = verify_dir(tmp_path / "out", runtime="lava", python=lava_python(), timeout=400)
    assert in_lava.verdict == "identical" and in_lava.mismatches == 0
    assert len(in_lava.neurons) >= 12 and sum(c.spikes > 0 for c in in_lava.neurons) >= 10


def test_a_trained_statten_from_checkpoint_to_lava(tmp_path):
    """Trained on digits, exported and run by the command that a user types: all spikes are equal."""
    out = tmp_path / "lava"
    command = ["export", str(TRAINED), "--target", "lava", "--samples", "24", "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--lava-samples", "2", "--python", lava_python()])
    assert done.exit_code == 0, done.output
    record = read_verification(out / "verification.json")
    in_lava = record["parts"]["lava"]
    for verdict, samples in ((record, 24), (in_lava, 2)):
        assert verdict["verdict"] == "identical" and verdict["samples"] == samples
    assert all(check["mismatches"] == 0 for check in record["neurons"])
    names = {check["name"] for check in record["neurons"]}
    parts = ("shortcut", "q", "k", "v", "attn")
    assert {f"block.0.attn.{part}_lif" for part in parts} <= names
    assert {"patch_embed.proj_lif", "block.0.mlp.fc1_lif", "block.0.mlp.fc2_lif", "head_lif"} <= names
    assert all(check["spikes"] > 0 for check in record["neurons"]) and record["predictions_differ"] == 0
    assert "2 of 2 predictions equal" in in_lava["summary"] and "never fired" not in in_lava["summary"]
    assert record["accuracy"]["netlist"] >= record["accuracy"]["model"] - 0.1 > 0.5
    assert record["parts"]["source"]["calibration"] == "digits (train), first 256"
    assert record["parts"]["netlist"]["own_processes"] == ["GradedMaxPool", "SpikeAttention"]


def test_a_current_out_of_range_is_an_error_there_too(tmp_path):
    nodes = {
        "x": Input((3, 1, 2), 8),
        "w": Dense((3, 1, 2), np.full((2, 6), 254), 2),
        "lif": Population((2, 1, 1), 5),
    }
    netlist = Netlist(nodes, (Edge("x", "w"), Edge("w", "lif")), 2)
    package = write_package(netlist, tmp_path / "out")
    with pytest.raises(VerificationError, match="lif: a current of 134112 does not fit its register"):
        run_lava(package, np.full((1, 2, 3, 1, 2), 22), python=lava_python(), timeout=200)


def test_the_program_refuses_what_the_writer_did_not_write(tmp_path):
    netlist = chain(np.random.default_rng(1))
    package = write_package(netlist, tmp_path / "out", {"x": messages(netlist, RNG, 1)})
    run = lambda *more: subprocess.run(  # noqa: E731
        [lava_python(), package / "run.py", "--input", *more], capture_output=True, text=True, timeout=120
    )
    np.savez(tmp_path / "bad.npz", x=np.zeros((1, 2, 9, 7), int))
    done = run(tmp_path / "bad.npz", "--out", tmp_path / "o.npz")
    assert done.returncode == 2 and "the input takes samples of [2, 7, 9], not [4, 2, 9, 7]" in done.stderr
    models = package / "processes" / "models.py"
    models.write_text(models.read_text() + "\n# mine\n")
    done = run(package / "samples.npz", "--out", tmp_path / "o.npz")
    assert done.returncode == 2 and "models.py was changed after export" in done.stderr
    with pytest.raises(DataError, match="changed after export"):
        run_lava(package, messages(netlist, RNG, 1), python=lava_python())
