"""`capture`: a torch model becomes a `Graph`, by `torch.export` with the batch size left free.

Steps: export (SpikingJelly's multi-step neurons stay single operations) -> one typed node per operation
(`aten`) -> time and batch as axes of their own (`layout`) -> no dead or doubled nodes (`simplify`).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from snn_energy.errors import DataError, SnnEnergyError, UnsupportedOp
from snn_energy.graph.aten import array
from snn_energy.graph.convert import EVERYTHING, Converter
from snn_energy.graph.graph import Graph
from snn_energy.graph.layout import WrongAxis, canonical
from snn_energy.graph.opaque import Integrator, Knowledge, OneStep, integrators, opaque_neurons
from snn_energy.graph.reroll import rolled
from snn_energy.graph.simplify import prune
from snn_energy.graph.turned import time_in_front
from snn_energy.models.at_rest import at_rest


def capture(
    model: nn.Module,
    example: Any,
    *,
    meta: dict[str, Any] | None = None,
    batch_axis: int = 0,
    output: int | str | None = None,
    known: Knowledge | None = None,
) -> Graph:
    """The static network that `model` is in evaluation, as a `Graph` with free batch size.

    `example`: an input tensor or array (or a tuple of them) of the shape to be exported, samples along
    `batch_axis`; only its shape and type matter.  `output`: which output is the answer (`graph.answer`).
    `known`: what is known of neurons, by default by their frameworks.  `meta` is stored with the graph.  The
    model's mode and neuron states are as before afterwards.  Raises `UnsupportedOp`, naming the module, for
    an operation that no node stands for; `WrongAxis`, which is one, where the forward ties that axis to a
    number.
    """
    inputs = _examples(example, batch_axis)
    with at_rest(model, torch.device("cpu")) as rest, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch.export reports each neuron's membrane
        rest.fresh()
        axes = (batch_axis,) * len(inputs)
        capturing = _Capture(output, integrators(model, known or Knowledge()))
        return capturing.graph(model, inputs, axes, dict(meta or {}))


class _Capture:
    """One capture: of the network, and of each of its neurons that has equations of its own."""

    def __init__(
        self, output: int | str | None = None, known: Mapping[str, Integrator] = MappingProxyType({})
    ) -> None:
        self.output, self.known = output, known
        self.arrays: dict[tuple[Any, ...], tuple[torch.Tensor, Any]] = {}

    def graph(
        self,
        model: nn.Module,
        inputs: tuple[torch.Tensor, ...],
        batch_axes: tuple[int | None, ...] | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Graph:
        """`batch_axes`: the axis of each input that is the batch; by default the first."""
        with opaque_neurons(model, self.known):
            program = _export(model, inputs, batch_axes or (0,) * len(inputs))
        converter = Converter(program, model, self.equations, self.arrays, self.known)
        nodes, outputs = converter.run(self.output)
        if self.output == EVERYTHING:
            return prune(canonical(nodes, outputs, meta or {}))
        nodes, outputs = rolled(nodes, outputs)
        return prune(time_in_front(prune(canonical(nodes, outputs, meta or {}))))

    def equations(self, module: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
        """`body`, `step` and `table` of a `Neuron` for currents (T, B, ...)."""
        currents = torch.zeros(shape)
        inner = _Equations(self.arrays)
        body = inner.graph(module, (currents,), (1,))
        if not hasattr(module, "one_step"):
            return {"body": body}
        name: Any = module.step_table
        table = None if name is None else attrgetter(name)(module)
        row = () if table is None else (torch.zeros_like(table[:1]),)
        step = inner.graph(OneStep(module), (currents[0], currents[0], *row), (0, 0, None)[: 2 + len(row)])
        return {"body": body, "step": step, "table": None if table is None else array(table)}


class _Equations(_Capture):
    """A capture of a neuron's own equations: all of its outputs, the network's arrays."""

    def __init__(self, arrays: dict[tuple[Any, ...], tuple[torch.Tensor, Any]]) -> None:
        super().__init__(EVERYTHING)
        self.arrays = arrays


def _examples(example: Any, axis: int) -> tuple[torch.Tensor, ...]:
    """Inputs with a batch of 3, a size that torch.export does not take for a constant."""
    values = example if isinstance(example, tuple) else (example,)
    tensors = tuple(torch.as_tensor(v) for v in values)
    for tensor in tensors:
        if tensor.dim() < max(2, axis + 1) or tensor.shape[axis] < 1:
            raise DataError(
                f"example input of shape {tuple(tensor.shape)}: needs a batch along axis {axis}, at least 1"
            )
    return tuple(torch.cat([t.narrow(axis, 0, 1)] * 3, axis).cpu() for t in tensors)


def _export(
    model: nn.Module, inputs: tuple[torch.Tensor, ...], batch_axes: tuple[int | None, ...]
) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("B", min=1, max=1 << 20)
    try:
        with torch.no_grad():
            return torch.export.export(
                model, inputs, dynamic_shapes=_dynamic(model, batch_axes, batch), strict=False
            )
    except SnnEnergyError:
        raise
    except Exception as error:
        raise _refusal(type(model).__name__, error, inputs, batch_axes) from error


def _refusal(
    name: str, error: Exception, inputs: tuple[torch.Tensor, ...], batch_axes: tuple[int | None, ...]
) -> UnsupportedOp:
    """What torch.export's error means to the person who wrote the network."""
    text, supported = str(error), "a forward without branches on tensor values, for any batch size"
    if "onstraints violated" in text:
        axis = batch_axes[0]
        return WrongAxis.of(
            name,
            f"the model with axis {axis} of its input {tuple(inputs[0].shape)} as samples: the forward fixes "
            "that axis to one size",
            supported=supported,
            way_out="say where the samples are (layout='TB' for (T, B, …), 'BT' for (B, T, …)), or let the "
            "forward take sizes from x.shape (not len(x)) and write no batch size as a number",
        )
    line = next((s.strip() for s in text.splitlines() if s.strip()), type(error).__name__)
    if "data-dependent" in text or "DataDependent" in type(error).__name__:
        what, way_out = (
            "a branch on the values of a tensor",
            "use torch.where, or decide it before the forward",
        )
    else:
        what, way_out = "this forward", "make the named line traceable by torch.export"
    told = f"{what} with torch.export ({type(error).__name__}: {line[:300]})"
    return UnsupportedOp(name, told, supported=supported, way_out=way_out)


def _dynamic(model: nn.Module, batch_axes: tuple[int | None, ...], batch: Any) -> Any:
    shapes = tuple({} if axis is None else {axis: batch} for axis in batch_axes)
    signature = inspect.signature(model.forward)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    return (shapes,) if variadic else shapes
