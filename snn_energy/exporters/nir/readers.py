"""Other frameworks' own importers of NIR, and how what they make is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snn_energy.exporters.nir.write import DT

RUNTIMES = ("spikingjelly", "snntorch", "norse", "sinabs")
ALL_AT_ONCE = ("rockpool",)  # whose modules take (B, T, …): read for the page of conformance only


def in_steps(module: Any, x: Tensor) -> Tensor:
    """A module of an importer, called step by step with the state that it returned, or with all steps."""
    if getattr(module, "all_at_once", False):
        return tensor_of(module(x.transpose(0, 1))).transpose(0, 1)
    state, outputs = None, []
    for frame in x:
        given = module(frame) if state is None else module(frame, state)
        output, state = given if isinstance(given, tuple) else (given, None)
        outputs.append(tensor_of(output))  # snnTorch's IF gives (spikes, membrane)
    return torch.stack(outputs)


def importer(runtime: str) -> Callable[[Any], Any]:
    """A framework's own: NIR graph -> module.  Raises ImportError where it is not installed."""
    if runtime == "spikingjelly":
        from spikingjelly.activation_based.nir_exchange import import_from_nir as spikingjelly

        return lambda graph: spikingjelly(graph, dt=DT)
    if runtime == "snntorch":
        snntorch: Any = __import__("snntorch.import_nir", fromlist=["import_from_nir"])
        return lambda graph: snntorch.import_from_nir(graph)
    if runtime == "sinabs":  # one step per call: its layers keep their state
        sinabs: Any = __import__("sinabs.nir", fromlist=["from_nir"])
        return lambda graph: sinabs.from_nir(graph, num_timesteps=1)
    if runtime == "rockpool":
        rockpool: Any = __import__("rockpool.nn.modules.torch.nir", fromlist=["from_nir"])
        return lambda graph: _marked(rockpool.from_nir(graph))
    norse = __import__("norse.torch", fromlist=["from_nir"])
    return lambda graph: norse.from_nir(graph, dt=DT, ignore_warnings=True)


def _marked(module: Any) -> Any:
    module.all_at_once = True
    return module


def tensor_of(output: Any) -> Any:
    """The spikes or values in what a module of an importer returns."""
    while isinstance(output, tuple):
        output = output[0]
    return output
