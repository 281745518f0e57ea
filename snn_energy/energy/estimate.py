"""Joules: a pure function of (Profile, convention, cost table)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snn_energy.energy.charges import Charged, charge
from snn_energy.energy.conventions import Convention, load_convention
from snn_energy.energy.costs import CostTable, load_costs
from snn_energy.energy.rates import Rates
from snn_energy.errors import DataError
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.text import plain

if TYPE_CHECKING:
    import pandas as pd

PJ_PER_MJ = 1e9
OPERATIONS = ("ac", "mac", "mul", "cmp")


@dataclass(frozen=True)
class Charge:
    """One row of the Profile in operations and picojoules, means over samples.

    `ac`, `mac`, `mul`, `cmp` are the operations charged; `memory` holds pJ by component; `chip_pj` is a
    chip's price for neuron updates and spikes.  `standard_error_pj` is that of the arithmetic over samples,
    None where the charge is not a count whose spread was measured.
    """

    name: str
    op: str
    site: int
    block: str
    role: str
    ac: float
    mac: float
    mul: float
    cmp: float
    arithmetic_pj: float
    chip_pj: float
    memory: dict[str, float] = field(default_factory=dict)
    standard_error_pj: float | None = None

    @property
    def memory_pj(self) -> float:
        """All data movement."""
        return math.fsum(self.memory.values())

    @property
    def pj(self) -> float:
        """Everything charged for the row."""
        return self.arithmetic_pj + self.memory_pj + self.chip_pj


@dataclass(frozen=True, repr=False)
class Energy:
    """The energy of one inference (mean over samples) under one convention and cost table.

    `unpriced` counts operations that the convention charges and the table has no price for, and `special`
    functions (softmax, sigmoid …), which no table prices; `unmoved` names the operations whose data movement
    the table's memory model does not cover; `uncounted` those that no counting rule covered.  None of them is
    in the total.
    """

    rows: tuple[Charge, ...]
    convention: Convention
    costs: CostTable
    samples: int
    time_steps: int
    unpriced: dict[str, float] = field(default_factory=dict)
    unmoved: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()

    @property
    def total_pj(self) -> float:
        """pJ of one inference."""
        return math.fsum(row.pj for row in self.rows)

    @property
    def mj(self) -> float:
        """mJ of one inference."""
        return self.total_pj / PJ_PER_MJ

    @property
    def ac(self) -> float:
        """Accumulates charged."""
        return math.fsum(row.ac for row in self.rows)

    @property
    def mac(self) -> float:
        """Multiply-accumulates charged."""
        return math.fsum(row.mac for row in self.rows)

    @property
    def arithmetic_pj(self) -> float:
        """pJ of operations, without data movement and chip overheads."""
        return math.fsum(row.arithmetic_pj for row in self.rows)

    @property
    def memory_pj(self) -> float:
        """pJ of data movement."""
        return math.fsum(row.memory_pj for row in self.rows)

    @property
    def standard_error_pj(self) -> float | None:
        """Standard error of the mean, the sum of the rows': exact if all layers rise and fall together, else
        an upper bound.  None if a row's spread is unknown."""
        errors = [row.standard_error_pj for row in self.rows]
        return None if any(e is None for e in errors) else math.fsum(e for e in errors if e is not None)

    @property
    def standard_error_mj(self) -> float | None:
        """The same in mJ."""
        error = self.standard_error_pj
        return None if error is None else error / PJ_PER_MJ

    def __repr__(self) -> str:
        return f"<Energy: {self}>"

    def __str__(self) -> str:
        error = self.standard_error_mj
        spread = "" if error is None else f" ± {error:.2g}"
        missing = (*self.unpriced, *(f"{name or '(model)'} (not counted)" for name in self.uncounted))
        without = f"; not in it: {', '.join(missing)}" if missing else ""
        return (
            f"{self.mj:.6g}{spread} mJ per inference, {self.ac:,.6g} AC and {self.mac:,.6g} MAC "
            f"({self.convention.name}, {self.costs.name}{plain(without)})"
        )

    def by_block(self) -> dict[str, float]:
        """pJ by block, in the order of the Profile."""
        blocks: dict[str, float] = {}
        for row in self.rows:
            blocks[row.block] = blocks.get(row.block, 0.0) + row.pj
        return blocks

    def to_frame(self) -> pd.DataFrame:
        """One row per charge: identity, operations, pJ by kind, share of the total."""
        import pandas as pd

        total = self.total_pj
        records = [
            {
                **{k: getattr(r, k) for k in ("name", "op", "site", "block", "role", *OPERATIONS)},
                **{k: getattr(r, k) for k in ("arithmetic_pj", "memory_pj", "chip_pj", "pj")},
                "share": r.pj / total if total else 0.0,
                "standard_error_pj": r.standard_error_pj,
            }
            for r in self.rows
        ]
        return pd.DataFrame(records)


