"""Checkpoints: ours, the official STAtten release's, bare state dicts, NIR files; no pickled code is run.

`load(path)` gives a model in evaluation mode; `read_checkpoint` and `build` are its two halves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from snn_energy import weights
from snn_energy.errors import CheckpointError, ConfigError, suggest
from snn_energy.models import official, releases
from snn_energy.models.flags import flag_of
from snn_energy.models.nir import NirNetwork, arrays, is_nir, read_nir
from snn_energy.models.zoo import ZOO, construct, make_config
from snn_energy.own import fit_weights, load_own, names_own, with_way_out
from snn_energy.packaged import checkpoint_path
from snn_energy.safe_load import beginning, numbers_of, safe_load, safe_save

FORMAT, VERSION = "snn-energy", 1

UNKNOWABLE = ("T", "chunk_size", "pooling_stat", "dvs_mode", "num_heads")
"""Fields of `STAttenConfig` that change the result and leave no trace in the shape of a tensor."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    `model` is a registry name; `config` the known fields of its configuration; `missing` those that neither
    the file says nor its tensors show; `notes` what a person should be told (inferred fields, ignored keys).
    `state_dict` has the file's own names; those of another network's `release` are renamed by `build`.
    """

    path: Path
    kind: Literal["ours", "official", "bare", "nir"]
    model: str | None
    config: dict[str, Any]
    state_dict: dict[str, torch.Tensor]
    recipe: dict[str, Any] | None = None
    epoch: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] | None = None
    class_names: list[str] | None = None
    training_state: dict[str, Any] | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    graph: dict[str, Any] | None = None  # of a NIR file, as `models.nir.read_nir` gives it
    release: releases.Release | None = None


def load(
    path: str | os.PathLike[str],
    *,
    ema: bool = False,
    weights_key: str | None = None,
    settings: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> nn.Module:
    """The model that a checkpoint holds, in evaluation mode, with its configuration as `.config`.

    `path` may be the name of a packaged network (`snn-energy list trained`), if there is no such file.

    `overrides` are configuration fields (`T=6`, `attention_mode="SDT"`), `model=` (a registry name) and
    `config=` (an official YAML file); they win over what the file says, and None means "as the file says".
    `ema` takes the averaged weights, `weights_key` those at a dotted path in the file.  A NIR file gives a
    `models.nir.NirNetwork` and takes `dt=`, seconds per step.

    For a network of your own, `model=` is the network, to be filled with the weights, or names the code that
    builds it, `"net.py:build"` or `"package.module:callable"`, called with `settings`.

    Warns of what was inferred or not as stored; raises `CheckpointError`, and `ConfigError` for code that
    builds no network.
    """
    wanted, path = overrides.get("model"), checkpoint_path(path)
    if isinstance(wanted, nn.Module):
        model, notes = wanted.eval(), fit_weights(wanted, path, weights_key)
    elif names_own(wanted):
        own = load_own(str(wanted), settings, path, weights_key=weights_key)
        model, notes = own.module, own.notes
    else:
        checkpoint = read_checkpoint(path, ema=ema, weights_key=weights_key)
        model = build(checkpoint, **{**overrides, **(settings or {})})
        notes = notes_of(checkpoint, model)
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return model


def notes_of(checkpoint: Checkpoint, model: nn.Module) -> tuple[str, ...]:
    """What a person should be told of a file, and of what a NIR network made of it."""
    return (*checkpoint.notes, *(model.notes if isinstance(model, NirNetwork) else ()))


def read_checkpoint(
    path: str | os.PathLike[str],
    *,
    ema: bool = False,
    allow_nonfinite: bool = False,
    weights_key: str | None = None,
) -> Checkpoint:
    """Read and check a file, build nothing; every tensor is finite.  Raises `CheckpointError`.

    `weights_key`: the dotted path to the weights in the file, which are then taken for a bare state dict.
    """
    path = checkpoint_path(path)
    if is_nir(path, beginning(path)):
        return _read_nir(path, ema, allow_nonfinite)
    content = safe_load(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, must hold a dict of weights")
    if weights_key is not None:
        entries = weights.stored_at(path, content, weights_key).entries
        checkpoint = _describe(path, "bare", weights.unwrapped(weights.tensors_in(path, entries)))
    elif content.get("format") == FORMAT:
        checkpoint = _read_ours(path, content, ema)
    elif any(isinstance(content.get(key), Mapping) for key in ("state_dict", "state_dict_ema")):
        checkpoint = _read_official(path, content, ema)
    else:
        wrapper = next((key for key in weights.CONTAINERS if isinstance(content.get(key), Mapping)), "")
        state = _state_dict(path, content, wrapper)
        checkpoint = _of_release(path, state, content) or _describe(path, "bare", state, _told(content))
    if not allow_nonfinite:
        weights.check_finite(path, checkpoint.state_dict)
    return checkpoint


def build(checkpoint: Checkpoint, **overrides: Any) -> nn.Module:
    """The checkpoint's model with its weights, in evaluation mode; `overrides` as in `load`.

    Raises `CheckpointError` if a needed field is unknown, or if the weights do not fit the model.
    """
    path = checkpoint.path
    if checkpoint.graph is not None:
        return _build_nir(path, checkpoint.graph, overrides)
    name, fields = _resolve(checkpoint, {k: v for k, v in overrides.items() if v is not None})
    model_class = ZOO[name].resolve()
    _check_depth(path, fields.get("depths"), len(checkpoint.state_dict))
    try:
        config = make_config(model_class.Config, fields)
        with torch.device("meta"):  # the weights must fit before any memory is taken for them
            expected = model_class(config).state_dict()
    except (ConfigError, ArithmeticError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot build {name}: {' '.join(str(error).split())}") from None
    state = _own_names(checkpoint, name)
    fit = weights.aligned(state, expected)
    state = official.with_unused(state if fit.outside else fit.state, expected)
    weights.check_fit(path, name, state, expected, _hint)
    with torch.random.fork_rng(devices=[]):
        model = construct(model_class, config)
    model.load_state_dict(state)
    return model.eval()


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    name: str,
    recipe: Any = None,
    epoch: int | None = None,
    metrics: Mapping[str, Any] | None = None,
    optimizer: Mapping[str, Any] | None = None,
    class_names: list[str] | None = None,
    training_state: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, float]] = (),
) -> None:
    """Write `model` (registry name `name`, configuration `model.config`) whole or not at all.

    `recipe` is a dataclass or dict, `optimizer` a state dict; everything must be tensors and plain types, so
    that the file reads back without running anything.  A path that ends in .safetensors gives a file in that
    format, which holds no optimizer.  `history`: a row of numbers per epoch of the training so far, under the
    names of log.csv (docs/training.md).  Raises `CheckpointError` for a value that cannot be saved.
    """
    if name not in ZOO:
        raise CheckpointError(f"cannot save model {name!r}: not a registered name; {suggest(name, ZOO)}")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model": ZOO.canonical(name),
        "config": model.config,
        "state_dict": dict(model.state_dict()),
        "recipe": recipe,
        "epoch": epoch,
        "metrics": metrics or {},
        "optimizer": optimizer,
        "class_names": class_names,
        "training_state": training_state,
        "history": list(history),
    }
    safe_save(path, content)


# --- reading ------------------------------------------------------------------------------------------------


def _read_ours(path: Path, content: Mapping[str, Any], ema: bool) -> Checkpoint:
    version, model, config = (content.get(key) for key in ("version", "model", "config"))
    if type(version) is not int or version != VERSION:
        raise CheckpointError(
            f"{path}: is of format version {version!r}; this snn-energy reads version {VERSION}"
        )
    if not isinstance(model, str) or model not in ZOO:
        raise CheckpointError(f"{path}: holds unknown model {model!r}; {suggest(str(model), ZOO)}")
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise CheckpointError(f"{path}: 'config' must be a dict of configuration fields")
    state = _state_dict(path, content, "state_dict_ema" if ema else "state_dict")
    kinds = {"epoch": int, "recipe": dict, "optimizer": dict, "class_names": list, "training_state": dict}
    extras: dict[str, Any] = {key: content.get(key) for key in kinds}
    for key, kind in kinds.items():
        if not isinstance(extras[key], kind | None):
            raise CheckpointError(f"{path}: '{key}' must be a {kind.__name__} or None")
    metrics = content.get("metrics")
    extras["metrics"] = dict(metrics) if isinstance(metrics, Mapping) else {}
    extras["history"] = numbers_of(content.get("history"))
    return Checkpoint(path, "ours", model, config, state, **extras)


def _read_official(path: Path, content: Mapping[str, Any], ema: bool) -> Checkpoint:
    if ema and not isinstance(content.get("state_dict_ema"), Mapping):
        raise CheckpointError(f"{path}: holds no averaged weights (state_dict_ema); leave --ema out")
    state = _state_dict(path, content, "state_dict_ema" if ema else "state_dict")
    arguments = official.stored_arguments(content)
    epoch, optimizer, metric = (content.get(key) for key in ("epoch", "optimizer", "metric"))
    described, told = _of_release(path, state, content), None
    if described is None:
        try:
            told = None if arguments is None else official.from_arguments(arguments)
        except ConfigError as error:
            raise with_way_out(CheckpointError(f"{path}: {error}"), path) from None
        described = _describe(path, "official", state, told)
    return dataclasses.replace(
        described,
        recipe=(told and told.settings) or None,
        epoch=epoch if isinstance(epoch, int) else None,
        metrics={} if metric is None else {"metric": metric},
        optimizer=optimizer if isinstance(optimizer, dict) else None,
    )


def _told(content: Mapping[str, Any]) -> official.OfficialConfig | None:
    """What arguments beside bare weights say, if they are of the official trainers' kind."""
    arguments = official.stored_arguments(content)
    with contextlib.suppress(ConfigError):  # of another model: nothing about this one
        if arguments is not None and official.release_of(arguments) is not None:
            return official.from_arguments(arguments)
    return None


