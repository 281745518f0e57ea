"""The STAA recurrence for training: the equations of `staa_neuron` with fewer passes and fewer calls.

Step by step, a STAA neuron is bound by memory traffic on large maps and by the number of operations on
small ones.  Here the recurrence is one autograd function with buffers for all T steps, a backward written by
hand, and four short cuts.

1. A context and a position encoding are one number per channel.  They need not be added to a map before it
   is pooled, since key(X + p) = key(X) + w·p and (X + p)·k = X·k + p·Σk.  So X[t] and H[t-1] are read as
   they are, and U[t] = X[t] ⊕ M·H[t-1] ⊕ offset is formed once.
2. The mean of U is the sum of the means of its parts.
3. Backward needs V[t] alone: spike, surrogate window and kept membrane are comparisons with it.
4. Gradients of the gates' weights are products over all steps at once, formed at the end.

In names: `factor` is M, (N, C, L) are maps of L positions, `d...` is the gradient of `...`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

if TYPE_CHECKING:
    from snn_energy.models.staa_neuron import STAALIF, NeuronConfig

Tensors = tuple[torch.Tensor, ...]
window = torch.ops.aten.hardtanh_backward
"""window(grad, v, low, high): grad where low < v < high, else 0."""


@dataclass
class Plan:
    """What a neuron is, as constants of one call."""

    factor: float
    gain: float
    threshold: float
    width: float
    alpha: float
    place: str | None
    kept: list[bool]


def covers(config: NeuronConfig) -> bool:
    """Whether `run` computes a neuron of this configuration.

    It wants M and N constant, one encoding in front of SA, SA along channels with α constant and never
    dropped, a detached reset to 0, no factor behind GC1, and a gate to feed (or none at all: the plain LIF).
    """
    encoding = config.pe != "off"
    gated = config.gc or config.sa
    placed = not (encoding and config.pe_at in ("output", "both")) and (gated or not encoding)
    plain_sa = config.sa_form == "channel" and not config.learn_alpha
    whole_sa = not config.tsrd or config.tsrd_drops == "aggregation"
    reset = config.v_reset == 0 and config.detach_reset
    factors = config.adaptive == "off" and (not config.gc or config.leak == "gate")
    return factors and placed and (not config.sa or (plain_sa and whole_sa)) and reset


def run(neuron: STAALIF, x: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """`STAALIF.forward` in one autograd function: (T, B, C, H, W) -> spikes; `kept` as TSRD drew it."""
    config = neuron.config
    maps = (x if neuron.N == 1 else neuron.N * x).flatten(3)
    flags = [True] * len(x) if kept is None else kept.tolist()
    place = None if neuron.pe is None else config.pe_at
    numbers = float(neuron.M), float(neuron.N), config.v_threshold, config.surrogate_width, config.alpha
    plan = Plan(*numbers, place, flags)
    table: Any = None
    if neuron.pe is not None:
        table = neuron.pe.table if kept is None else neuron.pe.table * kept.to(x).unsqueeze(1)
    keys: list[torch.Tensor | None] = []
    weights: list[torch.Tensor | None] = []
    for block, where in ((neuron.gc_in, "input"), (neuron.state_context, "state")):
        if block is None:
            keys += [None, None]
            weights += [None] * 6
        else:
            key: Any = block.key
            weight, bias = key.weight.flatten(), key.bias.expand(len(x))
            keys += [weight, bias + table @ weight if table is not None and place == where else bias]
            weights += [p for layer in (block.query, block.norm, block.value) for p in layer.parameters()]
    weights += [None, None] if neuron.sa is None else list(neuron.sa.parameters())
    return Recurrence.apply(maps, plan, table, *keys, *weights).view_as(x)


class Context:
    """`GlobalContext.context` with a backward by hand: pooled maps (N, C) -> context (N, C), by step."""

    def __init__(self, *weights: torch.Tensor) -> None:
        self.query, self.query_bias, self.gamma, self.beta, self.value, self.value_bias = weights
        self.saved: dict[int, Tensors] = {}
        self.grads: dict[int, Tensors] = {}

    def forward(self, t: int, pooled: torch.Tensor) -> torch.Tensor:
        hidden = F.linear(pooled, self.query, self.query_bias)
        shape = [hidden.shape[-1]]
        normed, mean, rstd = torch.native_layer_norm(hidden, shape, self.gamma, self.beta, 1e-5)
        active = torch.relu_(normed)
        self.saved[t] = pooled, hidden, mean, rstd, active
        return F.linear(active, self.value, self.value_bias)

    def backward(self, t: int, grad: torch.Tensor) -> torch.Tensor:
        _, hidden, mean, rstd, active = self.saved[t]
        dnormed = torch.ops.aten.threshold_backward(grad @ self.value, active, 0)
        dhidden = self.norm_backward(dnormed, hidden, mean, rstd, [True, False, False])[0]
        self.grads[t] = grad, dnormed, dhidden
        return dhidden @ self.query

    def norm_backward(self, grad: torch.Tensor, *rest: Any) -> Tensors:
        hidden, mean, rstd, wanted = rest
        shape = [hidden.shape[-1]]
        return torch.ops.aten.native_layer_norm_backward(
            grad, hidden, shape, mean, rstd, self.gamma, self.beta, wanted
        )

    def weight_grads(self) -> list[torch.Tensor]:
        """Gradients of the six weights, over all steps that had a context."""
        if not self.grads:
            weights = (self.query, self.query_bias, self.gamma, self.beta, self.value, self.value_bias)
            return [torch.zeros_like(w) for w in weights]
        pooled, hidden, mean, rstd, active = (torch.cat(x) for x in zip(*self.saved.values(), strict=True))
        grad, dnormed, dhidden = (torch.cat([self.grads[t][i] for t in self.saved]) for i in range(3))
        _, dgamma, dbeta = self.norm_backward(dnormed, hidden, mean, rstd, [False, True, True])
        return [dhidden.t() @ pooled, dhidden.sum(0), dgamma, dbeta, grad.t() @ active, grad.sum(0)]


class Gate:
    """`StepAttention` with a backward by hand: means of U (N, C) -> the gate, a sigmoid, (N, C)."""

    def __init__(self, alpha: float, conv1: torch.Tensor, conv2: torch.Tensor) -> None:
        self.alpha, self.conv1, self.conv2 = alpha, conv1.flatten(), conv2.flatten()
        self.saved: list[Tensors] = []
        self.grads: list[Tensors] = []

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        scaled = self.alpha * mean
        active = correlate(scaled, self.conv1).relu_()
        gate = correlate(active, self.conv2).sigmoid_()
        self.saved.append((scaled, active, gate))
        return gate

    def backward(self, t: int, grad: torch.Tensor) -> torch.Tensor:
        """Gradient of the mean from that of the gate's logit."""
        dactive = correlate(grad, self.conv2.flip(0))
        dhidden = torch.ops.aten.threshold_backward(dactive, self.saved[t][1], 0)
        self.grads.append((dhidden, grad))
        return self.alpha * correlate(dhidden, self.conv1.flip(0))

    def weight_grads(self) -> list[torch.Tensor]:
        """Gradients of both kernels, over all steps."""
        scaled, active, _ = (torch.cat(x) for x in zip(*self.saved, strict=True))
        dhidden, dlogit = (torch.cat(x[::-1]) for x in zip(*self.grads, strict=True))
        return [taps(scaled, dhidden), taps(active, dlogit)]


