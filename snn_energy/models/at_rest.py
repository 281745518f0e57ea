"""Running a network without leaving a trace: evaluation mode, no gradients, neurons at rest, all put back.

A network keeps state in more places than its framework knows of: attributes that `forward` sets
(`self.mem`), buffers written in place, lists, counters.  All of these are remembered at the beginning.
`Rest.fresh` brings the network to rest before a pass: first everything is put back as it was at the
beginning, then the frameworks reset the neurons that they know (`snn_energy.frameworks`), and modules with a
`reset()` of their own are asked.  State that lives outside of modules (a closure, a global) is out of reach.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from snn_energy import frameworks
from snn_energy.models.unread import Unread
from snn_energy.models.walk import device_of, modules, named_modules

_TORCHS = frozenset(vars(nn.Module())) - {"_buffers"}  # what torch itself keeps in every module
_CONTAINERS = (list, dict, deque)
_FRAMES = frozenset((nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, object))  # without weights


class Rest:
    """A network that is run: what it held at the beginning.  `fresh()` before every pass."""

    def __init__(self, model: nn.Module, resets: Callable[[nn.Module], object] | None = None) -> None:
        self.model = model
        self.resets = resets
        self.changed: dict[str, Any] = {}  # what passes changed so far: path of an attribute -> what it held
        self.records: set[str] = set()  # paths of attributes that nobody reads but who looks at the network
        self._new: dict[str, set[str]] = {}  # by module: attributes that were not there
        self._kept = [
            (path, module, _held(module))
            for path, module in named_modules(model)
            if not isinstance(module, torch.jit.ScriptModule) and not _unfinished(module)
        ]

    def fresh(self) -> None:
        """Bring every neuron to rest."""
        self.put_back()
        reset(self.model)
        if self.resets is not None:
            self.resets(self.model)

    def find_records(self, look: Callable[[], object]) -> None:
        """Find the attributes that passes set and none reads: they stay at the end as the last one left them.

        A network that shows its attention in `self.attention` is read afterwards; nothing depends on it.
        `look` makes a pass.  Only attributes that held nothing at the beginning are asked for.
        """
        asked = {
            _path(path, name): (vars(module), name)
            for path, module, kept in self._kept
            for name in (*kept, *self._new.get(path, ()))
            if _path(path, name) in self.changed and (name not in kept or kept[name].empty)
        }
        while asked:
            self.fresh()
            unread = {path: Unread() for path in asked}
            for path, (held, name) in asked.items():
                held[name] = unread[path]
            try:
                look()
                self.records = set(asked)
                return
            except Exception:
                read = [path for path, one in unread.items() if one.read]
                asked = {path: where for path, where in asked.items() if path not in read} if read else {}

    def put_back(self, *, records: bool = True) -> None:
        """Everything that modules hold, as it was at the beginning; `records` too, unless they may stay."""
        for path, module, kept in self._kept:
            held = vars(module)
            for name in [name for name in held if name not in kept and name not in _TORCHS]:
                self.changed.setdefault(_path(path, name), None)
                self._new.setdefault(path, set()).add(name)
                if records or _path(path, name) not in self.records:
                    del held[name]
            for name, entry in kept.items():
                if entry.stands(held.get(name, _GONE)) or (not records and _path(path, name) in self.records):
                    continue
                if name in ("_buffers", "_parameters"):
                    self._note_each(path, held[name], entry)
                else:
                    self.changed.setdefault(_path(path, name), entry.content)
                held[name] = entry.put_back()

    def _note_each(self, path: str, held: dict[str, Any], entry: _Kept) -> None:
        for name, one in entry.content.items():
            if not one.stands(held.get(name, _GONE)):
                self.changed.setdefault(_path(path, name), one.content)


_GONE = object()


@dataclass
class _Kept:
    """A value as it was: the object itself and, where it can change inside, what it held."""

    value: Any
    content: Any = None  # a copy of a tensor; the entries of a container
    version: int = 0

    def stands(self, now: Any) -> bool:
        """Is `now` this value, unchanged?"""
        if now is not self.value:
            return False
        if isinstance(self.content, torch.Tensor):
            return _version(now) == self.version and _alike(now, self.content)
        if isinstance(self.content, dict):
            return now.keys() == self.content.keys() and all(
                entry.stands(now[key]) for key, entry in self.content.items()
            )
        if isinstance(self.content, list):
            return len(now) == len(self.content) and all(
                entry.stands(item) for entry, item in zip(self.content, now, strict=True)
            )
        return True

    @property
    def empty(self) -> bool:
        """Was there nothing yet: None, or a container without entries?"""
        return self.value is None or (isinstance(self.content, (dict, list)) and not self.content)

    def put_back(self) -> Any:
        """The value, holding what it held."""
        if isinstance(self.content, torch.Tensor) and not self.stands(self.value):
            if self.value.shape == self.content.shape:
                self.value.copy_(self.content)
            else:
                self.value.data = self.content.clone()
            self.version = _version(self.value)
        elif isinstance(self.content, dict):
            entries = {key: entry.put_back() for key, entry in self.content.items()}
            self.value.clear()
            self.value.update(entries)
        elif isinstance(self.content, list):
            items = [entry.put_back() for entry in self.content]
            self.value.clear()
            self.value.extend(items)
        return self.value


def _held(module: nn.Module) -> dict[str, _Kept]:
    """What a module holds: attributes, buffers, and parameters that its own class has added.

    Weights of torch's layers, and of classes that derive from them, are not copied: nothing in a forward pass
    writes to them, and they are large.
    """
    kept = {name: _keep(value) for name, value in vars(module).items() if name not in _TORCHS}
    if not any(base.__module__.startswith("torch.") for base in type(module).__mro__ if base not in _FRAMES):
        own = {name: _keep(value) for name, value in module._parameters.items()}
        kept["_parameters"] = _Kept(module._parameters, own)
    return kept


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Are the values those of the copy `b`?  On a device versions are enough: no numpy writes there."""
    if a.device.type != "cpu" or a.layout is not torch.strided or a.is_quantized:
        return True
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or bool((a.eq(b) | (a.ne(a) & b.ne(b))).all())