def _of_release(path: Path, state: dict[str, torch.Tensor], content: Mapping[str, Any]) -> Checkpoint | None:
    """A checkpoint of another network's release; None if `state` is of none that is known."""
    release = releases.recognise(state)
    if release is None:
        return None
    fields, missing, notes = releases.told(path, release, state, official.stored_arguments(content) or {})
    rest: dict[str, Any] = {"missing": missing, "notes": notes, "release": release}
    return Checkpoint(path, "official", release.model or None, fields, state, **rest)


def _describe(
    path: Path,
    kind: Literal["official", "bare"],
    state: dict[str, torch.Tensor],
    told: official.OfficialConfig | None = None,
) -> Checkpoint:
    """A checkpoint of the official kind: fields from its arguments, the others from its tensors."""
    try:
        inferred = official.infer_fields(state)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if inferred is None:
        return Checkpoint(
            path, kind, None, told.fields if told else {}, state, notes=told.notes if told else ()
        )
    fields = told.fields if told else {}
    filled = {key: value for key, value in inferred.items() if key not in fields}
    notes = told.notes if told else ()
    if "attention_mode" not in {**fields, **inferred}:
        notes += ("no args in the file that say the attention: attention_mode is taken to be STAtten",)
    if filled:
        notes += ("inferred from the tensors: " + ", ".join(f"{k} = {v}" for k, v in filled.items()),)
    fields = {"attention_mode": "STAtten", **filled, **fields}
    missing = [name for name in UNKNOWABLE if name not in fields]
    if told is not None and "dvs_mode" in missing:
        missing.remove("dvs_mode")  # the constructor's default: False
    return Checkpoint(path, kind, "statten", fields, state, missing=tuple(missing), notes=notes)


