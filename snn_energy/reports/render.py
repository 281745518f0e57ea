"""One table, five formats.

A `Table` holds raw values (pJ, counts, fractions).  `render` writes them raw as `json` and `csv`, and scaled,
rounded and headed as `text`, `markdown` and `latex`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from typing import Any

from snn_energy.energy.yaml_records import check_choice
from snn_energy.text import csv_cell, html, json_text, latex, latex_comment, markdown, plain

FORMATS = ("text", "csv", "json", "markdown", "latex")


@dataclass(frozen=True)
class Column:
    """`heading` for people, `scale` from the raw value to the heading's unit, digits after the point
    (None: four significant ones)."""

    key: str
    heading: str
    scale: float = 1.0
    digits: int | None = None


@dataclass(frozen=True)
class Table:
    """Columns, rows of raw values, and lines to stand below."""

    columns: tuple[Column, ...]
    rows: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return render(self).rstrip()

    def _repr_html_(self) -> str:
        """For notebooks."""
        right = ("right" if numeric else "left" for numeric in _numeric(self))
        cell = [f"<td style='text-align:{side}'>{{}}</td>" for side in right]
        texts = [
            [column.heading for column in self.columns],
            *map(list, zip(*(cells(self, c) for c in self.columns), strict=True)),
        ]
        rows = ["<tr>" + "".join(map(str.format, cell, map(html, row))) + "</tr>" for row in texts]
        head = rows[0].replace("<td", "<th").replace("</td>", "</th>")
        notes = "".join(f"<p>{html(note)}</p>" for note in self.notes)
        return f"<table><thead>{head}</thead><tbody>{''.join(rows[1:])}</tbody></table>{notes}"


def render(table: Table, format: str = "text") -> str:
    """The table as `text`, `csv`, `json`, `markdown` or `latex`.  Raises `ConfigError` for another format."""
    check_choice(format, FORMATS, "format")
    if format == "json":
        return json_text([finite(row) for row in table.rows])
    if format == "csv":
        return _csv(table)
    cells = [[_cell(row.get(c.key), c) for c in table.columns] for row in table.rows]
    headings = [c.heading for c in table.columns]
    return {"text": _text, "markdown": _markdown, "latex": _latex}[format](headings, cells, table)


def cells(table: Table, column: Column) -> list[str]:
    """A column's cells as text, scaled and rounded."""
    return [_cell(row.get(column.key), column) for row in table.rows]


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for both."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(table: Table) -> str:
    keys = list(dict.fromkeys(key for row in table.rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, list(map(csv_cell, keys)), lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        writer.writerow(
            {
                csv_cell(k): json.dumps(v, ensure_ascii=False) if isinstance(v, dict) else csv_cell(v)
                for k, v in row.items()
            }
        )
    return out.getvalue()


def _cell(value: Any, column: Column) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int) and column.scale == 1.0:
        return f"{value:,}"
    scaled = value * column.scale
    return f"{scaled:.{column.digits}f}" if column.digits is not None else f"{scaled:,.4g}"


def _numeric(table: Table) -> list[bool]:
    """Which columns are set flush right."""
    return [
        any(isinstance(row.get(c.key), int | float) for row in table.rows) and c.key != "name"
        for c in table.columns
    ]


def _text(headings: list[str], cells: list[list[str]], table: Table) -> str:
    headings, cells = [plain(h) for h in headings], [[plain(c) for c in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    right = _numeric(table)
    lines = [
        "  ".join(
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (headings, ["-" * w for w in widths], *cells)
    ]
    return "\n".join([*lines, *(["", *map(plain, table.notes)] if table.notes else [])]) + "\n"


def _markdown(headings: list[str], cells: list[list[str]], table: Table) -> str:
    rule = ["---:" if right else "---" for right in _numeric(table)]
    escaped = [[markdown(c) for c in row] for row in (headings, *cells)]
    lines = ["| " + " | ".join(row) + " |" for row in (escaped[0], rule, *escaped[1:])]
    return (
        "\n".join([*lines, *(["", *(f"{markdown(note)}  " for note in table.notes)] if table.notes else [])])
        + "\n"
    )


def _latex(headings: list[str], cells: list[list[str]], table: Table) -> str:
    """A tabular for the booktabs package."""
    spec = "".join("r" if right else "l" for right in _numeric(table))
    body = [" & ".join(map(latex, row)) + r" \\" for row in cells]
    lines = [
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        " & ".join(map(latex, headings)) + r" \\",
        r"\midrule",
    ]
    lines += [*body, r"\bottomrule", r"\end{tabular}", *map(latex_comment, table.notes)]
    return "\n".join(lines) + "\n"
