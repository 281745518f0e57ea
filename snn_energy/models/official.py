"""The vocabulary of the official STAtten release: its command line's names for our configuration fields.

The same names stand in its YAML files and in the `args` namespace inside its checkpoints.  It is a fork of
the Spike-driven Transformer's release (BICLab/Spike-Driven-Transformer), whose files use the same names, the
same model name and the same tensors; they are told apart here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from snn_energy.errors import ConfigError
from snn_energy.reading import read_yaml as read_mapping
from snn_energy.records import short

OFFICIAL_MODEL = "sdt"
"""The one model name that either official trainer knows; it is our `statten`."""

STATTEN_ONLY = ("chunk_size", "attention_mode")
"""Arguments that STAtten's command line added: its `args` always hold them, an SDT release's never do."""

FIELD_OF_ARGUMENT = {
    "in_channels": "in_channels",
    "num_classes": "num_classes",
    "dim": "embed_dims",
    "num_heads": "num_heads",
    "mlp_ratio": "mlp_ratios",
    "layer": "depths",
    "time_steps": "T",
    "chunk_size": "chunk_size",
    "pooling_stat": "pooling_stat",
    "spike_mode": "spike_mode",
    "dvs_mode": "dvs_mode",
    "TET": "TET",
}
"""Official argument -> field of `STAttenConfig`; `img_size`, `attention_mode`, `dataset` have own rules."""

DVS_DATASETS = {"STAtten": ("cifar10-dvs", "ncaltech101"), "SDT": ("cifar10-dvs", "cifar10-dvs-tet")}
"""By release: the trainer sets `dvs_mode` from the data set's name, whatever the configuration says."""

PARSER_DEFAULTS = {
    "in_channels": 3,
    "num_classes": 1000,
    "num_heads": 8,
    "mlp_ratio": 4,
    "layer": 4,
    "time_steps": 4,
    "chunk_size": 2,
    "pooling_stat": "1111",
    "spike_mode": "lif",
    "dataset": "torch/cifar10",
    "TET": False,
}
"""What the official command line takes where a YAML file is silent; `dim` has no default."""


@dataclass(frozen=True)
class OfficialConfig:
    """What an official YAML file or `args` says: model fields, training settings, what was ignored."""

    fields: dict[str, Any]
    settings: dict[str, Any]
    notes: tuple[str, ...]


