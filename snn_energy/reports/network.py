"""The network as a diagram: layers by rank from input to output, with the rates on what they exchange.

What feeds what is read from a profile's `sources` and `feeds`: a weighted layer or product drives neurons,
and their spikes arrive at others.  Hand-written SVG: one column of ranks that a phone can show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from snn_energy.energy import Energy
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import SYNAPTIC
from snn_energy.reports.view import operation_name
from snn_energy.reports.words import picojoules

WIDTH, BOX, GAP, RANK = 360, 52, 6, 80
ABREAST = 3


@dataclass(frozen=True)
class Box:
    """A weighted layer or product in its place: `x`, `y`, `width`, and which row of the profile it is."""

    row: int
    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def block_diagram(profile: Profile, energy: Energy, block: str) -> str:
    """The layers of one block as an <svg>, or "" where it has none.

    A box says its name, its energy and the rate of what enters; a line between boxes carries spikes of the
    neurons that the upper one drives.
    """
    rows = [i for i, row in enumerate(profile.rows) if row.op in SYNAPTIC and row.block == block]
    if not rows:
        return ""
    boxes, height = _placed(profile, rows)
    lines = "".join(_edge(profile, boxes[a], boxes[b]) for a, b in _edges(profile, rows))
    drawn = "".join(_box(profile, energy, box, block) for box in boxes.values())
    names = ", ".join(_short(profile.rows[i], block) for i in rows)
    label = escape(f"{block or 'the model'}: {names}; their figures stand in the table of operations")
    head = f'<svg class="net" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'
    return f"{head}{lines}{drawn}</svg>"


def _edges(profile: Profile, rows: Sequence[int]) -> list[tuple[int, int]]:
    """(from, to) within a block: some neuron that the one drives is a source of the other.

    A product that feeds no neuron itself (KᵀV) hands its result to the next product of its module.
    """
    found = []
    for n, b in enumerate(rows):
        into = profile.rows[b]
        for a in rows[:n]:
            row = profile.rows[a]
            next_product = row.name == into.name and row.op == into.op and row.site == into.site - 1
            if set(row.feeds) & set(into.sources) or (next_product and not row.feeds):
                found.append((a, b))
    return found


def _placed(profile: Profile, rows: Sequence[int]) -> tuple[dict[int, Box], int]:
    """Every row's box: its rank is one below the lowest that feeds it; wide ranks break into lines."""
    rank = dict.fromkeys(rows, 0)
    for a, b in _edges(profile, rows):
        rank[b] = max(rank[b], rank[a] + 1)
    lines: list[list[int]] = []
    for level in range(max(rank.values()) + 1):
        same = [i for i in rows if rank[i] == level]
        lines += [same[k : k + ABREAST] for k in range(0, len(same), ABREAST)]
    boxes = {}
    for y, line in enumerate(lines):
        width = (WIDTH - GAP * (len(line) + 1)) / len(line)
        width = min(width, 220)
        left = (WIDTH - len(line) * width - (len(line) - 1) * GAP) / 2
        for x, i in enumerate(line):
            boxes[i] = Box(i, left + x * (width + GAP), GAP + y * RANK, width)
    return boxes, RANK * len(lines) - (RANK - BOX) + 2 * GAP


def _edge(profile: Profile, above: Box, below: Box) -> str:
    x1, y1, x2, y2 = above.middle, above.y + BOX, below.middle, below.y
    bend = (y1 + y2) / 2
    return f'<path d="M{x1:.1f} {y1:.1f} C{x1:.1f} {bend:.1f} {x2:.1f} {bend:.1f} {x2:.1f} {y2:.1f}"/>'


def _box(profile: Profile, energy: Energy, box: Box, block: str) -> str:
    row = profile.rows[box.row]
    name = _clipped(_short(row, block), box.width)
    rate = f"rate {row.input_rate:.3f}" if row.input_read else "rate not read"
    pj = picojoules(energy.rows[box.row].pj)
    at = f'x="{box.middle:.1f}" text-anchor="middle"'
    return (
        f'<g data-rows="{box.row}"><rect x="{box.x:.1f}" y="{box.y}" '
        f'width="{box.width:.1f}" height="{BOX}" rx="6"/>'
        f'<text {at} y="{box.y + 16}" class="name">{escape(name)}</text>'
        f'<text {at} y="{box.y + 31}" class="pj">{pj}</text>'
        f'<text {at} y="{box.y + 45}" class="soft">{rate}</text></g>'
    )


def _short(row: OpRow, block: str) -> str:
    name = row.name.removeprefix(f"{block}.") if block else row.name or "(model)"
    return name if row.op not in ("matmul",) else f"{name} {operation_name(row)}"


def _clipped(name: str, width: float) -> str:
    """The end of a name that is wider than its box: the last parts tell layers apart."""
    room = int(width / 6.4)
    return name if len(name) <= room else f"…{name[-(room - 1) :]}"
