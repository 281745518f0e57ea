"""STAA neurons with random weights, alone and in a small residual network, for tests of their lowering."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from test_lower import lively
from torch import nn

from snn_energy.exporters.lowering.staa import read_module, staa_registers
from snn_energy.exporters.netlist.record import Edge, Identity, Input, Netlist, StaaLif
from snn_energy.models.backbones import BasicBlock, ConvNeuron, Head, PerStep, halve
from snn_energy.models.neurons import LIF
from snn_energy.models.staa_neuron import STAALIF, NeuronConfig
from snn_energy.models.steps import to_sequence


def randomised(neuron: STAALIF, seed: int) -> STAALIF:
    """No gate is the identity: weights of the size that training leaves."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in neuron.named_parameters():
            scalar = name in ("M", "N")
            p.copy_(0.3 + 0.7 * torch.rand(p.shape, generator=generator) if scalar
                    else 0.5 * torch.randn(p.shape, generator=generator))  # fmt: skip
    return neuron.eval()


def made(shape, T, seed, scale=300.0, **fields) -> tuple[STAALIF, StaaLif]:
    neuron = randomised(STAALIF(shape[0], NeuronConfig(T=T, **fields)), seed)
    bias = np.random.default_rng(seed).integers(-90, 90, shape[0])
    return neuron, staa_registers("lif", read_module(neuron), shape, scale, bias)


def currents(node: StaaLif, *lead: int, seed: int = 0, spread: float = 1.5) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.rint(generator.normal(0.2, spread, (*lead, *node.shape)) * node.scale).astype(np.int64)


def alone(node: StaaLif, T: int) -> Netlist:
    """x - w - lif, whose current is twice its message."""
    nodes = {"x": Input(node.shape, 20), "w": Identity(node.shape, 2), "lif": node}
    return Netlist(nodes, (Edge("x", "w"), Edge("w", "lif")), T)


class Net(nn.Module):
    """A convolution, an average pool, a block whose shortcut is the pool, one whose shortcut has a layer."""

    def __init__(self, neuron, T: int, channels: int = 6) -> None:
        super().__init__()
        self.T, c = T, channels
        self.first, self.pool = ConvNeuron(2, c, neuron), PerStep(halve())
        self.same, self.block = BasicBlock(c, c, 1, neuron), BasicBlock(c, 7, 2, neuron)
        self.head = Head(7, 0, 5, neuron)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.first(to_sequence(x, self.T)))
        return self.head(self.block(self.same(x))).mean(0)


def staa_net(T: int = 2, seed: int = 0, **fields) -> Net:
    """Every other neuron layer is a STAA neuron: three of five."""
    config, staa = NeuronConfig(T=T, **fields), itertools.cycle([True, False])
    net = lively(Net(lambda c: STAALIF(c, config) if next(staa) else LIF(), T), seed, gain=3.0)
    for i, module in enumerate(m for m in net.modules() if isinstance(m, STAALIF)):
        randomised(module, seed + i)
    return net
