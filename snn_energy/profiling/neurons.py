"""Which modules are neurons, and what is known of each: by a framework's adapter, or by `register_neuron`.

A neuron is one operation: what happens inside its `forward` is not counted call by call.  The figures of an
`Update` are those of the equations, not of any implementation: leak and input scaling are multiplications,
every term that joins the membrane is an addition, every threshold a comparison; a reset is one operation per
spike.

An installed package offers classes by an entry point of the group `snn_energy.neurons`: docs/extending.md.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from snn_energy import plugins
from snn_energy.errors import ConfigError, suggest
from snn_energy.frameworks import Equation, Neuron, TimeAxis, Update, known_equation, known_neuron
from snn_energy.frameworks.spikingjelly import PARALLEL, UPDATES
from snn_energy.models.at_rest import Rest, at_rest
from snn_energy.models.walk import named_modules
from snn_energy.profiling.resolve import ROWS

GROUP = "snn_energy.neurons"
NAMED = {update.op: update for update in reversed(UPDATES.values())}
"""Updates that can be asked for by name: `op="lif"`."""


@dataclass(frozen=True)
class Registered:
    """A class that a user, or an installed package, says to be a neuron, the method that resets it, and what
    gives a module's equation."""

    neuron: Neuron
    reset: str | None = None
    to_node: Callable[[Any], Equation] | None = None


_REGISTERED: dict[type, Registered] = {}
_NEAREST: dict[type, Registered | None] = {}  # for each class that was asked for


def register_neuron(
    cls: type[nn.Module],
    update: Update | None = None,
    *,
    op: str | None = None,
    time_axis: TimeAxis = "by shape",
    spikes: int = 0,
    reset: str | None = None,
    to_node: Callable[[Any], Equation] | None = None,
) -> None:
    """Count modules of `cls`, and of its subclasses, as single operations: spiking neurons.

    `update`, or the name `op` of a common one ("lif", "if", "plif", "ilif", …), says what one update costs
    per element.  `time_axis`: the axis of time in what `forward` returns, None where a call is one step;
    left out, it is told by the shape.  `forward` returns the spikes, or a tuple whose tensor number `spikes`
    they are.  `reset`: the name of the method that brings the neuron to rest; left out, what the neuron holds
    is put back before each batch.  `to_node` gives, for a module whose forward takes all steps, the
    `Equation` that it computes: in an export it is then one node, and is held against the module.  A class
    that was registered before gets the new entry.  Raises `ConfigError` for no class of modules, no update of
    one, or both of `update` and `op`.
    """
    if (update is None) == (op is None):
        raise ConfigError(f'neuron {_name(cls)}: give an update or the name of one, such as op="lif"')
    entry = _accept(cls, named_update(op) if op is not None else update, "neuron", named=op is not None)
    _check(cls, time_axis, spikes, reset, to_node)
    _REGISTERED[cls] = Registered(Neuron(entry, time_axis=time_axis, spikes=spikes), reset, to_node)
    _NEAREST.clear()


def named_update(op: str) -> Update:
    """The common update of this name.  Raises `ConfigError` where there is none."""
    if op not in NAMED:
        raise ConfigError(f"unknown neuron {op!r}; {suggest(op, NAMED)}")
    return NAMED[op]


def _name(cls: Any) -> str:
    return cls.__name__ if isinstance(cls, type) else repr(cls)


def _check(cls: type, time_axis: Any, spikes: Any, reset: Any, to_node: Any) -> None:
    where = f"neuron {cls.__name__}"
    if to_node is not None and not callable(to_node):
        raise ConfigError(f"{where}: to_node = {to_node!r}: must be a function from a module to its Equation")
    if to_node is not None and time_axis not in (0, 1):
        raise ConfigError(f"{where}: to_node needs time_axis=0 or 1, that of what forward takes and returns")
    if time_axis not in (None, 0, 1, -1, "by shape") or isinstance(time_axis, bool):
        raise ConfigError(f"{where}: time_axis = {time_axis!r}: must be 0, 1, -1, None or 'by shape'")
    if type(spikes) is not int or spikes < 0:
        raise ConfigError(f"{where}: spikes = {spikes!r}: must be the number of an output, 0 or more")
    if reset is not None and not callable(getattr(cls, str(reset), None)):
        raise ConfigError(f"{where}: reset = {reset!r}: the class has no such method")


def _accept(cls: Any, update: Any, where: str, *, named: bool = False) -> Update:
    if not isinstance(cls, type) or not issubclass(cls, nn.Module):
        raise ConfigError(f"{where}: {cls!r} is no class of torch.nn.Module")
    if not isinstance(update, Update):
        raise ConfigError(f"{where} {cls.__name__}: {update!r} is no snn_energy.profiling.Update")
    if not isinstance(update.op, str) or not update.op or (update.op in ROWS and not named):
        raise ConfigError(f"{where} {cls.__name__}: op = {update.op!r}: must be a name that no other row has")
    for name in ("multiplies", "adds", "compares"):
        value = getattr(update, name)
        if type(value) is not int or value < 0:
            raise ConfigError(
                f"{where} {cls.__name__}: {name} = {value!r}: must be a whole number, 0 or more"
            )
    return update


