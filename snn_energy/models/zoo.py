"""The registry: a name, the class it builds, the configuration fields that the name fixes.

`register_model` adds a network of yours; an installed package offers one by an entry point of the group
`snn_energy.models`: docs/extending.md.

`create_model("statten-cifar10-256", T=6)` looks the name up here, imports the class, and builds it from
the class's configuration dataclass: the name's fields first, the caller's over them.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from snn_energy.errors import ConfigError, suggest
from snn_energy.plugins import Registry

if TYPE_CHECKING:
    from torch import nn


LONGEST = 4096
"""Time steps: a network holds the tensors of all of them; the papers' have 4 to 20."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered name: its class, and the configuration `fields` that the name fixes.

    `target` is the class, or "module:Class" below `snn_energy.models`.
    """

    target: str | type
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    summary: str = ""

    def resolve(self) -> Any:
        """The model class; it has a `Config` dataclass and is built as `cls(config)`."""
        if isinstance(self.target, type):
            return self.target
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(f"snn_energy.models.{module}"), name)


def _statten(dataset: str, dim: int, steps: int, chunk: int, **fields: Any) -> Entry:
    """One network of the STAtten paper: depth 8 for ImageNet and 2 elsewhere, 8 heads, MLP ratio 4."""
    depth = 8 if dataset == "ImageNet" else 2
    sizes = {
        "embed_dims": dim,
        "depths": depth,
        "num_heads": 8,
        "mlp_ratios": 4,
        "T": steps,
        "chunk_size": chunk,
    }
    return Entry("statten:STAtten", {**sizes, **fields}, f"STAtten {depth}-{dim} for {dataset}, T {steps}")


def _staa(backbone: str, dataset: str, **fields: Any) -> Entry:
    """One network of the STAA-SNN paper."""
    return Entry("staa:STAASNN", {"backbone": backbone, **fields}, f"STAA-SNN {backbone} for {dataset}")


def _decoupled(backbone: str, **fields: Any) -> Entry:
    """A decoupled model: separate spatial and temporal spike attention."""
    summary = f"Spatial and temporal spike attention on {backbone}"
    return Entry("decoupled:Decoupled", {"backbone": backbone, **fields}, summary)


_SMALL = {"img_size_h": 32, "img_size_w": 32, "in_channels": 3, "pooling_stat": "0011"}
_LARGE = {"img_size_h": 224, "img_size_w": 224, "in_channels": 3, "pooling_stat": "1111", "num_classes": 1000}
_DVS = {"img_size_h": 64, "img_size_w": 64, "in_channels": 2, "pooling_stat": "0011", "dvs_mode": True}

_OURS: dict[str, Entry] = {
    "statten": Entry(
        "statten:STAtten", summary="STAtten on the spike-driven transformer backbone, all fields free"
    ),
    "spike-driven-transformer": Entry(
        "statten:STAtten",
        {"attention_mode": "SDT"},
        "Spike-driven Transformer (Yao et al. 2023), all fields free",
    ),
    "statten-cifar10-256": _statten("CIFAR-10", 256, 4, 2, num_classes=10, **_SMALL),
    "statten-cifar10-512": _statten("CIFAR-10", 512, 4, 2, num_classes=10, **_SMALL),
    "statten-cifar100-256": _statten("CIFAR-100", 256, 4, 2, num_classes=100, **_SMALL),
    "statten-cifar100-512": _statten("CIFAR-100", 512, 4, 2, num_classes=100, **_SMALL),
    "statten-imagenet-512": _statten("ImageNet", 512, 4, 2, **_LARGE),
    "statten-imagenet-768": _statten("ImageNet", 768, 4, 2, **_LARGE),
    "statten-cifar10dvs-t10": _statten("CIFAR10-DVS", 256, 10, 5, num_classes=10, TET=True, **_DVS),
    "statten-cifar10dvs-t16": _statten("CIFAR10-DVS", 256, 16, 4, num_classes=10, TET=True, **_DVS),
    "statten-ncaltech101-t10": _statten("N-Caltech101", 256, 10, 5, num_classes=101, **_DVS),
    "statten-ncaltech101-t16": _statten("N-Caltech101", 256, 16, 4, num_classes=101, **_DVS),
    "spikformer": Entry("transformers:Spikformer", {"num_classes": 10}, "Spikformer 4-384 for CIFAR-10"),
    "statten-spikformer": Entry(
        "transformers:Spikformer",
        {"num_classes": 10, "attention_mode": "STAtten"},
        "STAtten in Spikformer 4-384 for CIFAR-10",
    ),
    "qkformer": Entry("transformers:QKFormer", {}, "QKFormer 10-384 for ImageNet"),
    "statten-qkformer": Entry(
        "transformers:QKFormer", {"attention_mode": "STAtten"}, "STAtten in the last stage of QKFormer 10-384"
    ),
    "sew-resnet": Entry("sew_resnet:SEWResNet", {}, "SEW-ResNet-18 for ImageNet"),
    "maxformer": Entry("transformers:MaxFormer", {"num_classes": 100}, "Max-Former 4-384 for CIFAR-100"),
    "statten-maxformer": Entry(
        "transformers:MaxFormer",
        {"num_classes": 100, "attention_mode": "STAtten"},
        "STAtten in the last stage of Max-Former 4-384",
    ),
    "staa-vgg13": _staa("vgg13", "CIFAR"),
    "staa-resnet18": _staa("resnet18", "ImageNet", num_classes=1000),
    "staa-resnet19": _staa("resnet19", "CIFAR"),
    "staa-resnet20": _staa("resnet20", "CIFAR"),
    "staa-resnet34": _staa("resnet34", "ImageNet", num_classes=1000),
    "staa-resnet20-cifar10dvs": _staa("resnet20", "CIFAR10-DVS, T 16", in_channels=2, T=16),
    "staa-vgg13-cifar10dvs": _staa("vgg13", "CIFAR10-DVS, T 16", in_channels=2, T=16),
    "staa-vgg13-gesture": _staa("vgg13", "DVS128 Gesture, T 16", in_channels=2, T=16, num_classes=11),
    "decoupled": _decoupled("resnet19"),
    "decoupled-resnet34": _decoupled("resnet34", num_classes=1000),
}


OFFICIAL_NAMES = {
    "sdt": "statten",
    "cifar10/2_256_200E_t4": "statten-cifar10-256",
    "cifar10/2_512_200E_t4": "statten-cifar10-512",
    "cifar100/2_256_200E_t4": "statten-cifar100-256",
    "cifar100/2_512_200E_t4": "statten-cifar100-512",
    "cifar10-dvs/2_256_200E_t10_TET": "statten-cifar10dvs-t10",
    "cifar10-dvs/2_256_200E_t16_TET": "statten-cifar10dvs-t16",
    "imagenet/8_512_200E_t4": "statten-imagenet-512",
    "imagenet/8_768_200E_t4": "statten-imagenet-768",
    "ncaltech101/2_256_200E_t10": "statten-ncaltech101-t10",
    "ncaltech101/2_256_200E_t16": "statten-ncaltech101-t16",
}
"""Our names for the official STAtten release's model and its files under `conf/`, without `.yml`."""


