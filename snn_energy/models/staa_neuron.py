"""The STAA neuron: a leaky integrate-and-fire neuron whose aggregation is attended to.

Zhang et al., "STAA-SNN: Spatial-Temporal Attention Aggregator for Spiking Neural Networks", CVPR 2025
(arXiv 2503.02689).  No code was released: what the paper leaves open is decided here and listed in
docs/staa.md.  With input X[t] and membrane H[t-1], both (B, C, H, W), step t is

    U[t] = N ⊙ GC1(X[t] + P[t])  ⊕  M ⊙ GC2(H[t-1])      (global context, position encoding)
    V[t] = U[t] ⊙ SA(U[t])                               (step attention)
    S[t] = Θ(V[t] - v_threshold),  Θ(0) = 1              (fire)
    H[t] = V[t] · (1 - S[t])                             (hard reset to 0, detached)

GC1, P and N do not depend on H[t-1] and run over all steps at once.  Each gate is a module of its own and
can be switched off; without gates the neuron is a plain LIF of time constant τ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from spikingjelly.activation_based import surrogate
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.models import staa_fused

PositionMode = Literal["learnable", "fixed", "off"]
PositionPlace = Literal["input", "state", "aggregate", "output"]


@dataclass(frozen=True)
class NeuronConfig:
    """Fields of `STAALIF`, shared by all neurons of a network.

    Parameters
    ----------
    T: time steps (the position encoding has one row per step).
    gc, sa, pe: the gates; `pe` is "learnable" (zero-initialised), "fixed" (sinusoidal) or "off".
    pe_at: where P[t] is added: to the "input" X[t] before GC1 (the paper's best), to the "state" H[t-1]
        before GC2, to the "aggregate" U[t] before SA, or to the "output" V[t] of SA.
    r: reduction of GC's hidden channels, max(1, C // r).
    alpha: scale of the pooled map in front of SA's convolutions.
    tsrd, beta: time-step random dropout, in training only: with probability `beta` a step aggregates
        N ⊙ X[t] ⊕ M ⊙ H[t-1], without context and position encoding.
    adaptive: M and N are learnable, one scalar each per layer; they start where they are otherwise fixed.
    tau: time constant of the plain neuron: M = 1 - 1/τ and N = 1/τ without GC.  With GC, M = N = 1.
    v_threshold: firing threshold.
    """

    T: int = 4
    gc: bool = True
    pe: PositionMode = "learnable"
    pe_at: PositionPlace = "input"
    sa: bool = True
    r: int = 4
    alpha: float = 2.0
    tsrd: bool = True
    beta: float = 0.1
    adaptive: bool = False
    tau: float = 2.0
    v_threshold: float = 1.0

    def __post_init__(self) -> None:
        for name in ("T", "r"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} = {value!r}: must be a positive whole number")
        for name in ("gc", "sa", "tsrd", "adaptive"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} = {getattr(self, name)!r}: must be true or false")
        for name, kind in (("pe", PositionMode), ("pe_at", PositionPlace)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"{name} = {getattr(self, name)!r}: must be one of {', '.join(get_args(kind))}"
                )
        for name, low, high in (("beta", 0, 1), ("tau", 1, math.inf), ("alpha", -math.inf, math.inf)):
            check_number(name, getattr(self, name), low, high)
        check_number("v_threshold", self.v_threshold, 0, math.inf)


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise `ConfigError` unless `value` is a finite number in [low, high]."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high:  # type: ignore[operator]
        bounds = f"in [{low}, {high}]" if math.isfinite(high) else f"≥ {low}" if math.isfinite(low) else ""
        raise ConfigError(f"{name} = {value!r}: must be a number {bounds}".rstrip())


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

    Adds P to (T, B, C, H, W), or P[t] to (B, C, H, W) when `t` is given.
    """

    def __init__(self, time_steps: int, channels: int, mode: PositionMode) -> None:
        super().__init__()
        if mode == "learnable":
            self.table = nn.Parameter(torch.zeros(time_steps, channels))
        else:
            self.register_buffer("table", sinusoids(time_steps, channels), persistent=False)

    def forward(self, x: torch.Tensor, t: int | None = None) -> torch.Tensor:
        table = self.table[:, None] if t is None else self.table[t]
        return x + table[..., None, None]


def sinusoids(time_steps: int, channels: int) -> torch.Tensor:
    """(T, C): sin(t / 10000^(2i/C)) in channel 2i, the cosine in channel 2i + 1."""
    step = torch.arange(time_steps, dtype=torch.float32)[:, None]
    channel = torch.arange(channels)
    angle = step / 10000 ** ((channel - channel % 2) / channels)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())


