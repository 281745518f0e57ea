"""`snn-energy diff`: two profiles, layer by layer, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snn_energy.cli.out import echo, echo_json
from snn_energy.cli.profile import Costs
from snn_energy.cli.report import profile_files, sides
from snn_energy.errors import ConfigError
from snn_energy.text import plain

if TYPE_CHECKING:
    from snn_energy.reports.compare import Line, Side

WIDTH = 80
FIGURE, RATIO = 11, 8
NAME = WIDTH - 3 * FIGURE - RATIO - 4
RULE = " ".join("-" * n for n in (NAME, FIGURE, FIGURE, FIGURE, RATIO))


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A profile.json, or the folder that holds it.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another, held against A.")],
    convention: Annotated[str, typer.Option("--convention", help="A name or a YAML file.")] = "exact",
    costs: Costs = "45nm-fp32",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, in pJ.")] = False,
) -> None:
    """Show what changed between two profiles, layer by layer: energy, Δ and ratio."""
    from snn_energy.reports.compare import Side, lines
    from snn_energy.reports.render import finite

    paths = profile_files([a, b])
    if len(paths) != 2:
        raise ConfigError(f"diff compares two profiles; {a} and {b} hold {len(paths)}: snn-energy report")
    first, last = (Side(*side) for side in sides(paths, convention, costs))
    listed = lines([first, last])
    if json:
        echo_json(finite(_record(first, last, listed)))
    else:
        echo("\n".join(_table(first, last, listed)))


def _table(first: Side, last: Side, listed: Sequence[Line]) -> list[str]:
    """Lines of at most 80 columns: what differs in network order, then what is equal, the total, accuracy."""
    from snn_energy.reports.compare import ratio
    from snn_energy.reports.words import many

    energy = first.energy
    charged = [line for line in listed if line.charged]
    changed = [line for line in charged if line.pj[0] != line.pj[1]]
    said = [
        _cut(f"A: {plain(first.label)}", WIDTH),
        _cut(f"B: {plain(last.label)}", WIDTH),
        _cut(f"convention {plain(energy.convention.name)}, prices {plain(energy.costs.name)}", WIDTH),
        "",
        _row("layer", "A", "B", "Δ", "B / A"),
        RULE,
    ]
    for line in changed:
        name = line.name if line.operation in ("conv2d", "linear") else f"{line.name} {line.operation}"
        said.append(_figures(name, line.pj[0], line.pj[1], line.ratio))
    if len(changed) < len(charged):
        said.append(f"{many(len(charged) - len(changed), 'operation')} equal")
    totals = first.energy.total_pj, last.energy.total_pj
    return [*said, RULE, _figures("total", *totals, ratio(*totals)), "", *_beside(first, last)]


def _figures(name: str, a: float | None, b: float | None, ratio: float | None) -> str:
    from snn_energy.reports.compare import ratio_words
    from snn_energy.reports.words import picojoules

    change = (b or 0.0) - (a or 0.0)
    words = ["" if pj is None else picojoules(pj) for pj in (a, b)]
    return _row(plain(name), *words, f"{'+' if change > 0 else ''}{picojoules(change)}", ratio_words(ratio))


def _row(name: str, *figures: str) -> str:
    """One line: the end of a name that is too long, since it tells layers apart; A, B, Δ and the ratio."""
    a, b, change, ratio = figures
    short = name if len(name) <= NAME else f"…{name[1 - NAME :]}"
    return f"{short:{NAME}} {a:>{FIGURE}} {b:>{FIGURE}} {change:>{FIGURE}} {ratio:>{RATIO}}".rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _beside(first: Side, last: Side) -> list[str]:
    """Accuracy, rate and what was not counted, A beside B."""
    from snn_energy.reports.words import percent, rate

    def accuracy(side: Side) -> str:
        return "no labels" if side.profile.accuracy is None else percent(side.profile.accuracy)

    said = [f"accuracy   {accuracy(first)}  →  {accuracy(last)}"]
    said.append(f"mean rate  {rate(first.rate) or 'none'}  →  {rate(last.rate) or 'none'}")
    for name, side in (("A", first), ("B", last)):
        for row in side.profile.uncounted:
            said.append(
                _cut(plain(f"not counted in {name}: {row.name or '(model)'}: {row.note or row.op}"), WIDTH)
            )
        for what in side.energy.unpriced:
            said.append(_cut(f"without a price in {name}: {what}", WIDTH))
    return said


def _record(first: Side, last: Side, listed: Sequence[Line]) -> dict[str, object]:
    from snn_energy.reports.compare import ratio

    def side(one: Side) -> dict[str, object]:
        accuracy = one.profile.accuracy
        gaps = {"unpriced": list(one.energy.unpriced), "uncounted": len(one.energy.uncounted)}
        return {"label": one.label, "pj": one.energy.total_pj, "accuracy": accuracy, "rate": one.rate} | gaps

    total = (first.energy.total_pj, last.energy.total_pj)
    return {
        "convention": first.energy.convention.name,
        "costs": first.energy.costs.name,
        "a": side(first),
        "b": side(last),
        "difference_pj": total[1] - total[0],
        "ratio": ratio(*total),
        "layers": [
            {
                "name": line.name,
                "operation": line.operation,
                "a_pj": line.pj[0],
                "b_pj": line.pj[1],
                "difference_pj": line.difference,
                "ratio": line.ratio,
            }
            for line in listed
        ],
    }
