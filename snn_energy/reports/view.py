"""From a profile and its energies to what the page shows: the verdict, badges, the tree of energies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from snn_energy.energy import CostTable, Energy
from snn_energy.energy.analysis import Precision, TwinComparison, missing_prices
from snn_energy.energy.estimate import Charge
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.tables import by_step
from snn_energy.reports.words import count, many, percent, picojoules

SMALL = 0.005  # of the total: what is less is summed up at the end of its block
PARTS = ("ac", "mac", "neurons", "memory", "other")
PART_WORDS = {
    "ac": "accumulates",
    "mac": "multiply-accumulates",
    "neurons": "neuron updates and spikes",
    "memory": "data movement",
    "other": "multiplications, comparisons",
}


def parts_of(row: OpRow, charge: Charge, energy: Energy) -> dict[str, float]:
    """pJ of one row by `PARTS`; they add up to the row's pJ."""
    if row.neuron_cmp:
        return {"neurons": charge.arithmetic_pj + charge.chip_pj, "memory": charge.memory_pj}
    ac, mac = charge.ac * energy.costs.ac, charge.mac * (energy.costs.mac or 0.0)
    other = max(0.0, charge.arithmetic_pj - ac - mac)
    rounding = 1e-9 * charge.arithmetic_pj
    return {"ac": ac, "mac": mac, "memory": charge.memory_pj, "other": other if other > rounding else 0.0}


@dataclass
class Branch:
    """A block, layer or operation: the rows of the profile that it holds, pJ by part, and branches."""

    name: str
    rows: list[int]
    parts: dict[str, float] = field(default_factory=dict)
    branches: list[Branch] = field(default_factory=list)

    @property
    def pj(self) -> float:
        """pJ of one inference."""
        return sum(self.parts.values())


def tree(profile: Profile, energy: Energy) -> list[Branch]:
    """Block → layer → operation, in network order; every row once."""
    blocks: dict[str, dict[str, list[int]]] = {}
    for i, row in enumerate(profile.rows):
        blocks.setdefault(row.block, {}).setdefault(row.name, []).append(i)
    found = []
    for block, layers in blocks.items():
        branches = []
        for name, rows in layers.items():
            leaves = [_branch(operation_name(profile.rows[i]), [i], profile, energy) for i in rows]
            short = name.removeprefix(f"{block}.") if block else name
            inner = leaves if len(leaves) > 1 else []
            branches.append(_branch(short or "(model)", rows, profile, energy, inner))
        every = [i for rows in layers.values() for i in rows]
        found.append(_branch(block or "(model)", every, profile, energy, branches))
    return found


def _branch(
    name: str, rows: list[int], profile: Profile, energy: Energy, branches: Sequence[Branch] = ()
) -> Branch:
    parts = dict.fromkeys(PARTS, 0.0)
    for i in rows:
        for part, pj in parts_of(profile.rows[i], energy.rows[i], energy).items():
            parts[part] += pj
    return Branch(name, rows, parts, list(branches))


def operation_name(row: OpRow) -> str:
    """`matmul`, `matmul 2`."""
    return f"{row.op} {row.site + 1}" if row.site else row.op


@dataclass(frozen=True)
class Badge:
    """A fact in few words; `state`: good, bad or plain; `target`: the section that says more."""

    text: str
    state: str
    target: str


def badges(
    profile: Profile, energy: Energy, precision: Precision, missing: Sequence[str], exports: Iterable[Any]
) -> list[Badge]:
    """What a reviewer looks for first."""
    found = [_counted(profile), _priced(energy), _samples(precision), _neurons(profile)]
    if profile.dead or profile.saturated:
        silent = [many(len(profile.dead), "layer") + " never fire"] if profile.dead else []
        full = [many(len(profile.saturated), "layer") + " always fire"] if profile.saturated else []
        found.append(Badge(", ".join(silent + full), "bad", "rates"))
    for card in exports:
        found.append(Badge(f"{card.target}: {card.verdict}", "good" if card.ok else "bad", "exports"))
        found += [Badge(chip.short, "good" if chip.fits else "bad", "exports") for chip in card.chips]
    return found


def _counted(profile: Profile) -> Badge:
    missed = len(profile.uncounted)
    text = f"{many(missed, 'operation')} not counted" if missed else "counted completely"
    return Badge(text, "bad" if missed else "good", "uncounted")


