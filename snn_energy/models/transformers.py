"""SpikingJelly's spiking transformers under our conventions, with their own attention or with STAtten.

Each class is SpikingJelly's, so its `state_dict` is too; ours is the order of the axes, the reset at the
start of every call, and the choice of the attention.  Inputs are (B, C, H, W), presented at each of the T
steps, or (B, T, C, H, W); outputs are logits (B, K).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from spikingjelly.activation_based import model as zoo
from spikingjelly.activation_based.layer import SeqToANNContainer
from spikingjelly.activation_based.model.spikformer import SpikformerConv2dBNLIF
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.models.neurons import reset
from snn_energy.models.plug_in import replace_attention
from snn_energy.models.steps import check_input

AttentionMode = Literal["own", "STAtten"]


@dataclass(frozen=True)
class TransformerConfig:
    """Fields that all of them have; `attention_mode` "own" is the attention of the network's own paper."""

    in_channels: int = 3
    num_classes: int = 1000
    embed_dims: int = 384
    mlp_ratios: float = 4.0
    T: int = 4
    chunk_size: int = 2
    attention_mode: AttentionMode = "own"

    def __post_init__(self) -> None:
        for name in ("in_channels", "num_classes", "embed_dims", "T", "chunk_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} = {value!r}: must be a positive whole number")
        if self.attention_mode not in get_args(AttentionMode):
            raise ConfigError(f"attention_mode = {self.attention_mode!r}: must be own or STAtten")
        if self.attention_mode == "STAtten" and self.T % self.chunk_size:
            raise ConfigError(f"chunk_size = {self.chunk_size}: must divide T = {self.T}")


@dataclass(frozen=True)
class SpikformerConfig(TransformerConfig):
    """Spikformer (Zhou et al., ICLR 2023); `patch_size` 4 halves the image twice, 16 four times.

    `pool_spikes`: max-pool the spikes behind a neuron, as the official release does; SpikingJelly pools the
    currents in front of it.  `scale`: the factor of its own attention, 1/8; for events the release has 1/4.
    """

    img_size_h: int = 32
    img_size_w: int = 32
    patch_size: int = 4
    num_heads: int = 12
    depths: int = 4
    pool_spikes: bool = False
    scale: float = 0.125


@dataclass(frozen=True)
class QKFormerConfig(TransformerConfig):
    """QKFormer (Zhou et al., NeurIPS 2024): two stages of Q-K attention, then one of self-attention."""

    num_heads: tuple[int, int, int] = (3, 6, 6)
    depths: tuple[int, int, int] = (1, 2, 7)
    qka_type: Literal["token", "channel"] = "token"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.num_heads, int):  # the same number in all three
            object.__setattr__(self, "num_heads", (self.num_heads,) * 3)


@dataclass(frozen=True)
class MaxFormerConfig(TransformerConfig):
    """Max-Former (Fang et al., 2025); `cifar` is its form for images of 32×32 pixels."""

    depths: tuple[int, int, int] = (1, 1, 2)
    cifar: bool = True


class Conventions:
    """Mixin in front of a SpikingJelly model: batch first, reset before each call, mean over steps."""

    config: TransformerConfig

    def adopt(self, config: TransformerConfig) -> None:
        self.config = config
        if config.attention_mode == "STAtten":
            replace_attention(self, chunk=config.chunk_size)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input(x, self.config.in_channels, None)
        reset(self)  # type: ignore[arg-type]
        logits = super().forward(x.transpose(0, 1) if x.dim() == 5 else x)  # type: ignore[misc]
        return logits.mean(0) if logits.dim() == 3 else logits


class Spikformer(Conventions, zoo.Spikformer):
    """Spikformer, or STAtten in its place."""

    Config = SpikformerConfig

    def __init__(self, config: SpikformerConfig) -> None:
        super().__init__(
            T=config.T,
            img_size_h=config.img_size_h,
            img_size_w=config.img_size_w,
            patch_size=config.patch_size,
            in_channels=config.in_channels,
            num_classes=config.num_classes,
            embed_dims=config.embed_dims,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_ratios,
            depths=config.depths,
        )
        if config.pool_spikes:
            for stage in self.patch_embed.stages:
                pool_behind(stage)
        for block in self.blocks:
            block.attn.scale = config.scale
        self.adopt(config)


def pool_behind(stage: SpikformerConv2dBNLIF) -> None:
    """Move the pool of a stage, if it has one, from between norm and neuron to behind the neuron."""
    layers = list(stage.conv_bn.block)
    if len(layers) == 3:
        stage.conv_bn.block = SeqToANNContainer(*layers[:2])
        stage.neuron = nn.Sequential(stage.neuron, SeqToANNContainer(layers[2]))


class QKFormer(Conventions, zoo.QKFormer):
    """QKFormer, or with STAtten in its last stage (the others have no values to attend to)."""

    Config = QKFormerConfig

    def __init__(self, config: QKFormerConfig) -> None:
        super().__init__(
            T=config.T,
            in_channels=config.in_channels,
            num_classes=config.num_classes,
            embed_dims=config.embed_dims,
            num_heads=config.num_heads,
            depths=config.depths,
            mlp_ratio=config.mlp_ratios,
            qka_type=config.qka_type,
        )
        self.adopt(config)


class MaxFormer(Conventions, zoo.MaxFormer):
    """Max-Former, or with STAtten in its last stage (the others are convolutional)."""

    Config = MaxFormerConfig

    def __init__(self, config: MaxFormerConfig) -> None:
        super().__init__(
            T=config.T,
            in_channels=config.in_channels,
            num_classes=config.num_classes,
            embed_dims=config.embed_dims,
            depths=config.depths,
            mlp_ratio=config.mlp_ratios,
            cifar=config.cifar,
        )
        self.adopt(config)
