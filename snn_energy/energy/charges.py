"""One measured row under one convention: the operations that are charged.

Every function here is pure and works on totals over all samples; `estimate` divides and prices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from snn_energy.energy.conventions import Convention
from snn_energy.energy.rates import Rates, event_rate, left_rate, operand_rates, right_rate
from snn_energy.profiling.profile import OpRow
from snn_energy.profiling.resolve import SYNAPTIC

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


def is_event(row: OpRow, convention: Convention) -> bool:
    """Is the row's operand (of a product: at least one of them) charged as events?"""
    if row.op == "matmul" and row.right_kind is not None and _listed(row.right_kind, convention):
        return True
    return _left_is_event(row, convention)


def _left_is_event(row: OpRow, convention: Convention) -> bool:
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
        return _norm(row, convention)
    return _elementwise(row, convention, rates)


def _synaptic(row: OpRow, convention: Convention, rates: Rates) -> Charged:
    special = {"encoder": convention.encoder, "head": convention.head}.get(row.role, "by-value")
    if special != "by-value":
        return SPECIAL[special](row, convention)
    if row.op == "matmul" and convention.products == "none":
        return Charged(spread="constant")
    if not is_event(row, convention):
        return REALS[convention.reals](row, convention, rates)
    if row.op == "matmul" and convention.products != "counted":
        return Charged(ac=_product(row, convention, rates))
    if convention.counting == "rate":
        rate = event_rate(row, convention)
        if convention.qkv_rate == "output":
            rate = rates.qkv.get(row.key, rate)
        return Charged(ac=rate * row.dense_macs)
    one_side = _only_side(row, convention)
    if one_side is not None:
        return Charged(ac=one_side * row.dense_macs)
    ac = _events(row, convention, rates)
    if not ac and row.mac:  # a real operand that the convention calls events
        ac = _nonzero(row, convention, rates).mac
    return Charged(ac=ac, spread="row" if ac == row.ac and not row.mac else "unknown")


def _only_side(row: OpRow, convention: Convention) -> float | None:
    """The rate of the one operand that the convention takes for events in a product of two event operands.

    None where it takes both, or where the row's own count is already that of one side.
    """
    if row.op != "matmul" or "real" in (row.input_kind, row.right_kind) or row.right_kind is None:
        return None
    left = _left_is_event(row, convention)
    if left and _listed(row.right_kind, convention):
        return None
    return left_rate(row, convention) if left else right_rate(row, convention)


def _events(row: OpRow, convention: Convention, rates: Rates) -> float:
    """Accumulates of the events of a row, as they were counted: unit events or nonzero ones, over all weights
    or nonzero ones; a static input once under `exact`."""
    if convention.graded == "units":
        executed = row.ac_executed or row.ac
        once: float = row.ac
        kept = row.ac_unpruned
    else:
        executed = row.ac_events or row.ac_executed or row.ac
        once = row.ac_events / row.static_repeats if row.ac_events else row.ac
        kept = row.ac_events_unpruned
    if convention.weights == "nonzero" and rates.pruning:
        executed, once = kept, kept / row.static_repeats
    return once if convention.counting == "exact" else executed


def _valid(row: OpRow, convention: Convention, rates: Rates) -> Charged:
    if convention.weights == "nonzero" and rates.pruning and row.mac:
        repeats = row.static_repeats if convention.counting == "exact" else 1
        return Charged(mac=row.mac_unpruned / repeats, spread="constant")
    if convention.counting == "exact":
        mac, events = row.mac, row.ac
    else:
        mac, events = row.mac_executed or row.mac, row.ac_executed or row.ac
    if not mac and events:  # events that the convention calls real: each synapse, zeros included
        return Charged(mac=row.valid_macs, spread="constant")
    return Charged(mac=mac, spread="row" if mac == row.mac and not row.ac else "constant")


def _nonzero(row: OpRow, convention: Convention, rates: Rates) -> Charged:
    """MACs of nonzero inputs, each once whatever its value."""
    if convention.weights == "nonzero" and rates.pruning:
        return Charged(mac=row.mac_nonzero_unpruned or row.ac_events_unpruned)
    return Charged(mac=row.mac_nonzero or row.ac_events or row.ac_executed or row.ac)


REALS: Mapping[str, Callable[[OpRow, Convention, Rates], Charged]] = {
    "mac-valid": _valid,
    "mac-dense": lambda row, *_: Charged(mac=row.dense_macs, spread="constant"),
    "mac-nonzero": _nonzero,
    "none": lambda *_: Charged(spread="constant"),
}
SPECIAL: Mapping[str, Callable[[OpRow, Convention], Charged]] = {
    "mac-dense": lambda row, _: Charged(mac=row.dense_macs, spread="constant"),
    "mac-once": lambda row, _: Charged(mac=row.dense_macs / row.static_repeats, spread="constant"),
    "mac-rate": lambda row, given: Charged(mac=row.dense_macs * left_rate(row, given)),
    "ac-rate": lambda row, given: Charged(ac=row.dense_macs * left_rate(row, given)),
    "none": lambda *_: Charged(spread="constant"),
}


def _product(row: OpRow, convention: Convention, known: Rates) -> float:
    if convention.products == "min-of-rates" and row.key in known.minimum:
        return known.minimum[row.key]
    rates = operand_rates(row, convention)
    pick = {"one-sided": rates[0], "min-of-rates": min(rates), "sum-of-rates": sum(rates)}
    return pick[convention.products] * row.dense_macs


def _with_bias(row: OpRow, convention: Convention, charged: Charged) -> Charged:
    """`charged` with the additions of the bias, as the convention charges them."""
    rule = convention.head_bias if row.role == "head" else convention.bias
    adds = row.bias_adds
    if not adds or rule == "none":
        return charged
    if rule == "per-call" and row.op == "linear" and row.bias_elements:
        adds = row.bias_elements * row.calls
    if rule in ("with-row", "per-call") and charged.mac:
        return replace(charged, mac=charged.mac + adds)
    if rule == "ac":
        return replace(charged, ac=charged.ac + adds)
    return replace(charged, ac=charged.ac + adds * event_rate(row, convention), spread="unknown")


def _norm(row: OpRow, convention: Convention) -> Charged:
    """A norm's MACs.  `details` say which function it is, and whether it scales (`affine`)."""
    elements, function = row.norm_elements, row.details.get("function", "batch_norm")
    scales = row.details.get("affine", True)
    batch = function in ("batch_norm", "instance_norm")
    macs = {
        "unfolded": row.mac + row.norm_macs,
        "one-mac": elements,
        "two-macs": 2 * elements,
        "batch-scaling": elements if batch and scales else 0,
        "batch-group": elements * (1 + scales) if batch or function == "group_norm" else 0,
        "none": 0,
    }
    return Charged(mac=macs[convention.norm], spread="constant")


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
        rate = (
            left_rate(row, convention)
            if looked_at
            else rates.neurons.get(row.sources[0], 0.0)
            if spikes
            else 0.0
        )
        return Charged(ac=row.input_elements * rate)
    return Charged(mac=row.input_elements, spread="constant")


def _listed(kind: str, convention: Convention) -> bool:
    if convention.events_are == "two-valued":
        return kind == "binary"
    return kind in convention.events_are
