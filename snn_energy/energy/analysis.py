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
from snn_energy.energy.estimate import OPERATIONS, PJ_PER_MJ, Charge, Energy, estimate
from snn_energy.energy.shapes import at_rate
from snn_energy.energy.structure import is_event_kind
from snn_energy.energy.twin import dense_twin
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
    def missing(self) -> tuple[str, ...]:
        """Operations of either side that the cost table has no price for: with any there is no ratio.

        Special functions, which no table prices, are none as long as the dense side evaluates no fewer
        (softmax): the ratio is then a lower bound.
        """
        names = dict.fromkeys((*self.spiking.unpriced, *self.dense.unpriced))
        return tuple(name for name in names if name != "special" or not self._special_is_a_bound)

    @property
    def _special_is_a_bound(self) -> bool:
        return self.spiking.unpriced.get("special", 0.0) <= self.dense.unpriced.get("special", 0.0)

    @property
    def at_least(self) -> bool:
        """Is the ratio a lower bound, since functions of the dense side have no price?"""
        special = (e.unpriced.get("special", 0.0) for e in (self.spiking, self.dense))
        return self.ratio is not None and any(special)

    @property
    def ratio(self) -> float | None:
        """How many times less the spiking network takes; below 1 it takes more.  None where `missing`."""
        if self.missing:
            return None
        return self.dense.total_pj / self.spiking.total_pj if self.spiking.total_pj else math.inf

    @property
    def words(self) -> str:
        """The ratio in a sentence without a full stop, or which price is missing."""
        if self.ratio is None:
            return f"no ratio to the dense ANN: {missing_prices(self.missing, self.dense.costs)}"
        unpriced = " (its softmax has no price)" if self.at_least else ""
        return f"{times(self.ratio, self.at_least)} the dense ANN{unpriced}"


def times(ratio: float, at_least: bool = False) -> str:
    """`4.52 × less than` for a ratio above 1, `3.03 × more than` for .33; `at_least`: it is a bound."""
    if ratio >= 1 or not ratio:
        return f"{'at least ' if at_least else ''}{ratio:.2f} × less than"
    return f"{'at most ' if at_least else ''}{1 / ratio:.2f} × more than"


def missing_prices(names: Iterable[str], costs: CostTable) -> str:
    """Which prices a cost table lacks, in words."""
    said = ["special functions" if name == "special" else name.upper() for name in names]
    return f"{costs.name} has no price for {' and '.join(said)}"


def compare_with_twin(
    profile: Profile, convention: ConventionSpec = "exact", costs: CostSpec = "45nm-fp32"
) -> TwinComparison:
    """Price `profile` and its dense twin.  The twin is charged its valid MACs, whatever the convention."""
    return TwinComparison(estimate(profile, convention, costs), estimate(dense_twin(profile), "exact", costs))


@dataclass(frozen=True)
class BreakEven:
    """The firing rate at which a layer (or the model) costs as much as its dense twin.

    `rate`: measured; `break_even`: above 1 means that no rate makes the ANN cheaper, 0 or less that none
    makes the spiking network cheaper.  `ratio` = dense pJ / spiking pJ at the measured rate.  Both are None
    where either side has operations without a price (`missing`).
    """

    name: str
    rate: float
    break_even: float | None
    spiking_pj: float
    dense_pj: float
    missing: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """How many times less the spiking layer takes."""
        if self.missing:
            return None
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
    dense = {_key(row): row for row in compared.dense.rows}
    measured = _Layers(profile, compared.spiking)
    silent_energy = estimate(silenced(profile, convention), convention, costs)
    full_energy = estimate(silenced(profile, convention, 1.0), convention, costs)
    silent, full = _Layers(profile, silent_energy), _Layers(profile, full_energy)
    found = []
    for row in layers:
        low, high, ann = silent.pj[row.key], full.pj[row.key], dense[row.key]
        even = (ann.pj - low) / (high - low) if high > low else math.inf
        missing = tuple(dict.fromkeys((*full.unpriced(row), *unpriced(ann, costs))))
        known = None if missing else even
        found.append(BreakEven(row.name, row.input_rate, known, measured.pj[row.key], ann.pj, missing))
    weight = sum(r.dense_macs for r in layers)
    rate = sum(r.dense_macs * r.input_rate for r in layers) / weight if weight else 0.0
    spare = compared.dense.total_pj - silent_energy.total_pj
    per_rate = full_energy.total_pj - silent_energy.total_pj
    if rate:
        per_rate = (compared.spiking.total_pj - silent_energy.total_pj) / rate
    even = spare / per_rate if per_rate > 0 else math.inf
    known = None if compared.missing else even
    both = (compared.spiking.total_pj, compared.dense.total_pj)
    return (*found, BreakEven("", rate, known, *both, compared.missing))


