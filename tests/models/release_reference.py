"""Spikformer, QKFormer and SEW-ResNet as their releases compute them, straight from a state dict.

Functions of tensors under the releases' names, without modules: one image or stream at a time, T steps, in
float64.  Weights, biases and means are whole multiples of 1/64.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


class Weights:
    """A state dict in the making."""

    def __init__(self, seed: int) -> None:
        self.generator, self.state = torch.Generator().manual_seed(seed), {}

    def grid(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        values = torch.rand(shape, generator=self.generator) * (high - low) + low
        return (values * 64).round() / 64

    def layer(self, name: str, *shape: int, bias: bool = False) -> None:
        fan = max(torch.Size(shape[1:]).numel(), 1)
        self.state[f"{name}.weight"] = self.grid(shape, -1, 1) * (2.0 if fan < 64 else 1.0)
        if bias:
            self.state[f"{name}.bias"] = self.grid(shape[:1], -0.5, 0.5)

    def norm(self, name: str, width: int) -> None:
        self.state |= {
            f"{name}.weight": self.grid((width,), 0.5, 2),
            f"{name}.bias": self.grid((width,), 0.25, 1.5),
            f"{name}.running_mean": self.grid((width,), -0.5, 0.5),
            f"{name}.running_var": self.grid((width,), 2, 4),
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    def pair(self, conv: str, norm: str, *shape: int, bias: bool = False) -> None:
        self.layer(conv, *shape, bias=bias)
        self.norm(norm, shape[0])


def norm(w: State, name: str, x: Tensor) -> Tensor:
    """Batch norm in evaluation, channels in axis 1."""
    m, v, g, b = (w[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, m, v, g, b, eps=1e-5)


def neuron(current: Tensor, threshold: float = 1.0, leak: float = 2.0, exact: bool = False) -> Tensor:
    """Spikes (T, …) of an LIF with τ = 2, or of an IF where `leak` is 1; v_reset 0, threshold included."""
    v, spikes = torch.zeros_like(current[0]), []
    for step in current:
        v = v + (step - v) / leak if leak != 1 else v + step
        assert exact or (v - threshold).abs().min() > 1e-9, "too close to call"
        spikes.append((v >= threshold).to(v.dtype))
        v = v * (1 - spikes[-1])
    return torch.stack(spikes)


def conv(w: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = w[f"{name}.weight"]
    return F.conv2d(x, kernel, w.get(f"{name}.bias"), stride, kernel.shape[-1] // 2)


def pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 2, 1)


def dense(w: State, name: str, bn: str, x: Tensor) -> Tensor:
    """A linear layer or 1×1 convolution over tokens (T, C, N), and its norm."""
    weight = w[f"{name}.weight"].flatten(1)
    y = torch.einsum("oc,tcn->ton", weight, x)
    if f"{name}.bias" in w:
        y = y + w[f"{name}.bias"][:, None]
    return norm(w, bn, y)


def self_attention(w: State, name: str, form: str, x: Tensor, heads: int, scale: float) -> Tensor:
    """(T, C, N) spikes -> the projection's spikes; (Q Kᵀ) V · scale per head, one token after the other."""
    q, k, v = (neuron(dense(w, f"{name}.{s}_{form}", f"{name}.{s}_bn", x)) for s in "qkv")
    d, out = q.shape[1] // heads, torch.zeros_like(q)
    for t in range(len(q)):
        for h in range(heads):
            c = slice(h * d, (h + 1) * d)
            for n in range(q.shape[2]):
                for m in range(q.shape[2]):
                    out[t, c, n] += float(q[t, c, n] @ k[t, c, m]) * v[t, c, m]
    out = neuron(out * scale, 0.5, exact=True)
    return neuron(dense(w, f"{name}.proj_{form}", f"{name}.proj_bn", out))


def query_key(w: State, name: str, x: Tensor, heads: int) -> Tensor:
    """Q-K token attention: a token of K passes in a head where enough channels of Q fired."""
    q, k = (neuron(dense(w, f"{name}.{s}_conv", f"{name}.{s}_bn", x)) for s in "qk")
    gate = neuron(q.unflatten(1, (heads, -1)).sum(2, keepdim=True), 0.5, exact=True)
    out = (gate * k.unflatten(1, (heads, -1))).flatten(1, 2)
    return neuron(dense(w, f"{name}.proj_conv", f"{name}.proj_bn", out))


