"""The network as a diagram: layers by rank from input to output, with the rates on what they exchange.

What feeds what is read from a profile's `sources` and `feeds`: a weighted layer or product drives neurons,
and their spikes arrive at others.  Hand-written SVG: one column of ranks that a phone can show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from snn_energy.energy import Energy
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import SYNAPTIC
from snn_energy.reports.view import operation_name
from snn_energy.reports.words import picojoules

WIDTH, BOX, GAP, RANK = 360, 52, 6, 80
ABREAST = 4


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
    lines = _lines(boxes, _edges(profile, rows))
    most = max((charge.pj for charge in energy.rows), default=0.0) or 1.0
    drawn = "".join(_box(profile, energy, box, block, most) for box in boxes.values())
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


def _lines(boxes: Mapping[int, Box], edges: Sequence[tuple[int, int]]) -> str:
    """Every edge; those into one box arrive side by side, those past a rank go around its boxes."""
    drawn = []
    for below in dict.fromkeys(b for _, b in edges):
        into = sorted((a for a, b in edges if b == below), key=lambda a: boxes[a].middle)
        for n, above in enumerate(into, 1):
            x = boxes[below].x + boxes[below].width * n / (len(into) + 1)
            drawn.append(_edge(boxes[above], x, boxes[below].y))
    return "".join(drawn)


def _edge(above: Box, x2: float, y2: float) -> str:
    x1, y1 = above.middle, above.y + BOX
    if y2 - y1 < RANK:
        bend = (y1 + y2) / 2
        return f'<path d="M{x1:.1f} {y1} C{x1:.1f} {bend} {x2:.1f} {bend} {x2:.1f} {y2}"/>'
    side = 14 if x1 <= WIDTH / 2 else WIDTH - 14
    down = f"C{x1:.1f} {y1 + 14} {side} {y1 + 10} {side} {y1 + 28} V{y2 - 28}"
    return f'<path d="M{x1:.1f} {y1} {down} C{side} {y2 - 10} {x2:.1f} {y2 - 14} {x2:.1f} {y2}"/>'


def _box(profile: Profile, energy: Energy, box: Box, block: str, most: float) -> str:
    """A layer; the bar at its foot is its energy beside that of the dearest operation of the network."""
    row = profile.rows[box.row]
    name = _clipped(_short(row, block), box.width)
    rate = f"rate {row.input_rate:.3f}" if row.input_read else "rate not read"
    cost = energy.rows[box.row].pj
    pj, full = picojoules(cost), box.width - 6
    at = f'x="{box.middle:.1f}" text-anchor="middle"'
    return (
        f'<g data-rows="{box.row}"><rect x="{box.x:.1f}" y="{box.y}" '
        f'width="{box.width:.1f}" height="{BOX}" rx="6"/>'
        f'<rect class="level" x="{box.x + 3:.1f}" y="{box.y + BOX - 4}" height="3" '
        f'width="{full * max(cost, 0.0) / most:.1f}" data-full="{full:.1f}"/>'
        f'<text {at} y="{box.y + 15}" class="name">{escape(name)}</text>'
        f'<text {at} y="{box.y + 29}" class="pj">{pj}</text>'
        f'<text {at} y="{box.y + 43}" class="soft">{rate}</text></g>'
    )


def _short(row: OpRow, block: str) -> str:
    name = row.name.removeprefix(f"{block}.") if block else row.name or "(model)"
    return name if row.op not in ("matmul",) else f"{name} {operation_name(row)}"


def _clipped(name: str, width: float) -> str:
    """The end of a name that is wider than its box: the last parts tell layers apart."""
    room = int(width / 6.4)
    return name if len(name) <= room else f"…{name[-(room - 1) :]}"
