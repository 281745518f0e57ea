"""Two small networks that other tools can count, too, with weights that any processor fires the same.

Weights and inputs are multiples of 1/8 and leaks halve, so sums are exact; the sizes of spike tensors are
powers of two, so that a tool's rates in float32 are exact as well.  `scripts/tool_totals.py` runs the tools.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

STEPS = 4


def fill(model: nn.Module, *, pruned: bool = False) -> nn.Module:
    """Weights of −5/8 … 5/8 that repeat over 11 elements; every third is 0 if `pruned`."""
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            index = torch.arange(parameter.numel()) + 3 * i
            values = ((index * 7) % 11 - 5) / 8
            if pruned and parameter.dim() > 1:
                values[index % 3 == 0] = 0.0
            parameter.copy_(values.reshape(parameter.shape))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.copy_(torch.full_like(module.weight, 1.5))
                module.bias.copy_(torch.full_like(module.bias, 0.5))
    return model.eval()


class Plain(nn.Module):
    """A convolution, its norm and LIFs, a max pool, a strided grouped convolution and a linear head."""

    T = STEPS

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.lif1, self.pool = neuron.LIFNode(step_mode="m"), nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(8, 16, (1, 3), stride=(2, 1), padding=(0, 1), groups=2)
        self.lif2, self.fc = neuron.LIFNode(step_mode="m"), nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        frames = x.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1)
        y = self.bn1(self.conv1(frames.flatten(0, 1)))
        s = self.lif1(y.unflatten(0, (STEPS, -1)))
        y = self.conv2(self.pool(s.flatten(0, 1)))
        s = self.lif2(y.unflatten(0, (STEPS, -1)))
        return self.fc(s.flatten(2)).mean(0)


class Attention(nn.Module):
    """Softmax-free attention of spikes, with a biased projection, between two residual sums."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.proj_lif = neuron.LIFNode(step_mode="m")
        for part in "qkv":
            setattr(self, f"{part}_conv", nn.Conv1d(dim, dim, 1, bias=False))
            setattr(self, f"{part}_bn", nn.BatchNorm1d(dim))
            setattr(self, f"{part}_lif", neuron.LIFNode(step_mode="m"))
        self.attn_lif = neuron.LIFNode(step_mode="m", v_threshold=0.5)
        self.proj_conv, self.proj_bn = nn.Conv1d(dim, dim, 1), nn.BatchNorm1d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, batch, dim, tokens = x.shape
        spikes, parts = self.proj_lif(x), []
        for part in "qkv":
            y = getattr(self, f"{part}_bn")(getattr(self, f"{part}_conv")(spikes.flatten(0, 1)))
            fired = getattr(self, f"{part}_lif")(y.unflatten(0, (steps, batch)))
            parts.append(fired.view(steps, batch, self.heads, dim // self.heads, tokens).mT)
        q, k, v = parts
        out = (q @ k.mT) @ v * 0.125
        out = self.attn_lif(out.mT.reshape(steps, batch, dim, tokens))
        return x + self.proj_bn(self.proj_conv(out.flatten(0, 1))).unflatten(0, (steps, batch))


class Mlp(nn.Module):
    """Two biased layers behind their neurons."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1_lif, self.fc2_lif = neuron.LIFNode(step_mode="m"), neuron.LIFNode(step_mode="m")
        self.fc1_conv, self.fc1_bn = nn.Conv1d(dim, 4 * dim, 1), nn.BatchNorm1d(4 * dim)
        self.fc2_conv, self.fc2_bn = nn.Conv1d(4 * dim, dim, 1), nn.BatchNorm1d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc1_bn(self.fc1_conv(self.fc1_lif(x).flatten(0, 1))).unflatten(0, x.shape[:2])
        y = self.fc2_bn(self.fc2_conv(self.fc2_lif(y).flatten(0, 1))).unflatten(0, x.shape[:2])
        return x + y


class Block(nn.Module):
    """Attention and the layers behind it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(dim, heads), Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.attn(x))


class Patches(nn.Module):
    """The encoder and one convolution of spikes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_conv, self.proj_bn = (
            nn.Conv2d(3, dim // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(dim // 2),
        )
        self.proj_lif, self.maxpool = neuron.LIFNode(step_mode="m"), nn.MaxPool2d(2)
        self.proj_conv1 = nn.Conv2d(dim // 2, dim, 3, padding=1, bias=False)
        self.proj_bn1 = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, batch = x.shape[:2]
        spikes = self.proj_lif(self.proj_bn(self.proj_conv(x.flatten(0, 1))).unflatten(0, (steps, batch)))
        y = self.proj_bn1(self.proj_conv1(self.maxpool(spikes.flatten(0, 1))))
        return y.unflatten(0, (steps, batch)).flatten(3)


class Former(nn.Module):
    """A spiking transformer with the module names of Spikingformer: 32 tokens, two blocks."""

    T, DIM, HEADS, TOKENS, DEPTH = STEPS, 16, 2, 32, 2

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = Patches(self.DIM)
        self.block = nn.ModuleList(Block(self.DIM, self.HEADS) for _ in range(self.DEPTH))
        self.head = nn.Linear(self.DIM, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        y = self.patch_embed(x.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1))
        for block in self.block:
            y = block(y)
        return self.head(y.mean(3).mean(0))


def image(batch: int, height: int, width: int) -> torch.Tensor:
    """(batch, 3, height, width), multiples of 1/8 from −1 to 1, none of them 0."""
    index = torch.arange(batch * 3 * height * width)
    values = ((index * 5 + index // 7) % 17 - 8.5).round() / 8
    return values.where(values != 0, torch.tensor(0.125)).reshape(batch, 3, height, width)


def plain(*, pruned: bool = False) -> tuple[nn.Module, torch.Tensor]:
    """`Plain` and one image of 8 × 4."""
    return fill(Plain(), pruned=pruned), image(1, 8, 4)


def former() -> tuple[nn.Module, torch.Tensor]:
    """`Former` and two images of 16 × 8."""
    return fill(Former()), image(2, 16, 8)
