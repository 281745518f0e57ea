"""STAtten: a spiking transformer whose attention spans space and time.

Lee et al., "Spiking Transformer with Spatial-Temporal Attention", CVPR 2025 (arXiv 2409.19764), on the
backbone of the Spike-driven Transformer (Yao et al., NeurIPS 2023, arXiv 2307.01694).  Module and
parameter names, initialisation and arithmetic order are those of the official release, so that its
checkpoints load and give the same spikes.

Inside the network every tensor is time first: (T, B, C, H, W), or (T, B, C) at the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F

from snn_energy.errors import ConfigError, DataError
from snn_energy.models.neurons import LIF, PLIF, reset
from snn_energy.models.steps import check_input, conv_bn, per_step, to_sequence

AttentionMode = Literal["STAtten", "SDT"]
SpikeMode = Literal["lif", "plif"]
Release = Literal["STAtten", "SDT"]


@dataclass(frozen=True)
class STAttenConfig:
    """Fields of `STAtten`, named as the official constructor names them.

    `img_size_h`, `img_size_w`: the size that the weights were trained for; no parameter depends on them.
    `release`: whose code trained the weights.  The Spike-driven Transformer's own ("SDT") differs from what
    STAtten's release makes of it (attention_mode "SDT") in two things: its dvs_mode leaves q unpooled, and
    spike_mode "plif" makes every neuron parametric, not only those of the MLPs and the head.
    """

    img_size_h: int = 128
    img_size_w: int = 128
    in_channels: int = 2
    num_classes: int = 11
    embed_dims: int = 512
    num_heads: int = 8
    mlp_ratios: float = 4
    depths: int = 8
    T: int = 4
    chunk_size: int = 2
    pooling_stat: str = "1111"
    attention_mode: AttentionMode = "STAtten"
    spike_mode: SpikeMode = "lif"
    dvs_mode: bool = False
    TET: bool = False
    drop_path_rate: float = 0.0
    release: Release = "STAtten"

    def __post_init__(self) -> None:
        counts = ("img_size_h", "img_size_w", "in_channels", "num_classes", "embed_dims", "num_heads")
        for name in (*counts, "depths", "T", "chunk_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} = {value!r}: must be a positive whole number")
        for name in ("dvs_mode", "TET"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} = {getattr(self, name)!r}: must be true or false")
        if self.embed_dims % 8:
            raise ConfigError(
                f"embed_dims = {self.embed_dims}: must be a multiple of 8 (the first stage has 1/8 of it)"
            )
        if self.embed_dims % self.num_heads:
            raise ConfigError(f"num_heads = {self.num_heads}: must divide embed_dims = {self.embed_dims}")
        if self.attention_mode not in get_args(AttentionMode):
            raise ConfigError(f"attention_mode = {self.attention_mode!r}: must be STAtten or SDT")
        if self.release not in get_args(Release):
            raise ConfigError(f"release = {self.release!r}: must be STAtten or SDT")
        if self.attention_mode == "STAtten" and self.T % self.chunk_size:
            raise ConfigError(f"chunk_size = {self.chunk_size}: must divide T = {self.T}")
        if self.spike_mode not in get_args(SpikeMode):
            raise ConfigError(f"spike_mode = {self.spike_mode!r}: must be lif or plif")
        if (
            not isinstance(self.pooling_stat, str)
            or len(self.pooling_stat) != 4
            or set(self.pooling_stat) - {"0", "1"}
        ):
            raise ConfigError(
                f"pooling_stat = {self.pooling_stat!r}: must be four characters 0 or 1, one per stage"
            )
        if (
            isinstance(self.mlp_ratios, bool)
            or not isinstance(self.mlp_ratios, int | float)
            or self.mlp_ratios <= 0
        ):
            raise ConfigError(f"mlp_ratios = {self.mlp_ratios!r}: must be a positive number")
        rate = self.drop_path_rate
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise ConfigError(f"drop_path_rate = {rate!r}: must be a number in [0, 1)")


def inner_neuron(config: STAttenConfig) -> type[LIF] | type[PLIF]:
    """The neuron of the patch embedding and the attention: parametric in the SDT release alone."""
    return PLIF if config.spike_mode == "plif" and config.release == "SDT" else LIF


def max_pool(x: torch.Tensor, stride: int) -> torch.Tensor:
    """3×3 max pooling, padding 1, over the last two axes of a 5-D tensor."""
    return F.max_pool2d(x.flatten(0, 1), 3, stride, 1).unflatten(0, x.shape[:2])


class SpikingPatchEmbedding(nn.Module):
    """Four convolution stages, each pooled where `pooling_stat` says 1, then a relative position convolution.

    (T, B, in_channels, H, W) -> (T, B, embed_dims, H', W'), real-valued (the membrane shortcut stream).
    The first three stages pool spikes after the neuron; the last pools before it, and that map is also the
    residual.  `rpe_lif` of the official release never runs and has no parameters; it is left out.
    """

    def __init__(self, config: STAttenConfig) -> None:
        super().__init__()
        e, neuron = config.embed_dims, inner_neuron(config)
        self.pooling = [c == "1" for c in config.pooling_stat]
        self.proj_conv = nn.Conv2d(config.in_channels, e // 8, 3, padding=1, bias=False)
        self.proj_bn = nn.BatchNorm2d(e // 8)
        self.proj_lif = neuron()
        self.proj_conv1 = nn.Conv2d(e // 8, e // 4, 3, padding=1, bias=False)
        self.proj_bn1 = nn.BatchNorm2d(e // 4)
        self.proj_lif1 = neuron()
        self.proj_conv2 = nn.Conv2d(e // 4, e // 2, 3, padding=1, bias=False)
        self.proj_bn2 = nn.BatchNorm2d(e // 2)
        self.proj_lif2 = neuron()
        self.proj_conv3 = nn.Conv2d(e // 2, e, 3, padding=1, bias=False)
        self.proj_bn3 = nn.BatchNorm2d(e)
        self.proj_lif3 = neuron()
        self.rpe_conv = nn.Conv2d(e, e, 3, padding=1, bias=False)
        self.rpe_bn = nn.BatchNorm2d(e)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stages = (
            (self.proj_conv, self.proj_bn, self.proj_lif),
            (self.proj_conv1, self.proj_bn1, self.proj_lif1),
            (self.proj_conv2, self.proj_bn2, self.proj_lif2),
        )
        for pooled, (conv, bn, lif) in zip(self.pooling, stages, strict=False):
            x = lif(conv_bn(x, conv, bn))
            if pooled:
                x = max_pool(x, stride=2)
        x = conv_bn(x, self.proj_conv3, self.proj_bn3)
        if self.pooling[3]:
            x = max_pool(x, stride=2)
        return conv_bn(self.proj_lif3(x), self.rpe_conv, self.rpe_bn) + x


def has_channels_last(x: torch.Tensor) -> bool:
    """Whether the channels of (T, B, C, H, W) are neighbours in memory.

    The same numbers either way; what is made of it then keeps that order, forwards and backwards.
    """
    return x.dim() == 5 and x.stride(2) == 1 != x.stride(4)


def spatial_temporal(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, chunk_size: int, scale: float
) -> torch.Tensor:
    """Q (KᵀV · scale) per head over all tokens of `chunk_size` consecutive steps, each chunk by itself.

    3 × (T, B, C, ...) -> (T, B, C, ...), tokens in the last axes, heads contiguous in C.  The order is the
    official one, KᵀV, then the scale, then Q: with a scale that is no power of two another order moves ties.
    """
    shape = q.shape
    t, b, c = shape[:3]
    channels_last = has_channels_last(q)

    def to_tokens(s: torch.Tensor) -> torch.Tensor:  # -> (T/chunk, B, heads, chunk·tokens, C/heads)
        if channels_last:
            s = s.movedim(2, -1).reshape(t // chunk_size, chunk_size, b, -1, heads, c // heads)
            return s.permute(0, 2, 4, 1, 3, 5).flatten(3, 4)
        s = s.reshape(t // chunk_size, chunk_size, b, heads, c // heads, -1)
        return s.permute(0, 2, 3, 1, 5, 4).flatten(3, 4)

    q, k, v = to_tokens(q), to_tokens(k), to_tokens(v)
    out = q @ (k.transpose(-2, -1) @ v * scale)
    out = out.unflatten(3, (chunk_size, -1))
    if channels_last:  # as the convolution behind it wants them
        return out.permute(0, 3, 1, 4, 2, 5).reshape(t, b, *shape[3:], c).movedim(-1, 2)
    return out.permute(0, 3, 1, 2, 5, 4).reshape(shape)


class SpikingAttention(nn.Module):
    """Self-attention on spikes with a membrane shortcut: (T, B, C, H, W) -> the same.

    `STAtten`: the tokens of `chunk_size` consecutive steps attend jointly, LIF(Q (KᵀV · s)) with threshold
    0.5 and s = 1/H for feature maps of height H; dvs_mode takes s = 1/(H·H·chunk_size), max-pools the spikes
    of q, k, v and of the shortcut, and multiplies: x·x_pool + x_pool, whose values are 0, 1, 2.
    `SDT`: Q AND LIF(Σ_tokens K AND V), no scale; dvs_mode pools k, v (and q, unless the weights are of the
    SDT release) over space and, as both official codes do, K AND V and the result over the *token and
    channel* axes.

    `talking_heads` is never used; it stands here because official files carry its weight.
    """

    def __init__(self, config: STAttenConfig) -> None:
        super().__init__()
        e, self.num_heads, neuron = config.embed_dims, config.num_heads, inner_neuron(config)
        self.pools_q = config.release == "STAtten" or config.attention_mode == "STAtten"
        self.attention_mode, self.chunk_size, self.dvs_mode = (
            config.attention_mode,
            config.chunk_size,
            config.dvs_mode,
        )
        self.shortcut_lif = neuron()
        self.q_conv = nn.Conv2d(e, e, 1, bias=False)
        self.q_bn = nn.BatchNorm2d(e)
        self.q_lif = neuron()
        self.k_conv = nn.Conv2d(e, e, 1, bias=False)
        self.k_bn = nn.BatchNorm2d(e)
        self.k_lif = neuron()
        self.v_conv = nn.Conv2d(e, e, 1, bias=False)
        self.v_bn = nn.BatchNorm2d(e)
        self.v_lif = neuron()
        self.talking_heads = nn.Conv1d(self.num_heads, self.num_heads, 1, bias=False)
        if self.attention_mode == "STAtten":
            self.attn_lif = neuron(v_threshold=0.5)
        else:
            self.talking_heads_lif = neuron(v_threshold=0.5)
        self.proj_conv = nn.Conv2d(e, e, 1)
        self.proj_bn = nn.BatchNorm2d(e)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.shortcut_lif(x)
        q = self.q_lif(conv_bn(spikes, self.q_conv, self.q_bn))
        k = self.k_lif(conv_bn(spikes, self.k_conv, self.k_bn))
        v = self.v_lif(conv_bn(spikes, self.v_conv, self.v_bn))
        if self.dvs_mode:
            q = max_pool(q, stride=1) if self.pools_q else q
            k, v = max_pool(k, stride=1), max_pool(v, stride=1)
        if self.attention_mode == "STAtten":
            out = self.attn_lif(self.spatial_temporal(q, k, v))
            if self.dvs_mode:
                pooled = max_pool(spikes, stride=1)
                out = out * pooled + pooled
        else:
            out = self.spike_driven(q, k, v)
        return x + conv_bn(out, self.proj_conv, self.proj_bn)

    def spatial_temporal(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Q (KᵀV · s) with the official scale: 3 × (T, B, C, H, W) -> (T, B, C, H, W)."""
        height = q.shape[3]
        scale = 1 / (height * height * self.chunk_size) if self.dvs_mode else 1 / height
        return spatial_temporal(q, k, v, self.num_heads, self.chunk_size, scale)

    def spike_driven(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Q AND LIF(Σ_tokens K AND V) per channel: 3 × (T, B, C, H, W) -> (T, B, C, H, W)."""
        t, b, c, h, w = q.shape
        heads = self.num_heads

        def to_tokens(s: torch.Tensor) -> torch.Tensor:  # -> (T, B, heads, H·W, C/heads)
            return s.reshape(t, b, heads, c // heads, h * w).transpose(-2, -1)

        def pool_tokens(s: torch.Tensor) -> torch.Tensor:
            return per_step(lambda z: F.max_pool2d(z, 3, 1, 1), s) if self.dvs_mode else s

        q, k, v = to_tokens(q), to_tokens(k), to_tokens(v)
        mask = self.talking_heads_lif(pool_tokens(k * v).sum(dim=-2, keepdim=True))
        return pool_tokens(q * mask).transpose(-2, -1).reshape(t, b, c, h, w)


class SpikingMLP(nn.Module):
    """LIF-conv1×1-BN twice, with a membrane shortcut; an inner one too where the widths are equal.

    (T, B, C, H, W) -> the same.
    """

    def __init__(self, config: STAttenConfig) -> None:
        super().__init__()
        neuron = PLIF if config.spike_mode == "plif" else LIF
        e, hidden = config.embed_dims, int(config.embed_dims * config.mlp_ratios)
        self.inner_shortcut = e == hidden
        self.fc1_lif = neuron()
        self.fc1_conv = nn.Conv2d(e, hidden, 1)
        self.fc1_bn = nn.BatchNorm2d(hidden)
        self.fc2_lif = neuron()
        self.fc2_conv = nn.Conv2d(hidden, e, 1)
        self.fc2_bn = nn.BatchNorm2d(e)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = conv_bn(self.fc1_lif(x), self.fc1_conv, self.fc1_bn)
        if self.inner_shortcut:
            hidden = x = hidden + x
        return x + conv_bn(self.fc2_lif(hidden), self.fc2_conv, self.fc2_bn)


class SpikingBlock(nn.Module):
    """Attention, then MLP; each carries its own membrane shortcut: (T, B, C, H, W) -> the same."""

    def __init__(self, config: STAttenConfig, drop_path: float) -> None:
        super().__init__()
        self.attn = SpikingAttention(config)
        self.mlp = SpikingMLP(config)
        self.drop_path = drop_path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.attn, self.mlp):
            x = self.skip(x, layer(x))
        return x

    def skip(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Stochastic depth in training: drop a sample's branch over all its steps."""
        if not self.training or self.drop_path == 0:
            return out
        from torchvision.ops import stochastic_depth  # slow to import, and needed in training alone

        branch = stochastic_depth((out - x).transpose(0, 1), self.drop_path, "row")
        return x + branch.transpose(0, 1)


class STAtten(nn.Module):
    """The whole network.

    `forward(x)`: x (B, C, H, W), presented at each of the T steps, or (B, T, C, H, W); returns logits (B, K),
    the mean over steps.  With `TET` and in training mode it returns (T, B, K) for a loss per step (Deng
    et al., 2022); in evaluation the mean over steps as always.  Every call starts from fresh neurons.  Raises
    `DataError` for an input of another shape, or of a number of steps that the chunks do not divide.

    Unlike the official release, `attention_mode` is honoured and `drop_path_rate` acts (there it is built and
    never called; its default here is 0).
    """

    Config = STAttenConfig

    def __init__(self, config: STAttenConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = SpikingPatchEmbedding(config)
        rates = [config.drop_path_rate * i / max(config.depths - 1, 1) for i in range(config.depths)]
        self.block = nn.ModuleList(SpikingBlock(config, rate) for rate in rates)
        self.head_lif = PLIF() if config.spike_mode == "plif" else LIF()
        self.head = nn.Linear(config.embed_dims, config.num_classes)
        self.apply(init_weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input(x, self.config.in_channels, None)
        chunk = self.config.chunk_size
        if x.dim() == 5 and self.config.attention_mode == "STAtten" and x.shape[1] % chunk:
            raise DataError(f"input of {x.shape[1]} time steps: chunk_size = {chunk} must divide them")
        reset(self)
        x = self.patch_embed(to_sequence(x, self.config.T))
        for block in self.block:
            x = block(x)
        pooled = x.movedim(2, -1).flatten(2, 3).mean(2) if has_channels_last(x) else x.flatten(3).mean(3)
        logits = self.head(self.head_lif(pooled))
        return logits if self.config.TET and self.training else logits.mean(0)


def init_weights(module: nn.Module) -> None:
    """Truncated normal (σ = 0.02) and zero bias for 2-D convolutions; torch's defaults elsewhere."""
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
