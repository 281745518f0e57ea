"""Auditing published tables of energies: the formula behind them, what it hides, what contradicts it."""

from snn_energy.energy.auditing.findings import audit
from snn_energy.energy.auditing.records import Audit, AuditedRow, Finding

__all__ = ["Audit", "AuditedRow", "Finding", "audit"]