def _aliases() -> dict[str, str]:
    """`OFFICIAL_NAMES`, and the files without their folder; of two of one name, the first (CIFAR-10)."""
    found = dict(OFFICIAL_NAMES)
    for name, ours in OFFICIAL_NAMES.items():
        found.setdefault(name.rpartition("/")[2], ours)
    return found


def _accept(name: str, value: Any) -> Entry:
    """The entry of a user's network: an `Entry`, or its class.  Raises `ConfigError` for anything else."""
    entry = value if isinstance(value, Entry) else Entry(value)
    cls = entry.target
    if not isinstance(cls, type):
        raise ConfigError(f"model {name!r}: {cls!r} is no class; register the class of the network")
    config = getattr(cls, "Config", None)
    if not isinstance(config, type) or not dataclasses.is_dataclass(config):
        raise ConfigError(f"model {name!r}: {cls.__name__}.Config must be a dataclass, not {config!r}")
    known = [f.name for f in dataclasses.fields(config)]
    for key in entry.fields:
        if key not in known:
            raise ConfigError(f"model {name!r}: unknown field {key!r}; {suggest(str(key), known)}")
    return entry


ZOO: Registry[Entry] = Registry("model", "snn_energy.models", _OURS, _accept, _aliases())


def register_model(
    name: str, fields: Mapping[str, Any] | None = None, *, summary: str = ""
) -> Callable[[Any], Any]:
    """Decorator: make a network known as `name` to `create_model`, recipes, checkpoints, the command line.

    The class has a dataclass `Config` and is built as `cls(config)`; `fields` of it are fixed by the name,
    and `summary` is what `snn-energy list models` prints.  Another name for the same class:
    `register_model("wider", {"width": 512})(cls)`.

    Raises `ConfigError` for a name of ours, a class without `Config`, or a field that it has not.
    """

    def register(cls: Any) -> Any:
        ZOO.register(name, Entry(cls, dict(fields or {}), summary))
        return cls

    return register


