"""Figures for papers, as SVG and PDF files (matplotlib): text stays text, colours differ in lightness too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.files import atomic_write
from snn_energy.profiling.tables import by_step
from snn_energy.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from snn_energy.energy import Energy
    from snn_energy.energy.analysis import BreakEven
    from snn_energy.profiling.profile import OpRow, Profile

AC, MAC, OTHER, INK, GRID, WIN = "#1f6f8b", "#d1793a", "#9aa3a8", "#22303a", "#d8dde0", "#8fc7a5"
MOST_ROWS = 60
ONE_COLUMN, TWO_COLUMNS = 3.5, 7.16  # inches
STYLE: Any = {
    "text.parse_math": False,  # `$` in a name is a character and no formula
    "text.usetex": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "snn-energy",
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
}


def write_figures(profile: Profile, energies: Sequence[Energy], folder: Path) -> list[Path]:
    """Every figure of a profile in `folder`, each as .svg and .pdf; the first of `energies` is drawn.

    The same profile gives the same bytes.  Figures that would be empty (rates without neurons) are left out.
    """
    import matplotlib

    from snn_energy.energy.analysis import break_even, spread

    first = energies[0]
    beside = [*energies, *(e for e in spread(profile, costs=first.costs) if e not in energies)]
    drawn: dict[str, Callable[[], Figure]] = {
        "energy_by_layer": lambda: energy_by_layer(first),
        "conventions": lambda: conventions(beside),
    }
    if profile.neurons:
        drawn["firing_rates"] = lambda: firing_rates(profile)
    layers = [b for b in break_even(profile, first.convention, first.costs) if b.break_even is not None]
    if layers:
        drawn["break_even"] = lambda: break_even_rates(layers)
    written = []
    with matplotlib.rc_context(STYLE):
        for name, draw in drawn.items():
            figure = draw()
            for ending, metadata in (("svg", {"Date": None}), ("pdf", {"CreationDate": None})):
                path = Path(folder) / f"{name}.{ending}"
                with atomic_write(path) as temporary:
                    figure.savefig(temporary, format=ending, metadata=metadata, transparent=True)
                written.append(path)
    return written


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
    unit, scale = _unit(max((row.pj for row in rows), default=0.0))
    for (label, values), colour in zip(parts.items(), (AC, MAC, OTHER), strict=False):
        scaled = [value / scale for value in values]
        axes.barh(range(len(rows)), scaled, left=left, color=colour, label=label, height=0.72)
        left = [a + b for a, b in zip(left, scaled, strict=True)]
    _label_rows(axes, [_row_name(row.name, row.op, row.site) for row in rows])
    axes.set_xlabel(f"{unit} per inference")
    axes.legend(frameon=False, loc="lower right")
    return figure


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


def conventions(energies: Sequence[Energy]) -> Figure:
    """One bar per convention: the same measurement, told by each."""
    figure, axes = _canvas(len(energies))
    unit, scale = _unit(max(energy.total_pj for energy in energies))
    values = [energy.total_pj / scale for energy in energies]
    axes.barh(
        range(len(values)),
        values,
        color=[INK if e.convention.name == "exact" else AC for e in energies],
        height=0.6,
    )
    for y, value in enumerate(values):
        axes.text(value, y, f" {value:.4g}", va="center", fontsize=8)
    _label_rows(axes, [energy.convention.name for energy in energies])
    axes.set_xlabel(f"{unit} per inference")
    axes.margins(x=0.15)
    return figure


def break_even_rates(layers: Sequence[BreakEven]) -> Figure:
    """Per layer a line from rate 0 to 1: green where spiking costs less, a mark at the measured rate."""
    figure, axes = _canvas(len(layers))
    for y, layer in enumerate(layers):
        even = min(max(layer.break_even or 0.0, 0.0), 1.0)
        axes.barh(y, 1.0, color=GRID, height=0.5)
        axes.barh(y, even, color=WIN, height=0.5)
        axes.plot(min(layer.rate, 1.0), y, marker="o", color=INK, markersize=4, linestyle="none")
    _label_rows(axes, [layer.name or "whole model" for layer in layers])
    axes.set_xlim(0, 1)
    axes.set_xlabel("rate: measured (dot), and where the spiking layer costs less (green)")
    return figure


def _unit(most_pj: float) -> tuple[str, float]:
    """The unit in which the largest of a figure's energies reads best, and how many pJ it is."""
    units = (("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3))
    return next(((unit, pj) for unit, pj in units if most_pj >= pj), ("pJ", 1.0))


def _rates(row: OpRow, steps: int) -> list[float]:
    """Firing rate of a neuron layer at each step."""
    rates = by_step(row.output_nonzero_by_step, row.output_elements)
    return [*rates, *[float("nan")] * (steps - len(rates))]


def _row_name(name: str, op: str, site: int) -> str:
    """A row in few characters: modules by path, functional operations with what they are."""
    return (
        name if op in ("conv2d", "linear") else f"{name or '(model)'} · {op}{f' {site + 1}' if site else ''}"
    )


def _canvas(rows: int, width: float = TWO_COLUMNS) -> tuple[Figure, Axes]:
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
