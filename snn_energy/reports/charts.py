"""Small charts in SVG by hand: accuracy against energy, and the course of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from snn_energy.reports.words import percent, picojoules

WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 16, 40
FEW = 8  # points that all bear their labels; of more, only those on the front


@dataclass(frozen=True)
class Point:
    """A network (or an epoch of one): its energy in pJ and its accuracy."""

    label: str
    pj: float
    accuracy: float


def front(points: Sequence[Point]) -> list[str]:
    """Labels of those that no other beats: no dearer, no less accurate, and better in one of the two."""
    return [p.label for p in points if not any(_beats(q, p) for q in points)]


def _beats(one: Point, other: Point) -> bool:
    as_good = one.pj <= other.pj and one.accuracy >= other.accuracy
    return as_good and (one.pj < other.pj or one.accuracy > other.accuracy)


def scatter(points: Sequence[Point], across: str, up: str) -> str:
    """Accuracy over energy, each point with its label; those on the front filled."""
    best = set(front(points))
    right = max(p.pj for p in points) * 1.05 or 1.0
    low, high = _span([p.accuracy for p in points])
    drawn = [_axes(across, up, picojoules(right / 1.05), percent(low), percent(high))]
    for n, p in enumerate(points):
        x, y = _across(p.pj / right), _up((p.accuracy - low) / (high - low))
        kind = "front" if p.label in best else "behind"
        anchor, shift = ("end", -8) if x > WIDTH * 0.6 else ("start", 8)
        drawn.append(
            f'<g data-point="{n}"><circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f'<text x="{x + shift:.1f}" y="{y - 6:.1f}" text-anchor="{anchor}">'
            f"{escape(_short(p.label)) if len(points) <= FEW or kind == 'front' else ''}</text></g>"
        )
    said = "; ".join(f"{p.label}: {picojoules(p.pj)}, {percent(p.accuracy)}" for p in points)
    return _svg("".join(drawn), f"{up} against {across}: {said}", "pareto")


def course(series: Sequence[tuple[int, float]], across: str, words: tuple[str, str], label: str) -> str:
    """A line over epochs; `words`: the least and the greatest value, as they are to be printed."""
    low, high = _span([v for _, v in series])
    first, last = series[0][0], series[-1][0]
    spots = [(_across((t - first) / ((last - first) or 1)), _up((v - low) / (high - low))) for t, v in series]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    dots = "".join(f'<circle class="front" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in spots)
    axes = _axes(f"{across} {first} … {last}", label, "", *words)
    return _svg(f'{axes}<polyline class="line" points="{line}"/>{dots}', f"{label} by {across}", "course")


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis: the values themselves, or a little around them where they are one."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1))


def _across(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _up(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axes(across: str, up: str, right: str, low: str, high: str) -> str:
    base, corner = HEIGHT - BOTTOM, WIDTH - RIGHT
    return (
        f'<path class="axis" d="M{LEFT} {TOP} V{base} H{corner}"/>'
        f'<text class="soft" x="{LEFT - 4}" y="{base}" text-anchor="end">{low}</text>'
        f'<text class="soft" x="{LEFT - 4}" y="{TOP + 8}" text-anchor="end">{high}</text>'
        f'<text class="soft" x="{LEFT}" y="{base + 15}">{"0" if right else ""}</text>'
        f'<text class="soft most" x="{corner}" y="{base + 15}" text-anchor="end">{right}</text>'
        f'<text x="{(LEFT + corner) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>'
        f'<text x="{LEFT}" y="{TOP - 5}">{escape(up)}</text>'
    )


def _svg(inside: str, label: str, kind: str) -> str:
    return (
        f'<svg class="chart {kind}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label, quote=True)}">{inside}</svg>'
    )


def _short(label: str) -> str:
    return label if len(label) <= 24 else f"…{label[-23:]}"
