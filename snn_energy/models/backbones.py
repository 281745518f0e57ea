"""VGG and ResNet shapes of spiking networks, with the neuron given by a factory.

The shapes are those of the code nearest to the STAA-SNN paper, which has none (MPBN, Guo et al., ICCV 2023):
docs/staa.md lists them with their parameter counts.
`EARLY_SHAPES` are the ones that this package had first.

All maps are time first: (T, B, C, H, W).  Convolutions have no bias, each is followed by batch norm, and a
neuron follows the norm or, at the end of a residual block, the sum of branch and shortcut (post-activation,
as in tdBN, Zheng et al., AAAI 2021), so that every convolution but the first and those behind an average pool
sees spikes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.models.steps import conv_bn, per_step

NeuronFactory = Callable[[int], nn.Module]
"""channels -> a multi-step spiking neuron, (T, B, C, H, W) -> {0, 1} of the same shape."""


Shapes = Literal["source", "pooled"]


@dataclass(frozen=True)
class Shape:
    """A backbone: its stem's name, channels and blocks of its stages, hidden channels of its head.

    `pooled`: shortcuts of stride 2 are 2×2 average pooling and a 1×1 convolution, not one of stride 2.
    """

    stem: str
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    hidden: int = 0
    pooled: bool = False


SHAPES: dict[str, Shape] = {
    "vgg13": Shape("vgg", (64, 128, 256, 512, 512), (2, 2, 2, 2, 2)),
    "resnet18": Shape("imagenet", (64, 128, 256, 512), (2, 2, 2, 2)),
    "resnet19": Shape("single", (128, 256, 512), (3, 3, 2)),
    "resnet20": Shape("triple", (64, 128, 256, 512), (2, 2, 2, 2), pooled=True),
    "resnet34": Shape("imagenet", (64, 128, 256, 512), (3, 4, 6, 3)),
}

EARLY_SHAPES: dict[str, Shape] = {
    **SHAPES,
    "resnet18": replace(SHAPES["resnet18"], stem="imagenet-max", pooled=True),
    "resnet19": replace(SHAPES["resnet19"], hidden=256, pooled=True),
    "resnet34": replace(SHAPES["resnet34"], stem="imagenet-max", pooled=True),
}


def shape_of(backbone: str, shapes: Shapes) -> Shape:
    """The shape of a backbone as in its source, or as this package had it first ("pooled")."""
    return (SHAPES if shapes == "source" else EARLY_SHAPES)[backbone]


def halve() -> nn.AvgPool2d:
    """2×2 average pooling that rounds odd sizes up, as a 3×3 convolution of stride 2 and padding 1 does."""
    return nn.AvgPool2d(2, ceil_mode=True)


class ConvNeuron(nn.Module):
    """Convolution, batch norm, neuron: (T, B, C, H, W) -> (T, B, C', H', W')."""

    def __init__(
        self, in_channels: int, channels: int, neuron: NeuronFactory, kernel: int = 3, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.lif = neuron(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lif(conv_bn(x, self.conv, self.bn))


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut: (T, B, C, H, W) -> (T, B, C', H', W').

    The shortcut is the input itself or, where width or size change, a 1×1 convolution of that stride and
    batch norm; `pooled` takes 2×2 averages first instead of every second position, which then are no spikes.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, neuron: NeuronFactory, pooled: bool = True
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.lif1 = neuron(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride == 2 and pooled:
            self.shortcut.append(halve())
        if stride == 2 or in_channels != channels:
            step = 1 if pooled else stride
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, step, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))
        self.lif2 = neuron(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.lif1(conv_bn(x, self.conv1, self.bn1))
        y = conv_bn(y, self.conv2, self.bn2)
        return self.lif2(y + (per_step(self.shortcut, x) if len(self.shortcut) else x))


class PerStep(nn.Module):
    """A stateless `layer` applied to every step: the pools."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return per_step(self.layer, x)


class Backbone(nn.Sequential):
    """Stem and stages: (T, B, in_channels, H, W) -> spikes (T, B, out_channels, H', W').

    `width` multiplies every channel count (at least one channel remains).  `after_stage(channels)` gives a
    module, (T, B, C, H, W) -> the same shape, that follows each stage as `attention1`, `attention2`, …
    """

    def __init__(
        self,
        shape: Shape,
        in_channels: int,
        width: float,
        neuron: NeuronFactory,
        after_stage: NeuronFactory | None = None,
    ) -> None:
        super().__init__()
        widths = [scaled(w, width) for w in shape.widths]
        channels = in_channels
        if shape.stem != "vgg":
            self.stem = make_stem(shape.stem, in_channels, widths[0], neuron)
            channels = widths[0]
        for i, (out, blocks) in enumerate(zip(widths, shape.blocks, strict=True), start=1):
            if shape.stem == "vgg":
                stage = vgg_stage(channels, out, blocks, neuron)
            else:
                stage = residual_stage(channels, out, blocks, 1 if i == 1 else 2, neuron, shape.pooled)
            self.add_module(f"stage{i}", stage)
            if after_stage is not None:
                self.add_module(f"attention{i}", after_stage(out))
            channels = out
        self.out_channels = channels


def scaled(channels: int, width: float) -> int:
    """`channels · width`, rounded, at least 1."""
    return max(1, round(channels * width))


def make_stem(kind: str, in_channels: int, channels: int, neuron: NeuronFactory) -> nn.Sequential:
    """The convolutions in front of the stages and the pool behind them.

    `triple`: three 3×3, then 2×2 average pooling; `single`: one 3×3; `imagenet`: 7×7 of stride 2, then 3×3
    average pooling of stride 2, whose windows count the border as zeros; `imagenet-max`: max pooling there,
    of spikes, so still spikes.
    """
    if kind == "triple":
        ins = (in_channels, channels, channels)
        return nn.Sequential(*(ConvNeuron(c, channels, neuron) for c in ins), PerStep(halve()))
    if kind == "single":
        return nn.Sequential(ConvNeuron(in_channels, channels, neuron))
    stem = ConvNeuron(in_channels, channels, neuron, kernel=7, stride=2)
    pool = nn.MaxPool2d(3, 2, 1) if kind == "imagenet-max" else nn.AvgPool2d(3, 2, 1)
    return nn.Sequential(stem, PerStep(pool))


def vgg_stage(in_channels: int, channels: int, convolutions: int, neuron: NeuronFactory) -> nn.Sequential:
    """3×3 convolutions with their neurons, then 2×2 average pooling."""
    ins = [in_channels] + [channels] * (convolutions - 1)
    return nn.Sequential(*(ConvNeuron(c, channels, neuron) for c in ins), PerStep(halve()))


def residual_stage(
    in_channels: int, channels: int, blocks: int, stride: int, neuron: NeuronFactory, pooled: bool
) -> nn.Sequential:
    """Basic blocks, the first with `stride`."""
    first = BasicBlock(in_channels, channels, stride, neuron, pooled)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, neuron) for _ in range(blocks - 1)))


class Head(nn.Module):
    """Spatial mean, a linear layer: (T, B, C, H, W) -> (T, B, K).

    With `hidden`, a linear layer of so many channels, batch norm and a neuron stand between them.
    """

    def __init__(self, channels: int, hidden: int, num_classes: int, neuron: NeuronFactory) -> None:
        super().__init__()
        self.hidden: nn.Linear | None = None
        if hidden:
            self.hidden = nn.Linear(channels, hidden, bias=False)
            self.norm = nn.BatchNorm1d(hidden)
            self.lif = neuron(hidden)
            channels = hidden
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.mean((-2, -1))
        if self.hidden is not None:
            x = self.norm(self.hidden(x.flatten(0, 1))).unflatten(0, x.shape[:2])
            x = self.lif(x[..., None, None]).flatten(2)
        return self.classifier(x)


def start_norms(model: nn.Module, v_threshold: float, gain: float) -> None:
    """Let every batch norm of `model` start with the weight v_threshold / gain.

    `gain` is how much of a current reaches the membrane in one step; membranes then start with the threshold
    for their standard deviation, as in tdBN, and some 15 % of the neurons fire.  At half of it 4 % do.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(module.weight, v_threshold / gain)


def check_word(name: str, value: object, known: tuple[object, ...]) -> None:
    """Raise `ConfigError` unless `value` is one of the words `known`."""
    if value not in known:
        raise ConfigError(f"{name} = {value!r}: must be one of {', '.join(map(str, known))}")


def check_network(
    backbone: object,
    known: tuple[str, ...],
    in_channels: object,
    num_classes: object,
    width: object,
    shapes: object,
) -> None:
    """Raise `ConfigError` for fields of which no network can be built."""
    check_word("backbone", backbone, known)
    check_word("shapes", shapes, get_args(Shapes))
    for name, value in (("in_channels", in_channels), ("num_classes", num_classes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} = {value!r}: must be a positive whole number")
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width < float("inf"):
        raise ConfigError(f"width = {width!r}: must be a positive number")
