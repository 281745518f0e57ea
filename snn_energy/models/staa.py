"""STAA-SNN: VGG and ResNet networks of attending neurons (Zhang et al., CVPR 2025, arXiv 2503.02689).

The paper released no code.  Its figures fit the shapes of `backbones` to the unit of what it prints:
ResNet-20 with r = 4, T = 4 and 10 classes has 12,691,216 parameters without step attention (the paper:
12.69 M), and 19 · 6 more with it.  docs/staa.md says what is known, what is inferred, and what does not fit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.models.backbones import (
    Backbone,
    Head,
    Shapes,
    check_network,
    scaled,
    shape_of,
    start_norms,
)
from snn_energy.models.staa_neuron import STAALIF, NeuronConfig
from snn_energy.models.steps import check_input, to_sequence

BackboneName = Literal["vgg13", "resnet18", "resnet19", "resnet20", "resnet34"]


@dataclass(frozen=True)
class STAAConfig(NeuronConfig):
    """Fields of `STAASNN`: those of its neurons (`NeuronConfig`) and those of the network.

    `backbone`: its shape; `width` multiplies every channel count (1 is the paper's network);
    `in_channels`: 3 for images, 2 for events; `TET`: in training, logits of every step, (T, B, K);
    `shapes`: the backbone as in its "source", or "pooled" as this package had it first (`backbones`).
    """

    backbone: BackboneName = "resnet20"
    in_channels: int = 3
    num_classes: int = 10
    width: float = 1.0
    TET: bool = False
    shapes: Shapes = "source"

    OLDER: ClassVar[Mapping[str, Any]] = {"shapes": "pooled"}
    """What a checkpoint means that was saved before these fields were."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_network(
            self.backbone,
            get_args(BackboneName),
            self.in_channels,
            self.num_classes,
            self.width,
            self.shapes,
        )
        if not isinstance(self.TET, bool):
            raise ConfigError(f"TET = {self.TET!r}: must be true or false")

    def neuron(self) -> NeuronConfig:
        """The fields that a neuron reads."""
        return NeuronConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(NeuronConfig)})


class STAASNN(nn.Module):
    """STAA-SNN: (B, C, H, W), shown at every step, or (B, T, C, H, W) -> logits (B, K), the mean over T.

    With `TET`, in training, the logits of every step, (T, B, K).  Neurons start from zero membranes at each
    call.  Raises `DataError` for an input of another shape.
    """

    Config = STAAConfig

    def __init__(self, config: STAAConfig) -> None:
        super().__init__()
        self.config = config
        fields = config.neuron()

        def neuron(channels: int) -> STAALIF:
            return STAALIF(channels, fields)

        shape = shape_of(config.backbone, config.shapes)
        self.backbone = Backbone(shape, config.in_channels, config.width, neuron)
        hidden = scaled(shape.hidden, config.width) if shape.hidden else 0
        self.head = Head(self.backbone.out_channels, hidden, config.num_classes, neuron)
        gain = config.constants[1] * (0.5 if config.sa else 1.0)
        start_norms(self, config.v_threshold, gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input(x, self.config.in_channels, self.config.T if self.config.pe != "off" else None)
        logits = self.head(self.backbone(to_sequence(x, self.config.T)))
        return logits if self.config.TET and self.training else logits.mean(0)