def estimate(
    profile: Profile,
    convention: str | os.PathLike[str] | Convention = "exact",
    costs: str | os.PathLike[str] | CostTable = "45nm-fp32",
) -> Energy:
    """The energy of one inference: what `convention` charges of `profile`, at the prices of `costs`.

    Both may be a shipped name, a YAML file of the user's own, or a record.  Raises `ConfigError` for a name
    or file that is neither, `DataError` for a profile without samples.
    """
    convention, costs = load_convention(convention), load_costs(costs)
    if profile.samples < 1:
        raise DataError(f"profile of {profile.samples} samples: energy is a mean over at least 1")
    rates = Rates.of(profile, convention)
    charges, unpriced = [], dict.fromkeys((*OPERATIONS, "special"), 0.0)
    for row in profile.rows:
        charged = charge(row, convention, rates)
        unpriced["special"] += row.special_evals / profile.samples
        for name in OPERATIONS:
            if getattr(costs, name) is None:
                unpriced[name] += getattr(charged, name) / profile.samples
        charges.append(_price(row, charged, costs, profile.samples))
    return Energy(
        rows=tuple(charges),
        convention=convention,
        costs=costs,
        samples=profile.samples,
        time_steps=profile.time_steps,
        unpriced={name: count for name, count in unpriced.items() if count},
        unmoved=_unmoved(profile.rows, costs),
        uncounted=tuple(dict.fromkeys(row.name for row in profile.uncounted)),
    )


def _price(row: OpRow, charged: Charged, costs: CostTable, samples: int) -> Charge:
    prices = {name: getattr(costs, name) or 0.0 for name in OPERATIONS}
    memory = costs.memory.charge(row) if costs.memory else {}
    return Charge(
        row.name,
        row.op,
        row.site,
        row.block,
        row.role,
        **{name: getattr(charged, name) / samples for name in OPERATIONS},
        arithmetic_pj=math.fsum(getattr(charged, name) * prices[name] for name in OPERATIONS) / samples,
        chip_pj=_chip(row, costs) / samples,
        memory={name: pj / samples for name, pj in memory.items()},
        standard_error_pj=_standard_error(row, charged, prices, samples),
    )


def _chip(row: OpRow, costs: CostTable) -> float:
    """A chip's neuron updates and spikes: each neuron and step is active (it fired) or not."""
    if not row.neuron_cmp:
        return 0.0
    silent = costs.neuron_update or 0.0
    active = silent if costs.neuron_active is None else costs.neuron_active
    fired = row.output_nonzero
    return (row.neuron_cmp - fired) * silent + fired * (active + (costs.spike or 0.0))


def _standard_error(row: OpRow, charged: Charged, prices: dict[str, float], samples: int) -> float | None:
    """Of the row's mean arithmetic, in pJ.  AC and MAC of one row rise together: their errors add."""
    if charged.spread == "constant" or not (charged.ac or charged.mac):
        return 0.0
    counts = ((row.ac, row.ac_square_sum, prices["ac"]), (row.mac, row.mac_square_sum, prices["mac"]))
    if charged.spread == "unknown" or samples < 2 or any(n and squares is None for n, squares, _ in counts):
        return None
    return math.fsum(
        price * math.sqrt(max(0, squares * samples - total**2) / (samples - 1)) / samples
        for total, squares, price in counts
        if total and squares is not None
    )


def _unmoved(rows: Iterable[OpRow], costs: CostTable) -> tuple[str, ...]:
    if costs.memory is None:
        return ()
    model = costs.memory
    return tuple(dict.fromkeys(r.op for r in rows if (r.ac or r.mac) and not model.covers(r)))
