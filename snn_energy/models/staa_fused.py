"""The STAA recurrence for training: the equations of `staa_neuron`, with fewer passes over the maps.

A STAA neuron is bound by memory traffic.  Three facts shorten it.  (1) A context and a position encoding are
one number per channel: they need not be added to the maps before they are pooled, since
key(X + p) = key(X) + w·p and (X + p)·k = X·k + p·Σk.  So the maps X[t] and H[t-1] are read as they are, and
U[t] = X[t] ⊕ M·H[t-1] ⊕ offset is formed once.  (2) The mean of U is the sum of the means of its parts.
(3) Backward needs V[t] alone: the spike, the surrogate's window and the kept membrane are comparisons with it.
Two autograd functions, `Pool` and `Fire`, do the work on maps; what lies between them is (B, C) and left to
autograd.  Double backward is not supported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from snn_energy.models.staa_neuron import STAALIF, GlobalContext, NeuronConfig


class Pool(Function):
    """Maps X (N, C, L), weight (C,), bias (N,) -> X·kᵀ (N, C), Σ k (N,), mean of X (N, C).

    k = sigmoid(weight·X + bias), (N, L), is the attention of a global context block.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, ...]:
        n, c, length = x.shape
        key = torch.baddbmm(bias.view(n, 1, 1), weight.expand(n, 1, c), x)
        rows = torch.stack([key.squeeze(1).sigmoid_(), key.new_full((n, length), 1 / length)], 2)
        sums = torch.bmm(x, rows)
        ctx.save_for_backward(x, weight, rows[:, :, 0])
        return sums[..., 0], rows[:, :, 0].sum(1), sums[..., 1]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, weighted: torch.Tensor, attention: torch.Tensor, mean: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        x, weight, k = ctx.saved_tensors
        n, c, length = x.shape
        key = torch.baddbmm(attention.view(n, 1, 1), weighted.unsqueeze(1), x).squeeze(1) * (k * (1 - k))
        columns = torch.stack([weighted, weight.expand(n, c), mean / length], 2)
        dx = torch.bmm(columns, torch.stack([k, key, torch.ones_like(k)], 1))
        return dx, torch.bmm(x, key.unsqueeze(2)).sum((0, 2)), key.sum(1)


class Fire(Function):
    """(x, h, offset, logit, M, threshold) -> S[t], H[t], with V = (x + M·h + offset) · sigmoid(logit).

    x and h are (N, C, L), h None at the first step; offset and logit are (N, C) or None for 0 and no gate.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        h: torch.Tensor | None,
        offset: torch.Tensor | None,
        logit: torch.Tensor | None,
        keep: float,
        threshold: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        v = x.clone() if h is None else torch.add(x, h, alpha=keep)
        if offset is not None:
            v.add_(offset.unsqueeze(2))
        gate = None
        if logit is not None:
            gate = logit.sigmoid()
            v.mul_(gate.unsqueeze(2))
        spikes = torch.ge(v, threshold, out=torch.empty_like(v))
        ctx.save_for_backward(v, gate)
        ctx.parts = h is not None, offset is not None, keep, threshold
        return spikes, torch.addcmul(v, v, spikes, value=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, spikes: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        v, gate = ctx.saved_tensors
        has_h, has_offset, keep, threshold = ctx.parts
        window = torch.ops.aten.hardtanh_backward
        dv = window(spikes, v, threshold - 0.5, threshold + 0.5)
        dv.add_(window(kept, v, -float("inf"), threshold))
        logit = offset = None
        if gate is not None:
            logit = (dv * v).sum(2) * (1 - gate)
            dv.mul_(gate.unsqueeze(2))
        if has_offset:
            offset = dv.sum(2)
        dh = (dv if keep == 1 else dv * keep) if has_h else None
        return dv, dh, offset, logit, None, None


def covers(config: NeuronConfig) -> bool:
    """Whether `run` computes a neuron of this configuration."""
    return not config.adaptive and not (config.pe != "off" and config.pe_at == "output")


def run(neuron: STAALIF, x: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """`STAALIF.forward` by `Pool` and `Fire`: currents (T, B, C, H, W) -> spikes; `kept` as TSRD drew it."""
    config, keep = neuron.config, neuron.M
    maps = (x if neuron.N == 1 else neuron.N * x).flatten(3)
    mask = x.new_ones(x.shape[0], 1, 1) if kept is None else kept.to(x.dtype).view(-1, 1, 1)
    tables: dict[str, torch.Tensor] = {}
    if neuron.pe is not None:
        tables[config.pe_at] = mask * neuron.pe.table.unsqueeze(1)  # (T, 1, C)
    means, offsets = currents(neuron, maps, mask, tables.get("input"))
    h = None if len(x) > 1 else torch.zeros_like(maps[0])
    spikes = []
    for t, current in enumerate(maps.unbind(0)):
        shift = tables["state"][t] if "state" in tables else None
        mean, context = None, None
        if neuron.gc_state is not None:
            mean, context = pool(neuron.gc_state, current if h is None else h, shift, empty=h is None)
            context = mask[t] * context
        elif neuron.sa is not None and h is not None:
            mean = h.mean(2)
        aggregate = tables["aggregate"][t] if "aggregate" in tables else None
        offset = total(offsets[t], aggregate, scaled(keep, total(shift, context)))
        logit = None
        if neuron.sa is not None:
            logit = neuron.sa.logits(total(means[t], offset, scaled(keep, mean)))
        if offset is not None:
            offset = offset.expand(current.shape[:2])
        s, h = Fire.apply(current, h, offset, logit, keep, config.v_threshold)
        spikes.append(s)
    return torch.stack(spikes).view_as(x)


def currents(
    neuron: STAALIF, maps: torch.Tensor, mask: torch.Tensor, table: torch.Tensor | None
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Of every step: mean of its map (T, B, C), and what encoding and GC1 add to it, each (B, C) or None."""
    time_steps, batch, channels = maps.shape[:3]
    if neuron.gc_in is None:
        means = maps.mean(3) if neuron.sa is not None else maps.new_zeros(maps.shape[:3])
        table = scaled(neuron.N, table)
        return means, [None] * time_steps if table is None else list(table.unbind(0))
    shift = None if table is None else table.expand(-1, batch, -1).flatten(0, 1)
    mean, context = pool(neuron.gc_in, maps.flatten(0, 1), shift)
    added = total(mask * context.view(time_steps, batch, channels), table)
    return mean.view(time_steps, batch, channels), list(added.unbind(0))


def pool(
    block: GlobalContext, maps: torch.Tensor, shift: torch.Tensor | None, empty: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of maps (N, C, L) and W_v of maps + shift, both (N, C); `empty`: of zero maps of that shape."""
    n, channels, length = maps.shape
    weight = block.key.weight.flatten()
    bias = block.key.bias.expand(n)
    if shift is not None:
        bias = bias + shift @ weight
    if empty:
        attention = length * torch.sigmoid(bias)
        weighted = mean = maps.new_zeros(n, channels)
    else:
        weighted, attention, mean = Pool.apply(maps, weight, bias)
    if shift is not None:
        weighted = weighted + shift * attention.unsqueeze(1)
    return mean, block.context(weighted)


def total(*terms: torch.Tensor | None) -> torch.Tensor | None:
    """The sum of the terms that are there; None if none is."""
    present = [term for term in terms if term is not None]
    return sum(present[1:], present[0]) if present else None


def scaled(factor: float, x: torch.Tensor | None) -> torch.Tensor | None:
    """factor · x, of nothing nothing."""
    return x if x is None or factor == 1 else factor * x
