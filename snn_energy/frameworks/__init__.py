"""Frameworks of spiking networks, one small file each: which modules are neurons, and how they come to rest.

An adapter is imported only where its framework was: a network of snnTorch has imported snntorch, and nobody
else pays for it.  An installed package offers an adapter by an entry point of the group
`snn_energy.frameworks`, named like the package that it adapts: docs/extending.md.
"""

from __future__ import annotations

import functools
import importlib
import sys

from torch import nn

from snn_energy import plugins
from snn_energy.errors import ConfigError
from snn_energy.frameworks.records import Equation, Framework, Neuron, TimeAxis, Update

__all__ = [
    "Equation",
    "Framework",
    "Neuron",
    "TimeAxis",
    "Update",
    "imported",
    "known_equation",
    "known_neuron",
]

GROUP = "snn_energy.frameworks"
MANNER = "spikingjelly"  # its names for things (v_threshold, surrogate_function) are others' too
# the framework's package -> the adapter here
OURS = {
    "spikingjelly": "spikingjelly",
    "snntorch": "snntorch",
    "norse": "norse",
    "sinabs": "sinabs",
    "braincog": "braincog",
    "lava.lib.dl.slayer": "slayer",
    "snn_energy.models.nir": "nir",
}


def imported() -> tuple[Framework, ...]:
    """The adapters of the frameworks that this process has imported, and always that of the `MANNER`."""
    names = dict.fromkeys((*OURS, *plugins.offered(GROUP)))
    return tuple(_adapter(name) for name in names if name in sys.modules or name == MANNER)


@functools.cache
def _adapter(name: str) -> Framework:
    if name in OURS:
        found: Framework = importlib.import_module(f"snn_energy.frameworks.{OURS[name]}").FRAMEWORK
        return found
    offered = plugins.load(GROUP, name)
    if not isinstance(offered, Framework):
        raise ConfigError(f"{GROUP}: {name}: {offered!r} is no snn_energy.frameworks.Framework")
    return offered


def known_neuron(module: nn.Module) -> tuple[Framework, Neuron] | None:
    """The framework that knows a module as one of its neurons, and what it says of it."""
    for framework in imported():
        neuron = framework.neuron(module)
        if neuron is not None:
            return framework, neuron
    return None


def known_equation(module: nn.Module) -> Equation | str | None:
    """What the framework that knows a module as its neuron says of its equation: see `Framework`."""
    known = known_neuron(module)
    return None if known is None else known[0].equation(module)
