"""One measured row under one convention: the operations that are charged.

Every function here is pure and works on totals over all samples; `estimate` divides and prices.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from snn_energy.energy.conventions import Convention
from snn_energy.energy.structure import attention_rows, drivers, order
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import SYNAPTIC

Key = tuple[str, str, int]
POOLS = ("max_pool", "avg_pool")


@dataclass(frozen=True)
class Charged:
    """Operations charged for one row: accumulates, multiply-accumulates, multiplications, comparisons.

    `spread` says how `ac` and `mac` vary over samples: as the counts of the "row" (plus a constant), not at
    all ("constant": shapes alone decide), or in a way that was not measured ("unknown").
    """

    ac: float = 0.0
    mac: float = 0.0
    mul: float = 0.0
    cmp: float = 0.0
    spread: str = "unknown"


@dataclass(frozen=True)
class Rates:
    """What a convention needs to know beyond one row.

    `neurons`: firing rates by name; `qkv`: by row, the mean rate of what leaves the Q, K and V layers;
    `minimum`: by product, the operations that `min-of-rates` charges where Q Kᵀ comes first.
    """

    neurons: Mapping[str, float] = field(default_factory=dict)
    qkv: Mapping[Key, float] = field(default_factory=dict)
    minimum: Mapping[Key, float] = field(default_factory=dict)

    @classmethod
    def of(cls, profile: Profile) -> Rates:
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
                    minimum |= _as_state(first, second)
        return cls(neurons, qkv, minimum)


def _as_state(first: OpRow, second: OpRow) -> dict[Key, float]:
    """Q Kᵀ and A V charged as Kᵀ V and Q (Kᵀ V): tokens × d² per head, at min(r_K, r_V) and at r_Q."""
    tokens, width = second.output_shape[-2:]
    dense = first.dense_macs * width / tokens
    query, key, value = first.input_rate, _right_rate(first), _right_rate(second)
    return {first.key: min(key, value) * dense, second.key: query * dense}


def _right_rate(row: OpRow) -> float:
    return row.right_nonzero / row.right_elements if row.right_elements else 0.0


def is_event(row: OpRow, convention: Convention) -> bool:
    """Is the row's operand (of a product: at least one of them) charged as events?"""
    if row.op == "matmul" and row.right_kind is not None and _listed(row.right_kind, convention):
        return True
    if convention.events_are == "two-valued":
        return row.two_valued_input
    return _listed(row.input_kind, convention)


def charge(row: OpRow, convention: Convention, rates: Rates) -> Charged:
    """The operations that `convention` charges for `row`, summed over samples and steps."""
    if row.op in SYNAPTIC:
        return _with_bias(row, convention, _synaptic(row, convention, rates))
    if row.neuron_cmp:
        return _neuron(row, convention)
    if row.norm_elements or row.norm_macs:
        elements = row.norm_elements
        unfolded = row.mac + row.norm_macs
        macs = {"unfolded": unfolded, "one-mac": elements, "two-macs": 2 * elements, "none": 0}
        return Charged(mac=macs[convention.norm], spread="constant")
    return _elementwise(row, convention, rates)


def _synaptic(row: OpRow, convention: Convention, rates: Rates) -> Charged:
    special = {"encoder": convention.encoder, "head": convention.head}.get(row.role, "by-value")
    if special != "by-value":
        return SPECIAL[special](row)
    if row.op == "matmul" and convention.products == "none":
        return Charged(spread="constant")
    if not is_event(row, convention):
        return REALS[convention.reals](row, convention)
    if row.op == "matmul" and convention.products != "counted":
        return Charged(ac=_product(row, convention, rates))
    if convention.counting == "rate":
        rate = _event_rate(row)
        if convention.qkv_rate == "output":
            rate = rates.qkv.get(row.key, rate)
        return Charged(ac=rate * row.dense_macs)
    executed = convention.counting == "executed"
    ac = row.ac_executed or row.ac if executed else row.ac
    if not ac and row.mac:  # a real operand that the convention calls events
        ac = row.mac_nonzero
    return Charged(ac=ac, spread="row" if ac == row.ac and not row.mac else "unknown")


def _valid(row: OpRow, convention: Convention) -> Charged:
    if convention.counting == "exact":
        mac, events = row.mac, row.ac
    else:
        mac, events = row.mac_executed or row.mac, row.ac_executed or row.ac
    if not mac and events:  # events that the convention calls real: each synapse, zeros included
        return Charged(mac=row.valid_macs, spread="constant")
    return Charged(mac=mac, spread="row" if mac == row.mac and not row.ac else "constant")


