"""Tables on standard output: with rich and in colour on a terminal, plain text of the same rows elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from snn_energy.cli.out import echo
from snn_energy.text import plain

if TYPE_CHECKING:
    from snn_energy.energy import Energy
    from snn_energy.profiling import Profile
    from snn_energy.reports.render import Table

NOTICED = 0.1
"""The share of the total from which a row is coloured."""


def on_terminal() -> bool:
    """Does a person read standard output?"""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def width() -> int:
    """Columns of the terminal; 80 where nobody says."""
    from snn_energy.reports.terminal import WIDTH

    return max(40, shutil.get_terminal_size((WIDTH, 24)).columns)


def show_table(table: Table, *, whole: bool = False) -> None:
    """Print it: on a terminal as wide as that is, elsewhere with whole names (`whole`: and every column)."""
    from snn_energy.reports.terminal import fit

    if on_terminal():
        _print_rich(fit(table, width()))
        for note in table.notes:
            say(note)
    else:
        echo(table if whole else fit(table, cut=False))


def say(text: str) -> None:
    """A line of words: made harmless, and wrapped on a terminal."""
    line = plain(text)
    if on_terminal():
        line = textwrap.fill(line, width(), subsequent_indent="  ", break_on_hyphens=False)
    echo(line)


def _print_rich(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    from snn_energy.reports.render import cells

    shown = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in table.columns:
        numeric = column.key not in ("name", "op") and any(
            isinstance(row.get(column.key), int | float) for row in table.rows
        )
        side = "right" if numeric else "left"
        shown.add_column(Text(plain(column.heading)), justify=side, no_wrap=True)  # type: ignore[arg-type]
    for row, *texts in zip(table.rows, *(cells(table, column) for column in table.columns), strict=True):
        shown.add_row(*(Text(plain(text)) for text in texts), style=_style(row))
    Console(width=width()).print(shown)
    echo()


def _style(row: dict[str, Any]) -> str:
    if row.get("name") == "total":
        return "bold"
    if row.get("rest"):
        return "dim"
    return "yellow" if row.get("share", 0.0) >= NOTICED else ""


def print_profile(
    measured: Profile, energies: Sequence[Energy], table: Table, *, format: str, whole: bool
) -> None:
    """The chosen table on standard output; as text, what the network is, headline, twins and notes too."""
    from snn_energy.reports import tables

    text = format == "text"
    if measured.contract:  # the first line says how the network was run, and whether neurons were found
        echo(f"{plain(measured.contract)}\n", err=not text)
    if not text:
        echo(tables.render(table, format).rstrip())
        for note in measured.notes:
            echo(f"note: {plain(note)}", err=True)
        return
    show_table(table, whole=whole)
    if len(energies) > 1:
        echo()
        show_table(tables.convention_table(energies), whole=whole)
    echo()
    say(headline(measured, energies[0]))
    say(against_twins(measured, energies[0]))
    for row in measured.uncounted:
        say(f"not counted: {row.name or '(model)'}: {row.note}, {row.calls} calls")
    for note in measured.notes:
        say(f"note: {note}")


def headline(measured: Profile, energy: Energy) -> str:
    """Samples, steps, accuracy and energy in one line."""
    accuracy = "no labels" if measured.accuracy is None else f"{measured.accuracy:.2%}"
    return (
        f"{measured.samples} samples of {measured.data}, T = {measured.time_steps}: accuracy {accuracy}, "
        f"{energy.mj:.6g} mJ per inference ({energy.convention.name}, {energy.costs.name})"
    )


def against_twins(measured: Profile, energy: Energy) -> str:
    """The headline's ratios: to the dense ANN, and to the quantised one with data movement."""
    from snn_energy.energy.analysis import TwinComparison, times
    from snn_energy.energy.estimate import estimate
    from snn_energy.energy.quantised import compare_with_quantised
    from snn_energy.energy.twin import dense_twin

    compared = TwinComparison(energy, estimate(dense_twin(measured), "exact", energy.costs))
    quantised = compare_with_quantised(measured)
    if quantised is None:
        return compared.words
    even = ""
    if quantised.break_even is not None:
        below = quantised.break_even <= 0  # it costs more even if nothing fires
        even = ", even at no rate" if below else f", even at a rate of {quantised.break_even:.2%}"
    return (
        f"{compared.words}; {times(quantised.ratio)} the {quantised.bits}-bit ANN with data movement"
        f" ({quantised.prices.node}; rate {quantised.rate:.2%}{even})"
    )


def profile_record(
    measured: Profile, energies: Sequence[Energy], table: Table, files: Sequence[Path]
) -> dict[str, Any]:
    """One record: model, samples, totals under each convention with its prices, and the table's rows.

    pJ, operations and rates are raw numbers per inference; null where there is none.
    """
    from snn_energy.energy.costs import PRICES
    from snn_energy.reports.render import finite

    def of(energy: Energy) -> dict[str, Any]:
        prices = {name: price for name in PRICES if (price := getattr(energy.costs, name)) is not None}
        return {
            "convention": energy.convention.name,
            "differs": energy.convention.differs,
            "mj": energy.mj,
            "standard_error_mj": energy.standard_error_mj,
            "ac": energy.ac,
            "mac": energy.mac,
            "arithmetic_pj": energy.arithmetic_pj,
            "memory_pj": energy.memory_pj,
            "unpriced": energy.unpriced,
            "prices": {
                "name": energy.costs.name,
                "node": energy.costs.node,
                "pj": prices,
                "sources": energy.costs.citations,
            },
        }

    record = {
        "model": measured.model,
        "checkpoint": measured.environment.get("checkpoint"),
        "parameters": measured.parameters,
        "data": measured.data,
        "samples": measured.samples,
        "time_steps": measured.time_steps,
        "accuracy": measured.accuracy,
        "contract": measured.contract,
        "totals": [of(energy) for energy in energies],
        "rows": table.rows[:-1],  # without the total
        "uncounted": [row.name or "(model)" for row in measured.uncounted],
        "dead": measured.dead,
        "saturated": measured.saturated,
        "notes": measured.notes,
        "files": [str(path) for path in files],
    }
    return cast("dict[str, Any]", finite(record))
