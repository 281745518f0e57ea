"""ONNX files compute what their models compute, in both forms; what does not is found and named."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exact import exact
from spiking_nets import NEURONS, Convolutions, OneNeuron, captured, frames, gated, images, lively
from torch import nn

from snn_energy.errors import ConfigError, DataError, UnsupportedOp, VerificationError
from snn_energy.exporters.onnx.compare import compare, with_debug
from snn_energy.exporters.onnx.export import OnnxPart, build, export_onnx, verify_dir
from snn_energy.exporters.onnx.run import OnnxModel
from snn_energy.exporters.targets import export, verify
from snn_energy.exporters.verification import read_verification
from snn_energy.graph import nodes as n
from snn_energy.graph.capture import capture
from snn_energy.graph.graph import Graph

pytestmark = pytest.mark.usefixtures("capture_once")

Case = Callable[[], tuple[nn.Module, torch.Tensor]]


def statten_case(kind: str = "images", **fields: Any) -> Case:
    def case() -> tuple[nn.Module, torch.Tensor]:
        model, _ = captured(kind, **fields)
        return model, images(batch=19) if kind == "images" else frames(batch=3)

    return case


@functools.cache
def convolutions() -> nn.Module:
    return exact(lively(Convolutions(), images(batch=16)))


CASES: dict[str, Case] = {
    "STAtten": statten_case(),
    "SDT, PLIF": statten_case(attention_mode="SDT", spike_mode="plif"),
    "STAtten DVS, frames": statten_case("frames", dvs_mode=True),
    "SDT DVS": statten_case(dvs_mode=True, attention_mode="SDT"),
    "convolutions": lambda: (convolutions(), images(batch=5)),
}


@pytest.mark.parametrize("form", ["multi-step", "single-step"])
@pytest.mark.parametrize("name", CASES)
def test_spike_for_spike(name: str, form: Any, tmp_path: Path) -> None:
    model, x = CASES[name]()
    y = np.arange(len(x)) % 5
    found = export_onnx(model, tmp_path, x.numpy(), y, form=form, class_names=list("abcde"))
    assert found.verdict == "identical" and found.mismatches == 0
    assert found.logits_difference <= 1e-5 and found.predictions_differ == 0
    assert len(found.neurons) >= 3
    for check in found.neurons:
        assert 0 < check.spikes < check.compared, f"{check.name} is not alive"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "graph.json",
        "graph.npz",
        "model.onnx",
        "samples.npz",
    ]
    with torch.no_grad():
        logits = model(x)
    runner = OnnxModel(tmp_path / "model.onnx")
    torch.testing.assert_close(
        torch.from_numpy(runner.run(x)[runner.outputs[0]]), logits, rtol=1e-5, atol=1e-5
    )
    assert found.accuracy == {
        "model": float((logits.argmax(1).numpy() == y).mean()),
        "file": found.accuracy["file"],
    }
    assert (runner.form, runner.class_names) == (form, list("abcde"))


ALIKE = ("identical", "identical but for ties")  # a sigmoid is rounded otherwise in each library


def test_staa_neurons(tmp_path: Path) -> None:
    model = gated()
    found = export_onnx(model, tmp_path, images(batch=7).numpy())
    assert found.verdict in ALIKE and [c.name for c in found.neurons] == ["lif"]
    assert found.part(OnnxPart).functions == ("STAALIF",)
    proto = onnx.load(tmp_path / "model.onnx")
    sizes = {t.name: int(np.prod(t.dims)) for t in proto.graph.initializer}
    (call,) = [node for node in proto.graph.node if node.op_type == "STAALIF"]
    at_rest = model.lif.gc_state.of_zeros().numel()  # what GC2 makes of no membrane, computed beforehand
    held = sum(p.numel() for p in model.lif.parameters()) + at_rest
    assert sum(sizes[name] for name in call.input[1:]) == held, "a weight that all steps use is held once"
    saved = np.load(tmp_path / "graph.npz")
    assert sum(array.size for array in saved.values()) == capture(model, images()).parameters()


PLACES = ["input", "state", "aggregate", "output"]


@pytest.mark.parametrize(
    "fields", [{"pe": "off"}, {"gc": False}, *({"pe_at": place} for place in PLACES)], ids=str
)
def test_staa_neurons_step_by_step(fields: dict[str, Any], tmp_path: Path) -> None:
    """Membranes and the number of the step outside; the encoding ends after T steps."""
    model, x = gated(**fields), images(batch=7)
    found = export_onnx(model, tmp_path, x.numpy(), form="single-step")
    (check,) = found.neurons
    assert found.verdict in ALIKE and 0 < check.spikes < check.compared
    assert found.part(OnnxPart).functions == ("STAALIFStep",)
    runner = OnnxModel(tmp_path / "model.onnx")
    state = None
    for _ in range(3):
        _, state = runner.step(x, state)
    if fields.get("pe") == "off":
        assert "time_step" not in state
        runner.step(x, state)
    else:
        assert state["time_step"].tolist() == [3]
        with pytest.raises(DataError, match=r"time step 3: the network encodes 3 steps"):
            runner.step(x, state)


def plain_neuron(node: n.Lif | n.If, x: np.ndarray) -> np.ndarray:
    """Element by element, in float32, as the docstring of `Lif` says."""
    f = np.float32
    spikes = np.zeros_like(x)
    rest = f(node.v_reset or 0.0)
    for place in np.ndindex(x.shape[1:]):
        v = rest
        for t in range(len(x)):
            current = x[(t, *place)]
            if isinstance(node, n.If):
                h = v + current
            else:
                inner = current - (v - rest) if node.decay_input else v - rest
                leak = inner * f(1 / node.tau) if node.learned else inner / f(node.tau)
                h = v + leak if node.decay_input else v - leak + current
            fires = h >= f(node.v_threshold)
            spikes[(t, *place)] = fires
            if node.v_reset is None:
                v = h - f(node.v_threshold) if fires else h
            else:
                v = rest if fires else h
    return spikes


@pytest.mark.parametrize("name", NEURONS)
def test_neuron_functions_are_their_equations(name: str) -> None:
    """Both forms of every variant against plain loops, on currents that include the threshold itself."""
    graph = capture(OneNeuron(NEURONS[name]()).eval(), torch.rand(2, 5, 7))
    (node,) = graph.of_type(n.Lif, n.If)
    currents = np.random.default_rng(0).normal(0.8, 1.2, (5, 3, 11)).astype(np.float32)
    currents[0, 0, :4] = [2.0, 1.0, node.v_threshold, node.v_threshold * getattr(node, "tau", 1.0)]
    shape = ("T", "B", 11)
    alone = Graph(
        (
            n.Input(name="x", shape=("B", "T", 11)),
            n.Permute(name="first", inputs=("x",), shape=shape, order=(1, 0, 2)),
            dataclasses.replace(node, inputs=("first",), shape=shape),
            n.Reduce(name="rate", inputs=(node.name,), shape=("B", 11), kind="mean", axes=(0,)),
        ),
        ("rate",),
        5,
    )
    expected = plain_neuron(node, currents)
    assert 0.1 < expected.mean() < 0.9
    for form in ("multi-step", "single-step"):
        proto = build(alone, form, debug=True)  # type: ignore[arg-type]
        out = OnnxModel(proto.SerializeToString()).run(currents.transpose(1, 0, 2))
        np.testing.assert_array_equal(out[node.name].reshape(expected.shape), expected)


def test_the_file_is_compact() -> None:
    """One definition of the neuron whatever the depth; a static image's first convolution once; no norms."""
    _, graph = captured()
    proto = build(graph, "multi-step")
    assert [f.name for f in proto.functions] == ["LifCharge", "LifReset", "LifHeld", "Lif"]
    calls = [node for node in proto.graph.node if node.domain == "snn_energy"]
    assert len(calls) == len(graph.neurons)
    ops = {node.op_type for node in proto.graph.node}
    assert not ops & {"BatchNormalization", "Expand", "Tile", "Loop", "Scan"}
    (first,) = [node for node in proto.graph.node if node.name == "patch_embed.proj_conv"]
    assert first.input[0] == "x"
    weights = sum(int(np.prod(t.dims)) * 4 for t in proto.graph.initializer if t.data_type == 1)
    assert proto.ByteSize() - weights < 20_000
    assert {o.version for o in proto.opset_import if o.domain == ""} == {20}
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    assert [d.dim_value or d.dim_param for d in inferred.graph.output[0].type.tensor_type.shape.dim] == [
        "B",
        5,
    ]


