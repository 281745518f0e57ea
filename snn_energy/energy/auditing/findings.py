"""What an audit of a table says: the formula found, what its constant stands for, every row's verdict."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from snn_energy.energy.architectures import build
from snn_energy.energy.auditing.formulas import GIGA, SUPPORTED, Fit, best_fit
from snn_energy.energy.auditing.records import Audit, Finding
from snn_energy.energy.auditing.table import PublishedRow, PublishedTable, read_table
from snn_energy.energy.auditing.verdicts import judge
from snn_energy.energy.auditing.words import count, formula_words, prices_of
from snn_energy.energy.costs import CostTable, cost_tables, load_costs
from snn_energy.errors import ConfigError

STEMS: tuple[Mapping[str, Any], ...] = (
    *({"build": "spikformer", "depth": 1, "dim": dim} for dim in (384, 512, 768)),
    {"build": "resnet", "depth": 18, "kind": "sew"},
)
MOST_FORMULAS = 4
UNTESTED = "no formula with fewer unknowns than rows meets two rows or more: nothing here tests a formula"


def audit(
    table: str | os.PathLike[str] | Iterable[Mapping[str, Any]],
    costs: str | os.PathLike[str] | CostTable = "45nm-fp32",
) -> Audit:
    """The formula behind a published table of energies, without any model.

    `table`: a CSV file, mappings or a DataFrame with columns among model, params, macs, sops, rate, T, mj;
    units stand in the heading (`sops_g`, `Energy (mJ)`) or the cell (`6.82G`), and what is not printed is
    left out.  `costs`: whose prices are tried first and turn a constant into MACs.  Raises `DataError` for
    what is no such table, `ConfigError` for a cost table without the price of a MAC.
    """
    prices = load_costs(costs)
    if prices.mac is None:
        raise ConfigError(
            f"cost table {prices.name!r} has no price for a MAC; an audit needs one, e.g. 45nm-fp32"
        )
    read = read_table(table)
    best, rivals = best_fit(read.rows, prices)
    if best is None:
        rows = tuple(judge(row, None, read, prices) for row in read.rows)
        return Audit(read.title, None, rows, notes=read.notes)
    if best.degrees_of_freedom < 1:
        rows = tuple(judge(row, None, read, prices) for row in read.rows)
        return Audit(read.title, None, rows, notes=(UNTESTED, *read.notes))
    finding = _finding(best, read, prices)
    further = _further(read, best, prices) if finding.verdict == "supported" else []
    rows = tuple(
        judge(row, best if finding.verdict == "supported" else None, read, prices, i, further)
        for i, row in enumerate(read.rows)
    )
    also = tuple(formula_words(f) for f in rivals if _rival(f, best))[:MOST_FORMULAS]
    return Audit(read.title, finding, rows, tuple(further), also, read.notes)


def _rival(fit: Fit, best: Fit) -> bool:
    """Does another formula, with no more unknowns, meet the same rows?"""
    fewer = len(fit.formula.unknowns) <= len(best.formula.unknowns)
    return fewer and set(best.met) <= set(fit.met)


def _further(table: PublishedTable, best: Fit, prices: CostTable) -> list[Finding]:
    """Formulas that rows outside the first one, or without what it needs, follow among themselves."""
    found: list[Finding] = []
    left = [i for i in range(len(table.rows)) if i not in best.met]
    while len(left) > 1 and len(found) < MOST_FORMULAS:
        part = dataclasses.replace(table, rows=tuple(table.rows[i] for i in left))
        next_best, _ = best_fit(part.rows, prices)
        if next_best is None or next_best.chance > SUPPORTED:
            break
        found.append(_finding(next_best, part, prices))
        left = [i for n, i in enumerate(left) if n not in next_best.met]
    return found


def _finding(fit: Fit, table: PublishedTable, prices: CostTable) -> Finding:
    formula, value = fit.formula, fit.value
    ac, mac = prices_of(fit)
    verdict = "supported" if fit.chance <= SUPPORTED else "weak"
    constant = value.get("constant_mj")
    interval = fit.solution.interval if formula.unknowns == ("constant_mj",) else None
    price = mac or prices.mac or 0.0
    macs = None if constant is None else constant / price * GIGA
    macs_interval = None if interval is None else (interval[0] / price * GIGA, interval[1] / price * GIGA)
    parts = {
        "sops": formula.sops == "sops·T",
        "macs": "T" in formula.macs,
        "constant": formula.constant == "T",
    }
    finding = Finding(
        words=formula_words(fit),
        verdict=verdict,
        rows=tuple(table.rows[i].name for i in fit.met),
        degrees_of_freedom=fit.degrees_of_freedom,
        formulas_tried=fit.tried,
        chance=fit.chance,
        numbers_found=formula.unknowns,
        ac_pj=ac,
        mac_pj=mac,
        prices_from=formula.prices_from,
        constant_mj=constant,
        constant_mj_interval=interval,
        constant_macs=macs,
        constant_macs_interval=macs_interval,
        times_T=tuple(name for name, has in parts.items() if has),
    )
    return dataclasses.replace(finding, remarks=tuple(_remarks(finding, fit, table, prices)))


def _remarks(finding: Finding, fit: Fit, table: PublishedTable, prices: CostTable) -> Iterable[str]:
    price = finding.mac_pj or prices.mac or 1.0
    if finding.constant_macs is not None:
        each = " at each time step" if "constant" in finding.times_T else ""
        text = f"the constant is {count(finding.constant_macs)} MACs at {price:g} pJ{each}"
        if finding.constant_macs_interval:
            low, high = finding.constant_macs_interval
            text += f" ({count(low)} to {count(high)} by the printed digits)"
        yield text
        yield from _stems(finding)
    elif fit.formula.sops and not fit.formula.macs and "macs" not in table.columns:
        rows = [table.rows[i] for i in fit.met]
        room = min(r.mj.value - p + t for r, p, t in _margins(fit, rows) if r.mj)
        most = count(max(room, 0) / price * GIGA)
        yield f"no MACs are charged: the printed digits leave room for {most} at most"
    if "macs" in table.columns and not fit.formula.macs and "macs" not in fit.formula.sops:
        yield "the MACs that the table states do not enter"
    for name in ("ac_pj", "mac_pj"):
        if name in fit.value:
            yield from _known_price(name, fit.value[name], prices)


def _margins(fit: Fit, rows: Sequence[PublishedRow]) -> Iterable[tuple[PublishedRow, float, float]]:
    met = fit.solution.met
    return zip(rows, fit.solution.predicted[met], fit.solution.tolerance[met], strict=True)


def _stems(finding: Finding) -> Iterable[str]:
    """First convolutions that the constant may be, where the printed digits say it to 2 %."""
    if not finding.constant_macs_interval or finding.constant_macs is None:
        return
    low, high = finding.constant_macs_interval
    if high - low > 0.04 * finding.constant_macs:
        return
    for name, macs in _known_stems():
        for steps, often in ((1, "once"), (4, "in four steps")):
            if low <= macs * steps <= high and not (steps > 1 and finding.times_T):
                yield f"the first convolution of {name} at 224×224 has as many, {often}"


@functools.cache
def _known_stems() -> tuple[tuple[str, int], ...]:
    """First convolutions of networks described in `architectures`: name, MACs of one step."""
    nets = [build(record) for record in STEMS]
    names = [net.name.replace("-1-", " of width ") for net in nets]
    names = ["a ResNet" if "ResNet" in name else name for name in names]
    firsts = [next(r for r in net.rows if r.role == "encoder") for net in nets]
    return tuple((n, r.dense_macs // r.static_repeats) for n, r in zip(names, firsts, strict=True))


def _known_price(name: str, pj: float, prices: CostTable) -> Iterable[str]:
    """A price that was found, where it is a published one, or a multiple of the usual one."""
    key = name.removesuffix("_pj")
    usual = getattr(prices, key)
    for factor in (*range(2, 17), 1e-3, 1e3):
        if usual and abs(pj / usual / factor - 1) < 0.005:
            yield f"{pj:.4g} pJ per {key.upper()} is {factor:g} × {usual:g} pJ, the price of {prices.name}"
            return
    for table in cost_tables().values():
        known = getattr(table, key)
        if known and table.memory is None and abs(pj / known - 1) < 0.005:
            yield f"{pj:.4g} pJ per {key.upper()} is the price of {table.name}"
            return
