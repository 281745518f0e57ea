"""The equations of STAtten and the Spike-driven Transformer in NumPy: one sample, one token at a time.

Written from the papers and the description of the official release's arithmetic, without our modules: all
that it shares with them is the names of the weights.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def lif(x: Array, threshold: float = 1.0, w: float | None = None) -> Array:
    """Spikes of (T, ...) currents; 1/τ = 1/2, or sigmoid(w)."""
    decay = 0.5 if w is None else 1 / (1 + np.exp(-w))
    v, spikes = np.zeros(x.shape[1:]), np.zeros_like(x)
    for t in range(len(x)):
        v = v + (x[t] - v) * decay
        spikes[t] = v >= threshold
        v = np.where(spikes[t] == 1, 0.0, v)
    return spikes


def conv_bn(weights: dict[str, Array], conv: str, bn: str, x: Array) -> Array:
    """(T, C, H, W) -> (T, C', H, W): correlation with zero padding that keeps the size, then batch norm."""
    kernel = weights[f"{conv}.weight"]
    pad = kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    t, _, h, w = x.shape
    out = np.zeros((t, len(kernel), h, w))
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            out += np.einsum("oc,tchw->tohw", kernel[:, :, i, j], padded[:, :, i : i + h, j : j + w])
    if f"{conv}.bias" in weights:
        out += weights[f"{conv}.bias"][:, None, None]
    mean, var, gain, shift = (
        weights[f"{bn}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (out - mean) / np.sqrt(var + 1e-5) * gain + shift


def max_pool(x: Array, stride: int) -> Array:
    """3×3 windows around every `stride`-th place of the last two axes; outside counts as minus infinity."""
    rows, columns = x.shape[-2:]
    out = np.empty((*x.shape[:-2], -(-rows // stride), -(-columns // stride)))
    for i in range(out.shape[-2]):
        for j in range(out.shape[-1]):
            top, left = i * stride, j * stride
            window = x[..., max(top - 1, 0) : top + 2, max(left - 1, 0) : left + 2]
            out[..., i, j] = window.max(axis=(-2, -1))
    return out


def statten(q: Array, k: Array, v: Array, heads: int, chunk: int, dvs: bool) -> Array:
    """Spatial-temporal attention before its neuron: every query against the keys and values of its chunk."""
    t, c, h, w = q.shape
    d = c // heads
    scale = 1 / (h * h * chunk) if dvs else 1 / h
    out = np.zeros_like(q)
    for start in range(0, t, chunk):
        steps = range(start, start + chunk)
        for head in range(heads):
            channels = slice(head * d, (head + 1) * d)
            memory = np.zeros((d, d))
            for s in steps:
                for y in range(h):
                    for x in range(w):
                        memory += np.outer(k[s, channels, y, x], v[s, channels, y, x])
            for s in steps:
                for y in range(h):
                    for x in range(w):
                        out[s, channels, y, x] = q[s, channels, y, x] @ (memory * scale)
    return out


def spike_driven(q: Array, k: Array, v: Array, heads: int, dvs: bool, w: float | None = None) -> Array:
    """Spike-driven self-attention with its neuron: a channel passes where enough tokens have K and V."""
    t, c, height, width = q.shape
    d = c // heads

    def pooled(x: Array) -> Array:  # (T, C, H, W), pooled over tokens and the channels of one head
        if not dvs:
            return x
        out = np.empty_like(x)
        for head in range(heads):
            channels = slice(head * d, (head + 1) * d)
            tokens = x[:, channels].reshape(t, d, -1).transpose(0, 2, 1)
            out[:, channels] = max_pool(tokens, 1).transpose(0, 2, 1).reshape(t, d, height, width)
        return out

    mask = lif(pooled(k * v).sum(axis=(2, 3)), 0.5, w)
    return pooled(q * mask[:, :, None, None])


def forward(weights: dict[str, Array], x: Array, config) -> tuple[Array, dict[str, Array]]:
    """Logits per step (T, K) of one sample (T, C, H, W), and the spikes of every neuron by module path."""
    spikes: dict[str, Array] = {}

    def fire(name: str, current: Array, threshold: float = 1.0) -> Array:
        w = weights.get(f"{name}.w")
        spikes[name] = lif(current, threshold, None if w is None else float(w))
        return spikes[name]

    for stage, suffix in enumerate(("", "1", "2")):
        prefix = "patch_embed.proj_"
        x = fire(f"{prefix}lif{suffix}", conv_bn(weights, f"{prefix}conv{suffix}", f"{prefix}bn{suffix}", x))
        if config.pooling_stat[stage] == "1":
            x = max_pool(x, 2)
    x = conv_bn(weights, "patch_embed.proj_conv3", "patch_embed.proj_bn3", x)
    if config.pooling_stat[3] == "1":
        x = max_pool(x, 2)
    x = x + conv_bn(weights, "patch_embed.rpe_conv", "patch_embed.rpe_bn", fire("patch_embed.proj_lif3", x))

    for i in range(config.depths):
        x = x + attention(weights, f"block.{i}.attn", x, config, fire)
        x = mlp(weights, f"block.{i}.mlp", x, config, fire)
    pooled = fire("head_lif", x.mean(axis=(2, 3)))
    return pooled @ weights["head.weight"].T + weights["head.bias"], spikes


def attention(weights: dict[str, Array], name: str, x: Array, config, fire) -> Array:
    source = fire(f"{name}.shortcut_lif", x)
    q, k, v = (
        fire(f"{name}.{s}_lif", conv_bn(weights, f"{name}.{s}_conv", f"{name}.{s}_bn", source)) for s in "qkv"
    )
    if config.dvs_mode:
        k, v = max_pool(k, 1), max_pool(v, 1)
        if (config.release, config.attention_mode) != ("SDT", "SDT"):
            q = max_pool(q, 1)
    if config.attention_mode == "STAtten":
        out = statten(q, k, v, config.num_heads, config.chunk_size, config.dvs_mode)
        out = fire(f"{name}.attn_lif", out, 0.5)
        if config.dvs_mode:
            gate = max_pool(source, 1)
            out = out * gate + gate
    else:
        w = weights.get(f"{name}.talking_heads_lif.w")
        out = spike_driven(q, k, v, config.num_heads, config.dvs_mode, w)
    return conv_bn(weights, f"{name}.proj_conv", f"{name}.proj_bn", out)


def mlp(weights: dict[str, Array], name: str, x: Array, config, fire) -> Array:
    hidden = conv_bn(weights, f"{name}.fc1_conv", f"{name}.fc1_bn", fire(f"{name}.fc1_lif", x))
    if config.mlp_ratios == 1:
        hidden = x = hidden + x
    return x + conv_bn(weights, f"{name}.fc2_conv", f"{name}.fc2_bn", fire(f"{name}.fc2_lif", hidden))