def test_metadata(tmp_path: Path) -> None:
    model, _ = captured()
    x = images(batch=2)
    found = export_onnx(model, tmp_path, x)
    props = {p.key: p.value for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(props["config"])["embed_dims"] == 48
    assert (props["time_steps"], props["steps_per_call"], len(props["weights_sha256"])) == ("6", "6", 64)
    assert found.versions["onnxruntime"] and found.verdict == "identical"


def test_streaming_from_a_camera(tmp_path: Path) -> None:
    """Step by step with the state kept, any number of steps; a fresh state is rest."""
    model, _ = captured("frames", dvs_mode=True)
    x = frames(batch=3)
    export_onnx(model, tmp_path, x, form="single-step")
    runner = OnnxModel(tmp_path / "model.onnx")
    assert runner.steps_per_call == 2
    state, parts = None, []
    for t in (0, 2, 4):
        out, state = runner.step(x[:, t : t + 2], state)
        parts.append(out[runner.outputs[0]])
    with torch.no_grad():
        np.testing.assert_allclose(np.mean(parts, 0), model(x).numpy(), atol=1e-5)
    again, _ = runner.step(x[:, :2])
    np.testing.assert_array_equal(again[runner.outputs[0]], parts[0])
    assert runner.run(torch.cat([x, x], 1))[runner.outputs[0]].shape == (3, 5)
    with pytest.raises(DataError, match="multiple of 2"):
        runner.run(x[:, :3])


def test_debug_outputs(tmp_path: Path) -> None:
    model, graph = captured()
    x = images(batch=2)
    export_onnx(model, tmp_path, x, debug_outputs=True)
    out = OnnxModel(tmp_path / "model.onnx").run(x)
    assert list(out)[1:] == [node.name for node in graph.neurons]
    assert out["block.0.attn.q_lif"].shape == (12, 48, 8, 5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    model, _ = captured()
    export(model, "onnx", folder, x=images(), quantize="int8", y=np.arange(4) % 5)
    return folder


def test_verify_again(exported: Path) -> None:
    found = verify_dir(exported, images(seed=9, batch=6), np.zeros(6, int))
    assert found.verdict == "identical" and found.samples == 6 and set(found.accuracy) == {"model", "file"}
    assert found.reference == "the saved graph"
    with_model = verify_dir(exported, images(seed=9, batch=6), model=captured()[0])
    assert with_model.neurons == found.neurons and with_model.reference == "the torch model"


def test_int8(exported: Path) -> None:
    record = read_verification(exported / "verification.json")
    assert set(record["accuracy"]) == {"model", "file", "int8"}
    assert 0 <= record["parts"]["int8"]["predictions_equal"] <= 1
    assert record["parts"]["int8"]["size_over_float"] < 0.8
    kinds = [node.op_type for node in onnx.load(exported / "model.int8.onnx").graph.node]
    assert "DequantizeLinear" in kinds or "QLinearConv" in kinds


def test_wrong_shapes_say_what_is_right(exported: Path) -> None:
    with pytest.raises(DataError, match=r"\(2, 3, 20, 32\).*\(B, 3, 32, 20\)"):
        verify_dir(exported, np.zeros((2, 3, 20, 32)))
    with pytest.raises(DataError, match=r"\(3, 32, 20\).*\(B, 3, 32, 20\)"):
        OnnxModel(exported / "model.onnx").run(np.zeros((3, 32, 20)))
    with pytest.raises(DataError, match="at least one"):
        verify_dir(exported, np.zeros((0, 3, 32, 20)))


def test_corrupted_files_are_found(exported: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "graph.npz", "graph.json", "model.int8.onnx"):
        copy = tmp_path / name
        shutil.copytree(exported, copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(bytes(data))
        with pytest.raises(DataError, match=rf"{name}.*corrupted"):
            verify(copy, x=images())
        (copy / name).unlink()
        with pytest.raises(DataError, match=f"{name}: missing"):
            verify(copy, x=images())
    with pytest.raises(DataError, match=r"verification\.json"):
        verify(tmp_path, x=images())
    broken = tmp_path / "not.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(DataError, match=r"not\.onnx"):
        OnnxModel(broken)


def tampered(layer: str, factor: float) -> Graph:
    """The graph of the case with one synapse scaled."""
    _, graph = captured()
    nodes = [
        dataclasses.replace(node, weight=node.weight * np.float32(factor))
        if isinstance(node, n.Conv) and node.name == layer
        else node
        for node in graph
    ]
    return Graph(tuple(nodes), graph.outputs, graph.time_steps, graph.meta)


def test_a_wrong_file_fails_and_names_the_first_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a network with one scaled synapse, against the true model."""
    from snn_energy.exporters.onnx import export as room

    model, _ = captured()
    wrong = build(tampered("block.0.attn.k_conv", 1.01), "multi-step")
    monkeypatch.setattr(room, "build", lambda graph, form, debug: wrong)
    with pytest.raises(VerificationError, match=r"differs from the model at block\.0\.attn\.k_lif, step \d"):
        export(model, "onnx", tmp_path, x=images())
    record = read_verification(tmp_path / "verification.json")
    assert record["verdict"] == "different"
    assert record["first_difference"]["node"] == "block.0.attn.k_lif"
    assert max(record["first_difference"][key] for key in ("margin", "current_error")) > 1e-5


def threshold_graph(weight: float) -> Graph:
    """Two neurons, τ = 2: input 2 brings the first to H = weight exactly; the second never fires."""
    shape = ("T", "B", 2)
    weights = np.array([[weight, 0], [0, 0.25]], np.float32)
    nodes = (
        n.Input(name="x", shape=("B", 2)),
        n.Expand(name="time", inputs=("x",), shape=shape),
        n.Linear(name="fc", module="fc", inputs=("time",), shape=shape, weight=weights),
        n.Lif(name="lif", module="lif", inputs=("fc",), shape=shape, tau=2.0),
        n.Scale(name="shift", inputs=("lif",), shape=shape, offset=1.0),
        n.Reduce(name="out", inputs=("shift",), shape=("B", 2), kind="mean", axes=(0,)),
    )
    return Graph(nodes, ("out",), 3)


TIES = [(1.0, "identical"), (1 - 2**-24, "identical but for ties"), (0.999, "different")]


@pytest.mark.parametrize(("weight", "verdict"), TIES)
def test_a_tie_is_told_from_a_mistake(weight: float, verdict: str) -> None:
    """The true weight lifts a membrane to the threshold; the file's is equal, one rounding off, or wrong."""
    true = threshold_graph(1.0)
    proto = build(threshold_graph(weight), "multi-step")
    x = np.array([[2, 0.5], [1, 0.5], [3, 0.5]], np.float32)
    found = compare(true, with_debug(proto, true), x, form="multi-step")
    assert found.verdict == verdict
    if verdict != "identical":
        (difference,) = found.differences
        assert (difference.sample, difference.node, difference.step, difference.index) == (0, "lif", 0, (0,))
        assert difference.membrane == 1.0
        assert difference.current_error == pytest.approx(1 - weight, rel=1e-3)


def test_bad_options(tmp_path: Path) -> None:
    model, _ = captured()
    with pytest.raises(ConfigError, match="form = 'scan'"):
        export_onnx(model, tmp_path, images(), form="scan")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="quantize = 'int4'"):
        export_onnx(model, tmp_path, images(), quantize="int4")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedOp, match=r"Linear: .* a model without a neuron"):
        export_onnx(nn.Linear(3, 2), tmp_path, torch.rand(2, 3))
    assert not list(tmp_path.iterdir())
