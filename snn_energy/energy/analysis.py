"""What an energy figure rests on: the dense twin, break-even rates, sensitivity, statistics, the spread.

Every function is pure: it re-prices a Profile, or the same Profile as it would be at other firing rates.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from snn_energy.energy.charges import is_event
from snn_energy.energy.conventions import Convention, conventions, load_convention
from snn_energy.energy.costs import CostTable, load_costs
from snn_energy.energy.estimate import PJ_PER_MJ, Charge, Energy, estimate
from snn_energy.energy.shapes import at_rate
from snn_energy.energy.twin import dense_twin
from snn_energy.profiling.kinds import value_set
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import SYNAPTIC, WEIGHTED

ConventionSpec = str | os.PathLike[str] | Convention
CostSpec = str | os.PathLike[str] | CostTable
Z95 = 1.959964  # two-sided 95 % of a normal distribution


@dataclass(frozen=True)
class TwinComparison:
    """The spiking network beside the ANN of its shape, both in mJ under the same convention and prices."""

    spiking: Energy
    dense: Energy

    @property
    def ratio(self) -> float:
        """How many times less the spiking network takes; below 1 it takes more."""
        return self.dense.total_pj / self.spiking.total_pj if self.spiking.total_pj else math.inf


def compare_with_twin(
    profile: Profile, convention: ConventionSpec = "exact", costs: CostSpec = "45nm-fp32"
) -> TwinComparison:
    """Price `profile` and its dense twin.  The twin is charged its valid MACs, whatever the convention."""
    return TwinComparison(estimate(profile, convention, costs), estimate(dense_twin(profile), "exact", costs))


@dataclass(frozen=True)
class BreakEven:
    """The firing rate at which a layer (or the model) costs as much as its dense twin.

    `rate`: measured; `break_even`: above 1 means that no rate makes the ANN cheaper, 0 or less that none
    makes the spiking network cheaper.  `ratio` = dense pJ / spiking pJ at the measured rate.
    """

    name: str
    rate: float
    break_even: float
    spiking_pj: float
    dense_pj: float

    @property
    def ratio(self) -> float:
        """How many times less the spiking layer takes."""
        return self.dense_pj / self.spiking_pj if self.spiking_pj else math.inf


def break_even(
    profile: Profile, convention: ConventionSpec = "exact", costs: CostSpec = "45nm-fp32"
) -> tuple[BreakEven, ...]:
    """Break-even firing rate per event-driven weighted layer, then for the model (name "").

    A layer is its synapses and the neurons that it drives (shared where several layers drive them).  Its
    energy is a + b·rate: a with every neuron silent, a + b with every neuron firing at every step and every
    synapse reached.  The model's rate is the mean input rate of those layers weighted by dense operations;
    all rates are scaled together (of a network that never fired: all layers at one rate).  A cost table with
    memory shows what data movement does to the answer.
    """
    convention, costs = load_convention(convention), load_costs(costs)
    layers = [r for r in profile.rows if r.op in WEIGHTED and _driven(r, convention)]
    compared = compare_with_twin(profile, convention, costs)
    dense = {_key(row): row.pj for row in compared.dense.rows}
    measured = _layer_pj(profile, compared.spiking)
    silent_energy = estimate(silenced(profile, convention), convention, costs)
    silent = _layer_pj(profile, silent_energy)
    full_energy = estimate(silenced(profile, convention, 1.0), convention, costs)
    full = _layer_pj(profile, full_energy)
    found = []
    for row in layers:
        low, high = silent[row.key], full[row.key]
        even = (dense[row.key] - low) / (high - low) if high > low else math.inf
        found.append(BreakEven(row.name, row.input_rate, even, measured[row.key], dense[row.key]))
    weight = sum(r.dense_macs for r in layers)
    rate = sum(r.dense_macs * r.input_rate for r in layers) / weight if weight else 0.0
    spare = compared.dense.total_pj - silent_energy.total_pj
    per_rate = full_energy.total_pj - silent_energy.total_pj
    if rate:
        per_rate = (compared.spiking.total_pj - silent_energy.total_pj) / rate
    even = spare / per_rate if per_rate > 0 else math.inf
    return (*found, BreakEven("", rate, even, compared.spiking.total_pj, compared.dense.total_pj))


def _key(row: Charge) -> tuple[str, str, int]:
    return row.name, row.op, row.site


def _layer_pj(profile: Profile, energy: Energy) -> dict[tuple[str, str, int], float]:
    """pJ of each weighted row together with its share of the neurons that it drives."""
    pj = {_key(row): row.pj for row in energy.rows}
    neurons: dict[str, float] = {}
    for row in profile.rows:
        if row.neuron_cmp:
            neurons[row.name] = neurons.get(row.name, 0.0) + pj[row.key]
    weighted = [row for row in profile.rows if row.op in WEIGHTED]
    drivers = Counter(name for row in weighted for name in row.feeds)
    return {
        row.key: pj[row.key] + sum(neurons.get(name, 0.0) / drivers[name] for name in row.feeds)
        for row in weighted
    }


def silenced(profile: Profile, convention: Convention, rate: float = 0.0) -> Profile:
    """The network as if no neuron ever fired, or all at `rate`; the encoder's input stays as it is."""
    rows = tuple(at_rate(r, rate) if r.neuron_cmp or _driven(r, convention) else r for r in profile.rows)
    return dataclasses.replace(profile, rows=rows)