def stored_arguments(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The `args` of a checkpoint, where it holds some: a namespace or a mapping."""
    found = content.get("args")
    found = vars(found) if isinstance(found, argparse.Namespace) else found
    return found if isinstance(found, Mapping) else None


def release_of(arguments: Mapping[str, Any]) -> Literal["STAtten", "SDT"] | None:
    """Whose trainer's arguments these are: the Spike-driven Transformer's by what is absent, else STAtten's.

    None where nothing shows that they are of this family at all.
    """
    if any(name in arguments for name in STATTEN_ONLY):
        return "STAtten"
    model = arguments.get("model")
    named = isinstance(model, str) and model == OFFICIAL_MODEL
    return "SDT" if named or "time_steps" in arguments or "pooling_stat" in arguments else None


def from_arguments(arguments: Mapping[str, Any], release: str | None = None) -> OfficialConfig:
    """Split official arguments into the fields of our model and everything else.

    A key with a hyphen never reaches the official parser's namespace under the name that its code reads, so
    it has no effect there and none here.  `attention_mode` is stored by STAtten's trainer but never forwarded
    to its model, which is STAtten always: so is ours, and a note says so where SDT was asked.  Arguments of
    the Spike-driven Transformer's `release` (None: by `release_of`) give its network, with a note; if that
    too says None, the attention stays open.  Arguments that are None, or of no kind that a command line
    could give, are left out.
    """
    release = release or release_of(arguments)
    plain = (bool, int, float, str, list, tuple)
    live = {
        key: value
        for key, value in arguments.items()
        if isinstance(key, str) and "-" not in key and isinstance(value, plain)
    }
    model = live.get("model", OFFICIAL_MODEL)
    if model != OFFICIAL_MODEL:
        raise ConfigError(f"model = {model!r}: the official STAtten release knows only {OFFICIAL_MODEL!r}")
    fields = {field: live[key] for key, field in FIELD_OF_ARGUMENT.items() if key in live}
    if "img_size" in live:
        fields["img_size_h"] = fields["img_size_w"] = live["img_size"]
    if release is not None:
        fields["attention_mode"] = fields["release"] = release
    if "dvs_mode" not in fields and "dataset" in live:
        fields["dvs_mode"] = live["dataset"] in DVS_DATASETS[release or "STAtten"]
    notes = []
    if release == "SDT":
        notes.append(
            "neither chunk_size nor attention_mode is stored, which STAtten's trainer always stores: taken "
            "to be a Spike-driven Transformer release, attention_mode = SDT (--attention-mode STAtten wins)"
        )
    elif live.get("attention_mode", "STAtten") != "STAtten":
        notes.append(
            f"attention_mode = {live['attention_mode']} is stored, but the official trainer never forwards "
            "it: building STAtten (--attention-mode SDT wins)"
        )
    used = {*FIELD_OF_ARGUMENT, "img_size", "attention_mode", "model"}
    return OfficialConfig(fields, {k: v for k, v in live.items() if k not in used}, tuple(notes))


def read_yaml(
    path: str | os.PathLike[str], beside: Iterable[str] = (), over: Mapping[str, Any] | None = None
) -> OfficialConfig:
    """Read an official configuration file (`conf/*/*.yml`) as it is, STAtten's or the SDT release's.

    Numbers that YAML reads as text, such as `3e-4`, become numbers; arguments that the file leaves out have
    the official command line's defaults.  `beside`: fields that the caller sets anyway; with `chunk_size`
    among them the file's silence about it tells nothing, and it is STAtten's.  `over`: arguments that win
    over the file's.  Raises `ConfigError` for a file that is missing, not YAML, not a mapping of names, or
    without `dim`, which has no default.
    """
    path = Path(path)
    content = {**read_mapping(path, "configuration"), **(over or {})}
    if not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: must be a mapping of argument names to values")
    stated = any(name in beside for name in STATTEN_ONLY)
    release = "STAtten" if stated else release_of(content) or "STAtten"
    try:
        given = {key: read_number(key, value) for key, value in content.items()}
        told = from_arguments(PARSER_DEFAULTS | given, release)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if "embed_dims" not in told.fields:
        raise ConfigError(
            f"{path}: does not say dim, the number of channels; the official trainer has no default"
        )
    dead = sorted(key for key in content if "-" in key)
    if not dead:
        return told
    note = f"ignored, as the official code ignores keys with a hyphen: {', '.join(dead)}"
    return replace(told, notes=(*told.notes, note))


def read_number(key: str, value: Any) -> Any:
    """`3e-4` is text to YAML 1.1, a number to argparse; `pooling_stat: 0011` is a number and must be text."""
    if key == "pooling_stat" and not isinstance(value, str):
        raise ConfigError(f"pooling_stat = {value!r}: put it in quotes, YAML reads it as a number")
    if isinstance(value, str) and key != "pooling_stat":
        for number in (int, float):
            with contextlib.suppress(ValueError):
                found = number(value)
                if not abs(found) < 2**63:
                    raise ConfigError(f"{key} = {short(value)}: must be a finite number")
                return found
    return value


EVIDENCE = {
    "patch_embed.proj_conv.weight": 4,
    "patch_embed.proj_conv3.weight": 4,
    "block.0.mlp.fc1_conv.weight": 4,
    "head.weight": 2,
}
"""Tensors, and their axes, from which the shape of a network is inferred."""

UNUSED = "talking_heads.weight"
"""The weight that no forward pass reads: (heads, heads, 1).  Some files were stripped of it."""

NEVER_RUN = ("rpe_lif.w", ".attn_lif.w", ".talking_heads_lif.w")
"""Time constants of the SDT release's parametric neurons that it builds whether they are called or not."""


def with_unused(found: dict[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """`found`, with zeros for the release's unused weights where a file was stripped of them all.

    The time constants of that release's neurons that are never called, and our model has not, are left out.
    """
    unused = {k: v.new_zeros(v.shape, device="cpu") for k, v in expected.items() if k.endswith(UNUSED)}
    if unused:
        found = {k: v for k, v in found.items() if k in expected or not k.endswith(NEVER_RUN)}
    return found if any(key in found for key in unused) else {**found, **unused}


def infer_fields(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Fields of `STAttenConfig` that tensor shapes show; None if `state` is not of this architecture.

    T, chunk size, pooling and `dvs_mode` leave no trace in a tensor, except that a network for frames
    (anything but two channels) is never in `dvs_mode`.  Parametric neurons in the attention are a mark of the
    SDT release; without them nothing tells the two releases apart.  Raises `ConfigError` for a tensor with
    other axes.
    """
    if any(name not in state for name in EVIDENCE):
        return None
    heads = "block.0.attn." + UNUSED
    for name, axes in {**EVIDENCE, **({heads: 3} if heads in state else {})}.items():
        shape = tuple(state[name].shape)
        if len(shape) != axes or 0 in shape:
            raise ConfigError(f"{name} has shape {shape}: must have {axes} axes, none of them empty")
    first, last, hidden, head = (state[name].shape for name in EVIDENCE)
    ratio = hidden[0] / last[0]
    fields = {
        "in_channels": first[1],
        "num_classes": head[0],
        "embed_dims": last[0],
        "depths": len({name.split(".")[1] for name in state if name.startswith("block.")}),
        "mlp_ratios": int(ratio) if ratio == int(ratio) else ratio,
        "spike_mode": "plif" if "head_lif.w" in state else "lif",
    }
    if heads in state:
        fields["num_heads"] = state[heads].shape[0]
    if first[1] != 2:
        fields["dvs_mode"] = False
    if "block.0.attn.q_lif.w" in state:
        fields["attention_mode"] = fields["release"] = "SDT"
    return fields
