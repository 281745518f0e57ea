"""Small networks whose neurons all fire, with every dimension different, for capture and export."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from exact import exact, exact_images
from spikingjelly.activation_based import layer, neuron
from torch import nn

from snn_energy.graph.capture import capture
from snn_energy.graph.graph import Graph
from snn_energy.models.neurons import LIF, PLIF, reset
from snn_energy.models.staa_neuron import STAALIF, NeuronConfig
from snn_energy.models.steps import to_sequence
from snn_energy.models.zoo import create_model

STATTEN: dict[str, Any] = {
    "img_size_h": 32,
    "img_size_w": 20,
    "in_channels": 3,
    "num_classes": 5,
    "embed_dims": 48,
    "num_heads": 3,
    "depths": 1,
    "T": 6,
    "chunk_size": 2,
    "pooling_stat": "1010",
    "mlp_ratios": 2,
}


def lively(model: nn.Module, x: torch.Tensor, seed: int = 0) -> nn.Module:
    """Norms fitted to what reaches them on x, with gains and offsets that make neurons fire now and then."""
    torch.manual_seed(seed)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.weight.data.uniform_(0.8, 1.6)
        norm.bias.data.uniform_(0.0, 0.8)
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.no_grad():
        for _ in range(2):
            reset(model)
            model(x)
    reset(model)
    return model.eval()


def images(seed: int = 1, batch: int = 4) -> torch.Tensor:
    """(B, 3, 32, 20), on the grid of `exact`."""
    return exact_images(batch, 3, 32, 20, seed=seed)


def frames(seed: int = 1, batch: int = 4, steps: int = 6) -> torch.Tensor:
    """(B, T, 3, 32, 20) event counts."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 3, (batch, steps, 3, 32, 20), generator=generator).float()


def statten(**fields: Any) -> nn.Module:
    """STAtten with all dimensions distinct and a non-square input; its sums are exact in float32."""
    torch.manual_seed(0)
    return exact(lively(create_model("statten", **{**STATTEN, **fields}), images()))


@functools.cache
def captured(kind: str = "images", **fields: Any) -> tuple[nn.Module, Graph]:
    """A STAtten and its graph, made once per test run; not to be changed."""
    model = statten(**fields)
    return model, capture(model, images() if kind == "images" else frames())


class Convolutions(nn.Module):
    """Strides, groups, dilations, a transposed convolution, pools, concatenation, PLIF and a scale; T = 3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding=(1, 2), bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.lif1 = LIF()
        self.conv2 = nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=4)
        self.bn2 = nn.BatchNorm2d(12)
        self.lif2 = PLIF()
        self.pool = nn.AvgPool2d((2, 4), (2, 2), padding=(0, 1))
        self.up = nn.ConvTranspose2d(
            12, 10, (2, 3), stride=2, padding=(0, 1), groups=2, output_padding=(0, 1)
        )
        self.bn3 = nn.BatchNorm2d(10)
        self.lif3 = LIF(v_threshold=0.75, tau=3.0)
        self.fc = nn.Linear(22, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reset(self)
        x = to_sequence(x, 3)
        steps = x.shape[:2]
        first = self.lif1(self.bn1(self.conv1(x.flatten(0, 1))).unflatten(0, steps))
        second = self.lif2(self.bn2(self.conv2(first.flatten(0, 1))).unflatten(0, steps))
        up = self.bn3(self.up(self.pool(second.flatten(0, 1))))
        third = self.lif3(up.unflatten(0, steps) * 1.25)
        both = torch.cat([third.amax((3, 4)), second.mean((3, 4))], dim=2)
        return self.fc(both).mean(0)


class OneNeuron(nn.Module):
    """A linear layer and a SpikingJelly neuron with any settings; T = 5."""

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        self.fc = nn.Linear(7, 11)
        self.neuron = node
        self.head = nn.Linear(11, 4)
        torch.manual_seed(3)
        nn.init.normal_(self.fc.weight, 0.3, 1.0)
        nn.init.normal_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reset(self)
        return self.head(self.neuron(self.fc(x.transpose(0, 1)))).mean(0)


class Gated(nn.Module):
    """One convolution and one STAA neuron, with all its gates unless `fields` say otherwise; T = 3."""

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.lif = STAALIF(8, NeuronConfig(T=3, **fields))
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = to_sequence(x, 3)
        x = self.lif(self.bn(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2]))
        return self.head(x.mean((3, 4))).mean(0)


def gated(**fields: Any) -> nn.Module:
    """`Gated` with weights that make every gate matter."""
    torch.manual_seed(7)
    model = lively(Gated(**fields), images(batch=16))
    for parameter in model.lif.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


NEURONS: dict[str, Callable[[], nn.Module]] = {
    "lif": lambda: neuron.LIFNode(step_mode="m"),
    "tau 3": lambda: neuron.LIFNode(tau=3.0, v_threshold=0.7, step_mode="m"),
    "reset to a value": lambda: neuron.LIFNode(tau=1.5, v_reset=0.125, step_mode="m"),
    "soft reset": lambda: neuron.LIFNode(tau=2.0, v_reset=None, step_mode="m"),
    "undecayed input": lambda: neuron.LIFNode(tau=2.5, decay_input=False, step_mode="m"),
    "undecayed, soft": lambda: neuron.LIFNode(tau=4.0, decay_input=False, v_reset=None, step_mode="m"),
    "plif": lambda: neuron.ParametricLIFNode(init_tau=2.3, step_mode="m"),
    "if": lambda: neuron.IFNode(step_mode="m"),
    "if, soft": lambda: neuron.IFNode(v_threshold=1.3, v_reset=None, step_mode="m"),
}


class Unrolled(nn.Module):
    """SpikingJelly's own layers: (T, B, C, H, W) through modules of step_mode 'm'; T = 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = layer.Conv2d(3, 6, 3, padding=1, step_mode="m")
        self.bn = layer.BatchNorm2d(6, step_mode="m")
        self.sn = neuron.IFNode(step_mode="m")
        self.pool = layer.AdaptiveAvgPool2d((1, 1), step_mode="m")
        self.fc = layer.Linear(6, 5, step_mode="m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        x = self.pool(self.sn(self.bn(self.conv(x)))).flatten(2)
        return self.fc(x).mean(0)
