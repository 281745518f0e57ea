"""What a spiking neuron's update costs, per element and time step, and which modules are neurons.

A neuron is one operation: what happens inside its `forward` is not counted call by call.  The figures are
those of the equations, not of any implementation: leak and input scaling are multiplications, every term
that joins the membrane is an addition, every threshold a comparison; a reset is one operation per spike.

`register_neuron` adds a class; an installed package offers classes by an entry point of the group
`snn_energy.neurons`: docs/extending.md.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from snn_energy import plugins
from snn_energy.errors import ConfigError
from snn_energy.profiling.resolve import ROWS

GROUP = "snn_energy.neurons"


@dataclass(frozen=True)
class Update:
    """Operations per element and step.

    `op`: the name of the row; `multiplies`, `adds`, `compares`: operations of one update, resets aside;
    `graded`: the output may hold other values than 0 and 1; `note`: what a reader of the row should know.
    """

    op: str
    multiplies: int
    adds: int
    compares: int = 1
    graded: bool = False
    note: str = ""


ASSUMED = Update("neuron", 1, 1, graded=True, note="unknown neuron: the update of an LIF is assumed")

# class name -> update; the first class of a module's MRO that is listed decides
UPDATES: dict[str, Update] = {
    "IFNode": Update("if", 0, 1),
    "SimpleIFNode": Update("if", 0, 1),
    "HalfThresholdIFNode": Update("if", 0, 1),
    "ActivationAwareIFNode": Update("if", 0, 1, graded=True),
    "DSRIFNode": Update("if", 0, 1, graded=True),
    "LIFNode": Update("lif", 1, 1),
    "SimpleLIFNode": Update("lif", 1, 1),
    "DSRLIFNode": Update("lif", 1, 1, graded=True),
    "LIAFNode": Update("liaf", 1, 1, graded=True),
    "ILIFNode": Update("ilif", 1, 1, graded=True),
    "ParametricLIFNode": Update("plif", 1, 1),
    "KLIFNode": Update("klif", 2, 1),
    "GatedLIFNode": Update("glif", 4, 3),
    "ComplementaryLIFNode": Update("clif", 3, 3),
    "CUBALIFNode": Update("cubalif", 2, 2),
    "MPBNBaseNode": Update("mpbn", 2, 2),
    "OTTTLIFNode": Update("lif", 1, 1),
    "SLTTLIFNode": Update("lif", 1, 1),
    "QIFNode": Update("qif", 2, 3),
    "EIFNode": Update("eif", 2, 3, note="one exponential per element and step not counted"),
    "IzhikevichNode": Update("izhikevich", 4, 5),
    "RAFNode": Update("raf", 4, 3),
    "TernaryIFNode": Update("ternary_if", 0, 1, 2, graded=True),
    "TernaryLIFNode": Update("ternary_lif", 1, 1, 2, graded=True),
    "STBIFNode": Update("stbif", 0, 1, 2, graded=True),
    "NonSpikingIFNode": Update("integrator", 0, 1, 0, graded=True),
    "NonSpikingLIFNode": Update("leaky_integrator", 1, 1, 0, graded=True),
    "NirIF": Update("if", 0, 1),  # NIR's: membranes in units of their gain, as models/nir/neurons.py says
    "NirLIF": Update("lif", 1, 1),
    "NirCubaLIF": Update("cubalif", 2, 2),
    "NirI": Update("integrator", 0, 1, 0, graded=True),
    "NirLI": Update("leaky_integrator", 1, 1, 0, graded=True),
    "NirCubaLI": Update("cuba_integrator", 2, 2, 0, graded=True),
    "Fire": Update("fire", 0, 0),  # of a STAA neuron, whose membrane arithmetic is counted as it runs
}
PARALLEL = ("PSN", "MaskedPSN", "SlidingPSN")  # membranes from a (T, T) weight: T multiply-adds per element
_NEURON_PACKAGES = ("spikingjelly.activation_based.neuron", "snn_energy.models.nir.neurons")
_REGISTERED: dict[type, Update] = {}
_NEAREST: dict[type, Update | None] = {}  # for each class that was asked for


def register_neuron(cls: type[nn.Module], update: Update) -> None:
    """Count modules of `cls`, and of its subclasses, as single operations whose update costs `update`.

    `forward` returns the spikes, or a tuple whose first tensor they are.  A class that was registered before
    gets the new update.  Raises `ConfigError` for no class of modules, or no update of one.
    """
    _REGISTERED[cls] = _accept(cls, update, "neuron")
    _NEAREST.clear()


def _accept(cls: Any, update: Any, where: str) -> Update:
    if not isinstance(cls, type) or not issubclass(cls, nn.Module):
        raise ConfigError(f"{where}: {cls!r} is no class of torch.nn.Module")
    if not isinstance(update, Update):
        raise ConfigError(f"{where} {cls.__name__}: {update!r} is no snn_energy.profiling.Update")
    if not isinstance(update.op, str) or not update.op or update.op in ROWS:
        raise ConfigError(f"{where} {cls.__name__}: op = {update.op!r}: must be a name that no other row has")
    for name in ("multiplies", "adds", "compares"):
        value = getattr(update, name)
        if type(value) is not int or value < 0:
            raise ConfigError(
                f"{where} {cls.__name__}: {name} = {value!r}: must be a whole number, 0 or more"
            )
    return update


def _registered(cls: type) -> Update | None:
    """What a user, or an installed package, says of a class of modules; the nearest known class decides."""
    if cls not in _NEAREST:
        offered, found = _offered(), None
        for base in cls.__mro__:
            found = _REGISTERED.get(base) or offered.get(base)
            if found is not None or base.__name__ in UPDATES or base.__name__ in PARALLEL:
                break
        _NEAREST[cls] = found
    return _NEAREST[cls]


@functools.cache
def _offered() -> Mapping[type, Update]:
    """Classes and updates of installed packages."""
    found: dict[type, Update] = {}
    for name in plugins.offered(GROUP):
        classes = plugins.load(GROUP, name)
        if not isinstance(classes, Mapping):
            raise ConfigError(f"{GROUP}: {name}: {classes!r} must be a mapping of classes to updates")
        for cls, update in classes.items():
            found[cls] = _accept(cls, update, f"{GROUP}: {name}: neuron")
    return found


def is_neuron(module: nn.Module) -> bool:
    """A spiking neuron: registered, SpikingJelly's, or anything with a threshold and a surrogate gradient."""
    if _registered(type(module)) is not None:
        return True
    if any(base.__module__.startswith(_NEURON_PACKAGES) for base in type(module).__mro__):
        return True
    return hasattr(module, "v_threshold") and hasattr(module, "surrogate_function")


def update_of(module: nn.Module, steps: int) -> Update:
    """The cost of one update of `module`; `steps` matters to parallel neurons only."""
    registered = _registered(type(module))
    if registered is not None:
        return registered
    for base in type(module).__mro__:
        if base.__name__ in PARALLEL:
            order = min(getattr(module, "k", steps) or steps, steps)
            return Update(base.__name__.lower(), order, order)
        if base.__name__ in UPDATES:
            return UPDATES[base.__name__]
    return ASSUMED


def state_elements(module: nn.Module) -> int:
    """How many state variables a neuron keeps per element: its membrane, and any current or trace."""
    memories = getattr(module, "_memories", None)
    if memories is None:
        return 0 if type(module).__name__ in PARALLEL else 1
    return len([name for name in memories if name != "v_seq"])