def _nonzero(row: OpRow, convention: Convention) -> Charged:
    return Charged(mac=row.mac_nonzero or row.ac_executed or row.ac)


REALS: Mapping[str, Callable[[OpRow, Convention], Charged]] = {
    "mac-valid": _valid,
    "mac-dense": lambda row, _: Charged(mac=row.dense_macs, spread="constant"),
    "mac-nonzero": _nonzero,
    "none": lambda row, _: Charged(spread="constant"),
}
SPECIAL: Mapping[str, Callable[[OpRow], Charged]] = {
    "mac-dense": lambda row: Charged(mac=row.dense_macs, spread="constant"),
    "mac-once": lambda row: Charged(mac=row.dense_macs / row.static_repeats, spread="constant"),
    "mac-rate": lambda row: Charged(mac=row.dense_macs * row.input_rate),
    "ac-rate": lambda row: Charged(ac=row.dense_macs * row.input_rate),
    "none": lambda row: Charged(spread="constant"),
}


def _product(row: OpRow, convention: Convention, known: Rates) -> float:
    if convention.products == "min-of-rates" and row.key in known.minimum:
        return known.minimum[row.key]
    rates = _operand_rates(row)
    pick = {"one-sided": rates[0], "min-of-rates": min(rates), "sum-of-rates": sum(rates)}
    return pick[convention.products] * row.dense_macs


def _operand_rates(row: OpRow) -> list[float]:
    """The rates of a product's event operands, the left one first; of both where neither is."""
    left = row.input_rate
    right = _right_rate(row) if row.right_elements else left
    kinds = (row.input_kind, row.right_kind)
    events = [rate for rate, kind in zip((left, right), kinds, strict=True) if kind not in ("real", None)]
    return events or [left, right]


def _event_rate(row: OpRow) -> float:
    return _operand_rates(row)[0] if row.op == "matmul" else row.input_rate


def _with_bias(row: OpRow, convention: Convention, charged: Charged) -> Charged:
    """`charged` with the additions of the bias, as the convention charges them."""
    rule = convention.head_bias if row.role == "head" else convention.bias
    if not row.bias_adds or rule == "none":
        return charged
    if rule == "with-row" and charged.mac:
        return replace(charged, mac=charged.mac + row.bias_adds)
    if rule == "ac":
        return replace(charged, ac=charged.ac + row.bias_adds)
    return replace(charged, ac=charged.ac + row.bias_adds * _event_rate(row), spread="unknown")


def _neuron(row: OpRow, convention: Convention) -> Charged:
    if convention.neuron == "full":
        return Charged(row.neuron_add + row.neuron_reset, 0, row.neuron_mul, row.neuron_cmp)
    macs = row.neuron_cmp if convention.neuron == "one-mac" else 0
    return Charged(row.neuron_cmp if convention.neuron != "none" else 0, macs, spread="constant")


def _elementwise(row: OpRow, convention: Convention, rates: Rates) -> Charged:
    if row.op in POOLS and convention.pool == "per-input":
        return _pool(row, convention, rates)
    if row.op == "sum" and convention.products == "sum-of-rates" and set(row.sources) <= set(rates.neurons):
        return Charged(ac=row.input_elements * sum(rates.neurons[s] for s in row.sources))
    compare = row.pool_cmp if convention.pool == "compare" else 0
    scale = row.scale_muls if convention.scale == "mul" else 0
    if convention.elementwise == "none":
        return Charged(mul=scale, cmp=compare, spread="constant")
    executed = convention.counting == "executed"
    ac = row.ac_executed or row.ac if executed else row.ac
    mac = row.mac_executed or row.mac if executed else row.mac
    return Charged(ac, mac, scale, compare, "row" if (ac, mac) == (row.ac, row.mac) else "unknown")


def _pool(row: OpRow, convention: Convention, rates: Rates) -> Charged:
    """One operation per input element.  A max pool's input is not looked at: its sources tell what it is."""
    looked_at = bool(row.input_kind) and bool(row.input_nonzero or row.two_valued_input)
    spikes = bool(row.sources) and set(row.sources) <= set(rates.neurons)
    if is_event(row, convention) or (spikes and not looked_at and row.op == "max_pool"):
        rate = row.input_rate if looked_at else rates.neurons.get(row.sources[0], 0.0) if spikes else 0.0
        return Charged(ac=row.input_elements * rate)
    return Charged(mac=row.input_elements, spread="constant")


def _listed(kind: str, convention: Convention) -> bool:
    if convention.events_are == "two-valued":
        return kind == "binary"
    return kind in convention.events_are
