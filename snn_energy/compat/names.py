"""The context in which old import names exist."""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from snn_energy.compat.alias import Alias, missing
from snn_energy.compat.idle import IdleFinder
from snn_energy.compat.patches import Patches

OLD_ROOTS = ("spikingjelly.clock_driven", "spikingjelly.cext", "spikingjelly.event_driven")
"""Packages of old SpikingJelly that SpikingJelly 2 has not: under them nothing but our aliases exists."""

_SPIKINGJELLY = {
    "spikingjelly.clock_driven": "",
    "spikingjelly.clock_driven.neuron": "snn_energy.compat.neuron",
    "spikingjelly.clock_driven.layer": "snn_energy.compat.layer spikingjelly.activation_based.layer",
    "spikingjelly.clock_driven.functional": "spikingjelly.activation_based.functional",
    "spikingjelly.clock_driven.surrogate": (
        "snn_energy.compat.surrogate spikingjelly.activation_based.surrogate"
    ),
    "spikingjelly.clock_driven.encoding": "spikingjelly.activation_based.encoding",
    "spikingjelly.clock_driven.base": "spikingjelly.activation_based.base",
    "spikingjelly.clock_driven.rnn": "spikingjelly.activation_based.rnn",
    "spikingjelly.cext": "",
    "spikingjelly.cext.neuron": "snn_energy.compat.cext_neuron",
}
_TIMM = {
    "timm.models.layers": "timm.layers",
    "timm.models.registry": "snn_energy.compat.timm_registry timm.models._registry",
    "timm.models.helpers": (
        "timm.models._helpers timm.models._builder timm.models._manipulate timm.models._pretrained "
        "timm.models"
    ),
    "timm.models.hub": "timm.models._hub",
    "timm.models.features": "timm.models._features",
    "timm.models.fx_features": "timm.models._features_fx",
    "timm.models.factory": "snn_energy.compat.timm_registry timm.models._factory",
    "timm.optim.optim_factory": "timm.optim._optim_factory timm.optim",
}
"""Old module -> modules of today in which its names are looked up, in this order."""

_TIMM_LAYERS = "timm.models.layers."


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the old modules while the context is on, and remembers what it made."""

    def __init__(self, table: dict[str, str], patches: Patches) -> None:
        self.table, self.patches = table, patches
        self.made: dict[str, ModuleType] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in self.table or (name.startswith(_TIMM_LAYERS) and self.sources(name)):
            package = not self.table.get(name) or name == _TIMM_LAYERS.rstrip(".")
            return importlib.machinery.ModuleSpec(name, self, is_package=package)
        if name == "timm" and "timm.models.layers" in self.table:
            return self._with_patches(name)
        if _SPIKINGJELLY.keys() & self.table.keys() and name.startswith(OLD_ROOTS):
            raise missing(name, self.table)
        return None

    def sources(self, name: str) -> list[str]:
        """Today's modules behind an old one; none for a module of timm's layers that is gone."""
        if name in self.table:
            return self.table[name].split()
        today = "timm.layers." + name.removeprefix(_TIMM_LAYERS)
        return [today] if importlib.util.find_spec(today) else []

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        children = {other for other in self.table if other.startswith(spec.name + ".")}
        module = Alias(spec.name, [importlib.import_module(s) for s in self.sources(spec.name)], children)
        self.made[spec.name] = module
        return module

    def exec_module(self, module: ModuleType) -> None:
        """An alias has no code of its own."""

    def _with_patches(self, name: str) -> importlib.machinery.ModuleSpec | None:
        """timm as it is, patched as soon as it is imported: it is imported only if the file asks for it."""
        for finder in sys.meta_path:
            found = None if finder is self else finder.find_spec(name, None)
            if found is not None and found.loader is not None:
                found.loader = _Then(found.loader, self.patches.timm)
                return found
        return None


class _Then(importlib.abc.Loader):
    """Another loader, and something to do when it is done."""

    def __init__(self, inner: Any, then: Callable[[], None]) -> None:
        self.inner, self.then = inner, then

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.inner
        if module.__spec__ is not None:
            module.__spec__.loader = self.inner
        self.inner.exec_module(module)
        self.then()


_depth = 0


@contextlib.contextmanager
def old_names() -> Iterator[None]:
    """Old SpikingJelly (0.0.0.0.12, 0.0.0.0.14) and old timm (0.6) names exist inside, and nowhere else.

    `spikingjelly.clock_driven.{neuron, layer, functional, surrogate, encoding, base, rnn}`,
    `spikingjelly.cext.neuron`, `timm.models.{layers, registry, helpers, …}` can be imported; neurons of
    `spikingjelly.activation_based` take `backend=`; `timm.create_model` knows what the file registered.
    Classes are the same ones in every such context, and work on outside, so a network that was built inside
    runs outside; only an `import` of an old name in the middle of a forward pass needs the context around
    the pass too.  It may be entered again inside itself.  Not for several threads at once.

    Where an old SpikingJelly or timm is installed, its own names stay.  An old name that has no alias raises
    `OldNameError`, which is an `ImportError`, in one line.  `einops` and `torchinfo`, which official files
    import and never call, may be missing.
    """
    global _depth
    _depth += 1
    try:
        with _switched_on() if _depth == 1 else contextlib.nullcontext():
            yield
    finally:
        _depth -= 1


@contextlib.contextmanager
def _switched_on() -> Iterator[None]:
    table: dict[str, str] = {}
    patches = Patches()
    finder, idle = _Finder(table, patches), IdleFinder()
    hidden: dict[str, ModuleType] = {}
    try:
        if importlib.util.find_spec("spikingjelly.clock_driven") is None:
            table |= _SPIKINGJELLY
            patches.spikingjelly()
        if _is_new_timm():
            table |= _TIMM
            if "timm" in sys.modules:
                patches.timm()
        hidden |= {name: sys.modules.pop(name) for name in list(sys.modules) if _is_old(name, table)}
        sys.meta_path.insert(0, finder)
        sys.meta_path.append(idle)
        yield
    finally:
        sys.meta_path[:] = [other for other in sys.meta_path if other is not finder and other is not idle]
        for name, module in (finder.made | idle.made).items():
            sys.modules.pop(name, None)
            _detach(name, module)
        for name, module in hidden.items():
            sys.modules[name] = module
            parent, _, child = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], child, module)
        patches.undo()


def _is_old(name: str, table: dict[str, str]) -> bool:
    return name in table or (name.startswith(_TIMM_LAYERS) and _TIMM_LAYERS.rstrip(".") in table)


def _is_new_timm() -> bool:
    try:
        return int(importlib.metadata.version("timm").split(".")[0]) >= 1
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False


def _detach(name: str, module: ModuleType) -> None:
    """Take the attribute away that the import of a submodule leaves on its package."""
    parent, _, child = name.rpartition(".")
    package = sys.modules.get(parent)
    if package is not None and vars(package).get(child) is module:
        delattr(package, child)
