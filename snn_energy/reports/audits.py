"""An audit of a published table as text, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from snn_energy.energy.yaml_records import check_choice
from snn_energy.reports.render import Column, Table, render
from snn_energy.text import json_text

if TYPE_CHECKING:
    from snn_energy.energy.auditing import Audit, Finding

AUDIT_FORMATS = ("text", "json", "markdown")
NOTHING = "no formula found"


def render_audit(audit: Audit, format: str = "text") -> str:
    """The audit as `text`, `json` or `markdown`.  Raises `ConfigError` for another format."""
    check_choice(format, AUDIT_FORMATS, "format")
    if format == "json":
        return json_text(audit.to_dict())
    lines = list(summary(audit))
    if format == "markdown":
        lines = [f"- {line.strip()}" for line in lines]
    return "\n".join([*lines, "", render(audit_table(audit), format)])


def summary(audit: Audit) -> Iterator[str]:
    """What was found, one sentence a line, the formula first."""
    if audit.finding is None:
        yield NOTHING
    else:
        yield from _finding(audit.finding, "" if audit.supported else "not supported: ")
    for text in audit.also:
        yield f"the same rows fit as well: {text}"
    for finding in audit.further:
        yield from _finding(finding, "among the other rows: ")
    names = [row.name for row in audit.contradictions]
    if audit.supported:
        yield f"{len(names)} of {len(audit.rows)} rows contradict it{': ' if names else ''}{', '.join(names)}"
    yield from (f"note: {note}" for note in audit.notes)


def _finding(finding: Finding, prefix: str) -> Iterator[str]:
    yield prefix + finding.words
    number = len(finding.numbers_found)
    found = f"{number} number{'s' * (number != 1)} found" + (
        f" ({', '.join(name.split('_')[0] for name in finding.numbers_found)})" if number else ""
    )
    chance = "below 1e-6" if finding.chance < 1e-6 else f"about {finding.chance:.2g}"
    yield (
        f"  meets {len(finding.rows)} row{'s' * (len(finding.rows) != 1)} with {found}: "
        f"{finding.degrees_of_freedom} degree{'s' * (finding.degrees_of_freedom != 1)} of freedom; "
        f"the chance that one of {finding.formulas_tried} formulas tried fits by luck is {chance}"
    )
    yield from (f"  {remark}" for remark in finding.remarks)


def audit_table(audit: Audit) -> Table:
    """One line per row: what is printed, what the formula gives, the verdict."""
    notes = list(dict.fromkeys(row.reason for row in audit.rows if row.reason))
    records = tuple(
        {
            "name": row.name,
            "T": None if row.T is None else int(row.T),
            "macs": row.macs,
            "sops": row.sops,
            "rate": row.rate,
            "mj": None if row.mj is None else f"{row.mj:.10g}",
            "formula_mj": None if row.formula_mj is None else f"{row.formula_mj:.6g}",
            "difference_mj": row.difference_mj,
            "tolerance_mj": row.tolerance_mj,
            "unstated_macs": row.unstated_macs,
            "verdict": row.verdict,
            "note": notes.index(row.reason) + 1 if row.reason else None,
        }
        for row in audit.rows
    )
    columns = [
        Column("name", "row"),
        Column("T", "T"),
        Column("macs", "MACs (G)", 1e-9),
        Column("sops", "SOPs (G)", 1e-9),
        Column("rate", "rate", digits=4),
        Column("mj", "printed (mJ)"),
        Column("formula_mj", "formula (mJ)"),
        Column("difference_mj", "difference", digits=4),
        Column("tolerance_mj", "allowed ±", digits=4),
        Column("unstated_macs", "MACs not stated (M)", 1e-6),
        Column("verdict", "verdict"),
        Column("note", "note"),
    ]
    always = {"name", "mj", "verdict"}
    filled = tuple(c for c in columns if c.key in always or any(r[c.key] is not None for r in records))
    return Table(filled, records, tuple(f"{i}: {text}" for i, text in enumerate(notes, 1)))
