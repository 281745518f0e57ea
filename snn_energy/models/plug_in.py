"""STAtten in other people's spiking transformers.

The paper (Lee et al., CVPR 2025) puts its attention into Spikformer, the Spike-driven Transformer and
QKFormer and changes nothing around it: projections, neurons and residuals stay, and only the product of
queries, keys and values goes over the tokens of several steps instead of one.  `replace_attention` does that
to the self-attention layers of SpikingJelly 2, wherever in a model they stand.

Weights, names and the `state_dict` stay as they were, so the weights of a trained network fit both forms.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based.layer.attention import SpikeDrivenSelfAttention, SpikingSelfAttention
from spikingjelly.activation_based.model import maxformer
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.models.statten import spatial_temporal


class SpatialTemporalAttention(nn.Module):
    """Takes over the children of a self-attention layer with their names; subclasses connect them."""

    attn_lif: nn.Module
    default_scale: float | None = None
    """Scale of the replaced product, where it has one."""

    def __init__(self, layer: nn.Module, chunk_size: int, scale: float | None) -> None:
        super().__init__()
        for name, child in layer.named_children():
            self.add_module(name, child)
        self.num_heads: int = layer.num_heads  # type: ignore[assignment]
        self.chunk_size = chunk_size
        if scale is None and self.default_scale is not None:
            scale = self.default_scale / chunk_size
        self.scale = scale
        self.train(layer.training)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """LIF(Q (KᵀV · s)) over chunks: 3 × (T, B, C, ...) spikes -> (T, B, C, ...) spikes."""
        if q.shape[0] % self.chunk_size:
            raise ConfigError(f"chunk = {self.chunk_size}: must divide T = {q.shape[0]}")
        scale = 1 / q.shape[3] if self.scale is None else self.scale
        return self.attn_lif(spatial_temporal(q, k, v, self.num_heads, self.chunk_size, scale))

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, chunk_size={self.chunk_size}, scale={self.scale or '1/H'}"


class SpatialTemporalSSA(SpatialTemporalAttention):
    """In place of `SpikingSelfAttention` (Spikformer, QKFormer, Max-Former): (T, B, C, tokens) -> the same.

    The replaced product sums over the N tokens of a step with scale 1/8; over the chunk·N tokens of a chunk
    the scale is 1/(8·chunk), which leaves the mean drive of the neuron behind it as it was, and the whole
    layer as it was where chunk = 1.
    """

    default_scale = 0.125
    qkv_conv_bn: nn.Module
    qkv_lif: nn.Module
    proj_conv_bn: nn.Module
    proj_lif: nn.Module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv_lif(self.qkv_conv_bn(x)).chunk(3, dim=2)
        return self.proj_lif(self.proj_conv_bn(self.attend(q, k, v)))


class SpatialTemporalMaxCifarSSA(SpatialTemporalAttention):
    """In place of Max-Former's attention for CIFAR: a neuron in front and none behind; scale as above."""

    default_scale = 0.125
    input_lif: nn.Module
    qkv: nn.Module
    qkv_lif: nn.Module
    proj: nn.Module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv_lif(self.qkv(self.input_lif(x))).chunk(3, dim=2)
        return self.proj(self.attend(q, k, v))


class SpatialTemporalSDSA(SpatialTemporalAttention):
    """In place of `SpikeDrivenSelfAttention`: (T, B, C, H, W) -> the same, membrane shortcut included.

    Scale 1/H with H the height of the feature map, as in the official STAtten release: with equal weights the
    layer is the one of `snn_energy.models.statten`.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        child = self.get_submodule
        spikes = child("shortcut_lif")(x)
        q, k, v = (child(f"{s}_lif")(child(f"{s}_bn")(child(f"{s}_conv")(spikes))) for s in "qkv")
        return x + child("proj_bn")(child("proj_conv")(self.attend(q, k, v)))


REPLACEMENTS: dict[type[nn.Module], type[SpatialTemporalAttention]] = {
    SpikingSelfAttention: SpatialTemporalSSA,
    SpikeDrivenSelfAttention: SpatialTemporalSDSA,
    maxformer._MaxCifarSSA: SpatialTemporalMaxCifarSSA,
}


def replace_attention(
    model: nn.Module, mode: str = "STAtten", chunk: int = 2, scale: float | None = None
) -> nn.Module:
    """Turn every self-attention of `model` that has queries, keys and values into STAtten; in place.

    `chunk` steps attend jointly (it must divide T); chunk = 1 is attention within a step.  `scale` multiplies
    KᵀV; by default it is 1/H for the Spike-driven Transformer, and 1/(8·chunk) for the others.  Q-K attention
    (the first two stages of QKFormer) has no values to attend to and stays.  Returns `model`.

    Raises `ConfigError` where nothing in `model` can be replaced, naming what could be.
    """
    if mode != "STAtten":
        raise ConfigError(f"mode = {mode!r}: must be 'STAtten'")
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise ConfigError(f"chunk = {chunk!r}: must be a positive whole number")
    found = [(path, layer) for path, layer in model.named_modules() if type(layer) in REPLACEMENTS]
    if not found or found[0][0] == "":
        known = ", ".join(kind.__name__ for kind in REPLACEMENTS)
        raise ConfigError(f"{type(model).__name__} holds no self-attention to replace; replaced are: {known}")
    for path, layer in found:
        parent, _, name = path.rpartition(".")
        replacement = REPLACEMENTS[type(layer)](layer, chunk, scale)
        setattr(model.get_submodule(parent), name, replacement)
    return model
