"""Energy: a pure function of (Profile, convention, cost table).  Never imports torch."""

from snn_energy.energy.auditing import Audit, audit
from snn_energy.energy.conventions import Convention, conventions, load_convention
from snn_energy.energy.costs import CostTable, cost_tables, load_costs
from snn_energy.energy.estimate import Charge, Energy, estimate

__all__ = [
    "Audit",
    "Charge",
    "Convention",
    "CostTable",
    "Energy",
    "audit",
    "conventions",
    "cost_tables",
    "estimate",
    "load_convention",
    "load_costs",
]