def correlate(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """y[c] = Σ_i kernel[i] · x[c + i - 1] along the channels of (N, C), zero outside."""
    y = x * kernel[1]
    y[:, 1:].addcmul_(x[:, :-1], kernel[0])
    y[:, :-1].addcmul_(x[:, 1:], kernel[2])
    return y


def taps(x: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """Gradient of `correlate`'s kernel, (1, 1, 3) as `Conv1d` holds it."""
    parts = (x[:, :-1] * grad[:, 1:]).sum(), (x * grad).sum(), (x[:, 1:] * grad[:, :-1]).sum()
    return torch.stack(parts).view(1, 1, 3)


def pool(x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> Tensors:
    """Maps (N, C, L) -> k = sigmoid(weight·X + bias) (N, L), X·kᵀ (N, C), Σ k (N,), mean of X (N, C)."""
    n, c, length = x.shape
    if weight is None or bias is None:
        return x.new_empty(0), x.new_empty(0), x.new_empty(0), x.mean(2)
    rows = x.new_full((n, 2, length), 1 / length)
    k = torch.bmm(weight.expand(n, 1, c), x).squeeze(1).add_(bias.view(-1, 1))
    k = torch.sigmoid(k, out=rows[:, 0])
    sums = torch.bmm(x, rows.transpose(1, 2))
    return k, sums[..., 0], k.sum(1), sums[..., 1]


def unpool(
    out: torch.Tensor, base: torch.Tensor, factor: float, saved: tuple[Any, ...], grads: tuple[Any, ...]
) -> tuple[Any, Any]:
    """Backward of `pool`: `out` becomes factor · base + dX; returns dweight (C,) and dbias (N,).

    `saved`: X, k, weight; `grads`: those of X·kᵀ, Σ k (or None for 0) and the mean.
    """
    x, k, weight = saved
    weighted, attention, mean = grads
    n, c, length = x.shape
    if weight is None:
        if mean is None:
            torch.mul(base, factor, out=out)
        else:
            torch.add(mean.div(length).unsqueeze(2), base, alpha=factor, out=out)
        return None, None
    dk = torch.bmm(weighted.unsqueeze(1), x).squeeze(1)
    if attention is not None:
        dk.add_(attention.unsqueeze(1))
    dkey = torch.ops.aten.sigmoid_backward(dk, k)
    columns = torch.stack([weighted, weight.expand(n, c), mean / length], 1)
    rows = torch.stack([k, dkey, torch.ones_like(k)], 1)
    torch.baddbmm(base, columns.transpose(1, 2), rows, beta=factor, out=out)
    return torch.bmm(x, dkey.unsqueeze(2)).sum((0, 2)), dkey.sum(1)


class Sequence:
    """The T steps of one neuron, forward and back.

    What the neuron lacks is None: the encoding `table` (T, C); keys, weight (C,) and bias (T,) of GC1, then
    of GC2; weights, six of each context, two of SA.
    """

    def __init__(self, plan: Plan, table: Any, *tensors: Any) -> None:
        self.plan, self.table = plan, table
        (self.w1, self.b1, self.w2, self.b2), weights = tensors[:4], tensors[4:]
        self.gc_in = None if self.w1 is None else Context(*weights[:6])
        self.gc_state = None if self.w2 is None else Context(*weights[6:12])
        self.sa = None if weights[12] is None else Gate(plan.alpha, *weights[12:])
        self.gated = self.gc_in is not None or self.sa is not None
        self.pools: list[tuple[Any, Any]] = []

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Currents N ⊙ X (T, B, C, L) -> spikes; keeps V."""
        plan, self.maps, self.v = self.plan, maps, torch.empty_like(maps)
        spikes, h = torch.empty_like(maps), torch.zeros_like(maps[0])
        if self.gated:
            offsets, means = self.inputs()
        for t, (current, v) in enumerate(zip(maps, self.v, strict=True)):
            gates = self.gates(t, h, offsets[t], means[t]) if self.gated else None
            torch.add(current, h, alpha=plan.factor, out=v)
            if gates is not None:
                v.add_(gates[0].unsqueeze(2))
                if gates[1] is not None:
                    v.mul_(gates[1].unsqueeze(2))
            torch.ge(v, plan.threshold, out=spikes[t])
            if t < len(maps) - 1:
                torch.addcmul(v, v, spikes[t], value=-1, out=h)
        return spikes

    def inputs(self) -> Tensors:
        """What joins each U[t] besides its map and what comes from H, and the map's mean, (T, B, C) both."""
        batch = self.maps.shape[1]
        bias = None if self.b1 is None else self.b1.repeat_interleave(batch)
        self.input_k, weighted, self.input_attention, mean = pool(self.maps.flatten(0, 1), self.w1, bias)
        offsets = torch.zeros_like(mean)
        if self.gc_in is not None:
            if self.plan.place == "input":
                shift = self.table.repeat_interleave(batch, 0)
                weighted = torch.addcmul(weighted, shift, self.input_attention.unsqueeze(1))
            offsets = self.gc_in.forward(0, weighted)
        offsets = offsets.view(self.maps.shape[:3])
        if not all(self.plan.kept):
            offsets = offsets * self.mask()
        if self.plan.place == "input":
            offsets = offsets + self.plan.gain * self.table.unsqueeze(1)
        elif self.plan.place == "aggregate":
            offsets = offsets + self.table.unsqueeze(1)
        return offsets, mean.view(self.maps.shape[:3])

    def mask(self) -> torch.Tensor:
        """TSRD as numbers, (T, 1, 1)."""
        return self.maps.new_tensor(self.plan.kept).view(-1, 1, 1)

    def gates(self, t: int, h: torch.Tensor, offset: torch.Tensor, mean: torch.Tensor) -> tuple[Any, Any]:
        """Offset of U[t] and SA's gate, (B, C) both, from H[t-1] and what is known of X[t]."""
        plan = self.plan
        at_state = plan.place == "state"
        k: Any = None
        attention: Any = None
        state_mean: Any = None
        weighted = torch.zeros_like(offset)
        if t > 0 or at_state:  # else H is zero and so are its pools
            bias = None if self.b2 is None else self.b2[t].expand(len(h))
            k, weighted, attention, state_mean = pool(h, self.w2, bias)
        self.pools.append((k, attention))
        if at_state:
            offset = offset + plan.factor * self.table[t]
        if self.gc_state is not None and plan.kept[t]:
            if at_state:
                weighted = weighted + self.table[t] * attention.unsqueeze(1)
            offset = torch.add(offset, self.gc_state.forward(t, weighted), alpha=plan.factor)
        if self.sa is None:
            return offset, None
        mean = mean + offset
        if state_mean is not None:
            mean.add_(state_mean, alpha=plan.factor)
        return offset, self.sa.forward(mean)

    def backward(self, dspikes: torch.Tensor) -> list[torch.Tensor | None]:
        """Gradients of maps, table, keys and weights."""
        plan, v, steps = self.plan, self.v, len(self.v)
        low, high = plan.threshold - plan.width / 2, plan.threshold + plan.width / 2
        if plan.width != 1:
            dspikes = dspikes / plan.width
        dmaps, self.dh, self.scratch = torch.empty_like(v), torch.empty_like(v[0]), torch.empty_like(v[0])
        self.doffsets, self.dmeans = (v.new_zeros(v.shape[:3]) for _ in range(2))
        zeros: list[Any] = [
            None if x is None else torch.zeros_like(x) for x in (self.table, self.w2, self.b2)
        ]
        self.dtable, self.dw2, self.db2 = zeros
        for t in reversed(range(steps)):
            dv = window(dspikes[t], v[t], low, high, grad_input=dmaps[t])
            if t < steps - 1:
                dv.add_(window(self.dh, v[t], -float("inf"), plan.threshold, grad_input=self.scratch))
            if self.gated:
                self.gates_backward(t, dv)
            elif t > 0:
                torch.mul(dv, plan.factor, out=self.dh)
        dw1, db1 = self.inputs_backward(dmaps) if self.gated else (None, None)
        grads: list[Any] = [dmaps, self.dtable, dw1, db1, self.dw2, self.db2]
        for part, count in ((self.gc_in, 6), (self.gc_state, 6), (self.sa, 2)):
            grads += [None] * count if part is None else part.weight_grads()
        return grads

    def gates_backward(self, t: int, dv: torch.Tensor) -> None:
        """From dV[t], which becomes dU[t], to dH[t-1] in self.dh and the gradients of what is (B, C)."""
        plan, dmean = self.plan, None
        if self.sa is not None:
            gate = self.sa.saved[t][2]
            dlogit = torch.mul(dv, self.v[t], out=self.scratch).sum(2).mul_(1 - gate)
            dmean = self.dmeans[t] = self.sa.backward(t, dlogit)
            dv.mul_(gate.unsqueeze(2))
        doffset = torch.sum(dv, 2, out=self.doffsets[t])
        if dmean is not None:
            doffset.add_(dmean)
        k, attention = self.pools[t]
        dweighted, dattention = torch.zeros_like(doffset), None
        if self.gc_state is not None and plan.kept[t]:
            dweighted = self.gc_state.backward(t, plan.factor * doffset)
        if plan.place == "state":
            self.dtable[t] += plan.factor * doffset.sum(0)
            if self.gc_state is not None:
                self.dtable[t] += (dweighted * attention.unsqueeze(1)).sum(0)
                dattention = dweighted @ self.table[t]
        if k is None:
            return
        h = (
            self.scratch.zero_()
            if t == 0
            else window(self.v[t - 1], self.v[t - 1], -float("inf"), plan.threshold, grad_input=self.scratch)
        )
        dmean = torch.zeros_like(doffset) if dmean is None else plan.factor * dmean
        dweight, dbias = unpool(self.dh, dv, plan.factor, (h, k, self.w2), (dweighted, dattention, dmean))
        if dweight is not None:
            self.dw2 += dweight
            self.db2[t] = dbias.sum()

    def inputs_backward(self, dmaps: torch.Tensor) -> tuple[Any, Any]:
        """Add to dmaps what comes through GC1 and SA's mean; returns the gradients of GC1's key."""
        plan, batch = self.plan, self.maps.shape[1]
        doffsets = self.doffsets
        if plan.place in ("input", "aggregate"):
            self.dtable += (plan.gain if plan.place == "input" else 1) * doffsets.sum(1)
        dweighted: Any = None
        dattention: Any = None
        if self.gc_in is not None:
            masked = doffsets if all(plan.kept) else doffsets * self.mask()
            dweighted = self.gc_in.backward(0, masked.flatten(0, 1))
            if plan.place == "input":
                self.dtable += (
                    (dweighted * self.input_attention.unsqueeze(1)).unflatten(0, (-1, batch)).sum(1)
                )
                dattention = (dweighted * self.table.repeat_interleave(batch, 0)).sum(1)
        flat = dmaps.flatten(0, 1)
        saved = self.maps.flatten(0, 1), self.input_k, self.w1
        dw1, db1 = unpool(flat, flat, 1.0, saved, (dweighted, dattention, self.dmeans.flatten(0, 1)))
        return dw1, None if db1 is None else db1.view(-1, batch).sum(1)


class Recurrence(Function):
    """`Sequence` for autograd: maps, plan, table, keys, weights -> spikes."""

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor, plan: Plan, *tensors: torch.Tensor | None) -> torch.Tensor:
        ctx.sequence = Sequence(plan, *tensors)
        return ctx.sequence.forward(maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dspikes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dmaps, *grads = ctx.sequence.backward(dspikes)
        return dmaps, None, *grads
