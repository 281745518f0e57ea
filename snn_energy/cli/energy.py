"""`snn-energy reproduce` and `snn-energy audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from snn_energy.cli.out import echo
from snn_energy.errors import ConfigError


def reproduce(
    table: Annotated[str | None, typer.Argument(help="One published table; default: all.")] = None,
    format: Annotated[Literal["text", "json", "csv", "markdown", "latex"], typer.Option("--format")] = "text",
) -> None:
    """Recompute published energies from published rates and our own description of each network."""
    from snn_energy.energy.reproduce import reproduce as recompute
    from snn_energy.reports.tables import render, reproduction_table

    echo(render(reproduction_table(recompute(table)), format).rstrip())


def audit(
    table: Annotated[Path, typer.Argument(help="CSV: model, params_m, macs_g, sops_g, rate, T, mj.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    costs: Annotated[str, typer.Option("--costs", help="Whose prices are tried first.")] = "45nm-fp32",
) -> None:
    """Find the formula behind a published table of energies; needs no model.

    Columns and cells may be missing.  Units stand in the heading (sops_g, "Energy (mJ)") or the cell (6.82G);
    counts without one are read in G, parameters in M.  --costs: a table with the prices of an AC and a MAC.
    """
    from snn_energy.energy.auditing import audit as find
    from snn_energy.reports.audits import render_audit

    if json and markdown:
        raise ConfigError("--json and --markdown: one output at a time")
    echo(render_audit(find(table, costs), "json" if json else "markdown" if markdown else "text").rstrip())
