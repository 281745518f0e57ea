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
from torch import nn

from snn_energy.errors import ConfigError, DataError
from snn_energy.models import staa_fused
from snn_energy.models.staa_gates import (
    BottleneckAttention,
    Fire,
    GlobalContext,
    PositionEncoding,
    PositionMode,
    StepAttention,
)

PositionPlace = Literal["input", "state", "aggregate", "output", "both"]
Adaptive = Literal["off", "layer", "channel"]
AttentionForm = Literal["channel", "bottleneck"]
Dropped = Literal["aggregation", "module"]
Leak = Literal["gate", "tau"]
WORDS = {
    "pe": PositionMode,
    "pe_at": PositionPlace,
    "sa_form": AttentionForm,
    "tsrd_drops": Dropped,
    "adaptive": Adaptive,
    "leak": Leak,
}
SWITCHES = ("gc", "gc_shared", "sa", "learn_alpha", "tsrd", "detach_reset")


@dataclass(frozen=True)
class NeuronConfig:
    """Fields of `STAALIF`, shared by all neurons of a network.

    What the paper leaves open is a field; docs/staa.md says what speaks for each value.

    Parameters
    ----------
    T: time steps (the position encoding has one row per step).
    gc, sa, pe: the gates; `pe` is "learnable" (zero-initialised), "fixed" (sinusoidal) or "off".
    gc_shared: GC1 and GC2 are one block.
    pe_at: where P[t] is added: to the "input" X[t] before GC1 (the paper's best), to the "state" H[t-1]
        before GC2, to "both" (a table for each), to the "aggregate" U[t] before SA, or to the "output" V[t].
    r: reduction of GC's hidden channels, max(1, C // r), and of SA's with `sa_form` "bottleneck".
    sa_form: SA's convolutions run along the "channel" axis, or are a "bottleneck" C→C/r→C.
    alpha, learn_alpha: scale of the pooled map in front of SA's convolutions, a parameter if learned.
    tsrd, beta: time-step random dropout, in training only: with probability `beta` a step aggregates
        N ⊙ X[t] ⊕ M ⊙ H[t-1], without context and position encoding.
    tsrd_drops: of such a step the "aggregation" only, or the whole "module", SA included.
    tsrd_from: the first step that may be dropped.
    adaptive: M and N are learnable, one scalar each per "layer" or "channel"; they start where they are
        otherwise fixed.  True is "layer", False "off".
    leak: with GC, M = N = 1 as printed, and the "gate" SA is the only leak; or M and N are those of "tau".
    tau: time constant of the plain neuron: M = 1 - 1/τ and N = 1/τ.
    v_threshold: firing threshold.
    v_reset: the membrane at rest and after a spike; M and N that are fixed let it decay to there.
    surrogate_width: of the rectangle around the threshold that stands for the gradient of a spike.
    detach_reset: the reset passes no gradient to the spike that caused it.
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
    adaptive: Adaptive | bool = "off"
    tau: float = 2.0
    v_threshold: float = 1.0
    gc_shared: bool = False
    sa_form: AttentionForm = "channel"
    learn_alpha: bool = False
    tsrd_drops: Dropped = "aggregation"
    tsrd_from: int = 0
    leak: Leak = "gate"
    v_reset: float = 0.0
    surrogate_width: float = 1.0
    detach_reset: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.adaptive, bool):  # as it once was
            object.__setattr__(self, "adaptive", "layer" if self.adaptive else "off")
        for name, least in (("T", 1), ("r", 1), ("tsrd_from", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                kind = "a positive whole number" if least else "a whole number, 0 or more"
                raise ConfigError(f"{name} = {value!r}: must be {kind}")
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} = {getattr(self, name)!r}: must be true or false")
        for name, words in WORDS.items():
            if getattr(self, name) not in get_args(words):
                known = ", ".join(get_args(words))
                raise ConfigError(f"{name} = {getattr(self, name)!r}: must be one of {known}")
        for name, low, high in (
            ("beta", 0, 1),
            ("tau", 1, math.inf),
            ("alpha", -math.inf, math.inf),
            ("v_threshold", 0, math.inf),
            ("v_reset", -math.inf, math.inf),
            ("surrogate_width", 1e-6, math.inf),
        ):
            check_number(name, getattr(self, name), low, high)
        if self.v_reset >= self.v_threshold and self.v_reset:
            raise ConfigError(f"v_reset = {self.v_reset}: must be below v_threshold = {self.v_threshold}")

    @property
    def constants(self) -> tuple[float, float]:
        """M and N where they are fixed, and where they start."""
        printed = self.gc and self.leak == "gate"
        return (1.0, 1.0) if printed else (1 - 1 / self.tau, 1 / self.tau)


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise `ConfigError` unless `value` is a finite number in [low, high]."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high:  # type: ignore[operator]
        bounds = f"in [{low}, {high}]" if math.isfinite(high) else f"≥ {low}" if math.isfinite(low) else ""
        raise ConfigError(f"{name} = {value!r}: must be a number {bounds}".rstrip())


class STAALIF(nn.Module):
    """The STAA neuron, multi-step: input currents (T, B, C, H, W) -> spikes {0, 1} of the same shape.

    The membrane lives only inside `forward`, so there is no state to leak or to reset.  In training, where
    it can, the recurrence runs fused (see staa_fused): the same equations, fewer passes over memory; forward
    hooks on gates and `fire` then do not run.
    """

    def __init__(self, channels: int, config: NeuronConfig) -> None:
        super().__init__()
        self.config = config
        places = 2 if config.pe_at == "both" else 1
        self.pe = None if config.pe == "off" else PositionEncoding(config.T, channels, config.pe, places)
        self.gc_in = GlobalContext(channels, config.r) if config.gc else None
        self.gc_state = GlobalContext(channels, config.r) if config.gc and not config.gc_shared else None
        self.sa = make_attention(channels, config) if config.sa else None
        self.fire = Fire(config.v_threshold, config.surrogate_width)
        keep, gain = config.constants
        self.rest = (1 - keep) * config.v_reset if config.adaptive == "off" else 0.0
        shape = (channels, 1, 1) if config.adaptive == "channel" else ()
        learned = config.adaptive != "off"
        self.M: float | nn.Parameter = nn.Parameter(torch.full(shape, keep)) if learned else keep
        self.N: float | nn.Parameter = nn.Parameter(torch.full(shape, gain)) if learned else gain

    @property
    def state_context(self) -> GlobalContext | None:
        """GC2: a block of its own, or GC1 again."""
        return self.gc_in if self.config.gc_shared else self.gc_state

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pe is not None and x.shape[0] != self.config.T:
            raise DataError(f"{x.shape[0]} time steps: the position encoding has T = {self.config.T}")
        kept = self.draw_kept(x.shape[0])
        plain = torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling()
        if self.training and staa_fused.covers(self.config) and not plain:
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

        For a network that runs step by step.  Outside, a membrane is its distance from `v_reset`: 0 at rest.
        The encoding is the table's first row: the caller puts P[t] there (`step_table` names the tensor).
        """
        rest = self.config.v_reset
        v, after = self.step(self.currents(x.unsqueeze(0)).squeeze(0), h + rest if rest else h, 0)
        return self.fire(v), after - rest if rest else after

    @property
    def step_table(self) -> str | None:
        """The tensor with a row for every step, by its name here; None without encoding."""
        return None if self.pe is None else "pe.table"

    def draw_kept(self, time_steps: int) -> torch.Tensor | None:
        """TSRD: which steps keep their augmentation, (T,) of bool; None for all.

        Drawn from torch's default CPU generator, in training only, once per call.
        """
        drops_sa = self.sa is not None and self.config.tsrd_drops == "module"
        if not (self.training and self.config.tsrd) or not (self.gc_in or self.pe or drops_sa):
            return None
        kept = torch.rand(time_steps) >= self.config.beta
        kept[: self.config.tsrd_from] = True
        return kept

    def currents(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """N ⊙ GC1(X + P) of all steps, N ⊙ X of those not kept: everything that does not need H[t-1]."""
        y = x
        if self.pe is not None and self.config.pe_at in ("input", "both"):
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
        reset = self.config.v_reset
        if h is None and reset:
            h = torch.full_like(current, reset)
        state = self.attended(current, h, t, kept)
        u = current if state is None else current + times(self.M, state)
        if self.rest:
            u = u + self.rest
        u = self.encoded("aggregate", u, t, kept)
        v = u if self.sa is None else self.sa(u)
        if kept is not None and self.config.tsrd_drops == "module":
            v = torch.where(kept, v, u)
        v = self.encoded("output", v, t, kept)
        if self.config.detach_reset or not self.training:
            fired = (v >= self.config.v_threshold).to(v.dtype)
        else:
            fired = self.fire.surrogate_function(v - self.config.v_threshold)
        return v, v - (v - reset if reset else v) * fired

    def attended(
        self, current: torch.Tensor, h: torch.Tensor | None, t: int, kept: torch.Tensor | None
    ) -> torch.Tensor | None:
        """GC2(H[t-1]); None if that is nothing."""
        context = self.state_context
        if h is None and self.pe is not None and self.config.pe_at in ("state", "both"):
            h = torch.zeros_like(current)
        if h is None:
            if context is None:
                return None
            state = context.of_zeros()
        else:
            state = self.encoded("state", h, t)
            state = state if context is None else context(state)
        if kept is None:
            return state
        return torch.where(kept, state, torch.zeros_like(state) if h is None else h)

    def encoded(self, place: str, x: torch.Tensor, t: int, kept: torch.Tensor | None = None) -> torch.Tensor:
        """x + P[t] if this is the place of the encoding and step t keeps it, else x itself."""
        both = self.config.pe_at == "both" and place == "state"
        if self.pe is None or (self.config.pe_at != place and not both):
            return x
        encoded = self.pe(x, t, 1 if both else 0)
        return encoded if kept is None else torch.where(kept, encoded, x)


def make_attention(channels: int, config: NeuronConfig) -> StepAttention:
    """SA as the configuration says."""
    if config.sa_form == "channel":
        return StepAttention(config.alpha, config.learn_alpha)
    return BottleneckAttention(channels, config.r, config.alpha, config.learn_alpha)


def times(factor: float | torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """factor · x; x itself for the constant 1."""
    return x if isinstance(factor, float) and factor == 1.0 else factor * x
