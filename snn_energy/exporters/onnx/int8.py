"""INT8 weights by onnxruntime's own quantizer, with what that does to the answers."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from snn_energy.exporters.network import batches, classes, scores, take
from snn_energy.exporters.onnx.run import OnnxModel
from snn_energy.exporters.verification import Part
from snn_energy.files import atomic_write
from snn_energy.graph.graph import Graph

INT8_FILE = "model.int8.onnx"
CALIBRATION = 128  # samples that set the ranges of activations
SYNAPSES = ["Conv", "ConvTranspose", "Gemm"]


class _Samples:
    """The calibration data, one small batch at a time, as onnxruntime asks for it."""

    def __init__(self, graph: Graph, x: np.ndarray) -> None:
        name = graph.inputs[0].name
        self.batches = iter([{name: part} for _, part in batches(x, graph.batch_axis, 8)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


@dataclass(frozen=True)
class Int8Part(Part):
    """What 8 bits change: answers that stay the same, and the file's size over the float file's."""

    key: ClassVar[str] = "int8"
    predictions_equal: float
    samples: int
    size_over_float: float


def quantize_int8(
    path: Path, graph: Graph, x: np.ndarray, y: np.ndarray | None
) -> tuple[Int8Part, dict[str, float]]:
    """Write model.int8.onnx beside a multi-step file; returns its part of the record, and its accuracy.

    Weights become int8 per output channel; what enters a synapse becomes uint8 over the range seen on at most
    128 samples, which a spike train (0 and 1) survives exactly.  Spikes may differ, by design: reported are
    accuracy (with labels) and how many predictions stay the same.
    """
    target = path.with_name(INT8_FILE)
    with tempfile.TemporaryDirectory() as folder, atomic_write(target) as temporary:
        _quantize(path, temporary, graph, take(x, slice(CALIBRATION), graph.batch_axis), Path(folder))
    before, after = (_answers(OnnxModel(file), graph, x) for file in (path, target))
    size = round(target.stat().st_size / path.stat().st_size, 4)
    part = Int8Part(float((before == after).mean()), len(before), size)
    return part, {} if y is None else {"int8": float((after == y).mean())}


def _quantize(path: Path, target: Path, graph: Graph, x: np.ndarray, folder: Path) -> None:
    import onnx
    from onnx.inliner import inline_local_functions
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    onnx.save(inline_local_functions(onnx.load(path)), folder / "inlined.onnx")
    quant_pre_process(str(folder / "inlined.onnx"), str(folder / "prepared.onnx"), skip_symbolic_shape=True)
    quantize_static(
        str(folder / "prepared.onnx"),
        str(target),
        _Samples(graph, x),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=SYNAPSES,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _answers(model: OnnxModel, graph: Graph, x: np.ndarray) -> np.ndarray:
    runs = (model.run(part)[model.outputs[0]] for _, part in batches(x, graph.batch_axis, 16))
    return np.concatenate([classes(scores(run, graph), graph) for run in runs])
