"""A sweep's trials as a table, in a file and on the terminal, and as a figure: accuracy against energy."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.files import write_text
from snn_energy.sweep.study import Outcome
from snn_energy.text import plain

if TYPE_CHECKING:
    from rich.table import Table

MEASURED = ("accuracy", "test_accuracy", "nanojoules", "accumulates", "epoch", "seconds")
INK, BEST, REST = "#22303a", "#1f6f8b", "#9aa3a8"


def write(outcomes: Sequence[Outcome], out: Path, title: str) -> tuple[Path, Path]:
    """Write `sweep.csv` and `pareto.svg` into `out`, each whole; their paths."""
    table, figure = out / "sweep.csv", out / "pareto.svg"
    write_text(table, as_csv(outcomes))
    write_text(figure, as_svg(outcomes, title))
    return table, figure


def keys_of(outcomes: Sequence[Outcome]) -> list[str]:
    """The settings that differ, in their order."""
    return list(dict.fromkeys(key for outcome in outcomes for key in outcome.settings))


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """One line per trial: number, state, its settings as `set.KEY`, what was measured, Pareto or not."""
    keys, buffer = keys_of(outcomes), io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["trial", "state", *(f"set.{key}" for key in keys), *MEASURED, "pareto", "where", "folder", "note"]
    )
    for o in outcomes:
        measured = [_number(getattr(o, name)) for name in MEASURED]
        settings = [o.settings.get(key, "") for key in keys]
        writer.writerow(
            [o.number, o.state, *settings, *measured, "yes" if o.pareto else "", o.where, o.folder, o.note]
        )
    return buffer.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def as_table(outcomes: Sequence[Outcome]) -> Table:
    """The same for a terminal; Pareto-optimal trials are marked."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    keys = keys_of(outcomes)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("trial", *keys, "accuracy", "test", "nJ", "kAC", ""):
        table.add_column(escape(name), justify="left" if name in keys else "right", overflow="fold")
    for o in outcomes:
        share = ["" if v is None else f"{v:.2%}" for v in (o.accuracy, o.test_accuracy)]
        amounts = ["" if o.nanojoules is None else f"{o.nanojoules:.1f}"]
        amounts.append("" if o.accumulates is None else f"{o.accumulates / 1e3:.1f}")
        last = "pareto" if o.pareto else "" if o.state == "done" else f"{o.state} {o.note}".strip()
        cells = [str(o.number), *(o.settings.get(key, "") for key in keys), *share, *amounts, last]
        table.add_row(*(escape(plain(cell)) for cell in cells))
    return table


def as_svg(outcomes: Sequence[Outcome], title: str) -> str:
    """Energy across, accuracy up, a point per finished trial; the Pareto-optimal ones joined and named."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "snn-energy", "text.parse_math": False}
    with matplotlib.rc_context({**settings, "text.usetex": False}):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        done = [(o, *o.point) for o in outcomes if o.point is not None]
        front = sorted((p for p in done if p[0].pareto), key=lambda p: p[2])
        for points, colour in (([p for p in done if not p[0].pareto], REST), (front, BEST)):
            axes.scatter([p[2] for p in points], [100 * p[1] for p in points], color=colour, s=26, zorder=3)
        if front:
            axes.step(
                [p[2] for p in front], [100 * p[1] for p in front], where="post", color=BEST, linewidth=1
            )
        for o, accuracy, energy in front:
            words = ", ".join(f"{key}={value}" for key, value in o.settings.items())
            place = (energy, 100 * accuracy)
            axes.annotate(plain(words), place, (5, -9), textcoords="offset points", fontsize=7, color=INK)
        axes.set_xlabel("nJ per inference (exact)")
        axes.set_ylabel("accuracy, %")
        axes.set_title(plain(title), fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#d8dde0", linewidth=0.6)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
