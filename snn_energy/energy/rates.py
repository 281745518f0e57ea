"""The rates at which a convention charges: of an operand, and of the neurons around an attention."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from snn_energy.energy.conventions import Convention
from snn_energy.energy.structure import attention_rows, drivers, order
from snn_energy.profiling.profile import OpRow, Profile

Key = tuple[str, str, int]


@dataclass(frozen=True)
class Rates:
    """What a convention needs to know beyond one row.

    `neurons`: firing rates by name; `qkv`: by row, the mean rate of what leaves the Q, K and V layers;
    `minimum`: by product, the operations that `min-of-rates` charges where Q Kᵀ comes first; `pruning`: were
    operations over nonzero weights counted (profiles of earlier versions have none)?
    """

    neurons: Mapping[str, float] = field(default_factory=dict)
    qkv: Mapping[Key, float] = field(default_factory=dict)
    minimum: Mapping[Key, float] = field(default_factory=dict)
    pruning: bool = False

    @classmethod
    def of(cls, profile: Profile, convention: Convention) -> Rates:
        """The rates of every neuron and attention of `profile`."""
        neurons = {row.name: row.output_rate for row in profile.rows if row.neuron_cmp}
        qkv: dict[Key, float] = {}
        minimum: dict[Key, float] = {}
        for attention in attention_rows(profile.rows).values():
            operands = {source for row in attention for source in row.sources if source in neurons}
            layers = drivers(profile.rows, attention)
            heard = {name for row in layers for name in row.feeds} & operands
            if heard:
                mean = sum(neurons[name] for name in heard) / len(heard)
                qkv |= {row.key: mean for row in layers}
            for first, second in itertools.pairwise(attention):
                if order(first, second) == "scores":
                    minimum |= _as_state(first, second, convention)
        return cls(neurons, qkv, minimum, any(_counts_weights(row) for row in profile.rows))


def _counts_weights(row: OpRow) -> bool:
    return bool(row.ac_unpruned or row.ac_events_unpruned or row.mac_unpruned or row.mac_nonzero_unpruned)


def _as_state(first: OpRow, second: OpRow, convention: Convention) -> dict[Key, float]:
    """Q Kᵀ and A V charged as Kᵀ V and Q (Kᵀ V): tokens × d² per head, at min(r_K, r_V) and at r_Q."""
    tokens, width = second.output_shape[-2:]
    dense = first.dense_macs * width / tokens
    query, key = left_rate(first, convention), right_rate(first, convention)
    return {first.key: min(key, right_rate(second, convention)) * dense, second.key: query * dense}


def left_rate(row: OpRow, convention: Convention) -> float:
    """Events of the first operand per element, as the convention counts graded ones."""
    if not row.input_elements:
        return 0.0
    return _events(row.input_nonzero, row.input_units, row.input_values, convention) / row.input_elements


def right_rate(row: OpRow, convention: Convention) -> float:
    """The same of the second operand."""
    if not row.right_elements:
        return 0.0
    return _events(row.right_nonzero, row.right_units, row.right_values, convention) / row.right_elements


def _events(nonzero: int, units: int, values: tuple[float, ...] | None, convention: Convention) -> float:
    """Events of an operand.  Unit events stand for its sum where the values' unit is 1."""
    if convention.graded == "units":
        return units or nonzero
    if convention.graded == "value" and values is not None and len(values) == 1:
        return nonzero * values[0]
    return nonzero


def operand_rates(row: OpRow, convention: Convention) -> list[float]:
    """The rates of a product's event operands, the left one first; of both where neither is."""
    left = left_rate(row, convention)
    right = right_rate(row, convention) if row.right_elements else left
    kinds = (row.input_kind, row.right_kind)
    events = [rate for rate, kind in zip((left, right), kinds, strict=True) if kind not in ("real", None)]
    return events or [left, right]


def event_rate(row: OpRow, convention: Convention) -> float:
    """The rate at which a row's dense operations happen: of a product, that of its first event operand."""
    return operand_rates(row, convention)[0] if row.op == "matmul" else left_rate(row, convention)