def mlp(w: State, name: str, form: str, x: Tensor) -> Tensor:
    for fc in ("fc1", "fc2"):
        x = neuron(dense(w, f"{name}.{fc}_{form}", f"{name}.{fc}_bn", x))
    return x


# --- Spikformer ---------------------------------------------------------------------------------------------


def spikformer_weights(kind: str, width: int, hidden: int, depth: int, channels: int, classes: int) -> State:
    """`kind`: cifar (linear layers), imagenet (convolutions) or events (also a position embedding)."""
    w, form = Weights(3), "linear" if kind == "cifar" else "conv"
    widths = [channels, width // 8, width // 4, width // 2, width]
    for i, suffix in enumerate(("", "1", "2", "3")):
        w.pair(
            f"patch_embed.proj_conv{suffix}", f"patch_embed.proj_bn{suffix}", widths[i + 1], widths[i], 3, 3
        )
    w.pair("patch_embed.rpe_conv", "patch_embed.rpe_bn", width, width, 3, 3)
    kernel = {"cifar": ((), ()), "imagenet": ((1,), (1, 1)), "events": ((1,), (1,))}[kind]
    for i in range(depth):
        block = f"block.{i}"
        for s in "qkv":
            w.pair(
                f"{block}.attn.{s}_{form}",
                f"{block}.attn.{s}_bn",
                width,
                width,
                *kernel[0],
                bias=kind == "cifar",
            )
        w.pair(f"{block}.attn.proj_{form}", f"{block}.attn.proj_bn", width, width, *kernel[0], bias=True)
        w.pair(f"{block}.mlp.fc1_{form}", f"{block}.mlp.fc1_bn", hidden, width, *kernel[1], bias=True)
        w.pair(f"{block}.mlp.fc2_{form}", f"{block}.mlp.fc2_bn", width, hidden, *kernel[1], bias=True)
        for n in (1, 2):  # layer norms that stand in the files and are never called
            w.layer(f"{block}.norm{n}", width, bias=True)
    if kind == "events":
        w.state["pos_embed"] = w.grid((1, 6, width), -1, 1)
        w.layer("norm", width, bias=True)
    w.layer("head", classes, width, bias=True)
    return w.state


def spikformer(w: State, x: Tensor, heads: int) -> Tensor:
    """Logits (K,) of x (T, C, H, W); pools stand behind neurons."""
    linear, events = "block.0.attn.q_linear.weight" in w, "pos_embed" in w
    form, scale = "linear" if linear else "conv", 0.25 if events else 0.125
    for i, suffix in enumerate(("", "1", "2", "3")):
        current = conv(w, f"patch_embed.proj_conv{suffix}", x)
        x = neuron(norm(w, f"patch_embed.proj_bn{suffix}", current))
        x = x if linear and i < 2 else pool(x)
    x = x + neuron(norm(w, "patch_embed.rpe_bn", conv(w, "patch_embed.rpe_conv", x)))
    x = x.flatten(2)
    for block in blocks(w, "block"):
        x = x + self_attention(w, f"{block}.attn", form, x, heads, scale)
        x = x + mlp(w, f"{block}.mlp", form, x)
    return w["head.weight"] @ x.mean(2).mean(0) + w["head.bias"]


def blocks(w: State, name: str) -> Iterator[str]:
    i = 0
    while any(key.startswith(f"{name}.{i}.") for key in w):
        yield f"{name}.{i}"
        i += 1


# --- QKFormer -----------------------------------------------------------------------------------------------


def qkformer_weights(
    width: int, ratio: int, depths: tuple[int, int, int], channels: int, classes: int
) -> State:
    w = Weights(5)
    widths = (width // 4, width // 2, width)
    for name, out, inner, kernel in (
        ("proj", widths[0] // 2, channels, 3),
        ("proj1", widths[0], widths[0] // 2, 3),
        ("proj2", widths[0], widths[0], 3),
        ("proj_res", widths[0], widths[0] // 2, 1),
    ):
        w.pair(f"patch_embed1.{name}_conv", f"patch_embed1.{name}_bn", out, inner, kernel, kernel)
    for stage in (2, 3):
        out, inner = widths[stage - 1], widths[stage - 2]
        for name, source, kernel in (("proj3", inner, 3), ("proj4", out, 3), ("proj_res", inner, 1)):
            embed = f"patch_embed{stage}.{name}"
            w.pair(f"{embed}_conv", f"{embed}_bn", out, source, kernel, kernel)
    for stage, e in enumerate(widths, 1):
        for i in range(depths[stage - 1]):
            block = f"stage{stage}.{i}"
            attention, letters = ("attn", "qkv") if stage == 3 else ("tssa", "qk")
            for s in letters:
                w.pair(f"{block}.{attention}.{s}_conv", f"{block}.{attention}.{s}_bn", e, e, 1)
            w.pair(f"{block}.{attention}.proj_conv", f"{block}.{attention}.proj_bn", e, e, 1, bias=True)
            w.pair(f"{block}.mlp.fc1_conv", f"{block}.mlp.fc1_bn", e * ratio, e, 1, 1, bias=True)
            w.pair(f"{block}.mlp.fc2_conv", f"{block}.mlp.fc2_bn", e, e * ratio, 1, 1, bias=True)
    w.layer("head", classes, width, bias=True)
    return w.state


def qkformer(w: State, x: Tensor, heads: int) -> Tensor:
    """Logits (K,) of x (T, C, H, W); pools stand in front of neurons."""

    def layer(name: str, x: Tensor, stride: int = 1, pooled: bool = False) -> Tensor:
        y = norm(w, f"{name}_bn", conv(w, f"{name}_conv", x, stride))
        return neuron(pool(y) if pooled else y)

    x = layer("patch_embed1.proj", x, pooled=True)
    y = layer("patch_embed1.proj2", layer("patch_embed1.proj1", x, pooled=True))
    x = y + layer("patch_embed1.proj_res", x, 2)
    for stage in (1, 2, 3):
        if stage > 1:
            embed = f"patch_embed{stage}"
            y = layer(f"{embed}.proj4", layer(f"{embed}.proj3", x, pooled=True))
            x = y + layer(f"{embed}.proj_res", x, 2)
        shape, x = x.shape, x.flatten(2)
        for block in blocks(w, f"stage{stage}"):
            if stage == 3:
                x = x + self_attention(w, f"{block}.attn", "conv", x, heads, 0.125)
            else:
                x = x + query_key(w, f"{block}.tssa", x, heads)
            x = x + mlp(w, f"{block}.mlp", "conv", x)
        x = x.reshape(shape)
    return w["head.weight"] @ x.flatten(2).mean(2).mean(0) + w["head.bias"]


# --- SEW-ResNet ---------------------------------------------------------------------------------------------


def sew_resnet(w: State, x: Tensor, inner: str, join: str) -> Tensor:
    """Logits (K,) of x (T, 3, H, W) by IF neurons; `inner`: what stands between container and layer."""

    def layer(name: str, x: Tensor, stride: int = 1) -> Tensor:
        return neuron(norm(w, f"{name}.{inner}1", conv(w, f"{name}.{inner}0", x, stride)), leak=1)

    x = pool(neuron(norm(w, "bn1", conv(w, "conv1", x, 2)), leak=1))
    for stage in (1, 2, 3, 4):
        for i, block in enumerate(blocks(w, f"layer{stage}")):
            stride = 2 if stage > 1 and i == 0 else 1
            shortcut = x
            if f"{block}.downsample.0.{inner}0.weight" in w:
                shortcut = layer(f"{block}.downsample.0", x, stride)
            out = layer(f"{block}.conv2", layer(f"{block}.conv1", x, stride))
            x = {"ADD": out + shortcut, "AND": out * shortcut, "IAND": shortcut * (1 - out)}[join]
    return w["fc.weight"] @ x.mean((2, 3)).mean(0) + w["fc.bias"]
