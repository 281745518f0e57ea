"""A small spiking network in plain PyTorch, as `snn-energy profile --model net.py:build` takes it."""

import torch
from torch import nn


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons over all steps: (T, B, …) in, spikes of the same shape out."""

    def __init__(self, tau=2.0, threshold=1.0):
        super().__init__()
        self.tau, self.threshold = tau, threshold

    def forward(self, x):
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            v = v + (current - v) / self.tau
            fired = (v >= self.threshold).to(x.dtype)
            v = v * (1 - fired)
            spikes.append(fired)
        return torch.stack(spikes)


class Net(nn.Module):
    """Event frames (T, B, 2, 12, 10) in, class scores per step (T, B, classes) out."""

    def __init__(self, num_classes, width):
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(2, width, 3, padding=1), LIF()
        self.conv2, self.lif2 = nn.Conv2d(width, width, 3, stride=2), LIF()
        self.head = nn.Linear(width * 5 * 4, num_classes)

    def forward(self, x):
        x = self.lif1(over_time(self.conv1, x))
        x = self.lif2(over_time(self.conv2, x))
        return self.head(x.flatten(2))


def over_time(layer, x):
    """A layer for images on (T, B, C, H, W)."""
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def build(num_classes, width=6):
    """The network; `--set num_classes=4 --set width=8` are these arguments."""
    return Net(num_classes, width)