def _driven(row: OpRow, convention: Convention) -> bool:
    """Does the row's charge follow spikes?  Not the encoder's, whose input is the sample itself."""
    event = value_set(row.input_kind, row.input_values).event_driven
    if row.op == "matmul" and row.right_kind is not None:
        event = event or row.right_kind != "real"
    return event and row.role != "encoder" and (row.op not in SYNAPTIC or is_event(row, convention))


@dataclass(frozen=True)
class Sensitivity:
    """How the total follows one spiking layer's firing rate.

    `driven_pj`: pJ of the operations that its spikes cause; `share` of the total, which is also the relative
    change of the total per relative change of the rate; `pj_per_rate`: d total / d rate, in pJ per 1.0.
    """

    name: str
    rate: float
    driven_pj: float
    share: float
    pj_per_rate: float


def sensitivity(
    profile: Profile, convention: ConventionSpec = "exact", costs: CostSpec = "45nm-fp32"
) -> tuple[Sensitivity, ...]:
    """Which layer's rate moves the total most, greatest first.

    The activity-dependent energy of a row is shared equally among the neurons whose output arrives there,
    and taken as proportional to their rates.
    """
    convention, costs = load_convention(convention), load_costs(costs)
    active = estimate(profile, convention, costs)
    idle = estimate(silenced(profile, convention), convention, costs)
    rates = {row.name: row.output_rate for row in profile.rows if row.neuron_cmp}
    driven = dict.fromkeys(rates, 0.0)
    for row, on, off in zip(profile.rows, active.rows, idle.rows, strict=True):
        own = (row.name,) if row.neuron_cmp else tuple(s for s in row.sources if s in rates)
        for name in own:
            driven[name] += (on.pj - off.pj) / len(own)
    total = active.total_pj
    found = [
        Sensitivity(n, r, driven[n], driven[n] / total if total else 0.0, driven[n] / r if r else math.nan)
        for n, r in rates.items()
    ]
    return tuple(sorted(found, key=lambda s: -s.driven_pj))


@dataclass(frozen=True)
class Precision:
    """How well the samples determine the mean.  The standard error is an upper bound (see `Energy`)."""

    samples: int
    mean_mj: float
    standard_error_mj: float | None
    relative: float | None
    needed: int | None


def precision(
    profile: Profile,
    within: float = 0.01,
    convention: ConventionSpec = "exact",
    costs: CostSpec = "45nm-fp32",
) -> Precision:
    """Standard error over samples, and how many samples put the mean within `within` (.01 = 1 %) at 95 %.

    n = (1.96·s / (within·mean))², with s the standard deviation over samples.
    """
    energy = estimate(profile, convention, costs)
    error, mean = energy.standard_error_pj, energy.total_pj
    if error is None or not mean:
        return Precision(profile.samples, energy.mj, None, None, None)
    deviation = error * math.sqrt(profile.samples)
    needed = max(1, math.ceil((Z95 * deviation / (within * mean)) ** 2))
    return Precision(profile.samples, energy.mj, error / PJ_PER_MJ, error / mean, needed)


def spread(
    profile: Profile,
    names: Iterable[ConventionSpec] | None = None,
    costs: CostSpec = "45nm-fp32",
) -> tuple[Energy, ...]:
    """The same measurement under several conventions; without `names` under every shipped one."""
    chosen = tuple(conventions()) if names is None else tuple(names)
    return tuple(estimate(profile, name, costs) for name in chosen)


def dead_and_saturated(profile: Profile) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Spiking layers that never fired, and those in which every neuron fired at every step."""
    neurons = [row for row in profile.rows if row.neuron_cmp]
    dead = tuple(row.name for row in neurons if row.output_nonzero == 0)
    return dead, tuple(row.name for row in neurons if row.output_nonzero == row.output_elements)
