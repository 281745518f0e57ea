"""Export to ONNX: a file that onnxruntime runs spike for spike as the model does.

`export_onnx` captures the model, folds its norms, computes what does not depend on time once, writes the
file, checks it, runs it on real samples beside the model and writes the verdict next to it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from snn_energy.errors import ConfigError, DataError, MissingDependency, UnsupportedOp, VerificationError
from snn_energy.exporters.kept_samples import KEPT, kept, write_arrays
from snn_energy.exporters.verification import Part, Verification
from snn_energy.files import atomic_write
from snn_energy.graph.graph import Graph

if TYPE_CHECKING:
    from snn_energy.exporters.network import Network

Form = Literal["multi-step", "single-step"]
MODEL_FILE, GRAPH_FILE = "model.onnx", "graph.json"


@dataclass(frozen=True)
class OnnxPart(Part):
    """The file: its operator set and functions, steps, and its size beside that of the weights (bytes)."""

    key: ClassVar[str] = "onnx"
    opset: int
    time_steps: int
    functions: tuple[str, ...]
    bytes: int
    weight_bytes: int


def export_onnx(
    model: Any,
    out_dir: str | os.PathLike[str],
    x: Any,
    y: Any = None,
    *,
    form: Form = "multi-step",
    quantize: Literal["int8"] | None = None,
    debug_outputs: bool = False,
    class_names: list[str] | None = None,
    layout: str | None = None,
    output: int | str | None = None,
) -> Verification:
    """Write `out_dir`/model.onnx and the Graph that later verifications need, and run it beside the model.

    x: real samples to verify on, as the network takes them: images (N, C, H, W), event frames (N, T, C, H, W)
    or (T, N, …); y (N,): their classes.  `layout` says which of these, `output` which output is the answer
    (`exporters.network`).  Their shape without the batch becomes the file's.  `form`: "multi-step" takes all
    T steps in one call; "single-step" takes one step (or one chunk of an attention over steps), with every
    neuron's membrane as input and output.  `debug_outputs` leaves every neuron's spikes in the file as
    further outputs.  `quantize="int8"` also writes model.int8.onnx, with its accuracy in the record.

    Raises `UnsupportedOp` where the model cannot be expressed.
    """
    _require_packages()
    from snn_energy.exporters.network import see, take

    if form not in get_args(Form):
        raise ConfigError(f"form = {form!r}: must be one of {', '.join(get_args(Form))}")
    if quantize not in (None, "int8"):
        raise ConfigError(f"quantize = {quantize!r}: must be int8")
    x, y = _samples(x), None if y is None else np.asarray(y)
    network = see(model, x, layout=layout, output=output, meta=_meta(model, class_names))
    graph = network.graph
    if not graph.spiking:
        raise UnsupportedOp(
            type(model).__name__,
            "a model without a neuron",
            supported="LIF, PLIF, IF, STAALIF, step functions",
            way_out="use neurons of SpikingJelly, or a comparison of a membrane with a threshold",
        )
    out = Path(out_dir)
    proto = build(graph, form, debug=debug_outputs)
    write(proto, out / MODEL_FILE)
    graph.save(out / GRAPH_FILE)
    write_arrays(out, kept(take(x, slice(KEPT), graph.batch_axis), y))
    verification = _verify(out, graph, proto, x, y, form, network)
    if quantize:
        from snn_energy.exporters.onnx.int8 import quantize_int8

        int8, accuracy = quantize_int8(out / MODEL_FILE, graph, x, y)
        verification = dataclasses.replace(verification, accuracy=verification.accuracy | accuracy)
        verification = verification.with_parts(int8)
    return verification


def build(graph: Graph, form: Form, *, debug: bool = False) -> Any:
    """The ModelProto of a graph in a form, checked by `onnx.checker` with shape inference."""
    import onnx

    from snn_energy.exporters.onnx.compare import weights_hash
    from snn_energy.exporters.onnx.rules import RULES
    from snn_energy.exporters.onnx.write import Writer
    from snn_energy.graph.attention import direct_attention
    from snn_energy.graph.simplify import fold_norms, hoist_static
    from snn_energy.graph.streaming import steps_per_call, with_steps

    single = form == "single-step"
    steps = steps_per_call(graph) if single else graph.time_steps
    small = direct_attention(hoist_static(fold_norms(with_steps(graph, steps))))
    rest = {f"{node.name}.v": node.attributes().get("v_reset") or 0.0 for node in graph.neurons}
    metadata = {
        "form": form,
        "time_steps": str(graph.time_steps),
        "steps_per_call": str(steps),
        "takes_frames": json.dumps(graph.takes_frames),
        "batch_axis": str(graph.batch_axis),
        "answers_steps": json.dumps(_time_axis(graph)),
        "weights_sha256": weights_hash(graph),
        "config": json.dumps(graph.meta.get("config")),
        "class_names": json.dumps(graph.meta.get("class_names")),
    }
    if single:
        metadata["rest"] = json.dumps({k: v for k, v in rest.items() if v})
    proto = Writer(small, RULES, stateful=single).build(metadata, debug=debug)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise VerificationError(f"onnx.checker refuses the {form} model: {first[:400]}") from error
    return proto


def _time_axis(graph: Graph) -> int | None:
    """The axis of an answer for every step, or None where it is one for all."""
    shape = graph[graph.outputs[0]].shape
    return next((i for i, dim in enumerate(shape) if "T" in str(dim)), None)


def write(proto: Any, path: Path) -> None:
    """Write a ModelProto atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())


