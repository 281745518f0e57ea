"""STAtten in other people's spiking transformers.

The paper (Lee et al., CVPR 2025) puts its attention into Spikformer, the Spike-driven Transformer and
QKFormer and changes nothing around it: projections, neurons and residuals stay, and only the product of
queries, keys and values goes over the tokens of several steps instead of one.  `replace_attention` does that
to the self-attention layers of SpikingJelly 2, wherever in a model they stand.

Weights, names and the `state_dict` stay as they were, so the weights of a trained network fit both forms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.models.rewire import CONNECTORS, heads_of, rewire
from snn_energy.models.statten import spatial_temporal


@dataclass(frozen=True)
class SpatialTemporal:
    """STAtten's product, Q (KᵀV · scale) over `chunk` steps at a time; None is 1/H of (T, B, C, H, W)."""

    heads: int
    chunk: int
    scale: float | None

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if q.shape[0] % self.chunk:
            raise DataError(f"input of {q.shape[0]} time steps: chunk = {self.chunk} must divide them")
        scale = 1 / q.shape[3] if self.scale is None else self.scale
        return spatial_temporal(q, k, v, self.heads, self.chunk, scale)


def replace_attention(
    model: nn.Module, mode: str = "STAtten", chunk: int = 2, scale: float | None = None
) -> nn.Module:
    """Turn every self-attention of `model` that has queries, keys and values into STAtten; in place.

    `chunk` steps attend jointly (it must divide T); chunk = 1 is attention within a step.  `scale` multiplies
    KᵀV.  By default it is 1/H for the Spike-driven Transformer, H the height of the feature map, as in the
    official STAtten release.  Spikformer and its kin scale the sum over the N tokens of a step by 1/8; over
    the chunk·N tokens of a chunk the default is 1/(8·chunk), which leaves the mean drive of the neuron behind
    as it was, and the whole layer as it was where chunk = 1.  Q-K attention (two stages of QKFormer) has no
    values to attend to and stays.

    Returns `model`.  Raises `ConfigError` where nothing in it can be replaced, naming what could be.
    """
    if mode != "STAtten":
        raise ConfigError(f"mode = {mode!r}: must be 'STAtten'")
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise ConfigError(f"chunk = {chunk!r}: must be a positive whole number")

    def product(layer: nn.Module, own_scale: float | None) -> SpatialTemporal:
        default = None if own_scale is None else own_scale / chunk
        return SpatialTemporal(heads_of(layer), chunk, default if scale is None else scale)

    if not rewire(model, CONNECTORS, product):
        known = ", ".join(kind.__name__ for kind in CONNECTORS)
        raise ConfigError(f"{type(model).__name__} holds no self-attention to replace; replaced are: {known}")
    return model
