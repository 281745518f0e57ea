"""Formulas and numbers as a reader would write them."""

from __future__ import annotations

from snn_energy.energy.auditing.formulas import Fit

NAMES = {"sops": "SOPs", "macs": "MACs", "rate": "rate", "T": "T"}


def count(operations: float) -> str:
    """Operations in G, M or k with five digits at most."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(operations) >= scale:
            return f"{operations / scale:.5g} {unit}"
    return f"{operations:.3g}"


def prices_of(fit: Fit) -> tuple[float | None, float | None]:
    """pJ of an AC and of a MAC, given or found; None where the formula has no such term."""
    formula, value = fit.formula, fit.value
    ac = value.get("ac_pj", formula.ac_pj) if formula.sops else None
    return ac, value.get("mac_pj", formula.mac_pj) if formula.macs else None


def formula_words(fit: Fit) -> str:
    """The formula as a reader would write it."""
    ac, mac = prices_of(fit)
    parts = []
    for part, price in ((fit.formula.sops, ac), (fit.formula.macs, mac)):
        if part and price is not None:
            parts.append(" × ".join([f"{price:.4g} pJ", *(NAMES[word] for word in part.split("·"))]))
    constant = fit.value.get("constant_mj")
    if constant is not None:
        parts.append(f"{constant:.5g} mJ" + (" × T" if fit.formula.constant == "T" else ""))
    return "mJ = " + " + ".join(parts)
