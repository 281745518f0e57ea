"""The dense twin, the ANN of the same shape: "k times less energy than the ANN" is computed, not quoted.

Same layers and widths, every neuron a ReLU, attention with softmax, one pass instead of T steps, every
operand real.  The twin is a Profile, so `estimate` prices it like anything measured.
"""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction
from math import prod

from snn_energy.energy.passes import additions_in_one_pass, per_pass
from snn_energy.energy.structure import MASKS, attention_rows, drivers, order
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import SYNAPTIC, WEIGHTED

Key = tuple[str, str, int]


def dense_twin(profile: Profile) -> Profile:
    """The ANN of the same shape as one sample and one pass.

    Weighted layers: their MACs of one pass.  Attention: Q Kᵀ and A V, N²·D MACs each, whatever cheaper order
    (Kᵀ V first: N·D·d) or mask the spiking network uses, and a softmax over N² scores per head
    (`special_evals`).  Residual additions and averages: one AC per element; nothing where they add over time
    steps only (`additions_in_one_pass`).  Norms: as folded as they were.
    """
    attention = _attention(profile)
    rows: list[OpRow] = []
    for i, row in enumerate(profile.rows):
        if row.key in attention:
            replacement = attention[row.key]
            rows += [replacement] if replacement is not None else []
        elif row.op in SYNAPTIC:
            rows.append(_synapse(row, profile))
        elif row.op == "uncounted":
            rows.append(row)
        else:
            rows.append(_other(row, profile, additions_in_one_pass(row, profile.rows[:i], profile)))
    return Profile(
        tuple(rows),
        samples=1,
        time_steps=1,
        model=f"dense twin of {profile.model}" if profile.model else "dense twin",
        config=dict(profile.config),
        parameters=profile.parameters,
    )


def _share(count: int, divisor: Fraction | int) -> int:
    return round(Fraction(count) / divisor)


def _synapse(row: OpRow, profile: Profile) -> OpRow:
    """One pass, with real operands, of a weighted layer or a product that is no attention of a known form."""
    divisor = per_pass(row, profile)
    valid = _share(row.valid_macs or row.dense_macs, divisor)
    return OpRow(
        row.name,
        row.op,
        row.site,
        calls=1,
        role=row.role,
        block=row.block,
        right_kind="real" if row.op == "matmul" else None,
        input_shape=row.input_shape,
        output_shape=row.output_shape,
        input_elements=_share(row.input_elements, divisor),
        input_nonzero=_share(row.input_elements, divisor),
        right_elements=_share(row.right_elements, divisor),
        output_elements=_share(row.output_elements, divisor),
        dense_macs=_share(row.dense_macs, divisor),
        valid_macs=valid,
        mac=valid,
        mac_executed=valid,
        mac_nonzero=valid,
        mac_square_sum=valid**2,
        fan_out=row.fan_out,
        bias_adds=_share(row.bias_adds, divisor),
        weight_elements=row.weight_elements,
        bias_elements=row.bias_elements,
        details=dict(row.details),
    )


def _other(row: OpRow, profile: Profile, adds: int) -> OpRow:
    """Norms, pools, sums and ReLUs of one pass, which makes `adds` additions; rows of a user's rules too."""
    divisor = per_pass(row, profile)
    own = (_share(count, divisor) for count in _own(row))
    adds, macs = adds + next(own), next(own)
    return OpRow(
        row.name,
        "relu" if row.neuron_cmp else row.op,
        row.site,
        calls=1,
        role=row.role,
        block=row.block,
        input_shape=row.input_shape,
        output_shape=row.output_shape,
        input_elements=_share(row.input_elements, divisor),
        input_nonzero=_share(row.input_elements, divisor),
        output_elements=_share(row.output_elements, divisor),
        ac=adds,
        ac_executed=adds,
        ac_square_sum=adds**2,
        mac=macs,
        mac_executed=macs,
        mac_square_sum=macs**2,
        norm_macs=_share(row.norm_macs, divisor),
        norm_elements=_share(row.norm_elements, divisor),
        norm_folded=row.norm_folded,
        pool_cmp=_share(row.pool_cmp, divisor),
    )


