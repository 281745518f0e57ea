"""What the context changes in the libraries themselves, each with its way back."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

_TAIL = (
    "v_threshold",
    "v_reset",
    "surrogate_function",
    "detach_reset",
    "step_mode",
    "backend",
    "store_v_seq",
)
_REST = _TAIL[2:]
ORDER = {
    "BaseNode": _TAIL,
    "IFNode": _TAIL,
    "LIFNode": ("tau", "decay_input", *_TAIL),
    "ParametricLIFNode": ("init_tau", "decay_input", *_TAIL),
    "KLIFNode": ("scale_reset", "tau", "decay_input", *_TAIL),
    "QIFNode": ("tau", "v_c", "a0", "v_threshold", "v_rest", "v_reset", *_REST),
    "EIFNode": ("tau", "delta_T", "theta_rh", "v_threshold", "v_rest", "v_reset", *_REST),
    "AdaptBaseNode": ("v_threshold", "v_reset", "v_rest", "w_rest", "tau_w", "a", "b", *_REST),
    "IzhikevichNode": (
        *("tau", "v_c", "a0", "v_threshold", "v_reset", "v_rest", "w_rest", "tau_w", "a", "b"),
        *_REST,
    ),
}
"""The arguments of `activation_based.neuron` in version 0.0.0.0.14: `backend` stood before `store_v_seq`."""


class Patches:
    """Changes to SpikingJelly 2 and timm 1 that `undo` takes back."""

    def __init__(self) -> None:
        self.undone: list[Callable[[], None]] = []

    def undo(self) -> None:
        """Everything as it was, last change first."""
        while self.undone:
            self.undone.pop()()

    def put(self, owner: Any, name: str, value: Any) -> None:
        """`owner.name = value` until `undo`."""
        if name in vars(owner):
            before = vars(owner)[name]
            self.undone.append(lambda: setattr(owner, name, before))
        else:
            self.undone.append(lambda: delattr(owner, name))
        setattr(owner, name, value)

    def spikingjelly(self) -> None:
        """`activation_based` as version 0.0.0.0.14 took it."""
        memory = importlib.import_module("spikingjelly.activation_based.base").MemoryModule
        self.put(memory, "__init__", _old_memory(memory.__init__))
        neuron = importlib.import_module("spikingjelly.activation_based.neuron")
        for name, order in ORDER.items():
            cls = getattr(neuron, name)
            self.put(cls, "__init__", _old_constructor(cls.__init__, order))
        functional = importlib.import_module("spikingjelly.activation_based.functional")
        self.put(functional, "set_backend", set_backend)
        surrogate = importlib.import_module("spikingjelly.activation_based.surrogate")
        base = surrogate.SurrogateFunctionBase
        self.put(base, "__init__", _old_surrogate(base.__init__))
        ours = importlib.import_module("snn_energy.compat.surrogate")
        self.put(surrogate, "MultiArgsSurrogateFunctionBase", ours.MultiArgsSurrogateFunctionBase)
        layer = importlib.import_module("spikingjelly.activation_based.layer")
        container = layer.StepModeContainer
        self.put(container, "__init__", _old_container(container.__init__))

    def timm(self) -> None:
        """`timm.create_model` and `register_model` of version 0.6, with a registry of ours."""
        registry = importlib.import_module("snn_energy.compat.timm_registry")
        self.undone.append(registry.REGISTERED.clear)
        for name in ("timm", "timm.models"):
            module = importlib.import_module(name)
            for function in registry.__all__:
                if hasattr(module, function):
                    self.put(module, function, getattr(registry, function))


def set_backend(net: nn.Module, backend: str, instance: Any = (nn.Module,)) -> None:
    """The old choice of an implementation: checked, and without effect."""
    from snn_energy.compat.neuron import check_backend

    check_backend(backend)


def _old_constructor(init: Callable[..., None], order: tuple[str, ...]) -> Callable[..., None]:
    """`init` of a neuron, which also takes `backend` and the old order.

    SpikingJelly 2's own subclasses call it too; they hand a bool to `store_v_seq` where `backend` was.
    """
    from snn_energy.compat.neuron import by_name

    today = tuple(name for name in order if name != "backend")

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        at = order.index("backend")
        names = today if len(args) > at and isinstance(args[at], bool) else order
        backend = args[at] if names is order and len(args) > at else kwargs.get("backend")
        init(self, **by_name(names, args, kwargs, type(self).__name__))
        if backend is not None:
            self.backend = backend

    return wrapped


def _old_memory(init: Callable[..., None]) -> Callable[..., None]:
    """`init` of `MemoryModule`, which also makes the steps that a user's class writes run, as they did."""

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.__class__ = _STEPPED.get(type(self)) or _stepped(type(self))

    return wrapped


_STEPPED: dict[type, type] = {}
"""A class as it was written -> the class whose steps are run."""


def _stepped(cls: type) -> type:
    """`cls`, or a subclass of the same name that runs the steps or equations which `cls` writes.

    SpikingJelly 2 goes through `single_step_functional_forward`, and would run those of the parent instead.
    """
    from snn_energy.compat.neuron import Equations, runs_own_equations, written_by_user

    bases: tuple[type, ...] = (cls,)
    body: dict[str, Any] = {}
    today = any(written_by_user(cls, f"{step}_step_functional_forward") for step in ("single", "multi"))
    equations = runs_own_equations(cls) and not issubclass(cls, Equations)
    if not today and (equations or written_by_user(cls, "single_step_forward")):
        if hasattr(cls, "apply_hard_reset"):  # a neuron
            bases = (cls, Equations)
        if equations and not written_by_user(cls, "single_step_forward"):
            body["single_step_forward"] = Equations.one_step
        if not written_by_user(cls, "multi_step_forward"):
            body["multi_step_forward"] = _loop
    if body:
        body |= {"__module__": cls.__module__, "__doc__": cls.__doc__, "__qualname__": cls.__qualname__}
    _STEPPED[cls] = type(cls.__name__, bases, body) if body else cls
    _STEPPED[_STEPPED[cls]] = _STEPPED[cls]
    return _STEPPED[cls]


def _loop(self: Any, x_seq: Any, *args: Any) -> Any:
    """One step after the other: (T, B, …) -> (T, B, …)."""
    import torch

    outputs, membranes = [], []
    for step in zip(x_seq, *args, strict=True):
        outputs.append(self.single_step_forward(*step))
        if getattr(self, "store_v_seq", False):
            membranes.append(self.v)
    if membranes:
        self.v_seq = torch.stack(membranes)
    return torch.stack(outputs)


def _old_surrogate(init: Callable[..., None]) -> Callable[..., None]:
    """`SurrogateFunctionBase(alpha, spiking=True)` beside today's `(spiking=True, alpha=…)`."""

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        if args and not isinstance(args[0], bool):
            kwargs["alpha"], args = args[0], args[1:]
        init(self, *args, **kwargs)

    return wrapped


def _old_container(init: Callable[..., None]) -> Callable[..., None]:
    """`StepModeContainer(stateful, *layers)` beside today's `(stateful, step_mode, *layers)`."""

    @functools.wraps(init)
    def wrapped(self: Any, stateful: bool, *args: Any, **kwargs: Any) -> None:
        if args and isinstance(args[0], nn.Module):
            args = (kwargs.pop("step_mode", "s"), *args)
        init(self, stateful, *args, **kwargs)

    return wrapped
