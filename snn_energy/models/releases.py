"""Checkpoints of other networks' releases: told by their tensors, and which network of ours they fit.

A release either has a registered network of ours, whose fields `Release.fields` reads from the tensors and
the stored arguments and whose weights `release_keys` renames, or it says why there is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_energy.errors import CheckpointError, ConfigError
from snn_energy.models import release_keys
from snn_energy.models.release_keys import State

Fields = dict[str, Any]


@dataclass(frozen=True)
class Release:
    """A family of files: `marks` are tensors that all of them hold, `absent` such that none of them holds.

    `model`: the registry name of the network, or "" with `why` there is none.  `fields(state, arguments)`
    gives what is known of its configuration, `weights(state)` its state dict; `asks` names the fields without
    which it cannot be built, `changes` what a person should know of the weights, `code` the file and function
    in its repository that build it.
    """

    name: str
    marks: tuple[str, ...]
    absent: tuple[str, ...] = ()
    model: str = ""
    why: str = ""
    fields: Callable[[State, Mapping[str, Any]], Fields] = lambda state, arguments: {}
    weights: Callable[[State], State] = lambda state: state
    asks: tuple[str, ...] = ()
    changes: str = ""
    code: str = ""

    def refusal(self, path: Path) -> str:
        """Why a file of this release is not built, and what runs it: one line."""
        return f"this looks like a {self.name} release; {self.why}; {self.way_out(path)}"

    def way_out(self, path: Path) -> str:
        """The command that profiles the file by its own code."""
        return f"its own code ({self.code} there) runs it: {OWN_CODE.format(path=path)}"


OWN_CODE = "snn-energy profile {path} --model path/to/net.py:build --input x.npz"
"""The command that profiles a network from the user's own file."""


def recognise(state: Mapping[str, Any]) -> Release | None:
    """The release that a state dict is of; None for any other."""
    for release in RELEASES:
        if all(mark in state for mark in release.marks) and not any(key in state for key in release.absent):
            return release
    return None


def told(
    path: Path, release: Release, state: State, arguments: Mapping[str, Any]
) -> tuple[Fields, tuple[str, ...], tuple[str, ...]]:
    """What a file of `release` says: fields, what it leaves open, notes.  Raises `CheckpointError`."""
    if not release.model:
        return {}, (), ()
    try:
        fields = release.fields(state, arguments)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}; {release.way_out(path)}") from None
    except (ArithmeticError, IndexError, KeyError) as error:
        raise _damaged(path, release, error) from None
    changes = f": {release.changes}" if release.changes else ""
    values = ", ".join(f"{name} = {value}" for name, value in fields.items())
    notes = (f"a {release.name} release, by its tensors{changes}", f"taken from it: {values}")
    return fields, tuple(name for name in release.asks if name not in fields), notes


def renamed(path: Path, release: Release, state: State) -> State:
    """The weights under the names of `release.model`.  Raises `CheckpointError` for tensors of other axes."""
    try:
        return release.weights(state)
    except (ArithmeticError, IndexError, RuntimeError) as error:
        raise _damaged(path, release, error) from None


def _damaged(path: Path, release: Release, error: Exception) -> CheckpointError:
    problem = " ".join(str(error).split())[:200]
    return CheckpointError(f"{path}: has the names of a {release.name} release and other tensors: {problem}")


def _count(state: Mapping[str, Any], pattern: str) -> int:
    """How many different numbers stand for the group of `pattern` in the names of `state`."""
    found = (re.match(pattern, name) for name in state)
    return len({match[1] for match in found if match})


def _known(arguments: Mapping[str, Any], names: dict[str, str]) -> Fields:
    """Whole numbers and words among the arguments, under our names for them."""
    return {
        ours: arguments[theirs]
        for theirs, ours in names.items()
        if type(arguments.get(theirs)) in (int, str) and arguments[theirs] != ""
    }


def _ratio(hidden: int, width: int) -> float:
    return hidden // width if hidden % width == 0 else hidden / width


def _spikformer(state: State, arguments: Mapping[str, Any]) -> Fields:
    """Three networks of one release: for CIFAR, with linear layers, and for ImageNet and for events."""
    width = state["patch_embed.proj_conv3.weight"].shape[0]
    small, events = "block.0.attn.q_linear.weight" in state, "pos_embed" in state
    hidden = state[f"block.0.mlp.fc1_{'linear' if small else 'conv'}.weight"].shape[0]
    fields = {
        "in_channels": state["patch_embed.proj_conv.weight"].shape[1],
        "num_classes": state["head.weight"].shape[0],
        "embed_dims": width,
        "depths": _count(state, r"block\.(\d+)\."),
        "mlp_ratios": _ratio(hidden, width),
        "patch_size": 4 if small else 16,
        "pool_spikes": True,
        "scale": 0.25 if events else 0.125,
    }
    if small:
        fields |= _known(arguments, {"time_step": "T", "num_heads": "num_heads", "img_size": "img_size_h"})
        return fields | ({"img_size_w": fields["img_size_h"]} if "img_size_h" in fields else {})
    # the other trainers forward no argument: sizes and heads are written in the model files
    size = 128 if events else 224
    fields |= {"img_size_h": size, "img_size_w": size}
    fields |= _known(arguments, {"T": "T"}) if events else {"T": 4}
    heads = {256: 16} if events else {512: 8}
    return fields | ({"num_heads": heads[width]} if width in heads else {})


