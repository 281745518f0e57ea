"""Integer arithmetic on floating-point arrays, written against the array API standard.

BLAS has no integers, so whole numbers travel as float32 or float64.  That is exact while every partial
sum stays below 2²⁴ or 2⁵³; `container` picks the type from a bound on the sums.  `xp` is the array
namespace (NumPy, CuPy, array-api-strict).  Spikes are (F, C, H, W): F frames, independent of each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn_energy.exporters.netlist.record import (
    Array,
    Conv,
    Dense,
    GradedMaxPool,
    Identity,
    Sparse,
    SpikeAttention,
)

FLOAT32_EXACT, FLOAT64_EXACT = 1 << 24, 1 << 53


def container(bound: float, xp: Any) -> Any:
    """The cheapest dtype in which sums up to ±`bound` are exact."""
    if bound >= FLOAT64_EXACT:
        raise OverflowError(f"sums up to {bound:.3g} are not exact in float64")
    return xp.float32 if bound < FLOAT32_EXACT else xp.float64


def fan_in_bound(node: Conv | Dense | Sparse | Identity, largest_message: float) -> float:
    """Upper bound of |current| into any neuron, before a wrap, for messages up to `largest_message`."""
    scale = largest_message * 2.0**node.exponent
    match node:
        case Conv():
            return scale * float(np.abs(node.weight.astype(np.int64)).sum(axis=(1, 2, 3)).max())
        case Dense():
            return scale * float(np.abs(node.weight.astype(np.int64)).sum(axis=1).max())
        case Sparse():
            sums = np.bincount(node.targets, np.abs(node.values.astype(np.int64)), int(np.prod(node.shape)))
            return scale * float(sums.max())
        case Identity():
            return scale * abs(node.weight)


def conv_kernel(node: Conv) -> Array:
    """(groups, O/groups, C/groups·kH·kW), exponent applied: the left operand of `conv`."""
    out_channels = node.weight.shape[0]
    kernel: Array = node.weight.astype(np.int64) << node.exponent
    return kernel.reshape(node.groups, out_channels // node.groups, -1)


def conv(x: Any, kernel: Any, node: Conv, xp: Any) -> Any:
    """(F, C, H, W) -> (F, O, H', W'): cross-correlation by one matrix product per group."""
    frames, groups = x.shape[0], node.groups
    columns = _columns(x, node, xp)
    if kernel.shape[1] == kernel.shape[2] == 1:  # one weight per channel
        return xp.reshape(columns, (frames, *node.shape)) * xp.reshape(kernel, (1, -1, 1, 1))
    if groups == 1:
        return xp.reshape(xp.matmul(kernel[0, ...], columns), (frames, *node.shape))
    columns = xp.reshape(columns, (frames, groups, -1, columns.shape[-1]))
    return xp.reshape(xp.matmul(kernel[None, ...], columns), (frames, *node.shape))


def _columns(x: Any, node: Conv, xp: Any) -> Any:
    """(F, C, H, W) -> (F, C·kH·kW, H'·W'), what each output position sees."""
    frames, channels = x.shape[0], x.shape[1]
    (kh, kw), (_, ho, wo) = node.weight.shape[2:], node.shape
    (sh, sw), (dh, dw) = node.stride, node.dilation
    x = pad(x, node.padding, 0.0, xp)
    if kh == kw == 1:
        x = x[:, :, : sh * (ho - 1) + 1 : sh, : sw * (wo - 1) + 1 : sw]
        return xp.reshape(x, (frames, channels, ho * wo))
    columns = xp.empty((frames, channels, kh * kw, ho, wo), dtype=x.dtype)
    for i in range(kh):
        for j in range(kw):
            tap = x[:, :, i * dh : i * dh + sh * (ho - 1) + 1 : sh, j * dw : j * dw + sw * (wo - 1) + 1 : sw]
            columns[:, :, i * kw + j, :, :] = tap
    return xp.reshape(columns, (frames, channels * kh * kw, ho * wo))


def pad(x: Any, padding: tuple[int, int], value: float, xp: Any) -> Any:
    """Pad the last two axes of (F, C, H, W)."""
    (ph, pw), (f, c, h, w) = padding, x.shape
    if ph == pw == 0:
        return x
    padded = xp.full((f, c, h + 2 * ph, w + 2 * pw), value, dtype=x.dtype)
    padded[:, :, ph : ph + h, pw : pw + w] = x
    return padded


def max_pool(x: Any, node: GradedMaxPool, xp: Any) -> Any:
    """(F, C, H, W) -> (F, C, H', W'); padding is below everything."""
    (kh, kw), (sh, sw), (_, ho, wo) = node.kernel, node.stride, node.shape
    x = pad(x, node.padding, -float(FLOAT32_EXACT), xp)
    result = None
    for i in range(kh):
        for j in range(kw):
            tap = x[:, :, i : i + sh * (ho - 1) + 1 : sh, j : j + sw * (wo - 1) + 1 : sw]
            result = tap if result is None else xp.where(tap > result, tap, result)
    return result


def sparse_table(node: Sparse) -> tuple[Array, Array]:
    """(sources, values), both (fan-in, outputs): synapse f of each output; unused places have value 0."""
    order = np.argsort(node.targets, kind="stable")
    targets = node.targets[order]
    outputs = int(np.prod(node.shape))
    counts = np.bincount(targets, minlength=outputs)
    rank = np.arange(targets.size) - np.repeat(np.cumsum(counts) - counts, counts)
    sources = np.zeros((int(counts.max()), outputs), np.int64)
    values = np.zeros_like(sources)
    sources[rank, targets] = node.sources[order]
    values[rank, targets] = node.values[order].astype(np.int64) << node.exponent
    return sources, values


def sparse(x: Any, sources: Any, values: Any, xp: Any) -> Any:
    """(F, ...) -> (F, outputs): gather one synapse of every output at a time."""
    x = xp.reshape(x, (x.shape[0], -1))
    out = None
    for f in range(sources.shape[0]):
        part = xp.take(x, sources[f, :], axis=1) * values[f, :]
        out = part if out is None else out + part
    return out


def attention(q: Any, k: Any, v: Any, node: SpikeAttention, xp: Any) -> tuple[Any, float]:
    """(F, C, H, W) spikes, F = samples·steps -> gain·Q(KᵀV) of the same shape, and its events.

    Events: each coincidence k AND v adds one to an entry of KᵀV; each q spike reads a row of `dim` entries.
    """
    frames, channels, height, width = q.shape
    dim, tokens = channels // node.heads, node.chunk * height * width

    def split(x: Any) -> Any:  # -> (F/chunk, heads, chunk·H·W, dim)
        x = xp.reshape(x, (frames // node.chunk, node.chunk, node.heads, dim, height * width))
        return xp.reshape(
            xp.permute_dims(x, (0, 2, 1, 4, 3)), (frames // node.chunk, node.heads, tokens, dim)
        )

    q, k, v = split(q), split(k), split(v)
    kv = xp.matmul(xp.permute_dims(k, (0, 1, 3, 2)), v)
    out = xp.matmul(q, kv) * float(node.gain)
    out = xp.reshape(out, (frames // node.chunk, node.heads, node.chunk, height * width, dim))
    out = xp.reshape(xp.permute_dims(out, (0, 2, 1, 4, 3)), (frames, channels, height, width))
    writes, reads = (float(xp.sum(xp.astype(x, xp.float64))) for x in (kv, q))
    return out, writes + reads * dim


def decay(state: Any, register: int, xp: Any) -> Any:
    """sgn(x)·⌊|x|·(4096 − register) / 4096⌋ on integers held in floats: truncation towards zero."""
    return xp.trunc(state * ((4096 - register) / 4096))


def decay_container(register: int, xp: Any) -> Any:
    """float32 where `decay` only shifts a 24-bit state; else |x|·4096 needs the 53 bits of float64."""
    kept = 4096 - register
    return xp.float32 if kept & (kept - 1) == 0 else xp.float64
