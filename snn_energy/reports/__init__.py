"""Reports: a Profile and its energies as tables, figures and one HTML page.  Never imports torch."""

from snn_energy.reports.html import report

__all__ = ["report"]