def verify_dir(
    directory: str | os.PathLike[str],
    x: Any,
    y: Any = None,
    *,
    model: Any = None,
    output: int | str | None = None,
) -> Verification:
    """Repeat the verification of an export directory on new samples.

    The reference is `model` if given (and its `output`, as at the export), else the Graph that was saved with
    the export.  Raises `DataError` for a directory that is no export and for samples of a wrong shape.
    """
    _require_packages()
    import onnx

    from snn_energy.exporters.network import Network, place_of

    out = Path(directory)
    graph = Graph.load(out / GRAPH_FILE)
    try:
        proto = onnx.load(out / MODEL_FILE)
    except Exception as error:  # protobuf has errors of its own
        raise DataError(f"{out / MODEL_FILE}: not an ONNX file ({error})") from error
    form = next((entry.value for entry in proto.metadata_props if entry.key == "form"), "multi-step")
    labels = None if y is None else np.asarray(y)
    network = None if model is None else Network(model, graph, place_of(output))
    return _verify(out, graph, proto, _samples(x), labels, form, network)


def _verify(
    out: Path,
    graph: Graph,
    proto: Any,
    x: np.ndarray,
    y: np.ndarray | None,
    form: str,
    network: Network | None,
) -> Verification:
    from snn_energy.exporters.onnx.compare import compare, with_debug
    from snn_energy.exporters.onnx.write import OPSET
    from snn_energy.graph.interpret import check_inputs

    check_inputs(graph, [x.shape])
    debug = with_debug(proto, graph)

    def held(factor: float) -> Verification:
        return compare(graph, debug, x * np.float32(factor), y, network=network, form=form)

    result = held(1.0).louder(held)
    size = (out / MODEL_FILE).stat().st_size
    functions = tuple(f.name for f in proto.functions)
    part = OnnxPart(OPSET, graph.time_steps, functions, size, graph.parameters() * 4)
    reference = "the torch model" if network is not None else "the saved graph"
    return dataclasses.replace(result, reference=reference).with_parts(part)


def _samples(x: Any) -> np.ndarray:
    array = np.ascontiguousarray(np.asarray(x, dtype=np.float32))
    if array.ndim < 2 or len(array) == 0:
        raise DataError(f"samples of shape {array.shape}: must be (samples, ...), at least one")
    return array


def _meta(model: Any, class_names: list[str] | None) -> dict[str, Any]:
    config = getattr(model, "config", None)
    fields = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else None  # type: ignore[arg-type]
    plain = json.loads(json.dumps({"config": fields, "class_names": class_names}, default=str))
    return {"model": type(model).__name__, **plain}


def _require_packages() -> None:
    for package in ("onnx", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingDependency(package, "onnx", "ONNX export") from error
