"""A Profile in a dozen lines, for `print` and for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snn_energy.reports.terminal import WIDTH, layers
from snn_energy.reports.words import many
from snn_energy.text import html, plain

if TYPE_CHECKING:
    from snn_energy.energy import Energy
    from snn_energy.profiling.profile import Profile

LEADING = 4
"""Layers that the summary names."""


def summary(profile: Profile) -> str:
    """What was measured, on what, what it costs under `exact` at 45 nm fp32 prices, and where that goes."""
    lines = (plain(line) for line in _lines(profile))
    return "\n".join(line if len(line) <= 2 * WIDTH else line[: 2 * WIDTH - 1] + "…" for line in lines)


def summary_html(profile: Profile) -> str:
    """The same for a notebook, with the table of layers."""
    lines = "<br>".join(html(line) for line in _head(profile, profile.energy()))
    return f"<p>{lines}</p>{profile.table()._repr_html_()}"


def _lines(profile: Profile) -> list[str]:
    energy = profile.energy()
    *rows, _ = layers(profile, [energy], top=LEADING).rows
    wide = max((len(row["name"]) for row in rows), default=0)
    places = [f"  {row['name']:{wide}}  {row.get('op', ''):10} {row['share']:6.1%}" for row in rows]
    return [*_head(profile, energy), "Where it goes:", *places, *_remarks(profile)]


def _head(profile: Profile, energy: Energy) -> list[str]:
    accuracy = "no labels" if profile.accuracy is None else f"accuracy {profile.accuracy:.2%}"
    error = energy.standard_error_mj
    spread = f" ± {error * 1e3:.2g}" if error is not None else ""
    priced = "" if not energy.unpriced else f"; without a price: {', '.join(energy.unpriced)}"
    dense = sum(row.dense_macs for row in profile.rows) / profile.samples
    return [
        f"{profile.model or 'a network'}, {profile.parameters:,} parameters: {profile.samples} samples of "
        f"{profile.data or 'data without a name'}, T = {profile.time_steps}, {accuracy}",
        *([profile.contract] if profile.contract else []),
        f"{energy.mj * 1e3:.4g}{spread} µJ per inference "
        f"({energy.convention.name}, {energy.costs.name}{priced})",
        f"{energy.ac / 1e6:,.4g} M AC, {energy.mac / 1e6:,.4g} M MAC of {dense / 1e6:,.4g} M dense; "
        f"firing rate {_rate(profile)} in {many(len(profile.neurons), 'spiking layer')}",
    ]


def _rate(profile: Profile) -> str:
    return "unknown" if profile.mean_rate is None else f"{profile.mean_rate:.2%}"


def _remarks(profile: Profile) -> list[str]:
    told = (
        ("Never fired", profile.dead),
        ("Fired always", profile.saturated),
        ("Not counted", [row.name or "(model)" for row in profile.uncounted]),
    )
    found = [f"{words}: {_some(names)}" for words, names in told if names]
    return [*found, *([f"{many(len(profile.notes), 'note')} in .notes"] if profile.notes else [])]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
