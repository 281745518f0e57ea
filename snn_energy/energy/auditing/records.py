"""What an audit leaves: a formula with its evidence, and a verdict on every row."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """A formula, the numbers found for it, and how much that is worth.

    Prices in pJ; `constant_mj` is per row, or per time step where `times_T` names it.  `constant_macs`: what
    the constant is in MACs at `mac_pj` (or the cost table's price), with the interval that the printed
    digits allow.  `numbers_found`: what was fitted; `degrees_of_freedom`: distinct rows met less those
    numbers; `chance`: that one of the `formulas_tried` meets as many rows by luck.  `verdict`: `supported`,
    or `weak` where luck is as likely.
    """

    words: str
    verdict: str
    rows: tuple[str, ...]
    degrees_of_freedom: int
    formulas_tried: int
    chance: float
    numbers_found: tuple[str, ...] = ()
    ac_pj: float | None = None
    mac_pj: float | None = None
    prices_from: str = ""
    constant_mj: float | None = None
    constant_mj_interval: tuple[float, float] | None = None
    constant_macs: float | None = None
    constant_macs_interval: tuple[float, float] | None = None
    times_T: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditedRow:
    """A row as printed (plain counts, fractions, mJ; None: not stated) and what the formula says of it.

    `unstated_macs`: the MACs, beyond those stated, that its mJ would hold at the formula's prices (without a
    formula: at the cost table's), ± `unstated_macs_half` by its printed digits.  `verdict`: `fits`,
    `contradicts`, `undecided` (no formula is supported) or `not testable`; `reason` says why unless it fits.
    """

    name: str
    params: float | None
    macs: float | None
    sops: float | None
    rate: float | None
    T: float | None
    mj: float | None
    formula_mj: float | None = None
    difference_mj: float | None = None
    tolerance_mj: float | None = None
    unstated_macs: float | None = None
    unstated_macs_half: float | None = None
    verdict: str = "not testable"
    reason: str = ""


@dataclass(frozen=True)
class Audit:
    """`finding`: the formula that luck explains least (None: nothing is tested); `further`: formulas that the
    rows contradicting it follow among themselves; `also`: others that the same rows cannot tell from it."""

    table: str
    finding: Finding | None
    rows: tuple[AuditedRow, ...]
    further: tuple[Finding, ...] = ()
    also: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def supported(self) -> bool:
        """Was a formula found?"""
        return self.finding is not None and self.finding.verdict == "supported"

    @property
    def contradictions(self) -> tuple[AuditedRow, ...]:
        """The rows that contradict the formula."""
        return tuple(row for row in self.rows if row.verdict == "contradicts")

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {**dataclasses.asdict(self), "supported": self.supported}