def _key(row: Charge) -> tuple[str, str, int]:
    return row.name, row.op, row.site


def unpriced(row: Charge, costs: CostTable) -> tuple[str, ...]:
    """The operations charged for the row that the table has no price for."""
    return tuple(name for name in OPERATIONS if getattr(row, name) and getattr(costs, name) is None)


class _Layers:
    """Each weighted row together with the neurons that it drives (a share of them where others do, too)."""

    def __init__(self, profile: Profile, energy: Energy) -> None:
        self.costs = energy.costs
        self.charges = {_key(row): row for row in energy.rows}
        self.neurons: dict[str, list[Charge]] = {}
        for row in profile.rows:
            if row.neuron_cmp:
                self.neurons.setdefault(row.name, []).append(self.charges[row.key])
        weighted = [row for row in profile.rows if row.op in WEIGHTED]
        drivers = Counter(name for row in weighted for name in row.feeds)
        self.pj = {
            row.key: self.charges[row.key].pj
            + sum(n.pj / drivers[name] for name in row.feeds for n in self.neurons.get(name, ()))
            for row in weighted
        }

    def unpriced(self, row: OpRow) -> tuple[str, ...]:
        """Operations of the row and its neurons without a price."""
        charges = [self.charges[row.key], *(n for name in row.feeds for n in self.neurons.get(name, ()))]
        return tuple(dict.fromkeys(name for charge in charges for name in unpriced(charge, self.costs)))


def silenced(profile: Profile, convention: Convention, rate: float = 0.0) -> Profile:
    """The network as if no neuron ever fired, or all at `rate`; the encoder's input stays as it is."""
    rows = tuple(_at_rate(r, rate) if r.neuron_cmp or _driven(r, convention) else r for r in profile.rows)
    return dataclasses.replace(profile, rows=rows)


def _at_rate(row: OpRow, rate: float) -> OpRow:
    """`at_rate` with the columns that follow it: graded events keep their mean value, pruned weights their
    share."""
    moved = at_rate(row, rate)
    left = row.input_units / row.input_nonzero if row.input_units and row.input_nonzero else 1.0
    right = row.right_units / row.right_nonzero if row.right_units and row.right_nonzero else 1.0
    both = row.op == "matmul" and "real" not in (row.input_kind, row.right_kind)
    graded = left * right if both else right if row.input_kind == "real" else left
    kept = row.ac_events_unpruned / row.ac_events if row.ac_events else 0.0
    events = moved.ac_executed
    return dataclasses.replace(
        moved,
        input_units=round(left * moved.input_nonzero) if row.input_units else 0,
        right_units=round(right * moved.right_nonzero) if row.right_units else 0,
        ac=round(graded * moved.ac),
        ac_executed=round(graded * moved.ac_executed),
        ac_events=events if row.ac_events else 0,
        ac_events_unpruned=round(kept * events),
        ac_unpruned=round(kept * graded * events),
    )


def follows_spikes(row: OpRow) -> bool:
    """Can the row's charge follow spikes?  Not the encoder's, whose input is the sample itself."""
    event = is_event_kind(row.input_kind)
    if row.op == "matmul" and row.right_kind is not None:
        event = event or is_event_kind(row.right_kind)
    return event and row.role != "encoder"


def _driven(row: OpRow, convention: Convention) -> bool:
    """Does it, under `convention`?"""
    return follows_spikes(row) and (row.op not in SYNAPTIC or is_event(row, convention))


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
    """How well the samples determine the mean.

    The standard error is an upper bound (see `Energy`), and so are `relative` and `needed`: no more samples
    than that are needed.
    """

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
    """Bounds of the standard error over samples, and of how many samples put the mean within `within` (.01 =
    1 %) at 95 %.

    n = (1.96·s / (within·mean))², with s the bound of the standard deviation over samples.
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
