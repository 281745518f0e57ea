"""The parts of a STAA neuron: context, position encoding, step attention, the threshold (`staa_neuron`)."""

from __future__ import annotations

from typing import Literal

import torch
from spikingjelly.activation_based import surrogate
from torch import nn

PositionMode = Literal["learnable", "fixed", "off"]


class GlobalContext(nn.Module):
    """GC block: attend to the map as a whole, add the result to every position.

    W_k = X · sigmoid(key(X))ᵀ (C×HW times HW×1), W_v = value(ReLU(norm(query(W_k)))), output X ⊕ W_v, with
    1×1 convolutions key C→1, query C→C/r, value C/r→C (the last two see one position: linear layers) and a
    layer norm over the C/r hidden channels.  The sum over positions is not divided by H·W: the norm does it.
    `value` starts at zero, so the block starts as the identity.  (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int, r: int) -> None:
        super().__init__()
        hidden = max(1, channels // r)
        self.key = nn.Conv2d(channels, 1, 1)
        self.query = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.value = nn.Linear(hidden, channels)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attention = torch.sigmoid(self.key(x)).flatten(2).transpose(1, 2)
        pooled = torch.matmul(x.flatten(2), attention).squeeze(2)
        return x + self.context(pooled)[..., None, None]

    def of_zeros(self) -> torch.Tensor:
        """What a map of zeros becomes, (1, C, 1, 1): nothing is pooled, the biases remain."""
        return self.value(torch.relu(self.norm(self.query.bias)))[None, :, None, None]

    def context(self, pooled: torch.Tensor) -> torch.Tensor:
        """W_v from W_k: (N, C) -> (N, C)."""
        return self.value(torch.relu(self.norm(self.query(pooled))))


class PositionEncoding(nn.Module):
    """P: one value per time step and channel, learnable from zero or sinusoidal (Vaswani et al., 2017).

    Adds P to (T, B, C, H, W), or P[t] to (B, C, H, W) when `t` is given.  With `places` above 1 the table
    holds an encoding for each, side by side: (T, places·C); `place` says which is added.
    """

    def __init__(self, time_steps: int, channels: int, mode: PositionMode, places: int = 1) -> None:
        super().__init__()
        self.channels = channels
        if mode == "learnable":
            self.table = nn.Parameter(torch.zeros(time_steps, places * channels))
        else:
            table = sinusoids(time_steps, channels).repeat(1, places)
            self.register_buffer("table", table, persistent=False)

    def forward(self, x: torch.Tensor, t: int | None = None, place: int = 0) -> torch.Tensor:
        table = self.table[:, place * self.channels : (place + 1) * self.channels]
        table = table[:, None] if t is None else table[t]
        return x + table[..., None, None]


def sinusoids(time_steps: int, channels: int) -> torch.Tensor:
    """(T, C): sin(t / 10000^(2i/C)) in channel 2i, the cosine in channel 2i + 1."""
    step = torch.arange(time_steps, dtype=torch.float32)[:, None]
    channel = torch.arange(channels)
    angle = step / 10000 ** ((channel - channel % 2) / channels)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())


class StepAttention(nn.Module):
    """SA block: U ⊙ sigmoid(conv2(ReLU(conv1(α · mean of U over space)))).  (B, C, H, W) -> (B, C, H, W).

    Both convolutions run along the channel axis (kernel 3, no bias): six parameters, whatever C.  α is a
    number, or a parameter with `learn_alpha`.
    """

    def __init__(self, alpha: float, learn_alpha: bool = False) -> None:
        super().__init__()
        self.alpha: float | nn.Parameter = nn.Parameter(torch.tensor(alpha)) if learn_alpha else alpha
        self.conv1 = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.conv2 = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return u * torch.sigmoid(self.logits(u.mean((-2, -1))))[..., None, None]

    def logits(self, mean: torch.Tensor) -> torch.Tensor:
        """The gate in front of its sigmoid, from the spatial means: (B, C) -> (B, C)."""
        return self.conv2(torch.relu(self.conv1(self.alpha * mean.unsqueeze(1)))).squeeze(1)


class BottleneckAttention(StepAttention):
    """The SA block as a squeeze-and-excitation block: both convolutions 1×1, C→C/r→C, with biases.

    They see one position, so they are linear layers; C²·2/r + C/r + C parameters.
    """

    def __init__(self, channels: int, r: int, alpha: float, learn_alpha: bool = False) -> None:
        super().__init__(alpha, learn_alpha)
        hidden = max(1, channels // r)
        self.conv1, self.conv2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)  # type: ignore

    def logits(self, mean: torch.Tensor) -> torch.Tensor:
        """The gate in front of its sigmoid, from the spatial means: (B, C) -> (B, C)."""
        return self.conv2(torch.relu(self.conv1(self.alpha * mean)))


class Fire(nn.Module):
    """S = Θ(V - v_threshold), Θ(0) = 1; gradient: a rectangle of area 1 and a given width at the threshold.

    The part of a STAA neuron that spikes, for profiling and recording; it has no state of its own.
    """

    spiking = True

    def __init__(self, v_threshold: float, width: float = 1.0) -> None:
        super().__init__()
        self.v_threshold = v_threshold
        self.surrogate_function = surrogate.Rect(alpha=1 / width)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.surrogate_function(v - self.v_threshold)