def _own(row: OpRow) -> tuple[int, int]:
    """ACs and MACs of a row of a user's rule, all passes together, if its operands are real."""
    count = {name: found.total for name, found in row.counts.items()}
    if row.decided_as == "as counted":
        return count.get("ac", 0), count.get("mac", 0)
    valid = count.get("valid", 0) if row.decided_as else 0
    return (0, valid) if row.decided_as == "multiplication" else (valid, 0)


def _attention(profile: Profile) -> dict[Key, OpRow | None]:
    """The twin's Q Kᵀ and A V rows, by the key of the row whose place they take; None for a row that goes."""
    placed: dict[Key, OpRow | None] = {}
    for rows in attention_rows(profile.rows).values():
        channels = _projected(profile, rows)
        if rows[0].op in MASKS:
            placed |= _unmasked(rows, _mask_size(rows, channels, profile))
            continue
        for first, second in itertools.pairwise(rows):
            if order(first, second):
                size = _product_size(second, channels, profile)
                placed |= {first.key: _softmax(first, *size), second.key: _product(second, *size)}
    return placed


def _projected(profile: Profile, attention: list[OpRow]) -> int:
    """Channels handed to the projection, the next weighted layer of the block; else those of Q, K, V."""
    block = [row for row in profile.rows if row.block == attention[-1].block]
    for row in block[block.index(attention[-1]) + 1 :]:
        if row.op in WEIGHTED and row.input_shape:
            tokens_first = row.op == "linear" and len(row.input_shape) < 3
            return row.input_shape[-1 if tokens_first else 0]
    return min((r.output_shape[0] for r in drivers(profile.rows, attention) if r.output_shape), default=0)


def _unmasked(masks: list[OpRow], size: tuple[int, int, int] | None) -> dict[Key, OpRow | None]:
    """The products in the places of the first and the last mask; the masks between them go."""
    if size is None:
        return {}
    gone: dict[Key, OpRow | None] = {row.key: None for row in masks}
    return gone | {masks[0].key: _softmax(masks[0], *size), masks[-1].key: _product(masks[-1], *size)}


def _product_size(second: OpRow, channels: int, profile: Profile) -> tuple[int, int, int]:
    """(tokens of one step, channels, heads) from the second product: (heads, tokens, d), or
    (heads, d, tokens).

    `channels`, where known, tells the two apart.
    """
    heads, height, width = prod(second.output_shape[:-2]), *second.output_shape[-2:]
    if heads * width != channels == heads * height:
        width = height
    channels = heads * width
    tokens = second.output_elements // (profile.samples * profile.time_steps * channels)
    return max(tokens, 1), channels, heads


def _mask_size(masks: list[OpRow], channels: int, profile: Profile) -> tuple[int, int, int] | None:
    """(tokens, channels, heads) of an attention of masks, whose tensors are (heads, tokens and d)."""
    if not channels:
        return None
    elements = max(row.input_elements for row in masks) // (profile.samples * profile.time_steps)
    shape = masks[0].input_shape
    heads = shape[0] if len(shape) == 3 else int(masks[0].details.get("heads", 1))
    return max(elements // channels, 1), channels, heads


def _product(row: OpRow, tokens: int, channels: int, heads: int) -> OpRow:
    macs = tokens * tokens * channels
    width = channels // heads
    return OpRow(
        row.name,
        "matmul",
        row.site,
        calls=1,
        role="attention",
        block=row.block,
        right_kind="real",
        input_shape=(heads, tokens, tokens),
        output_shape=(heads, tokens, width),
        input_elements=heads * tokens * tokens,
        input_nonzero=heads * tokens * tokens,
        right_elements=tokens * channels,
        output_elements=tokens * channels,
        dense_macs=macs,
        valid_macs=macs,
        mac=macs,
        mac_executed=macs,
        mac_nonzero=macs,
        mac_square_sum=macs**2,
        fan_out=width,
    )


def _softmax(row: OpRow, tokens: int, channels: int, heads: int) -> OpRow:
    """Q Kᵀ and the softmax over its scores."""
    scores = heads * tokens * tokens
    return dataclasses.replace(
        _product(row, tokens, channels, heads),
        input_shape=(heads, tokens, channels // heads),
        output_shape=(heads, tokens, tokens),
        input_elements=tokens * channels,
        input_nonzero=tokens * channels,
        output_elements=scores,
        fan_out=tokens,
        special_evals=scores,
    )
