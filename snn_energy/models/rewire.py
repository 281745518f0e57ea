"""Self-attention layers with their product exchanged: projections, neurons, residuals and names stay.

A layer of another model is taken over by a connector, which owns its children under their own names (so the
`state_dict` stays) and calls `product(q, k, v)` where the layer multiplied queries, keys and values itself.
STAtten as a plug-in and the softmax attention of the dense twin are two such products.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from spikingjelly.activation_based.layer.attention import SpikeDrivenSelfAttention, SpikingSelfAttention
from spikingjelly.activation_based.model import maxformer
from torch import nn

from snn_energy.models.steps import per_step

Product = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""3 × (T, B, C, tokens ...) -> (T, B, C, tokens ...), heads contiguous in C."""


class Connector(nn.Module):
    """Owns the children of `layer` under their names; subclasses connect them."""

    own_scale: float | None = None
    """The factor of the layer's own product, where it has one."""

    def __init__(self, layer: nn.Module, product: Product) -> None:
        super().__init__()
        for name, child in layer.named_children():
            self.add_module(name, child)
        self.num_heads = heads_of(layer)
        self.product = product
        self.train(layer.training)

    def through(self, names: str, x: torch.Tensor) -> torch.Tensor:
        """`x` through the children `names`, one after the other."""
        for name in names.split():
            x = self.get_submodule(name)(x)
        return x

    def project(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """`x` through the children `<name>_conv` and `<name>_bn`, which know no time."""
        return per_step(lambda s: self.through(f"{name}_conv {name}_bn", s), x)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, product={self.product}"


class SSA(Connector):
    """`SpikingSelfAttention` (Spikformer, QKFormer, Max-Former): (T, B, C, tokens) -> the same."""

    own_scale = 0.125

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.through("qkv_conv_bn qkv_lif", x).chunk(3, dim=2)
        return self.through("attn_lif proj_conv_bn proj_lif", self.product(q, k, v))


class MaxCifarSSA(Connector):
    """Max-Former's attention for CIFAR, a neuron in front and none behind: (T, B, C, tokens) -> the same."""

    own_scale = 0.125

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.through("input_lif qkv qkv_lif", x).chunk(3, dim=2)
        return self.through("attn_lif proj", self.product(q, k, v))


class SDSA(Connector):
    """`SpikeDrivenSelfAttention`: (T, B, C, H, W) -> the same, membrane shortcut included."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.through("shortcut_lif", x)
        q, k, v = (self.through(f"{s}_conv {s}_bn {s}_lif", spikes) for s in "qkv")
        return x + self.through("attn_lif proj_conv proj_bn", self.product(q, k, v))


CONNECTORS: dict[type[nn.Module], type[Connector]] = {
    SpikingSelfAttention: SSA,
    SpikeDrivenSelfAttention: SDSA,
    maxformer._MaxCifarSSA: MaxCifarSSA,
}


def rewire(
    model: nn.Module,
    layers: dict[type[nn.Module], type[Connector]],
    product: Callable[[nn.Module, float | None], Product],
) -> list[str]:
    """Put a connector in the place of every layer that `layers` knows; the paths of those replaced.

    `product(layer, own_scale)` gives the product of one layer.
    """
    found = [(path, layer) for path, layer in model.named_modules() if path and type(layer) in layers]
    for path, layer in found:
        connector = layers[type(layer)]
        put(model, path, connector(layer, product(layer, connector.own_scale)))
    return [path for path, _ in found]


def heads_of(layer: nn.Module) -> int:
    """The number of heads of a self-attention layer."""
    return layer.num_heads if hasattr(layer, "num_heads") else layer.heads  # type: ignore[return-value]


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Set the submodule at `path`."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
