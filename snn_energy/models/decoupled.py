"""The decoupled model: spike spatial attention and spike temporal attention, alternating, on a ResNet.

A reading of spatial-temporal attention that keeps the two apart (docs/staa.md says where it comes from).
After each stage of a ResNet, spikes attend to one another first over the positions of a step, then over the
steps of a position.  Queries, keys and values are spikes from 1×1 convolutions; there is no softmax; every
weight sees spikes.  Each attention can be switched off: the four rows of the ablation.  Neurons learn their
time constant, and their threshold if asked to; the mean firing rate (`Decoupled.regularization`) joins the
cross-entropy.

All maps are time first: (T, B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from snn_energy.errors import ConfigError
from snn_energy.models.backbones import (
    Backbone,
    Head,
    Shapes,
    check_network,
    check_word,
    scaled,
    shape_of,
    start_norms,
)
from snn_energy.models.neurons import PLIF, reset
from snn_energy.models.steps import check_input, conv_bn, per_step, to_sequence

BackboneName = Literal["resnet18", "resnet19", "resnet20", "resnet34"]
Residual = Literal["iand", "or", "scaled", "plain"]
TAU = 2.0
"""The time constant with which every neuron starts."""


@dataclass(frozen=True)
class DecoupledConfig:
    """Fields of `Decoupled`.

    `spatial`, `temporal`: the attentions; `num_heads` divides every stage's channels; `causal`: a step
    attends to itself and earlier ones only, so that the network can stream; `width` multiplies every channel
    count; `shapes`: the backbone as in its "source", or "pooled" as this package had it first (`backbones`).
    `learn_tau`, `learn_threshold`: each neuron layer learns its time constant, its threshold.
    `residual`: how an attention joins the spikes that it attends to (`SpikeAttention`).  All but "plain"
    start as their identity, and want a threshold below ½: a silent membrane must lie in the surrogate's
    window.
    """

    backbone: BackboneName = "resnet19"
    in_channels: int = 3
    num_classes: int = 10
    T: int = 4
    width: float = 1.0
    spatial: bool = True
    temporal: bool = True
    num_heads: int = 4
    causal: bool = True
    v_threshold: float = 0.4
    TET: bool = False
    shapes: Shapes = "source"
    learn_tau: bool = True
    learn_threshold: bool = False
    residual: Residual = "iand"

    OLDER: ClassVar[Mapping[str, Any]] = {"shapes": "pooled", "residual": "plain", "v_threshold": 1.0}
    """What a checkpoint means that was saved before these fields were."""

    def __post_init__(self) -> None:
        check_network(
            self.backbone,
            get_args(BackboneName),
            self.in_channels,
            self.num_classes,
            self.width,
            self.shapes,
        )
        for name in ("T", "num_heads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} = {value!r}: must be a positive whole number")
        check_word("residual", self.residual, get_args(Residual))
        for name in ("spatial", "temporal", "causal", "TET", "learn_tau", "learn_threshold"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} = {getattr(self, name)!r}: must be true or false")
        threshold = self.v_threshold
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not threshold > 0:
            raise ConfigError(f"v_threshold = {threshold!r}: must be a positive number")
        if self.residual != "plain" and threshold >= 0.5 and (self.spatial or self.temporal):
            way_out = f"must be below 0.5 with residual = {self.residual}, whose attentions start silent"
            raise ConfigError(f"v_threshold = {threshold}: {way_out}; or residual = plain")
        for width in shape_of(self.backbone, self.shapes).widths:
            if (self.spatial or self.temporal) and scaled(width, self.width) % self.num_heads:
                channels = scaled(width, self.width)
                raise ConfigError(
                    f"num_heads = {self.num_heads}: must divide {channels}, the channels of a stage"
                )


class RateLIF(PLIF):
    """LIF with a learnable time constant and threshold, and a rectangular surrogate gradient.

    The neuron is `PLIF` (1/τ = sigmoid(w), one `w` per layer, τ = 2 at first); in training `RectSequence`
    runs it with a surrogate of width 1 and height 1, and its mean firing rate stays in `rate` until read.
    A learnable threshold is exp(`log_threshold`), so it stays positive; what evaluation and exports read as
    `v_threshold` follows it when training ends (`eval()`) and when weights are loaded, and it follows a
    `v_threshold` that is set.
    """

    rate: torch.Tensor | None = None
    log_threshold: nn.Parameter | None

    def __init__(self, v_threshold: float, learn_tau: bool = True, learn_threshold: bool = False) -> None:
        super().__init__(v_threshold)
        self.w.requires_grad_(learn_tau)
        log = nn.Parameter(torch.tensor(math.log(v_threshold))) if learn_threshold else None
        self.register_parameter("log_threshold", log)

    def multi_step_forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().multi_step_forward(x)
        learned = self.log_threshold
        threshold = self.v_threshold if learned is None else learned.exp()
        spikes = RectSequence.apply(x, torch.sigmoid(self.w), threshold)
        self.rate = spikes.mean()
        return spikes

    def train(self, mode: bool = True) -> RateLIF:
        self._read_threshold()
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._read_threshold()

    @property
    def v_threshold(self) -> float:
        """The threshold of evaluation."""
        return self._threshold

    @v_threshold.setter
    def v_threshold(self, value: float) -> None:
        self._threshold = value
        log = self._parameters.get("log_threshold")
        if log is not None:
            log.data.fill_(math.log(value))

    def _read_threshold(self) -> None:
        log = self.log_threshold
        if log is not None and not log.is_meta and log != log.new_tensor(math.log(self._threshold)):
            self._threshold = math.exp(log.item())


class RectSequence(torch.autograd.Function):
    """Currents X (T, B, ...), k = 1/τ (0-dim), threshold (number or 0-dim) -> spikes, from rest.

    V[t] = H[t-1] + k (X[t] - H[t-1]), S = Θ(V - threshold), H = V (1 - S) with S detached.  The gradient is
    written out: backward in time, with G the gradient of the spikes and W = G·[|V - threshold| < ½],
    ∂V = W + ∂H·(1 - S), ∂X[t] = k ∂V[t], ∂H[t-1] = (1 - k) ∂V[t], ∂threshold = -Σ W,
    ∂k = Σ ∂V (X - H) and X - H = (V - H) / k.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, k: torch.Tensor, threshold: float | torch.Tensor) -> torch.Tensor:
        level = float(threshold)
        v, spikes, h = torch.empty_like(x), torch.empty_like(x), torch.zeros_like(x[0])
        for current, charged, fired in zip(x, v, spikes, strict=True):
            torch.lerp(h, current, k, out=charged)
            torch.ge(charged, level, out=fired)
            torch.addcmul(charged, charged, fired, value=-1, out=h)
        ctx.save_for_backward(v, k)
        ctx.threshold = level
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        v, k = ctx.saved_tensors
        threshold, window = ctx.threshold, torch.ops.aten.hardtanh_backward
        dv = window(grad, v, threshold - 0.5, threshold + 0.5)
        dthreshold = -dv.sum() if ctx.needs_input_grad[2] else None
        dk = torch.zeros_like(k)
        for t in reversed(range(len(v))):
            if t < len(v) - 1:
                dv[t] += window(dv[t + 1], v[t], -float("inf"), threshold) * (1 - k)
            h = window(v[t - 1], v[t - 1], -float("inf"), threshold) if t else 0
            dk += (dv[t] * (v[t] - h)).sum()
        return dv * k, dk / k, dthreshold


