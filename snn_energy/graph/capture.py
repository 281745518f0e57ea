"""`capture`: a torch model becomes a `Graph`, by `torch.export` with the batch size left free.

Steps: export (SpikingJelly's multi-step neurons stay single operations) -> one typed node per operation
(`aten`) -> time and batch as axes of their own (`layout`) -> no dead or doubled nodes (`simplify`).
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from snn_energy.errors import ConfigError, DataError, UnsupportedOp
from snn_energy.graph.aten import array
from snn_energy.graph.convert import Converter
from snn_energy.graph.graph import Graph
from snn_energy.graph.layout import canonical
from snn_energy.graph.opaque import OneStep, opaque_neurons
from snn_energy.graph.simplify import prune


def capture(model: nn.Module, example: Any, *, meta: dict[str, Any] | None = None) -> Graph:
    """The static network that `model` is in evaluation, as a `Graph` with free batch size.

    `example`: an input tensor or array (B, ...) (or a tuple of them) of the shape to be exported; only its
    shape and type matter.  `meta` is stored with the graph.  The model's mode and neuron states are as before
    afterwards.  Raises `UnsupportedOp`, naming the module, for an operation that no node stands for.
    """
    with _untouched(model):
        return _Capture().graph(model, _examples(example), meta=dict(meta or {}))


class _Capture:
    """One capture: of the network, and of each of its neurons that has equations of its own."""

    def __init__(self) -> None:
        self.arrays: dict[tuple[Any, ...], tuple[torch.Tensor, Any]] = {}

    def graph(
        self,
        model: nn.Module,
        inputs: tuple[torch.Tensor, ...],
        batch_axes: tuple[int | None, ...] | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Graph:
        """`batch_axes`: the axis of each input that is the batch; by default the first."""
        with opaque_neurons(model):
            program = _export(model, inputs, batch_axes or (0,) * len(inputs))
        nodes, outputs = Converter(program, model, self.equations, self.arrays).run()
        return prune(canonical(nodes, outputs, meta or {}))

    def equations(self, module: nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
        """`body`, `step` and `table` of a `Neuron` for currents (T, B, ...)."""
        currents = torch.zeros(shape)
        body = self.graph(module, (currents,), (1,))
        if not hasattr(module, "one_step"):
            return {"body": body}
        name: Any = module.step_table
        table = None if name is None else attrgetter(name)(module)
        row = () if table is None else (torch.zeros_like(table[:1]),)
        step = self.graph(OneStep(module), (currents[0], currents[0], *row), (0, 0, None)[: 2 + len(row)])
        return {"body": body, "step": step, "table": None if table is None else array(table)}


def _examples(example: Any) -> tuple[torch.Tensor, ...]:
    """Inputs with a batch of 3, a size that torch.export does not take for a constant."""
    values = example if isinstance(example, tuple) else (example,)
    tensors = tuple(torch.as_tensor(v) for v in values)
    for tensor in tensors:
        if tensor.dim() < 2 or tensor.shape[0] < 1:
            raise DataError(f"example input of shape {tuple(tensor.shape)}: must be (batch, ...), batch ≥ 1")
    return tuple(t[:1].repeat(3, *([1] * (t.dim() - 1))).cpu() for t in tensors)


def _export(
    model: nn.Module, inputs: tuple[torch.Tensor, ...], batch_axes: tuple[int | None, ...]
) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("B", min=1, max=1 << 20)
    try:
        with torch.no_grad():
            return torch.export.export(
                model, inputs, dynamic_shapes=_dynamic(model, batch_axes, batch), strict=False
            )
    except ConfigError:
        raise
    except Exception as error:
        line = next((s.strip() for s in str(error).splitlines() if s.strip()), type(error).__name__)
        raise UnsupportedOp(
            type(model).__name__,
            f"the model with torch.export ({type(error).__name__}: {line[:300]})",
            supported="a forward without branches on tensor values, for any batch size",
            way_out="make the named line free of data-dependent control flow",
        ) from error


def _dynamic(model: nn.Module, batch_axes: tuple[int | None, ...], batch: Any) -> Any:
    shapes = tuple({} if axis is None else {axis: batch} for axis in batch_axes)
    signature = inspect.signature(model.forward)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    return (shapes,) if variadic else shapes


@contextlib.contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Evaluation mode on the CPU with fresh neurons inside; everything as it was outside."""
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based.base import MemoryModule

    modes = {module: module.training for module in model.modules()}
    memories = [(m, dict(m._memories)) for m in model.modules() if isinstance(m, MemoryModule)]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        model.eval().cpu()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch.export reports each neuron's membrane
            functional.reset_net(model)
            yield
    finally:
        model.to(device)
        for module, mode in modes.items():
            module.training = mode
        for module, memory in memories:
            module._memories.update(memory)
