"""The registry: a name, the class it builds, the configuration fields that the name fixes.

`create_model("statten-cifar10-256", T=6)` looks the name up here, imports the class, and builds it from
the class's configuration dataclass: the name's fields first, the caller's over them.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from snn_energy.errors import ConfigError, suggest

if TYPE_CHECKING:
    from torch import nn


@dataclasses.dataclass(frozen=True)
class Entry:
    """One registered name: `target` is "module:Class" below `snn_energy.models`; `fields` are its configuration."""

    target: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    summary: str = ""

    def resolve(self) -> type[nn.Module]:
        """The model class; it has a `Config` dataclass and is built as `cls(config)`."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(f"snn_energy.models.{module}"), name)


ZOO: dict[str, Entry] = {
    "statten": Entry("statten:STAtten", summary="STAtten on the spike-driven transformer backbone, all fields free"),
}


def list_models() -> list[str]:
    """Every registered name, sorted."""
    return sorted(ZOO)


def create_model(name: str, **fields: Any) -> nn.Module:
    """Build the network `name` with freshly initialised weights.

    `fields` are fields of the model's configuration (`T`, `embed_dims`, `num_classes`, …) and win over
    those that the name fixes.  The result carries its configuration as `.config`.
    Raises `ConfigError` for an unknown name, an unknown field, or values that cannot go together.
    """
    if name not in ZOO:
        raise ConfigError(f"unknown model {name!r}; {suggest(name, ZOO)}")
    entry = ZOO[name]
    cls = entry.resolve()
    return cls(make_config(cls.Config, {**entry.fields, **fields}))


def make_config(config_class: type, fields: dict[str, Any]) -> Any:
    """`config_class(**fields)`, with an unknown field refused by name."""
    known = [f.name for f in dataclasses.fields(config_class)]
    for key in fields:
        if key not in known:
            raise ConfigError(f"unknown model field {key!r}; {suggest(key, known)}")
    return config_class(**fields)