QKFORMER_HEADS = {384: 6, 512: 8, 768: 12}
"""Embedding width -> attention heads of the three networks in the release."""


def _qkformer(state: State, arguments: Mapping[str, Any]) -> Fields:
    width = state["patch_embed3.proj4_conv.weight"].shape[0]
    fields = {
        "in_channels": state["patch_embed1.proj_conv.weight"].shape[1],
        "num_classes": state["head.weight"].shape[0],
        "embed_dims": width,
        "depths": tuple(_count(state, rf"stage{i}\.(\d+)\.") for i in (1, 2, 3)),
        "mlp_ratios": _ratio(state["stage3.0.mlp.fc1_conv.weight"].shape[0], width),
        **_known(arguments, {"time_step": "T"}),
    }
    if width in QKFORMER_HEADS:
        fields["num_heads"] = QKFORMER_HEADS[width]
    return fields


def _sew_resnet(state: State, arguments: Mapping[str, Any]) -> Fields:
    stages = tuple(_count(state, rf"layer{i}\.(\d+)\.") for i in (1, 2, 3, 4))
    deep = any(".conv3." in name for name in state)
    depths: dict[tuple[tuple[int, ...], bool], int] = {
        ((2, 2, 2, 2), False): 18,
        ((3, 4, 6, 3), False): 34,
        ((3, 4, 6, 3), True): 50,
        ((3, 4, 23, 3), True): 101,
        ((3, 8, 36, 3), True): 152,
    }
    if (stages, deep) not in depths:
        raise ConfigError(
            f"a SEW-ResNet of {stages} blocks: the registry has those of 18, 34, 50, 101 and 152 layers"
        )
    known = _known(arguments, {"T": "T", "connect_f": "cnf"})
    return {"depth": depths[stages, deep], "num_classes": state["fc.weight"].shape[0], **known}


_RPE = ("patch_embed.rpe_conv.weight", "patch_embed.proj_conv3.weight", "head.weight")
_FOLDED = "biases in front of norms are taken into the norms' means, weights that no pass reads left out"

RELEASES: tuple[Release, ...] = (
    *(
        Release(
            "Spikformer",
            (
                *_RPE,
                f"block.0.attn.q_{form}.weight",
                "block.0.norm1.weight",
                f"block.0.mlp.fc1_{form}.weight",
            ),
            model="spikformer",
            fields=_spikformer,
            weights=release_keys.spikformer,
            asks=("T", "num_heads"),
            changes=_FOLDED,
        )
        for form in ("linear", "conv")
    ),
    Release(
        "QKFormer",
        (
            "patch_embed1.proj_conv.weight",
            "patch_embed1.proj2_conv.weight",
            "patch_embed3.proj4_conv.weight",
            "stage1.0.tssa.q_conv.weight",
            "stage3.0.attn.q_conv.weight",
            "stage3.0.mlp.fc1_conv.weight",
            "head.weight",
        ),
        ("patch_embed1.proj3_conv.weight",),
        model="qkformer",
        fields=_qkformer,
        weights=release_keys.qkformer,
        asks=("T", "num_heads"),
        changes="biases in front of the norms of attention are taken into the norms' means",
    ),
    Release(
        "QKFormer (CIFAR or event data)",
        ("patch_embed1.proj_conv.weight", "stage1.0.tssa.q_conv.weight"),
        why="SpikingJelly 2 has the network for ImageNet only",
        code="cifar10/model.py:QKFormer",
    ),
    *(
        Release(
            "SEW-ResNet",
            (
                "conv1.weight",
                f"layer1.0.conv1.{inner}0.weight",
                f"layer2.0.downsample.0.{inner}0.weight",
                "fc.weight",
            ),
            model="sew-resnet",
            fields=_sew_resnet,
            weights=release_keys.sew_resnet,
            asks=("T", "cnf"),
            code="imagenet/sew_resnet.py:sew_resnet18",
        )
        for inner in ("module.", "")
    ),
    Release(
        "Spiking ResNet (of SEW-ResNet's authors)",
        ("conv1.weight", "layer1.0.conv1.module.0.weight", "layer2.0.downsample.module.0.weight"),
        why="the registry has no such network",
        code="imagenet/spiking_resnet.py:spiking_resnet18",
    ),
    Release(
        "SEW-ResNet (event data)",
        ("conv.0.0.module.0.weight", "conv.0.1.w", "out.weight"),
        why="SpikingJelly 2 has the network for ImageNet only",
        code="dvsgesture/smodels.py:SEWResNet",
    ),
    Release(
        "Meta-SpikeFormer (Spike-driven Transformer V2)",
        ("downsample1_1.encode_conv.weight", "ConvBlock1_1.0.Conv.pwconv1.weight"),
        why="SpikingJelly 2 has no such network",
        code="classification/models.py:metaspikformer_8_512",
    ),
    Release(
        "SpikingResformer",
        ("prologue.0.weight", "layers.0.0.firing_rate_x", "layers.0.0.Wproj.weight"),
        why="SpikingJelly 2 has no such network",
        code="models/spikingresformer.py:spikingresformer_ti",
    ),
)
