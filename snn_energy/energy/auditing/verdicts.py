"""The verdict on one row of an audited table, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from snn_energy.energy.auditing.fit import FLOOR
from snn_energy.energy.auditing.formulas import GIGA, Fit, Formula, states
from snn_energy.energy.auditing.records import AuditedRow, Finding
from snn_energy.energy.auditing.table import PublishedRow, PublishedTable
from snn_energy.energy.auditing.words import NAMES, count, prices_of
from snn_energy.energy.costs import CostTable


def judge(
    row: PublishedRow,
    best: Fit | None,
    table: PublishedTable,
    prices: CostTable,
    index: int = -1,
    further: Sequence[Finding] = (),
) -> AuditedRow:
    """The verdict on one row.  `best`: the supported fit, if any."""
    given = {
        k: f.value if (f := getattr(row, k)) else None for k in ("params", "macs", "sops", "rate", "T", "mj")
    }
    out = AuditedRow(row.name, **given, **_unstated(row, best, prices))  # type: ignore[arg-type]
    if row.mj is None:
        return dataclasses.replace(out, reason="prints no energy")
    if row.macs is None and row.sops is None:
        return dataclasses.replace(out, reason="states neither MACs nor SOPs, so nothing follows from it")
    if best is None:
        return dataclasses.replace(out, verdict="undecided", reason=_undecided(row, out, prices))
    if not states(row, best.formula):
        reason = f"does not state what the formula needs: {_missing(row, best.formula)}"
        other = next((f"; follows {f.words}" for f in further if row.name in f.rows), "")
        return dataclasses.replace(out, reason=reason + other)
    place = best.rows.index(index)
    predicted = float(best.solution.predicted[place])
    out = dataclasses.replace(
        out,
        formula_mj=predicted,
        difference_mj=round(row.mj.value - predicted, 12) + 0.0,
        tolerance_mj=float(best.solution.tolerance[place]),
    )
    price = prices_of(best)[1] or prices.mac or 1.0
    if best.solution.met[place]:
        return dataclasses.replace(out, verdict="fits")
    return dataclasses.replace(
        out, verdict="contradicts", reason=_contradiction(row, out, table, further, price)
    )


def _unstated(row: PublishedRow, best: Fit | None, prices: CostTable) -> dict[str, float]:
    """MACs that the mJ holds beyond what the row's SOPs and MACs cost, and what the digits leave open."""
    if row.mj is None or (row.sops is None and (row.macs is None or row.rate is not None)):
        return {}
    ac, mac = (prices.ac, prices.mac) if best is None else prices_of(best)
    price = mac or prices.mac or 0.0
    times = best is not None and best.formula.sops == "sops·T" and row.T is not None
    steps = row.T.value if times and row.T else 1.0
    left, half = row.mj.value, max(2 * row.mj.half, FLOOR * row.mj.value)
    for figure, pj in ((row.sops, (prices.ac if ac is None else ac) * steps), (row.macs, price)):
        if figure is not None:
            left, half = left - pj * figure.value / GIGA, half + pj * figure.half / GIGA
    return {"unstated_macs": left / price * GIGA, "unstated_macs_half": half / price * GIGA}


def _undecided(row: PublishedRow, out: AuditedRow, prices: CostTable) -> str:
    if out.mj is None or out.unstated_macs is None or out.unstated_macs_half is None:
        return "no formula is supported"
    at = f"at {prices.ac:g} and {prices.mac:g} pJ"
    if out.unstated_macs < -out.unstated_macs_half:
        stated = ((out.sops or 0) * prices.ac + (out.macs or 0) * (prices.mac or 0)) / GIGA
        share = out.mj / stated
        return f"prints {share:.3g} of the {stated:.4g} mJ that what it states costs alone {at}"
    if out.unstated_macs <= out.unstated_macs_half:
        return f"is what it states, {at}, but no formula is supported by the table"
    return (
        f"{at} it would hold {count(out.unstated_macs)} (± {count(out.unstated_macs_half)}) MACs "
        "that are not stated"
    )


def _missing(row: PublishedRow, formula: Formula) -> str:
    words = dict.fromkeys(
        w for part in (formula.sops, formula.macs, formula.constant) for w in part.split("·")
    )
    return ", ".join(NAMES[w] for w in words if w in NAMES and getattr(row, w) is None)


def _contradiction(
    row: PublishedRow,
    out: AuditedRow,
    table: PublishedTable,
    further: Sequence[Finding],
    mac_pj: float,
) -> str:
    """By how much, and the likeliest reason that the table itself gives."""
    assert out.difference_mj is not None and out.formula_mj is not None and out.mj is not None
    text = f"prints {out.difference_mj:+.4g} mJ against the formula's {out.formula_mj:.5g}"
    for finding in further:
        if row.name in finding.rows:
            return f"{text}; follows {finding.words} instead"
    same = [r.name for r in table.rows if r is not row and r.mj and r.mj.value == out.mj]
    if same:
        return f"{text}; the same figure as {same[0]}'s"
    ratio = out.mj / out.formula_mj if out.formula_mj else 0.0
    tolerance = (out.tolerance_mj or 0.0) / max(out.formula_mj, 1e-300)
    steps = row.T.value if row.T else 1.0
    for factor, why in ((steps, "× T"), (1 / steps, "/ T"), (1e3, "× 1000"), (1e-3, "/ 1000")):
        if factor != 1.0 and abs(ratio / factor - 1) <= tolerance:
            return f"{text}; it is the formula's {why}"
    if out.difference_mj > 0:
        return f"{text}; the difference would be {count(out.difference_mj / mac_pj * GIGA)} MACs"
    return text
