"""ONNX files of strangers: only what stands in the file itself is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from snn_energy import reading
from snn_energy.errors import DataError
from snn_energy.exporters.onnx.run import OnnxModel


def outside(array: np.ndarray, name: str, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(array, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def model(*tensors: TensorProto, constant: TensorProto | None = None, inside: str = "graph") -> bytes:
    """y = x, with tensors among the weights, or one as the constant of a graph, a branch, or a function."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3]) for n in "xy")
    nodes, functions = [helper.make_node("Identity", ["x"], ["y"])], []
    if constant is not None:
        node = helper.make_node("Constant", [], ["c"], value=constant)
        if inside == "graph":
            nodes.append(node)
        elif inside == "branch":
            c = helper.make_tensor_value_info("c", TensorProto.FLOAT, None)
            branch = helper.make_graph([node], "b", [], [c])
            nodes.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))
        else:
            opset = [helper.make_opsetid("", 18)]
            functions.append(helper.make_function("own", "F", [], ["c"], [node], opset))
    graph = helper.make_graph(nodes, "g", [x], [y], initializer=list(tensors))
    return helper.make_model(graph, functions=functions).SerializeToString()


@pytest.mark.parametrize("where", ["weights", "graph", "branch", "function"])
def test_tensors_in_other_files_are_refused(tmp_path: Path, where: str) -> None:
    path = tmp_path / "model.onnx"
    (tmp_path / "secret").write_bytes(np.ones(5, np.float32).tobytes())
    tensor = outside(np.ones(5, np.float32), "w", "secret")
    inside = numpy_helper.from_array(np.ones(4, np.float32), "v")
    path.write_bytes(
        model(inside, tensor) if where == "weights" else model(inside, constant=tensor, inside=where)
    )
    with pytest.raises(DataError, match=r"tensor 'w' lies in another file \(secret\); ours hold all"):
        OnnxModel(path)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for content in (b"", b"\x00", b"onnx", model(), model()[:-3]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a model written by snn-energy"):
            OnnxModel(path)
    path.write_bytes(model())
    with reading.limits(10), pytest.raises(DataError, match="more than the limit of 10"):
        OnnxModel(path)
    assert onnx.load(path).graph.name == "g"