def _read_nir(path: Path, ema: bool, allow_nonfinite: bool) -> Checkpoint:
    if ema:
        raise CheckpointError(f"{path}: a NIR file holds no averaged weights; leave --ema out")
    graph = read_nir(path)
    if not allow_nonfinite:
        weights.check_finite(path, dict(arrays(graph)))
    return Checkpoint(path, "nir", None, {}, {}, graph=graph)


def _build_nir(path: Path, graph: dict[str, Any], overrides: dict[str, Any]) -> NirNetwork:
    given = {key: value for key, value in overrides.items() if value is not None}
    dt = given.pop("dt", None)
    if given:
        told = ", ".join(f"{key} = {value}" for key, value in given.items())
        raise CheckpointError(
            f"{path}: a NIR graph is fixed: {told} cannot be set; dt can, the seconds per step"
        )
    return NirNetwork(graph, dt, str(path))


def _state_dict(path: Path, content: Mapping[str, Any], key: str) -> dict[str, torch.Tensor]:
    """The tensors under `key` (or `content` itself), wrapper prefixes stripped."""
    state = content.get(key) if key else content
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{path}: holds no weights" + (f" under '{key}'" if key else ""))
    return weights.unwrapped(weights.tensors_in(path, state))


# --- checking -----------------------------------------------------------------------------------------------


