"""The weights of official releases under the names of SpikingJelly's networks.

What a map does not know stays under its own name, so that the check against the network reports it.
"""

from __future__ import annotations

import re

import torch

State = dict[str, torch.Tensor]

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class _Move:
    """Takes tensors out of `left` and puts them into `out` under new names."""

    def __init__(self, state: State) -> None:
        self.left: State = dict(state)
        self.out: State = {}

    def done(self) -> State:
        return {**self.out, **self.left}

    def drop(self, *names: str) -> None:
        for name in names:
            self.left.pop(name, None)

    def weight(self, old: str, new: str, axes: int | None = None) -> None:
        """One tensor; `axes`: its kernel axes of length 1 are so many afterwards."""
        value = self.left.pop(old, None)
        if value is None:
            return
        if axes is not None and value.dim() >= 2:
            value = value.reshape(*value.shape[:2], *[1] * (axes - 2))
        self.out[new] = value

    def norm(self, old: str, new: str, bias: str = "") -> None:
        """A batch norm; the layer's `bias` in front of it goes into the mean: (Wx + b) - m = Wx - (m - b)."""
        offset = self.left.pop(bias, None)
        for name in NORM:
            value = self.left.pop(f"{old}.{name}", None)
            if value is None:
                continue
            if name == "running_mean" and offset is not None:
                value = (value.double() - offset.double()).to(value.dtype)
            self.out[f"{new}.{name}"] = value

    def joined(self, parts: list[str], new: str) -> None:
        """Tensors one after the other along their first axis; counters are the first of them."""
        values = [self.out.pop(part) for part in parts if part in self.out]
        if len(values) == len(parts):
            self.out[new] = torch.cat(values) if values[0].dim() else values[0]

    def attention(self, old: str, new: str, form: str, letters: str) -> None:
        """`q_conv, q_bn, k_conv, …` become one convolution for all letters; the projection stays one."""
        for letter in (*letters, "proj"):
            self.weight(f"{old}.{letter}_{form}.weight", f"{letter}.0.weight", 3)
            self.norm(f"{old}.{letter}_bn", f"{letter}.1", f"{old}.{letter}_{form}.bias")
        for name in ("0.weight", *(f"1.{n}" for n in NORM)):
            self.joined([f"{letter}.{name}" for letter in letters], f"{new}.{letters}_conv_bn.{name}")
            if f"proj.{name}" in self.out:
                self.out[f"{new}.proj_conv_bn.{name}"] = self.out.pop(f"proj.{name}")


def _numbers(state: State, pattern: str) -> list[str]:
    found = (re.match(pattern, name) for name in state)
    return sorted({match[1] for match in found if match}, key=int)


def spikformer(state: State) -> State:
    """`proj_conv{,1,2,3}`, `rpe_conv`, `block.i` -> `stages.i`, `positional_encoding`, `blocks.i`."""
    move = _Move(state)
    form = "linear" if "block.0.attn.q_linear.weight" in state else "conv"
    for stage, suffix in enumerate(("", "1", "2", "3")):
        new = f"patch_embed.stages.{stage}.conv_bn.block"
        move.weight(f"patch_embed.proj_conv{suffix}.weight", f"{new}.0.weight")
        move.norm(f"patch_embed.proj_bn{suffix}", f"{new}.1")
    move.weight("patch_embed.rpe_conv.weight", "patch_embed.positional_encoding.conv_bn.block.0.weight")
    move.norm("patch_embed.rpe_bn", "patch_embed.positional_encoding.conv_bn.block.1")
    for i in _numbers(state, r"block\.(\d+)\."):
        old, new = f"block.{i}", f"blocks.{i}"
        move.attention(f"{old}.attn", f"{new}.attn", form, "qkv")
        for fc in ("fc1", "fc2"):
            move.weight(f"{old}.mlp.{fc}_{form}.weight", f"{new}.mlp.{fc}.0.weight", 3)
            move.norm(f"{old}.mlp.{fc}_bn", f"{new}.mlp.{fc}.1", f"{old}.mlp.{fc}_{form}.bias")
        move.drop(*(f"{old}.norm{n}.{part}" for n in (1, 2) for part in ("weight", "bias")))
    move.drop("pos_embed", "norm.weight", "norm.bias")
    return move.done()


QKFORMER_EMBED = {
    "1": {
        "proj": "conv1 bn1",
        "proj1": "conv2 bn2",
        "proj2": "conv3 bn3",
        "proj_res": "shortcut.0 shortcut.1",
    },
    "2": {"proj3": "conv1 bn1", "proj4": "conv2 bn2", "proj_res": "shortcut.0 shortcut.1"},
    "3": {"proj3": "conv1 bn1", "proj4": "conv2 bn2", "proj_res": "shortcut.0 shortcut.1"},
}
"""Stage -> the release's layer -> SpikingJelly's convolution and norm, whose convolution has a bias: zero."""


def qkformer(state: State) -> State:
    """The release's `patch_embed`, `tssa`, `attn` and `mlp` of the three stages."""
    move = _Move(state)
    for stage, layers in QKFORMER_EMBED.items():
        embed = f"patch_embed{stage}"
        for layer, names in layers.items():
            conv, norm = names.split()
            move.weight(f"{embed}.{layer}_conv.weight", f"{embed}.{conv}.weight")
            if f"{embed}.{conv}.weight" in move.out:
                weight = move.out[f"{embed}.{conv}.weight"]
                move.out[f"{embed}.{conv}.bias"] = torch.zeros(weight.shape[0], dtype=weight.dtype)
            move.norm(f"{embed}.{layer}_bn", f"{embed}.{norm}")
        for i in _numbers(state, rf"stage{stage}\.(\d+)\."):
            block = f"stage{stage}.{i}"
            old, letters = ("attn", "qkv") if f"{block}.attn.q_conv.weight" in state else ("tssa", "qk")
            move.attention(f"{block}.{old}", f"{block}.attn", "conv", letters)
            for n in ("1", "2"):
                move.weight(f"{block}.mlp.fc{n}_conv.weight", f"{block}.mlp.fc{n}.weight", 3)
                move.weight(f"{block}.mlp.fc{n}_conv.bias", f"{block}.mlp.fc{n}.bias")
                move.norm(f"{block}.mlp.fc{n}_bn", f"{block}.mlp.bn{n}")
    return move.done()


def sew_resnet(state: State) -> State:
    """`layer1.0.conv1.module.0`, or `.0` without `module`, -> `layer1.0.conv1`, and its norm -> `bn1`."""
    out: State = {}
    for name, value in state.items():
        name = re.sub(r"^(layer\d\.\d+\.downsample)\.0\.(?:module\.)?([01])\.", r"\1.\2.", name)
        name = re.sub(r"^(layer\d\.\d+)\.conv(\d)\.(?:module\.)?0\.", r"\1.conv\2.", name)
        name = re.sub(r"^(layer\d\.\d+)\.conv(\d)\.(?:module\.)?1\.", r"\1.bn\2.", name)
        out[name] = value
    return out
