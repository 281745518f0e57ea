"""SpikingJelly's SEW-ResNet under our conventions: batch first, reset before each call, mean over steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model import sew_resnet as zoo

from snn_energy.errors import ConfigError
from snn_energy.models.neurons import reset
from snn_energy.models.steps import check_input, to_sequence

Connect = Literal["ADD", "AND", "IAND"]

LAYERS: dict[int, tuple[type, tuple[int, int, int, int]]] = {
    18: (zoo.BasicBlock, (2, 2, 2, 2)),
    34: (zoo.BasicBlock, (3, 4, 6, 3)),
    50: (zoo.Bottleneck, (3, 4, 6, 3)),
    101: (zoo.Bottleneck, (3, 4, 23, 3)),
    152: (zoo.Bottleneck, (3, 8, 36, 3)),
}
"""Depth -> block, and how many of it in each of the four stages."""


@dataclass(frozen=True)
class SEWResNetConfig:
    """SEW-ResNet for ImageNet (Fang et al., NeurIPS 2021); `cnf` joins a block's spikes with its shortcut."""

    depth: int = 18
    in_channels: int = 3
    num_classes: int = 1000
    T: int = 4
    cnf: Connect = "ADD"

    def __post_init__(self) -> None:
        for name in ("num_classes", "T"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} = {value!r}: must be a positive whole number")
        if self.depth not in LAYERS:
            raise ConfigError(f"depth = {self.depth!r}: must be one of {', '.join(map(str, LAYERS))}")
        if self.in_channels != 3:
            raise ConfigError(f"in_channels = {self.in_channels!r}: the network takes images of 3 channels")
        if self.cnf not in get_args(Connect):
            raise ConfigError(f"cnf = {self.cnf!r}: must be ADD, AND or IAND")
        if self.cnf == "IAND" and self.depth >= 50:
            raise ConfigError(
                "cnf = 'IAND': SpikingJelly's bottleneck has the two sides of it changed over; use ADD or AND"
            )


class SEWResNet(zoo.SEWResNet):
    """(B, C, H, W), presented at each of the T steps, or (B, T, C, H, W) -> logits (B, K); IF neurons."""

    Config = SEWResNetConfig

    def __init__(self, config: SEWResNetConfig) -> None:
        block, layers = LAYERS[config.depth]
        super().__init__(
            block,
            list(layers),
            num_classes=config.num_classes,
            cnf=config.cnf,
            spiking_neuron=neuron.IFNode,
            surrogate_function=surrogate.ATan(),
            detach_reset=True,
        )
        self.config = config
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input(x, self.config.in_channels, None)
        reset(self)
        return super().forward(to_sequence(x, self.config.T)).mean(0)