def _check_depth(path: Path, depths: Any, tensors: int) -> None:
    """Each block has tensors: a file that claims more blocks than it holds tensors is not worth building."""
    blocks = sum(depths) if isinstance(depths, list | tuple) else depths
    if isinstance(blocks, int) and blocks > tensors:
        raise CheckpointError(f"{path}: depths = {depths}, but the file holds {tensors} tensors in all")


def _own_names(checkpoint: Checkpoint, name: str) -> dict[str, torch.Tensor]:
    """The weights under the names of the registered network `name`."""
    release = checkpoint.release
    if release is None or not release.model or ZOO[release.model].target != ZOO[name].target:
        return checkpoint.state_dict
    return releases.renamed(checkpoint.path, release, checkpoint.state_dict)


def _hint(found: Mapping[str, Any], missing: list[str], unexpected: list[str]) -> str:
    """What a mismatch means: of the learnable time constants, or of a file of another network."""
    release = releases.recognise(found)
    if release is not None:
        return f"; this looks like a {release.name} release"
    if any(".attn." in key and key.endswith("_lif.w") for key in unexpected):
        return "; its attention is parametric too, as a Spike-driven Transformer's: release=SDT"
    if unexpected and all(key.endswith("_lif.w") for key in unexpected):
        return "; its neurons are parametric: --spike-mode plif"
    if missing and all(key.endswith("_lif.w") for key in missing):
        return "; its neurons are not parametric: --spike-mode lif"
    return ""


def _resolve(checkpoint: Checkpoint, overrides: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Registry name and all known configuration fields: the file's, then the name's, then the caller's."""
    path = checkpoint.path
    name, yaml_path = overrides.pop("model", None), overrides.pop("config", None)
    if yaml_path is not None:
        told = official.read_yaml(yaml_path, beside=overrides)
        overrides = {**told.fields, **overrides}
        name = name or "statten"
    if name is None:
        name = checkpoint.model
    if name is None and checkpoint.release is not None:
        raise CheckpointError(f"{path}: {checkpoint.release.refusal(path)}")
    if name is None:
        refusal = f"{path}: the file does not say which model it is for; give --model or --config"
        raise with_way_out(CheckpointError(refusal), path)
    if name not in ZOO:
        raise CheckpointError(
            f"unknown model {name!r}; {suggest(name, ZOO)}; a network of your own is FILE.py:CALLABLE"
        )
    name = ZOO.canonical(name)
    own = checkpoint.model is not None and ZOO[checkpoint.model].target == ZOO[name].target
    stored = _as_saved(checkpoint) if own else {}
    named = {} if name == checkpoint.model else ZOO[name].fields
    fields = {**stored, **named, **overrides}
    unknown = [key for key in checkpoint.missing if key not in fields] if own else []
    if fields.get("attention_mode") == "SDT" and "chunk_size" in unknown:
        unknown.remove("chunk_size")
        fields["chunk_size"] = 1
    if unknown:
        raise CheckpointError(
            f"{path}: neither the file nor its tensors say {', '.join(unknown)}; "
            f"give {', '.join(flag_of(key) for key in unknown)}"
        )
    return name, fields


def _as_saved(checkpoint: Checkpoint) -> dict[str, Any]:
    """A file's configuration; fields that came later have the value which says what the file meant."""
    if checkpoint.kind != "ours" or checkpoint.model is None:
        return checkpoint.config
    older = getattr(ZOO[checkpoint.model].resolve().Config, "OLDER", {})
    return {**older, **checkpoint.config}
