"""Tables as a terminal shows them: the layers that matter first, the rest summed, no wider than the screen.

Pure functions from records to a `Table`, and from a `Table` to one that fits a width; who prints decides on
colours.  The whole table, without choice or limit, is `tables.layer_table`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from snn_energy.errors import ConfigError, suggest
from snn_energy.reports.render import Column, Table, cells
from snn_energy.reports.tables import layer_table

if TYPE_CHECKING:
    from snn_energy.energy import Energy
    from snn_energy.profiling.profile import Profile

TOP = 15
"""Rows of a table of layers before the rest is summed."""

WIDTH = 80
"""Columns of a terminal that says nothing of its width, and of a table that goes into a file or a pipe."""

GAP = 2
NAME_AT_LEAST, OPERATION_AT_MOST = 22, 10

SORTS = ("energy", "ac", "mac", "rate", "name", "network")
"""What rows can be sorted by; `network`: in the order in which they first ran."""

_SPARE = ("differs", "dense_macs", "input_kind", "output_rate", "standard_error_mj")
"""Columns that a narrow terminal does without, in the order in which they go; then further conventions."""


def layers(
    profile: Profile,
    energies: Sequence[Energy],
    *,
    top: int | None = TOP,
    depth: int | None = None,
    sort: str = "energy",
) -> Table:
    """`tables.layer_table` with the `top` rows first and the rest in one row; None: every row.

    `depth` sums over all below that many parts of a module's path.  Raises `ConfigError` for an order that is
    not in `SORTS`, and for a `top` or `depth` below 1.
    """
    if sort not in SORTS:
        raise ConfigError(f"sort {sort!r}: {suggest(sort, SORTS)}")
    for name, value in (("top", top), ("depth", depth)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} = {value}: must be at least 1")
    whole = layer_table(profile, energies)
    *rows, total = whole.rows
    if depth is not None:
        rows = _folded(rows, depth)
    rows = _sorted(rows, sort, next(key for key in total if key.startswith("pj_")))
    if top is not None and len(rows) > top + 1:
        rest = rows[top:]
        rows = [*rows[:top], _sum(rest, {"name": f"{len(rest)} more", "rest": True})]
    short = {"name": "module", "input_rate": "rate", "share": "%"}
    columns = tuple(dataclasses.replace(c, heading=short.get(c.key, c.heading)) for c in whole.columns)
    return Table(columns, (*rows, total), whole.notes)


def _sorted(rows: list[dict[str, Any]], sort: str, energy: str) -> list[dict[str, Any]]:
    if sort == "network":
        return rows
    if sort == "name":
        return sorted(rows, key=lambda row: row["name"])
    key = {"energy": energy, "rate": "input_rate"}.get(sort, sort)
    return sorted(rows, key=lambda row: row.get(key) or 0.0, reverse=True)


def _folded(rows: list[dict[str, Any]], depth: int) -> list[dict[str, Any]]:
    """One row for each beginning of `depth` parts, in the order of the first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(".".join(row["name"].split(".")[:depth]), []).append(row)
    return [
        dict(group[0]) | {"name": name}
        if len(group) == 1
        else _sum(group, {"name": name, "op": f"{len(group)} ops"})
        for name, group in groups.items()
    ]


def _sum(rows: Sequence[dict[str, Any]], head: dict[str, Any]) -> dict[str, Any]:
    summed = [key for key in rows[0] if key in ("ac", "mac", "dense_macs", "share") or key.startswith("pj_")]
    return head | {key: sum(row[key] for row in rows) for key in summed}


# --- fitting ----------------------------------------------------------------------------------------------


def fit(table: Table, width: int = WIDTH, *, cut: bool = True) -> Table:
    """The table in at most `width` columns: what a narrow one does without goes first, then names are cut.

    Names lose their beginning (`…attn.q_conv`), operations their end.  Without `cut` names stay whole, and
    the table may be wider.
    """
    columns = list(table.columns)
    for key in _goes(columns):
        if _width(table, columns, cut=True) <= width:
            break
        columns = [column for column in columns if column.key != key]
    fitted = dataclasses.replace(table, columns=tuple(columns))
    if not cut:
        return fitted
    room = width - _width(fitted, columns[1:], cut=True) - GAP
    rows = tuple(_cut(row, columns[0].key, max(8, room)) for row in table.rows)
    return dataclasses.replace(fitted, rows=rows)


def _goes(columns: Sequence[Column]) -> list[str]:
    """Keys in the order in which a narrow table loses them."""
    further = [column.key for column in columns if column.key.startswith("pj_")][1:]
    known = [column.key for column in columns]
    last = ("input_rate", "firing_rate", "costs", "mac", "ac", "op")
    return [key for key in (*_SPARE, *reversed(further), *last) if key in known]


def _width(table: Table, columns: Sequence[Column], *, cut: bool) -> int:
    """Columns that the table needs, its names and operations cut as far as they may be."""
    total = 0
    for column in columns:
        longest = max(len(text) for text in (column.heading, *cells(table, column)))
        if cut and column is table.columns[0]:
            longest = min(longest, NAME_AT_LEAST)
        if cut and column.key == "op":
            longest = min(longest, OPERATION_AT_MOST)
        total += longest + GAP
    return total - GAP


def _cut(row: dict[str, Any], key: str, room: int) -> dict[str, Any]:
    name, op = row.get(key), row.get("op")
    changed = dict(row)
    if isinstance(name, str) and len(name) > room:
        changed[key] = "…" + name[len(name) - room + 1 :]
    if isinstance(op, str) and len(op) > OPERATION_AT_MOST:
        changed["op"] = op[: OPERATION_AT_MOST - 1] + "…"
    return changed
