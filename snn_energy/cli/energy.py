"""`snn-energy reproduce`, `snn-energy audit` and `snn-energy list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from snn_energy.errors import ConfigError, suggest

WHAT = ("models", "trained", "recipes", "data", "conventions", "costs", "targets")


def reproduce(
    table: Annotated[str | None, typer.Argument(help="One published table; default: all.")] = None,
    format: Annotated[Literal["text", "json", "csv", "markdown", "latex"], typer.Option("--format")] = "text",
) -> None:
    """Recompute published energies from published rates and our own description of each network."""
    from snn_energy.energy.reproduce import reproduce as recompute
    from snn_energy.reports.tables import render, reproduction_table

    typer.echo(render(reproduction_table(recompute(table)), format).rstrip())


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
    typer.echo(
        render_audit(find(table, costs), "json" if json else "markdown" if markdown else "text").rstrip()
    )


def list_names(what: Annotated[str, typer.Argument(help=", ".join(WHAT))]) -> None:
    """List models, trained networks, recipes, data, conventions, costs or export targets."""
    if what not in WHAT:
        raise ConfigError(f"cannot list {what!r}; {suggest(what, WHAT)}")
    for name, text in _names(what):
        typer.echo(f"{name:28} {text}".rstrip())


def _names(what: str) -> list[tuple[str, str]]:
    if what == "models":
        from snn_energy.models.zoo import ZOO

        names = [(name, entry.summary) for name, entry in sorted(ZOO.items())]
        return names + [(name, f"the official name of {ours}") for name, ours in sorted(ZOO.aliases.items())]
    if what == "trained":
        from snn_energy.packaged import packaged

        return [(name, trained.words) for name, trained in packaged().items()]
    if what == "recipes":
        from snn_energy.training.recipe import about_recipe, list_recipes

        return [(name, str(about_recipe(name))) for name in list_recipes()]
    if what == "data":
        from snn_energy.data import describe_data

        return list(describe_data().items())
    if what == "targets":
        from snn_energy.exporters.targets import TARGETS

        return [(name, target.summary) for name, target in TARGETS.items()]
    from snn_energy.energy import conventions, cost_tables

    if what == "conventions":
        return [(name, convention.differs) for name, convention in conventions().items()]
    return [(name, table.words) for name, table in cost_tables().items()]
