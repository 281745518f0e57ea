"""The quantised twin: the ANN that holds as much as T steps of spikes, and both with data movement.

A neuron that fires 0 … T times says one of T + 1 things, which is what an activation of ⌈log2(T + 1)⌉ bits
says; with graded events of up to D units, ⌈log2(T·D + 1)⌉ bits.  Yan et al. (arXiv:2409.08290) compare the
two by what each synapse costs.  With a spike rate s per step, w-bit weights, b-bit activations, h hops and a
fan-in of N, one neuron costs in one inference

    spiking     N·T·s·(A + w·M + h·S) + T·(A + 2·m·M) + T·s·A
    quantised   N·(z·b·A + w·M + h·b·F) + A

A: an addition, comparison or subtraction; M: a bit of on-chip memory; S: a bit moved as an event; F: a bit
moved in a fixed order; m: bits of a membrane potential.  A product with a b-bit activation is b additions.
z = 2·s / (1 + 1/T), at most 1, is the share of activations that are not zero: the mean of its bounds s, T·s.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from math import gcd

from snn_energy.energy.costs import constants
from snn_energy.energy.structure import is_event_kind
from snn_energy.energy.twin import dense_twin
from snn_energy.energy.yaml_records import shipped
from snn_energy.errors import ConfigError
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import SYNAPTIC, WEIGHTED

PARTS = ("arithmetic", "movement", "weights", "state")


@dataclass(frozen=True)
class MovementPrices:
    """pJ of an addition, of a bit over one hop (as an event, in a fixed order) and of a bit of memory.

    `state_bits` and `input_bits` are those of a membrane potential and of the network's input.
    """

    accumulate: float
    sparse_hop: float
    dense_hop: float
    memory_bit: float
    state_bits: int
    input_bits: int
    node: str
    source: str


@functools.cache
def movement_prices() -> MovementPrices:
    """The shipped prices, from `costs.yaml`."""
    data = shipped("costs.yaml")
    record = dict(data["quantised"])
    names = ("accumulate", "sparse_hop", "dense_hop", "memory_bit")
    priced = {name: constants()[record[name]] for name in names}
    return MovementPrices(
        **{name: constant.pj for name, constant in priced.items()},
        state_bits=record["state_bits"],
        input_bits=record["input_bits"],
        node=priced["accumulate"].node,
        source=data["sources"][record["source"]],
    )


def activation_bits(steps: int, levels: int = 1) -> int:
    """⌈log2(T·D + 1)⌉: bits of an activation that holds what T steps of events of up to D units hold."""
    if steps < 1 or levels < 1:
        raise ConfigError(f"activation bits of {steps} steps and {levels} levels: both are at least 1")
    return (steps * levels).bit_length()


def nonzero_share(rate: float, steps: int) -> float:
    """Share of the quantised activations that are not zero: 2·s / (1 + 1/T), at most 1."""
    return min(1.0, 2 * rate / (1 + 1 / steps))


def break_even_rate(
    steps: int, fan_in: int = 4096, weight_bits: int = 4, hops: float = 1.0, levels: int = 1
) -> float:
    """The spike rate below which a spiking neuron of `fan_in` synapses costs less than its quantised twin.

    `steps` and `levels` make T·D binary steps, to which the rate refers.  Above 1: no rate makes the
    quantised network cheaper.  Raises `ConfigError` for steps or levels below 1.
    """
    p, bits, steps = movement_prices(), activation_bits(steps, levels), steps * levels
    weight = weight_bits * p.memory_bit
    dense = fan_in * (weight + hops * bits * p.dense_hop) + p.accumulate
    silent = steps * (p.accumulate + 2 * p.state_bits * p.memory_bit)
    spike = steps * (fan_in * (p.accumulate + weight + hops * p.sparse_hop) + p.accumulate)
    product = fan_in * bits * p.accumulate
    even = (dense - silent) / (spike - product * 2 / (1 + 1 / steps))
    if nonzero_share(even, steps) < 1:
        return even
    return (dense + product - silent) / spike


@dataclass(frozen=True)
class QuantisedComparison:
    """A spiking network beside its quantised twin, both with data movement; pJ of one inference by part.

    `rate`: the mean rate of unit events per T·D step over the layers that spikes drive, weighted by dense
    operations; `break_even`: that at which both cost the same, all rates scaled together (products of two
    event operands as if they followed one); None of a network that never fired.
    """

    bits: int
    levels: int
    weight_bits: int
    hops: float
    prices: MovementPrices
    rate: float
    break_even: float | None
    spiking: dict[str, float] = field(default_factory=dict)
    quantised: dict[str, float] = field(default_factory=dict)

    @property
    def spiking_pj(self) -> float:
        """All of the spiking network."""
        return math.fsum(self.spiking.values())

    @property
    def quantised_pj(self) -> float:
        """All of the quantised twin."""
        return math.fsum(self.quantised.values())

    @property
    def ratio(self) -> float:
        """How many times less the spiking network takes; below 1 it takes more."""
        return self.quantised_pj / self.spiking_pj if self.spiking_pj else math.inf


def compare_with_quantised(
    profile: Profile, weight_bits: int = 4, hops: float = 1.0
) -> QuantisedComparison | None:
    """`profile` beside the quantised twin of its shape (that of `dense_twin`, at `activation_bits`).

    Real operands and the network's input have `input_bits` on both sides; the stored operand of a product of
    activations has `state_bits`.  None for a network without layers that spikes drive.
    """
    driven = [row for row in profile.rows if _weighted(row) and _driven(row)]
    if not driven:
        return None
    levels = max(graded_levels(row) for row in driven)
    steps = profile.time_steps * levels
    bits = activation_bits(profile.time_steps, levels)
    side = _Sides(movement_prices(), weight_bits, hops, profile.samples)
    rates = {row.key: unit_rate(row) / levels for row in profile.rows if row.op in SYNAPTIC and _driven(row)}
    spiking = dict.fromkeys(PARTS, 0.0)
    active = 0.0
    for row in profile.rows:
        for part, (silent, caused) in side.spiking(row).items():
            spiking[part] += silent + caused
            active += caused
    quantised = dict.fromkeys(PARTS, 0.0)
    products = 0.0
    real = {row.key for row in profile.rows if row.mac}
    for row in dense_twin(profile).rows:
        share = nonzero_share(rates[row.key], steps) if row.key in rates else 1.0
        width = side.prices.input_bits if row.role == "encoder" or row.key in real else bits
        for part, pj in side.quantised(row, width, share).items():
            quantised[part] += pj
        if row.key in rates:
            products += share * width * row.mac * side.prices.accumulate
    weight = sum(row.dense_macs for row in driven)
    rate = sum(row.dense_macs * rates[row.key] for row in driven) / weight if weight else 0.0
    spare = sum(quantised.values()) - products - (sum(spiking.values()) - active)
    even = rate * spare / (active - products) if rate and active > products else None
    return QuantisedComparison(bits, levels, weight_bits, hops, side.prices, rate, even, spiking, quantised)


@dataclass(frozen=True)
class _Sides:
    """pJ per sample of one row on either side, by part."""

    prices: MovementPrices
    weight_bits: int
    hops: float
    samples: int

    def _stored(self, row: OpRow) -> float:
        """pJ of one read of the stored operand: a weight, or an element of the other operand."""
        bits = self.weight_bits if _weighted(row) else self.prices.state_bits
        return bits * self.prices.memory_bit

    def spiking(self, row: OpRow) -> dict[str, tuple[float, float]]:
        """(pJ that is there without a spike, pJ that spikes cause)."""
        p, n = self.prices, self.samples
        if row.neuron_cmp:
            state = row.neuron_cmp * 2 * p.state_bits * p.memory_bit / n
            compared = row.neuron_cmp * p.accumulate / n
            return {"arithmetic": (compared, row.output_nonzero * p.accumulate / n), "state": (state, 0.0)}
        if row.op not in SYNAPTIC:
            return {
                "arithmetic": ((row.ac + (row.mac + row.norm_macs) * p.input_bits) * p.accumulate / n, 0.0)
            }
        if row.mac:
            parts = self.quantised(dataclasses.replace(row, ac=0), p.input_bits, 1.0)
            return {part: (pj / n, 0.0) for part, pj in parts.items()}
        parts = {
            "arithmetic": row.ac * p.accumulate / n,
            "movement": row.ac * self.hops * p.sparse_hop / n,
            "weights": row.ac * self._stored(row) / n,
        }
        return {part: (0.0, pj) if _driven(row) else (pj, 0.0) for part, pj in parts.items()}

    def quantised(self, row: OpRow, bits: int, share: float) -> dict[str, float]:
        """pJ of one pass with `bits`-bit activations, of which `share` are not zero."""
        p = self.prices
        if row.op not in SYNAPTIC:
            compared = row.output_elements if row.op == "relu" else 0
            return {
                "arithmetic": (row.ac + compared + (row.mac + row.norm_macs) * p.input_bits) * p.accumulate
            }
        return {
            "arithmetic": row.mac * share * bits * p.accumulate,
            "movement": row.mac * self.hops * bits * p.dense_hop,
            "weights": row.mac * self._stored(row),
        }


def _weighted(row: OpRow) -> bool:
    """A layer, or a product of an activation with a weight."""
    return row.op in WEIGHTED or (row.op in SYNAPTIC and row.weight_elements > 0)


def _driven(row: OpRow) -> bool:
    """Does the row's work follow spikes of the network?"""
    event = is_event_kind(row.input_kind) or is_event_kind(row.right_kind)
    return event and row.role != "encoder" and not row.mac


def unit_rate(row: OpRow) -> float:
    """Unit events per element and step of the operand that drives the row: above 1 for graded events."""
    if row.input_kind == "real" and row.right_elements:
        return (row.right_units or row.right_nonzero) / row.right_elements
    return (row.input_units or row.input_nonzero) / row.input_elements if row.input_elements else 0.0


def graded_levels(row: OpRow) -> int:
    """D: the largest value of the row's events in units of the smallest; 1 where the values are not known."""
    sizes = [abs(v) for v in row.input_values or () if v]
    if not sizes:
        return 1
    if all(float(v).is_integer() for v in sizes):
        return round(max(sizes)) // gcd(*(round(v) for v in sizes))
    return max(1, round(max(sizes) / min(sizes)))
