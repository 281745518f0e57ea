"""`snn-energy list`."""

from __future__ import annotations

import fnmatch
from typing import Annotated

import typer

from snn_energy.cli.out import echo, echo_json
from snn_energy.cli.tables import on_terminal, width
from snn_energy.cli.waiting import import_torch
from snn_energy.errors import ConfigError, suggest
from snn_energy.text import plain

WHAT = ("models", "trained", "recipes", "data", "conventions", "costs", "targets")
WITH_TORCH = ("models",)
NAMES = 28
"""Columns for names, unless a longer one is listed."""


def list_names(
    what: Annotated[
        str | None, typer.Argument(help=f"{', '.join(WHAT)}. Default: all of them.", show_default=False)
    ] = None,
    pattern: Annotated[
        str | None, typer.Argument(help="Names to list: 'statten*'; * and ? stand for anything.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print {what: {name: words}}.")] = False,
) -> None:
    """List models, trained networks, recipes, data sets, conventions, costs and export targets."""
    if what is not None and what not in WHAT:
        if pattern is None and any(mark in what for mark in "*?["):
            what, pattern = None, what
        else:
            raise ConfigError(f"cannot list {what!r}; {suggest(what, WHAT)}")
    asked = WHAT if what is None else (what,)
    if any(kind in WITH_TORCH for kind in asked):
        import_torch()
    found = {kind: _matching(names(kind), pattern) for kind in asked}
    if pattern is not None and not any(found.values()):
        known = [name for kind in asked for name in names(kind)]
        raise ConfigError(f"no name is like {pattern!r}; {suggest(pattern.strip('*?'), known)}")
    if as_json:
        echo_json(found)
        return
    shown = {kind: entries for kind, entries in found.items() if entries}
    for kind, entries in shown.items():
        if len(asked) > 1:
            echo(("" if kind == next(iter(shown)) else "\n") + f"{kind.capitalize()}:")
        _print(entries)


def _matching(entries: dict[str, str], pattern: str | None) -> dict[str, str]:
    if pattern is None:
        return entries
    return {name: words for name, words in entries.items() if fnmatch.fnmatchcase(name, pattern)}


def _print(entries: dict[str, str]) -> None:
    wide = max([NAMES, *map(len, entries)])
    for name, words in entries.items():
        line = f"{plain(name):{wide}} {plain(words)}".rstrip()
        if on_terminal() and len(line) > width():
            line = line[: width() - 1] + "…"
        echo(line)


def names(what: str) -> dict[str, str]:
    """Names of a kind, each with what is said of it."""
    if what == "models":
        from snn_energy.models.zoo import ZOO

        found = {name: entry.summary for name, entry in sorted(ZOO.items())}
        return found | {name: f"the official name of {ours}" for name, ours in sorted(ZOO.aliases.items())}
    if what == "trained":
        from snn_energy.packaged import packaged

        return {name: trained.words for name, trained in packaged().items()}
    if what == "recipes":
        from snn_energy.training.recipe import about_recipe, list_recipes

        return {name: str(about_recipe(name)) for name in list_recipes()}
    if what == "data":
        from snn_energy.data import describe_data

        return dict(describe_data())
    if what == "targets":
        from snn_energy.exporters.targets import TARGETS

        return {name: target.summary for name, target in TARGETS.items()}
    from snn_energy.energy import conventions, cost_tables

    if what == "conventions":
        return {name: convention.differs for name, convention in conventions().items()}
    return {name: f"{table.words} ({table.node})" for name, table in cost_tables().items()}
