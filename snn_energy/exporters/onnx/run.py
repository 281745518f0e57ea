"""Run an exported ONNX model in onnxruntime, in whichever form it has."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from snn_energy.errors import DataError, MissingDependency
from snn_energy.exporters.onnx.write import TIME_STEP
from snn_energy.reading import one_line, read_bytes


def _is_state(name: str) -> bool:
    return name.endswith(".v") or name == TIME_STEP


def _whole(path: Path) -> bytes:
    """The file's bytes.  Raises `DataError` where tensors of it lie in other files, which nobody verified."""
    import onnx

    raw = read_bytes(path, "ONNX model", "arrays")
    model = onnx.load_model_from_string(raw)
    outside = next((t for t in _tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL), None)
    if outside is not None:
        where = {entry.key: entry.value for entry in outside.external_data}.get("location", "?")
        raise DataError(
            f"{path}: tensor {outside.name!r} lies in another file ({one_line(where)}); ours hold all"
        )
    return raw


def _tensors(part: Any) -> Iterator[Any]:
    """All tensors of a model, graph, function or node."""
    if hasattr(part, "graph") and hasattr(part, "functions"):
        yield from _tensors(part.graph)
        for function in part.functions:
            yield from _tensors(function)
        return
    yield from getattr(part, "initializer", ())
    for node in part.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors(graph)


class OnnxModel:
    """A file written by `export_onnx`, ready to run.

    `run(x)` takes all T steps, whatever the form; `step(x, state)` is one call of the single-step form.
    `form`, `time_steps`, `steps_per_call`, `takes_frames` and `class_names` are read from the file's
    metadata.  Raises `DataError` for a file that is no such model and for inputs of a wrong shape.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes, *, threads: int = 0) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingDependency("onnxruntime", "onnx", "running an ONNX model") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            model = source if isinstance(source, bytes) else _whole(Path(source))
            self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            meta = self.session.get_modelmeta().custom_metadata_map
            self.form, self.meta = meta["form"], meta
            self.time_steps, self.steps_per_call = int(meta["time_steps"]), int(meta["steps_per_call"])
            self.takes_frames: bool = json.loads(meta["takes_frames"])
            self.batch_axis = int(meta.get("batch_axis", 0))
            self.answers_steps: int | None = json.loads(meta.get("answers_steps", "null"))
            self.class_names: list[str] | None = json.loads(meta.get("class_names", "null"))
        except DataError:
            raise
        except Exception as error:
            name = "the ONNX model" if isinstance(source, bytes) else str(source)
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{name}: not a model written by snn-energy ({first[:200]})") from error
        everything = self.session.get_inputs()
        self.states = [i for i in everything if _is_state(i.name)]
        self.inputs = [i for i in everything if not _is_state(i.name)]
        outputs = [o.name for o in self.session.get_outputs()]
        self.state_outputs = [name for name in outputs if _is_state(name.removesuffix("_next"))]
        self.outputs = [name for name in outputs if name not in self.state_outputs]

    def run(self, x: Any) -> dict[str, np.ndarray]:
        """All T steps of a batch from rest: outputs by name; further outputs (T·B, ...) if the file has them.

        x: (B, C, H, W), or (B, T, C, H, W), or (T, B, …), as the network takes it.
        """
        x = np.asarray(x, np.float32)
        if self.form == "multi-step":
            self.check(x)
            return dict(
                zip(self.outputs, self.session.run(self.outputs, {self.inputs[0].name: x}), strict=True)
            )
        time = 1 - self.batch_axis
        steps = x.shape[time] if self.takes_frames and x.ndim > 1 else self.time_steps
        if steps % self.steps_per_call:
            raise DataError(f"{steps} time steps; must be a multiple of {self.steps_per_call}")
        state: dict[str, np.ndarray] | None = None
        calls = []
        for t in range(0, steps, self.steps_per_call):
            span = (slice(None),) * time + (slice(t, t + self.steps_per_call),)
            out, state = self.step(x[span] if self.takes_frames else x, state)
            calls.append(out)
        logits, *others = self.outputs
        answers = [c[logits] for c in calls]
        if self.answers_steps is None:
            result = {logits: np.mean(answers, axis=0, dtype=np.float32)}
        else:
            result = {logits: np.concatenate(answers, axis=self.answers_steps)}
        return result | {name: np.concatenate([c[name] for c in calls]) for name in others}

    def step(
        self, x: Any, state: dict[str, np.ndarray] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """One call of the single-step form: outputs, and the state for the next; None starts at rest."""
        x = np.asarray(x, np.float32)
        self.check(x)
        state = self.rest(x.shape[self.batch_axis]) if state is None else state
        if TIME_STEP in state and state[TIME_STEP][0] >= self.time_steps:
            reason = f"the network encodes {self.time_steps} steps; begin again from rest"
            raise DataError(f"time step {state[TIME_STEP][0]}: {reason}")
        values = self.session.run(self.outputs + self.state_outputs, {self.inputs[0].name: x, **state})
        split = len(self.outputs)
        after = {
            name.removesuffix("_next"): v for name, v in zip(self.state_outputs, values[split:], strict=True)
        }
        return dict(zip(self.outputs, values[:split], strict=True)), after

    def rest(self, batch: int) -> dict[str, np.ndarray]:
        """The state before the first step: every membrane at rest."""
        rest = json.loads(self.meta["rest"])
        return {
            s.name: np.zeros(1, np.int64)
            if s.name == TIME_STEP
            else np.full((batch, *s.shape[1:]), rest.get(s.name, 0.0), np.float32)
            for s in self.states
        }

    def check(self, x: np.ndarray) -> None:
        """Raise `DataError` where the input's shape is not the file's."""
        expected = self.inputs[0].shape
        same = x.ndim == len(expected) and all(
            isinstance(e, str) or e == d for e, d in zip(expected, x.shape, strict=True)
        )
        if not same or 0 in x.shape:
            wanted = ", ".join(map(str, expected))
            raise DataError(f"input {self.inputs[0].name!r} has shape {x.shape}; the model takes ({wanted})")
