"""Stand-ins for packages that official files import and whose networks never call."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from snn_energy.errors import OldNameError

IDLE = ("einops", "torchinfo")
"""QKFormer, Spikformer and Spike-driven Transformer V2 import them at the top of their model files."""


class IdleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Comes last: it makes a stand-in only where the package is not installed, and remembers it."""

    def __init__(self) -> None:
        self.made: dict[str, ModuleType] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] not in IDLE:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        self.made[spec.name] = _Idle(spec.name)
        return self.made[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """A stand-in has no code."""


class _Idle(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        package, path = self.__name__.split(".")[0], f"{self.__name__}.{name}"

        def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
            raise OldNameError(f"{path}: is called, and {package} is not installed: pip install {package}")

        return type(name, (), {"__init__": refuse, "__module__": self.__name__})