class StepAttention(nn.Module):
    """SA block: U ⊙ sigmoid(conv2(ReLU(conv1(α · mean of U over space)))).  (B, C, H, W) -> (B, C, H, W).

    Both convolutions run along the channel axis (kernel 3, no bias): six parameters, whatever C.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.conv1 = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.conv2 = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return u * torch.sigmoid(self.logits(u.mean((-2, -1))))[..., None, None]

    def logits(self, mean: torch.Tensor) -> torch.Tensor:
        """The gate in front of its sigmoid, from the spatial means: (B, C) -> (B, C)."""
        return self.conv2(torch.relu(self.conv1(self.alpha * mean.unsqueeze(1)))).squeeze(1)


class Fire(nn.Module):
    """S = Θ(V - v_threshold), Θ(0) = 1; gradient: a rectangle of width 1 and height 1 around the threshold.

    The part of a STAA neuron that spikes, for profiling and recording; it has no state of its own.
    """

    spiking = True

    def __init__(self, v_threshold: float) -> None:
        super().__init__()
        self.v_threshold = v_threshold
        self.surrogate_function = surrogate.Rect(alpha=1.0)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.surrogate_function(v - self.v_threshold)


class STAALIF(nn.Module):
    """The STAA neuron, multi-step: input currents (T, B, C, H, W) -> spikes {0, 1} of the same shape.

    The membrane lives only inside `forward`, so there is no state to leak or to reset.  In training, where
    it can, the recurrence runs fused (see staa_fused): the same equations, fewer passes over memory; forward
    hooks on gates and `fire` then do not run.
    """

    def __init__(self, channels: int, config: NeuronConfig) -> None:
        super().__init__()
        self.config = config
        self.pe = None if config.pe == "off" else PositionEncoding(config.T, channels, config.pe)
        self.gc_in = GlobalContext(channels, config.r) if config.gc else None
        self.gc_state = GlobalContext(channels, config.r) if config.gc else None
        self.sa = StepAttention(config.alpha) if config.sa else None
        self.fire = Fire(config.v_threshold)
        keep, gain = (1.0, 1.0) if config.gc else (1 - 1 / config.tau, 1 / config.tau)
        self.M: float | nn.Parameter = nn.Parameter(torch.tensor(keep)) if config.adaptive else keep
        self.N: float | nn.Parameter = nn.Parameter(torch.tensor(gain)) if config.adaptive else gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pe is not None and x.shape[0] != self.config.T:
            raise DataError(f"{x.shape[0]} time steps: the position encoding has T = {self.config.T}")
        kept = self.draw_kept(x.shape[0])
        if self.training and staa_fused.covers(self.config) and not torch.is_autocast_enabled(x.device.type):
            return staa_fused.run(self, x, kept)
        if kept is not None:
            kept = kept.to(x.device)
        h = None
        membranes = []
        for t, current in enumerate(self.currents(x, kept).unbind(0)):
            v, h = self.step(current, h, t, None if kept is None else kept[t])
            membranes.append(v)
        return self.fire(torch.stack(membranes))

    def one_step(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A step in evaluation, its membrane outside: (X[t], H[t-1]) -> (S[t], H[t]), all (B, C, H, W).

        For a network that runs step by step.  The encoding is the table's first row: the caller puts P[t]
        there (`step_table` names the tensor).
        """
        v, after = self.step(self.currents(x.unsqueeze(0)).squeeze(0), h, 0)
        return self.fire(v), after

    @property
    def step_table(self) -> str | None:
        """The tensor (T, C) with a row for every step, by its name here; None without encoding."""
        return None if self.pe is None else "pe.table"

    def draw_kept(self, time_steps: int) -> torch.Tensor | None:
        """TSRD: which steps keep their augmentation, (T,) of bool; None for all.

        Drawn from torch's default CPU generator, in training only, once per call.
        """
        if not (self.training and self.config.tsrd) or (self.gc_in is None and self.pe is None):
            return None
        return torch.rand(time_steps) >= self.config.beta

    def currents(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """N ⊙ GC1(X + P) of all steps, N ⊙ X of those not kept: everything that does not need H[t-1]."""
        y = x
        if self.pe is not None and self.config.pe_at == "input":
            y = self.pe(x)
        if self.gc_in is not None:
            y = self.gc_in(y.flatten(0, 1)).unflatten(0, x.shape[:2])
        if kept is not None:
            y = torch.where(kept.view(-1, 1, 1, 1, 1), y, x)
        return times(self.N, y)

    def step(
        self, current: torch.Tensor, h: torch.Tensor | None, t: int, kept: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Step t: (its current, H[t-1]) -> (V[t], H[t]), all (B, C, H, W).

        `h` is None at rest (t = 0), `kept` as TSRD drew it for t.
        """
        state = self.attended(current, h, t, kept)
        u = current if state is None else current + times(self.M, state)
        u = self.encoded("aggregate", u, t, kept)
        v = u if self.sa is None else self.sa(u)
        v = self.encoded("output", v, t, kept)
        return v, v - v * (v >= self.config.v_threshold).to(v.dtype)

    def attended(
        self, current: torch.Tensor, h: torch.Tensor | None, t: int, kept: torch.Tensor | None
    ) -> torch.Tensor | None:
        """GC2(H[t-1]); None if that is nothing."""
        if h is None and self.pe is not None and self.config.pe_at == "state":
            h = torch.zeros_like(current)
        if h is None:
            if self.gc_state is None:
                return None
            state = self.gc_state.of_zeros()
        else:
            state = self.encoded("state", h, t)
            state = state if self.gc_state is None else self.gc_state(state)
        if kept is None:
            return state
        return torch.where(kept, state, torch.zeros_like(state) if h is None else h)

    def encoded(self, place: str, x: torch.Tensor, t: int, kept: torch.Tensor | None = None) -> torch.Tensor:
        """x + P[t] if this is the place of the encoding and step t keeps it, else x itself."""
        if self.pe is None or self.config.pe_at != place:
            return x
        return self.pe(x, t) if kept is None else torch.where(kept, self.pe(x, t), x)


def times(factor: float | torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """factor · x; x itself for the constant 1."""
    return x if isinstance(factor, float) and factor == 1.0 else factor * x