def list_models() -> list[str]:
    """Every registered name, sorted."""
    return sorted(ZOO)


def create_model(
    name: str | None = None, *, config: str | os.PathLike[str] | None = None, **fields: Any
) -> nn.Module:
    """Build the network `name` with freshly initialised weights.

    `name` may be one of the official STAtten release's: `sdt`, or a file of its `conf/` without `.yml`
    (`cifar10/2_512_200E_t4`).  `config` is a YAML file of that release or of the Spike-driven Transformer's,
    read as it is; what it says that has no effect is warned of, and `name` is then `statten` unless given.
    `fields` are fields of the model's configuration (`T`, `embed_dims`, `num_classes`, …).  They win over the
    file's, and those over the ones that the name fixes.  The result carries its configuration as `.config`.

    Raises `ConfigError` for an unknown name, an unknown field, values that cannot go together, or a file that
    is not an official configuration.
    """
    if name is None and config is None:
        raise ConfigError("no model: give a name or an official YAML file (config=)")
    told: dict[str, Any] = {}
    if config is not None:
        from snn_energy.models.official import read_yaml

        read = read_yaml(config, beside=fields)
        told = read.fields
        for note in read.notes:
            warnings.warn(f"{config}: {note}", stacklevel=2)
    entry = find(name or "statten")
    cls = entry.resolve()
    config_of = make_config(cls.Config, {**entry.fields, **told, **fields})
    try:
        return construct(cls, config_of)
    except ValueError as error:  # a library's model refuses its arguments
        raise ConfigError(f"{name}: {error}") from None


def construct(cls: Any, config: Any) -> nn.Module:
    """`cls(config)`, which carries its configuration as `.config`."""
    model = cls(config)
    if not hasattr(model, "config"):
        model.config = config
    return model


def find(name: str) -> Entry:
    """The entry of a registered name; `ConfigError` for any other."""
    if name not in ZOO:
        raise ConfigError(f"unknown model {name!r}; {suggest(name, ZOO)}")
    return ZOO[name]


def make_config(config_class: type, fields: dict[str, Any]) -> Any:
    """`config_class(**fields)`, with an unknown field refused by name.

    A list (JSON and YAML have no other) becomes a tuple where that is the field's type.
    """
    known = {f.name: str(f.type) for f in dataclasses.fields(config_class)}
    for key in fields:
        if key not in known:
            raise ConfigError(f"unknown model field {key!r}; {suggest(key, known)}")
    given = {
        k: tuple(v) if type(v) is list and known[k].startswith("tuple[") else v for k, v in fields.items()
    }
    steps = given.get("T")
    if isinstance(steps, int) and steps > LONGEST:
        raise ConfigError(f"T = {steps}: at most {LONGEST:,} steps are run at once")
    return config_class(**given)