def _keep(value: Any) -> _Kept:
    if isinstance(value, torch.Tensor):
        own = not value.is_inference() and not value.is_meta and not is_lazy(value)
        return _Kept(value, value.detach().clone() if own else None, _version(value))
    if type(value) in _CONTAINERS or isinstance(value, dict):
        entries = value.items() if isinstance(value, dict) else None
        if entries is not None:
            return _Kept(value, {key: _keep(item) for key, item in entries})
        return _Kept(value, [_keep(item) for item in value])
    return _Kept(value)


def _version(x: torch.Tensor) -> int:
    return 0 if x.is_inference() else x._version


def _unfinished(module: nn.Module) -> bool:
    """Does a first pass still give the module its shape (torch's lazy modules)?"""
    return any(
        p is not None and is_lazy(p) for p in (*module._parameters.values(), *module._buffers.values())
    )


def _path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def reset(model: nn.Module) -> None:
    """Every neuron at rest: by its framework's reset, or its own `reset()` that wants no arguments."""
    for framework in frameworks.imported():
        framework.reset(model)
    for module in modules(model):
        own = getattr(module, "reset", None)
        if callable(own) and _wants_nothing(own):
            own()


def _wants_nothing(function: Callable[..., Any]) -> bool:
    code = getattr(getattr(function, "__func__", None), "__code__", None)
    if code is None:
        return False
    given = 1 + len(function.__func__.__defaults__ or ())  # type: ignore[attr-defined]
    only = function.__func__.__kwdefaults__ or {}  # type: ignore[attr-defined]
    return code.co_argcount <= given and code.co_kwonlyargcount <= len(only)


@contextlib.contextmanager
def at_rest(
    model: nn.Module,
    place: torch.device | None = None,
    *,
    resets: Callable[[nn.Module], object] | None = None,
) -> Iterator[Rest]:
    """Evaluation mode, no gradients, on `place`; mode, state and place as they were, afterwards.

    Yields a `Rest`, whose `fresh()` brings the neurons to rest; `resets(model)` does so for neurons that no
    framework knows.  All is put back even after an exception.
    """
    modes = {module: module.training for module in modules(model)}
    home = device_of(model)
    place = home if place is None else place
    rest = None
    try:
        model.eval()
        if place != home:
            model.to(place)
        rest = Rest(model, resets)
        with torch.no_grad():
            yield rest
    finally:
        if rest is not None:
            rest.put_back(records=False)
        if place != home:
            model.to(home)
        for module, training in modes.items():
            module.training = training
