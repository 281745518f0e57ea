"""The dense twin of a spiking network: the ANN of the same shape, as a network that runs.

`snn_energy.energy.twin.dense_twin` prices this network from the Profile of the spiking one, without building
it; the two agree to the multiplication, which the tests check.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from spikingjelly.activation_based import base, neuron
from spikingjelly.activation_based.layer.attention import (
    ChannelQKAttention,
    MultiDimensionalAttention,
    QKAttention,
    TemporalWiseAttention,
    TokenQKAttention,
)
from torch import nn
from torch.nn import functional as F

from snn_energy.models.decoupled import SpatialAttention, TemporalAttention
from snn_energy.models.rewire import CONNECTORS, Connector, Product, heads_of, put, rewire
from snn_energy.models.staa_neuron import STAALIF
from snn_energy.models.statten import SpikingAttention


@dataclass(frozen=True)
class Softmax:
    """softmax(Q Kᵀ / √d) V over the tokens of one step: 3 × (T, B, C, tokens ...) -> the same."""

    heads: int

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        shape = q.shape
        q, k, v = (s.flatten(3).unflatten(2, (self.heads, -1)).transpose(-2, -1) for s in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(-2, -1).reshape(shape)


def only_step(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention over the steps of a position where there is one step: its weight is 1."""
    return v


class STAttenLayer(Connector):
    """Our `SpikingAttention`; the pools and gates of `dvs_mode` belong to spikes and go."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.through("shortcut_lif", x)
        q, k, v = (self.through(f"{s}_lif", self.project(s, spikes)) for s in "qkv")
        name = "attn_lif" if hasattr(self, "attn_lif") else "talking_heads_lif"
        return x + self.project("proj", self.through(name, self.product(q, k, v)))


class QKLayer(Connector):
    """SpikingJelly's Q-K attention, which has no values: its keys stand in for them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = self.through("qk_conv_bn qk_lif", x).chunk(2, dim=2)
        return self.through("attn_lif proj_conv_bn proj_lif", self.product(q, k, k))


class MapLayer(Connector):
    """An attention of the decoupled model: spikes in, activations out, of one shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self.through(f"{s}_lif", self.project(s, x)) for s in "qkv")
        mixed = self.through("attn_lif", self.product(q, k, v))
        return self.through("out_lif", self.project("proj", mixed) + x)


LAYERS: dict[type[nn.Module], type[Connector]] = {
    **CONNECTORS,
    SpikingAttention: STAttenLayer,
    SpatialAttention: MapLayer,
    TemporalAttention: MapLayer,
    **dict.fromkeys((QKAttention, TokenQKAttention, ChannelQKAttention), QKLayer),
}


def ann_twin(model: nn.Module) -> nn.Module:
    """The ANN of the same shape: every neuron a ReLU, attention with softmax, one pass instead of T steps.

    Module paths, convolutions, linear layers and norms are those of `model`, with copies of its weights, so
    its rows in a Profile stand beside the spiking network's; `profile(ann_twin(model), batches)` is the dense
    reference of "k times less energy than the ANN".  It trains like any network.  Sequences of frames
    (B, T, C, H, W), or (T, B, C, H, W) for SpikingJelly's models, enter as their mean over T.  Gates over
    time (MA-SNN, the STAA neuron) have nothing to weigh in one pass and go.

    `model` itself is not touched, and neither are its membranes.
    """
    with fresh_neurons(model):
        twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, Connector):  # of `replace_attention`
            module.product = Softmax(heads_of(module))
    rewire(twin, LAYERS, dense_product)
    for path in top_neurons(twin):
        put(twin, path, nn.ReLU())
    one_pass(twin)
    return twin


def dense_product(layer: nn.Module, own_scale: float | None) -> Product:
    """Softmax attention in the place of the product of `layer`."""
    return only_step if isinstance(layer, TemporalAttention) else Softmax(heads_of(layer))


def one_pass(model: nn.Module) -> None:
    """T = 1, and the mean frame of what comes as a sequence."""
    config = getattr(model, "config", None)
    time_axis = 0 if config is None else 1
    if config is not None:
        ones: dict[str, Any] = {name: 1 for name in ("T", "chunk_size") if hasattr(config, name)}
        model.config = dataclasses.replace(config, **ones)
    for path, module in list(model.named_modules()):
        if isinstance(getattr(module, "T", None), int):
            module.T = 1
        if isinstance(module, MultiDimensionalAttention):
            module.ta = None
        if isinstance(module, TemporalWiseAttention):
            put(model, path, nn.Identity())

    def mean_frame(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0]
        return (x.mean(time_axis, keepdim=True) if x.dim() == 5 else x, *args[1:])

    model.register_forward_pre_hook(mean_frame)


def top_neurons(model: nn.Module) -> list[str]:
    """Paths of the spiking neurons, none inside another."""
    found: list[str] = []
    for path, module in model.named_modules():
        is_neuron = isinstance(module, neuron.BaseNode | STAALIF) or hasattr(module, "v_threshold")
        if is_neuron and not any(path.startswith(f"{above}.") for above in found):
            found.append(path)
    return found


@contextlib.contextmanager
def fresh_neurons(model: nn.Module) -> Iterator[None]:
    """Initial membranes inside the block (those of a training step cannot be copied), then the old ones."""
    neurons = [m for m in model.modules() if isinstance(m, base.MemoryModule)]
    memories = [dict(m._memories) for m in neurons]
    try:
        for m in neurons:
            m.reset()
        yield
    finally:
        for m, memory in zip(neurons, memories, strict=True):
            m._memories.clear()
            m._memories.update(memory)
