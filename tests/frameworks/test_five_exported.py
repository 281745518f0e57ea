"""The network of five frameworks by the command line: to ONNX, NIR and a netlist, spike for spike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import command
import five
import numpy as np
import pytest
import torch
from needed import needed

from snn_energy.profiling import neurons

needed("snntorch", "norse", "sinabs", "onnxruntime", "nir")

BUILDERS = """
import five

spikingjelly, norse, squeezed = five.spikingjelly, five.norse, five.sinabs_squeezed
sinabs, plain = five.SinabsBatchFirst, five.plain


def stepwise():
    return five.loaded(five.SnnTorchStep())


def loop():
    return five.loaded(five.SnnTorchLoop())


def registered():
    import snn_energy
    from snn_energy.profiling import Equation

    def half(module):
        return Equation(keep=0.5, gain=0.5, threshold=five.THRESHOLD, strict=True)

    snn_energy.register_neuron(five.PlainLIF, op="lif", time_axis=0, to_node=half)
    return five.plain()
"""
# name -> (builder, how the samples lie: time first, samples first or both on one axis, further flags)
NETWORKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "SpikingJelly": ("spikingjelly", "TB", ()),
    "snnTorch, loop inside": ("loop", "TB", ()),
    "snnTorch, the caller loops": ("stepwise", "TB", ("--layout", "TB")),
    "Norse, cells": ("norse", "TB", ()),
    "Norse, LIF": ("norse", "TB", ("--set", "current=true")),
    "sinabs": ("sinabs", "BT", ()),
    "sinabs, Squeeze": ("squeezed", "folded", ()),
    "torch, written out": ("plain", "TB", ()),
    "torch, registered": ("registered", "TB", ()),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code that builds the networks, and their samples in the layouts that they take."""
    folder = tmp_path_factory.mktemp("five")
    (folder / "nets.py").write_text(BUILDERS)
    frames = five.frames().numpy()
    batch_first = np.ascontiguousarray(frames.swapaxes(0, 1))
    arranged = {"TB": frames, "BT": batch_first, "folded": batch_first.reshape(-1, *frames.shape[2:])}
    for name, x in arranged.items():
        np.savez(folder / f"{name}.npz", x=x)
    return folder


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing that a test registers outlives it."""
    yield
    neurons._REGISTERED.clear()
    neurons._NEAREST.clear()


@pytest.mark.parametrize("target", ["onnx", "nir", "netlist"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_network_leaves_every_framework(name: str, target: str, place: Path, tmp_path: Path) -> None:
    builder, layout, flags = NETWORKS[name]
    samples = place / f"{layout}.npz"
    model = ("--model", f"{place / 'nets.py'}:{builder}", "--input", samples, *flags)
    done = command.run("export", *model, "--target", target, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "identical" in done.stdout and "vacuous" not in done.stdout
    record = json.loads((tmp_path / "out" / "verification.json").read_text())
    assert (record["verdict"], record["samples"]) == ("identical", five.B)
    first, second = five.by_hand(five.frames())
    assert [check["compared"] for check in record["neurons"]] == [first.numel(), second.numel()]
    assert [check["mismatches"] for check in record["neurons"]] == [0, 0]
    if target != "netlist":  # whose weights are rounded to 8 bits
        assert [check["spikes"] for check in record["neurons"]] == [int(first.sum()), int(second.sum())]
    again = command.run("verify", tmp_path / "out", "--input", samples)
    assert again.returncode == 0, again.stderr
    assert "identical" in again.stdout


def test_what_the_file_answers_is_the_rate_of_the_last_spikes(place: Path, tmp_path: Path) -> None:
    """Beside the verdicts: the numbers in an ONNX file and in a netlist, against the loop by hand."""
    from snn_energy.exporters.netlist.files import load
    from snn_energy.exporters.netlist.simulate import encode, simulate
    from snn_energy.exporters.onnx.run import OnnxModel

    frames = five.frames()
    model = ("--model", f"{place / 'nets.py'}:stepwise", "--input", place / "TB.npz", "--layout", "TB")
    for target in ("onnx", "netlist"):
        done = command.run("export", *model, "--target", target, "--out", tmp_path / target)
        assert done.returncode == 0, done.stderr
    _, second = five.by_hand(frames)
    runner = OnnxModel(tmp_path / "onnx" / "model.onnx")
    torch.testing.assert_close(torch.from_numpy(runner.run(frames.numpy())[runner.outputs[0]]), second)
    netlist = load(tmp_path / "netlist")
    activity = simulate(netlist, encode(netlist, frames.numpy().swapaxes(0, 1)))
    (answers,) = activity.logits.values()
    last = activity.outputs["lif2"]
    np.testing.assert_allclose(answers, last.reshape(five.B, five.T, five.K).mean(1), rtol=1e-6)
    assert 0 < last.sum() < last.size