def _priced(energy: Energy) -> Badge:
    names = [n for n in energy.unpriced if n != "special"]
    if names:
        return Badge(missing_prices(names, energy.costs), "bad", "uncounted")
    if "special" in energy.unpriced:
        return Badge("priced, but for special functions", "plain", "uncounted")
    return Badge("priced completely", "good", "uncounted")


def _samples(precision: Precision) -> Badge:
    if precision.relative is None or precision.needed is None:
        return Badge(f"{many(precision.samples, 'sample')}: spread not known", "plain", "precision")
    if precision.needed <= precision.samples:
        return Badge("enough samples", "good", "precision")
    within = f"within {196 * precision.relative:.1f} %"
    return Badge(f"{many(precision.samples, 'sample')}: {within}", "plain", "precision")


def _neurons(profile: Profile) -> Badge:
    number = len(profile.neurons)
    return Badge(
        f"{many(number, 'neuron layer')} found" if number else "no neurons found",
        "good" if number else "bad",
        "rates",
    )


def price_words(costs: CostTable) -> str:
    """The prices of the two operations that every convention charges, and their technology."""
    mac = "" if costs.mac is None else f", MAC {costs.mac:.12g} pJ"
    return f"AC {costs.ac:.12g} pJ{mac}{f', {costs.node}' if costs.node else ''}"


def arithmetic_words(energy: Energy) -> str:
    """What the prices cover."""
    if energy.memory_pj:
        return "with data movement"
    return (
        "with neuron updates and spikes of the chip"
        if any(r.chip_pj for r in energy.rows)
        else "arithmetic only"
    )


def twin_words(twin: TwinComparison) -> str:
    """The ratio to the dense ANN, in the words of the verdict."""
    if twin.ratio is None:
        return f"no ratio to the dense ANN ({missing_prices(twin.missing, twin.dense.costs)})"
    if math.isinf(twin.ratio):
        return "charged nothing, so that there is no ratio to its dense twin"
    if twin.ratio >= 1 or not twin.ratio:
        return f"{'at least ' if twin.at_least else ''}{twin.ratio:.2f} × less than its dense twin"
    return f"{'at most ' if twin.at_least else ''}{1 / twin.ratio:.2f} × more than its dense twin"


def range_words(energies: Iterable[Energy]) -> str:
    """`130.8 nJ to 412.1 nJ by convention`; only conventions that find every price."""
    totals = [e.total_pj for e in energies if not any(n != "special" for n in e.unpriced)]
    if len(totals) < 2:
        return ""
    return f"{picojoules(min(totals))} to {picojoules(max(totals))} by convention"


@dataclass(frozen=True)
class LayerRates:
    """A spiking layer: its rate at each step and their mean, None where not known."""

    name: str
    steps: list[float | None]
    mean: float
    flag: str


def rates_of(profile: Profile) -> tuple[list[LayerRates], int, float]:
    """Every spiking layer, the number of steps shown, and the largest rate: the end of the colours' scale."""
    steps = max((len(row.output_nonzero_by_step) for row in profile.neurons), default=0)
    found = []
    for row in profile.neurons:
        known: list[float | None] = list(by_step(row.output_nonzero_by_step, row.output_elements))
        flag = (
            "never fires"
            if row.name in profile.dead
            else "always fires"
            if row.name in profile.saturated
            else ""
        )
        found.append(LayerRates(row.name, known + [None] * (steps - len(known)), row.output_rate, flag))
    top = max((r for line in found for r in (*line.steps, line.mean) if r is not None), default=0.0)
    return found, steps, top or 1.0


def tile_values(profile: Profile, energy: Energy, twin: TwinComparison) -> list[tuple[str, str, str]]:
    """(key that a switch updates or "", what, value) of each tile."""
    accuracy = "no labels" if profile.accuracy is None else percent(profile.accuracy)
    known = twin.ratio is not None and math.isfinite(twin.ratio)
    ratio = "no ratio" if not known else f"{'≥ ' if twin.at_least else ''}{twin.ratio:.2f} ×"
    return [
        ("pj", "energy per inference", picojoules(energy.total_pj)),
        ("", "accuracy, same samples", accuracy),
        ("ac", "accumulates (AC)", count(energy.ac)),
        ("mac", "multiply-accumulates (MAC)", count(energy.mac)),
        ("ratio", "less than the dense ANN", ratio),
        ("", "parameters", count(profile.parameters)),
    ]