def _registered(cls: type) -> Registered | None:
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
def _offered() -> Mapping[type, Registered]:
    """Classes and updates of installed packages."""
    found: dict[type, Registered] = {}
    for name in plugins.offered(GROUP):
        classes = plugins.load(GROUP, name)
        if not isinstance(classes, Mapping):
            raise ConfigError(f"{GROUP}: {name}: {classes!r} must be a mapping of classes to updates")
        for cls, update in classes.items():
            found[cls] = Registered(Neuron(_accept(cls, update, f"{GROUP}: {name}: neuron")))
    return found


@contextlib.contextmanager
def declared(model: nn.Module, named: Mapping[Any, Any]) -> Iterator[None]:
    """Classes that a caller says to be neurons, for the time of the block.

    `named`: class, or its name as `module.Class` or `Class`, -> the name of an update, or an `Update`.
    Raises `ConfigError` where the network has no module of such a class.
    """
    before = dict(_REGISTERED)
    try:
        for cls, update in named.items():
            for found in _classes(model, cls):
                known = _registered(found)
                axis: TimeAxis = "by shape" if known is None else known.neuron.time_axis
                if isinstance(update, str):
                    register_neuron(found, op=update, time_axis=axis)
                else:
                    register_neuron(found, update, time_axis=axis)
        yield
    finally:
        _REGISTERED.clear()
        _REGISTERED.update(before)
        _NEAREST.clear()


def _classes(model: nn.Module, cls: Any) -> list[type[nn.Module]]:
    if isinstance(cls, type):
        return [cls]
    classes = {type(module) for _, module in named_modules(model)}
    found = [c for c in classes if cls in (c.__name__, f"{c.__module__}.{c.__qualname__}")]
    found = found or [c for c in classes if f".{c.__module__}.{c.__qualname__}".endswith(f".{cls}")]
    if not found:
        names = sorted({c.__name__ for c in classes if not c.__module__.startswith("torch.")})
        raise ConfigError(
            f"neuron {cls!r}: the network has no module of this class; it has {', '.join(names)}"
        )
    return found


@contextlib.contextmanager
def resting(model: nn.Module, named: Mapping[Any, Any], place: torch.device | None = None) -> Iterator[Rest]:
    """The network at rest (`models.at_rest`) on `place`, with what a caller says of its neurons in force."""
    with declared(model, named), at_rest(model, place, resets=reset_registered) as rest:
        yield rest


def facts_of(module: nn.Module) -> Neuron | None:
    """What is known of a module as a neuron; None for what is none: what was registered wins."""
    registered = _registered(type(module))
    if registered is not None:
        return registered.neuron
    known = known_neuron(module)
    return None if known is None else known[1]


def equation_of(module: nn.Module) -> Equation | str | None:
    """The equation that a module computes, of those that are one node of a graph; else what is known of why
    not.  Raises `ConfigError` where a registered `to_node` gives something else."""
    registered = _registered(type(module))
    if registered is None or registered.to_node is None:
        return known_equation(module) if registered is None else None
    found = registered.to_node(module)
    if not isinstance(found, Equation):
        raise ConfigError(
            f"neuron {type(module).__name__}: to_node returned {found!r}, must return an Equation"
        )
    return found


def is_neuron(module: nn.Module) -> bool:
    """A spiking neuron: registered, or a framework's, or with a threshold and a surrogate gradient."""
    return facts_of(module) is not None


def named_neurons(model: nn.Module) -> dict[str, nn.Module]:
    """Path -> neuron, of all that are not inside another."""
    found: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for path, module in named_modules(model):
        if module not in inside and is_neuron(module):
            found[path] = module
            inside.update(child for _, child in named_modules(module))
    return found


def whose(module: nn.Module) -> tuple[str, str]:
    """How it is known that a module is a neuron, and its class as a user would name it.

    ("declared", "LIFSpike"), ("known", "snntorch.Leaky").
    """
    if _registered(type(module)) is not None:
        return "declared", type(module).__name__
    known = known_neuron(module)
    if known is not None and known[0].called is not None:
        return "known", known[0].called(module)
    name = type(module).__name__
    package = "" if known is None else known[0].package
    ours = any(base.__module__.startswith(package) for base in type(module).__mro__) if package else False
    return "known", f"{package}.{name}" if ours else name


def reset_registered(model: nn.Module) -> None:
    """Call the reset that was declared for registered neurons."""
    for _, module in named_modules(model):
        registered = _registered(type(module))
        if registered is not None and registered.reset is not None:
            getattr(module, registered.reset)()


def has_reset(module: nn.Module) -> bool:
    """Is it known how the module comes to rest: by a framework, by what was registered, by its `reset`?"""
    registered = _registered(type(module))
    if registered is not None and registered.reset is not None:
        return True
    return known_neuron(module) is not None or callable(getattr(module, "reset", None))


def state_elements(module: nn.Module) -> int:
    """How many state variables a neuron keeps per element: its membrane, and any current or trace."""
    facts, memories = facts_of(module), getattr(module, "_memories", None)
    if facts is None or (_registered(type(module)) is not None and memories is not None):
        return len([name for name in memories or ("v",) if name != "v_seq"])
    return facts.states
