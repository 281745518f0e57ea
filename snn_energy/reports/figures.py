"""The report's figures, as inline SVG (matplotlib): text stays text, colours differ in lightness too."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from snn_energy.energy.estimate import PJ_PER_MJ
from snn_energy.profiling.tables import by_step
from snn_energy.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from snn_energy.energy import Energy
    from snn_energy.profiling.profile import OpRow, Profile

AC, MAC, OTHER, INK, GRID = "#1f6f8b", "#d1793a", "#9aa3a8", "#22303a", "#d8dde0"
MOST_ROWS = 60


def _drawn(draw: Callable[..., Figure]) -> Callable[..., str]:
    """A function that draws, as one that gives the SVG: `$` in a name is a character and no formula."""

    @functools.wraps(draw)
    def drawn(*arguments: Any) -> str:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
            return _svg(draw(*arguments))

    return drawn


@_drawn
def energy_by_layer(energy: Energy) -> Figure:
    """Horizontal bars, one per charged row in network order, split into what ACs, MACs and the rest cost."""
    rows = [row for row in energy.rows if row.pj > 0]
    rows = rows if len(rows) <= MOST_ROWS else sorted(rows, key=lambda row: -row.pj)[:MOST_ROWS]
    prices = energy.costs
    parts = {
        "AC": [row.ac * prices.ac for row in rows],
        "MAC": [row.mac * (prices.mac or 0.0) for row in rows],
    }
    parts["other"] = [row.pj - ac - mac for row, ac, mac in zip(rows, parts["AC"], parts["MAC"], strict=True)]
    if max(parts["other"], default=0.0) <= 1e-9 * energy.total_pj:
        del parts["other"]
    figure, axes = _canvas(len(rows))
    left = [0.0] * len(rows)
    for (label, values), colour in zip(parts.items(), (AC, MAC, OTHER), strict=False):
        microjoules = [value / 1e6 for value in values]
        axes.barh(range(len(rows)), microjoules, left=left, color=colour, label=label, height=0.72)
        left = [a + b for a, b in zip(left, microjoules, strict=True)]
    _label_rows(axes, [_row_name(row.name, row.op, row.site) for row in rows])
    axes.set_xlabel("µJ per inference")
    axes.legend(frameon=False, loc="lower right")
    return figure


@_drawn
def firing_rates(profile: Profile) -> Figure:
    """A map of firing rates: spiking layers in network order down, steps across, the mean at the right."""
    neurons = profile.neurons
    steps = max((len(row.output_nonzero_by_step) for row in neurons), default=0)
    table = [[*_rates(row, steps), row.output_rate] for row in neurons]
    figure, axes = _canvas(len(neurons), width=2.6 + 0.62 * (steps + 1))
    top = max((rate for line in table for rate in line), default=0.0) or 1.0
    axes.imshow(table or [[0.0]], cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for y, line in enumerate(table):
        for x, rate in enumerate(line):
            colour = "white" if rate > 0.6 * top else INK
            axes.text(x, y, f"{rate:.2f}", ha="center", va="center", color=colour, fontsize=7)
    axes.axvline(steps - 0.5, color="white", linewidth=3)
    axes.set_xticks(range(steps + 1), [*(f"t = {t + 1}" for t in range(steps)), "mean"])
    axes.xaxis.tick_top()
    _label_rows(axes, [row.name for row in neurons])
    axes.grid(False)
    return figure


@_drawn
def conventions(energies: Sequence[Energy]) -> Figure:
    """One bar per convention: the same measurement, told by each."""
    figure, axes = _canvas(len(energies))
    values = [energy.total_pj / PJ_PER_MJ for energy in energies]
    axes.barh(
        range(len(values)),
        values,
        color=[INK if e.convention.name == "exact" else AC for e in energies],
        height=0.6,
    )
    for y, value in enumerate(values):
        axes.text(value, y, f" {value:.4g}", va="center", fontsize=8)
    _label_rows(axes, [energy.convention.name for energy in energies])
    axes.set_xlabel("mJ per inference")
    axes.margins(x=0.15)
    return figure


def _rates(row: OpRow, steps: int) -> list[float]:
    """Firing rate of a neuron layer at each step."""
    rates = by_step(row.output_nonzero_by_step, row.output_elements)
    return [*rates, *[float("nan")] * (steps - len(rates))]


def _row_name(name: str, op: str, site: int) -> str:
    """A row in few characters: modules by path, functional operations with what they are."""
    return (
        name if op in ("conv2d", "linear") else f"{name or '(model)'} · {op}{f' {site + 1}' if site else ''}"
    )


def _canvas(rows: int, width: float = 7.2) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 0.9 + 0.22 * max(rows, 1)), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, labelsize=8, colors=INK)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _label_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element: no XML prologue, no date, ids that depend on its content only."""
    import matplotlib

    buffer = io.StringIO()
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "snn-energy",
        "font.family": "sans-serif",
    }
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