def neuron(config: DecoupledConfig) -> RateLIF:
    """A layer of neurons as the configuration says."""
    return RateLIF(config.v_threshold, config.learn_tau, config.learn_threshold)


class SpikeAttention(nn.Module):
    """What both attentions share: spikes in, spikes out, of one shape (T, B, C, H, W).

    Q, K, V = LIF(BN(conv1x1(S))); Y = LIF(BN(mix(Q, K, V))); A = BN(conv1x1(Y)).  The norm of the mix takes
    the place of a scale: how many spikes meet depends on their rates, which no constant knows.  The output,
    by `residual`:

        "iand":    S ∧ ¬LIF(A)        a spike of A takes one of S away
        "or":      S ∨ LIF(A)
        "scaled":  LIF(A + 2·τ·v_threshold·S)
        "plain":   LIF(A + S)

    The first two are spike-element-wise residuals (Fang et al., NeurIPS 2021, arXiv 2102.04159, has IAND).
    In all but "plain" the last norm starts with weight 0, so the output starts as S itself, spike for spike.
    A spike of amplitude 1 charges a LIF of τ = 2 to ½ only; at 2·τ·v_threshold it charges it to twice the
    threshold, as far above as rest is below.
    """

    def __init__(self, channels: int, config: DecoupledConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.causal = config.causal
        self.residual = config.residual
        self.amplitude = 2 * TAU * config.v_threshold if config.residual == "scaled" else 1.0
        self.q_conv, self.k_conv, self.v_conv, self.proj_conv = (
            nn.Conv2d(channels, channels, 1, bias=False) for _ in range(4)
        )
        self.q_bn, self.k_bn, self.v_bn, self.attn_bn, self.proj_bn = (
            nn.BatchNorm2d(channels) for _ in range(5)
        )
        self.q_lif, self.k_lif, self.v_lif, self.attn_lif, self.out_lif = (neuron(config) for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q_lif(conv_bn(x, self.q_conv, self.q_bn))
        k = self.k_lif(conv_bn(x, self.k_conv, self.k_bn))
        v = self.v_lif(conv_bn(x, self.v_conv, self.v_bn))
        y = self.mix(*(z.flatten(3).unflatten(2, (self.heads, -1)) for z in (q, k, v)))
        y = self.attn_lif(per_step(self.attn_bn, y.reshape(x.shape)))
        return self.join(x, conv_bn(y, self.proj_conv, self.proj_bn))

    def join(self, x: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """Spikes and currents of the attention, both (T, B, C, H, W), to the spikes that go on."""
        if self.residual == "scaled":
            return self.out_lif(branch + self.amplitude * x)
        if self.residual == "plain":
            return self.out_lif(branch + x)
        fired = self.out_lif(branch)
        return x * (1 - fired) if self.residual == "iand" else x + fired - x * fired

    def mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Spikes (T, B, heads, d, N), d channels of a head, N positions -> whole numbers of that shape."""
        raise NotImplementedError


class SpatialAttention(SpikeAttention):
    """Linear attention over the positions of a step: Q (Kᵀ V).  Cost T·N·C·d twice."""

    def mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        context = torch.matmul(k, v.transpose(-2, -1))  # (…, d, d): Σ over positions
        return torch.matmul(context.transpose(-2, -1), q)


class TemporalAttention(SpikeAttention):
    """Attention over the steps of a position: (Q Kᵀ ⊙ mask) V.  Cost N·T²·C twice."""

    past: torch.Tensor

    def __init__(self, channels: int, config: DecoupledConfig) -> None:
        super().__init__(channels, config)
        self.register_buffer("past", torch.ones(config.T, config.T).tril(), persistent=False)

    def mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (z.permute(1, 2, 4, 0, 3) for z in (q, k, v))  # (B, heads, N, T, d)
        scores = torch.matmul(q, k.transpose(-2, -1))  # (…, T, T)
        if self.causal:
            scores = scores * self.past
        return torch.matmul(scores, v).permute(3, 0, 1, 4, 2)


class Decoupled(nn.Module):
    """The decoupled model: (B, C, H, W), shown at every step, or (B, T, C, H, W) -> logits (B, K).

    The mean over T; with `TET`, in training, the logits of every step, (T, B, K).  Every call starts from
    fresh neurons.  Raises `DataError` for an input of another shape.
    """

    Config = DecoupledConfig

    def __init__(self, config: DecoupledConfig) -> None:
        super().__init__()
        self.config = config

        def lif(channels: int) -> RateLIF:
            return neuron(config)

        kinds = [
            kind
            for kind, on in ((SpatialAttention, config.spatial), (TemporalAttention, config.temporal))
            if on
        ]

        def attention(channels: int) -> nn.Sequential:
            return nn.Sequential(*(kind(channels, config) for kind in kinds))

        shape = shape_of(config.backbone, config.shapes)
        self.backbone = Backbone(shape, config.in_channels, config.width, lif, attention if kinds else None)
        hidden = scaled(shape.hidden, config.width) if shape.hidden else 0
        self.head = Head(self.backbone.out_channels, hidden, config.num_classes, lif)
        start_norms(self, config.v_threshold, 1 / TAU)
        if config.residual != "plain":
            for module in self.modules():
                if isinstance(module, SpikeAttention):
                    nn.init.zeros_(module.proj_bn.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input(x, self.config.in_channels, self.config.T)
        reset(self)
        logits = self.head(self.backbone(to_sequence(x, self.config.T)))
        return logits if self.config.TET and self.training else logits.mean(0)

    def regularization(self) -> torch.Tensor:
        """Spike sparsity: the mean over neuron layers of their firing rates in the last training forward.

        A scalar with gradient, to be added to the loss with a weight; it can be read once per forward.
        """
        rates = []
        for module in self.modules():
            if isinstance(module, RateLIF) and module.rate is not None:
                rates.append(module.rate)
                module.rate = None
        if not rates:
            raise RuntimeError("no firing rates: call regularization() once after a forward in training mode")
        return torch.stack(rates).mean()
