"""Published tables as they are printed: figures with their units and with the digits that they claim.

A cell such as `6.82G`, `350M`, `16.81`, `23.5 %`, `7.73 mJ` becomes a `Figure`: its value in plain
operations, parameters, fractions, steps or mJ, and half a unit of its last printed digit.  The unit stands in
the cell (`6.82G`) or in the heading (`sops_g`, `SOPs (G)`, `Energy (mJ)`); a cell's own wins.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_energy.errors import DataError

QUANTITIES: Mapping[str, tuple[str, ...]] = {
    "name": ("model", "models", "name", "network", "networks", "method", "methods", "architecture", "arch"),
    "params": ("params", "param", "parameters", "parameter"),
    "macs": ("macs", "mac", "flops", "flop"),
    "sops": ("sops", "sop", "synops", "synop", "syops", "acs", "ac", "ops"),
    "rate": ("rate", "rates", "fr"),
    "T": ("t", "timesteps", "timestep", "steps", "step"),
    "mj": ("mj", "energy", "power"),
}
FILLERS = {
    *(
        "consumption",
        "firing",
        "spike",
        "spiking",
        "mean",
        "average",
        "avg",
        "total",
        "number",
        "of",
        "count",
    ),
    *("per", "inference", "image", "sample", "synaptic", "operations", "operation", "time", "estimated"),
    *("theoretical", "nr", "no", "e"),
}
COUNTS = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
JOULES = {"pj": 1e-9, "nj": 1e-6, "uj": 1e-3, "µj": 1e-3, "μj": 1e-3, "mj": 1.0, "j": 1e3}
MISSING = frozenset(
    ("", "-", "–", "—", "−", "--", "n/a", "na", "n.a.", "nan", "none", "null", "?", "/", "\\")
)
NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*([a-zµμ%]*)", re.IGNORECASE)
BARE_LIMIT = 1e5  # a column of counts without a unit, all below this, is read in G (parameters: M)
READ_AS = {"flop": "MACs", "ops": "synaptic operations (accumulates)"}
MOST_ROWS = 1000
EXAMPLE = "model,params_m,macs_g,sops_g,rate,T,mj"


@dataclass(frozen=True)
class Figure:
    """A printed figure: `value`, and `half` a unit of its last digit, in the same unit."""

    value: float
    half: float


@dataclass(frozen=True)
class PublishedRow:
    """One row of a table; what it does not state is None.  Operations and parameters are plain counts, `rate`
    is a fraction, `mj` is in mJ."""

    name: str
    params: Figure | None = None
    macs: Figure | None = None
    sops: Figure | None = None
    rate: Figure | None = None
    T: Figure | None = None
    mj: Figure | None = None


@dataclass(frozen=True)
class PublishedTable:
    """Rows, the quantities that have a column, and how ambiguous columns were read."""

    title: str
    rows: tuple[PublishedRow, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Heading:
    text: str
    quantity: str | None
    scale: float | None = None  # of the unit in the heading


def read_table(table: str | os.PathLike[str] | Iterable[Mapping[str, Any]] | Any) -> PublishedTable:
    """A table from a CSV file, a list of mappings, or a pandas DataFrame.

    Raises `DataError` for a file that is no table, without a column of energies, with two columns for one
    quantity, or with a cell that is neither a figure nor left out.
    """
    if isinstance(table, str | os.PathLike):
        title, lines = str(table), _lines(Path(table))
    else:
        title, lines = "table", _records(table)
    headings = [_heading(text) for text in lines[0]]
    _check_headings(title, headings)
    body = [(i, cells) for i, cells in enumerate(lines[1:], 2) if any(cell.strip() for cell in cells)]
    if not body:
        raise DataError(f"{title}: no rows below the headings")
    if len(body) > MOST_ROWS:
        raise DataError(f"{title}: {len(body):,} rows; a published table has at most {MOST_ROWS:,}")
    for i, cells in body:
        if len(cells) > len(headings):
            raise DataError(f"{title}, line {i}: {len(cells)} cells under {len(headings)} headings")
    return _typed(title, headings, body)


def _lines(path: Path) -> list[list[str]]:
    """The cells of a CSV file; the separator is the one under which the most headings are known."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DataError(f"{path}: not a text file; a table is CSV with headings such as {EXAMPLE}")
    if not text.strip():
        raise DataError(f"{path}: empty; a table is CSV with headings such as {EXAMPLE}")
    text = text.lstrip("\r\n")
    first = text.splitlines()[0]
    separator = max(",;\t|", key=lambda s: sum(_heading(t).quantity is not None for t in first.split(s)))
    try:
        lines = list(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}: not CSV: {error}") from None
    if separator in ";\t":
        lines = [[re.sub(r"^(\s*\d+),(\d+)", r"\1.\2", cell) for cell in cells] for cells in lines]
    return lines


def _records(table: Any) -> list[list[str]]:
    if hasattr(table, "to_dict"):
        table = table.to_dict("records")
    if not isinstance(table, Iterable):
        raise DataError(f"table: {type(table).__name__} is no table; a CSV file or a list of mappings is")
    records = list(table)
    if not records or not all(isinstance(r, Mapping) for r in records):
        raise DataError(
            "table: no rows; a table is a CSV file or a list of mappings such as {'sops_g': 6.82}"
        )
    keys = list(dict.fromkeys(key for record in records for key in record))
    body = [["" if r.get(key) is None else _text(r[key]) for key in keys] for r in records]
    return [[str(key) for key in keys], *body]


def _text(value: Any) -> str:
    """A cell as text: a float claims the digits that it shows, a large whole one no decimals."""
    return f"{value:.15g}" if isinstance(value, float) and value >= BARE_LIMIT else str(value)


def _heading(text: str) -> _Heading:
    """What a column holds; a heading with words that do not belong to one known quantity holds none."""
    tokens = re.findall(r"[a-zµμ]+|%", text.lower())
    quantity, scale, rest = None, None, []
    for token in tokens:
        found = next((q for q, names in QUANTITIES.items() if token in names), None)
        if found is None and token[0] in COUNTS:  # GMACs, MSOPs
            found = next((q for q in ("macs", "sops") if token[1:] in QUANTITIES[q]), None)
            scale = COUNTS[token[0]] if found else scale
        if found is not None and quantity in (None, found):
            quantity = found
        else:
            rest.append(token)
    if quantity is None and len(rest) == 1 and rest[0] in JOULES:
        return _Heading(text, "mj", JOULES[rest[0]])
    for token in rest:
        unit = _unit(token, quantity)
        if unit is None and token not in FILLERS:
            return _Heading(text, None)
        scale = unit or scale
    if quantity == "mj" and "mj" in tokens:
        scale = 1.0
    return _Heading(text, quantity, scale)


def _unit(token: str, quantity: str | None) -> float | None:
    if quantity in ("params", "macs", "sops"):
        return COUNTS.get(token)
    if quantity == "mj":
        return JOULES.get(token)
    return 0.01 if quantity == "rate" and token == "%" else None


def _check_headings(title: str, headings: Sequence[_Heading]) -> None:
    for quantity in QUANTITIES:
        same = [h.text for h in headings if h.quantity == quantity]
        if len(same) > 1 and quantity != "name":
            raise DataError(f"{title}: columns {same[0]!r} and {same[1]!r} both hold {quantity}; keep one")
    if not any(h.quantity == "mj" for h in headings):
        found = ", ".join(repr(h.text.strip()) for h in headings[:8])
        raise DataError(f"{title}: no column of energies (mj, Energy (mJ), uj …) among {found[:200]}")


def _typed(title: str, headings: Sequence[_Heading], body: Sequence[tuple[int, list[str]]]) -> PublishedTable:
    notes = [
        f"column {h.text.strip()!r} is not read" for h in headings if h.quantity is None and h.text.strip()
    ]
    notes += [f"{h.text.strip()}: read as {READ_AS[t]}" for h in headings for t in READ_AS if _reads(h, t)]
    values: list[dict[str, Figure | None]] = [{} for _ in body]
    for column, heading in enumerate(headings):
        if heading.quantity in (None, "name"):
            continue
        cells = [(i, row[column].strip() if column < len(row) else "") for i, row in body]
        figures, note = _column(title, heading, cells)
        notes += note
        for value, figure in zip(values, figures, strict=True):
            value[str(heading.quantity)] = figure
    names = _names(headings, body)
    rows = tuple(PublishedRow(name, **v) for name, v in zip(names, values, strict=True))
    known = tuple(q for q in QUANTITIES if q != "name" and any(h.quantity == q for h in headings))
    return PublishedTable(title, rows, known, tuple(notes))


def _reads(heading: _Heading, word: str) -> bool:
    """Is `word` (flops, ops) what made the heading known?"""
    tokens = re.findall(r"[a-z]+", heading.text.lower())
    return heading.quantity in ("macs", "sops") and any(
        t in (word, f"{word}s", f"g{word}s", f"g{word}") for t in tokens
    )


def _names(headings: Sequence[_Heading], body: Sequence[tuple[int, list[str]]]) -> list[str]:
    """What the columns of names say together, or a row's number; twice the same gets its number too."""
    columns = [i for i, h in enumerate(headings) if h.quantity == "name"]
    names: list[str] = []
    for number, (_, cells) in enumerate(body, 1):
        given = " ".join(cells[i].strip() for i in columns if i < len(cells) and cells[i].strip())
        name = given or f"row {number}"
        names.append(f"{name} (row {number})" if name in names else name)
    return names


def _column(
    title: str, heading: _Heading, cells: Sequence[tuple[int, str]]
) -> tuple[list[Figure | None], list[str]]:
    quantity, notes = str(heading.quantity), []
    parsed = [_cell(f"{title}, line {i}, {heading.text.strip()!r}", quantity, cell) for i, cell in cells]
    bare = [p[0].value for p in parsed if p is not None and p[1] is None]
    scale = heading.scale
    if scale is None and bare and quantity in ("params", "macs", "sops"):
        unit = "M" if quantity == "params" else "G"
        small = max(bare) < BARE_LIMIT
        scale = COUNTS[unit.lower()] if small else 1.0
        notes.append(
            f"{heading.text.strip()}: no unit given; read {'in ' + unit if small else 'as plain counts'}"
        )
    if quantity == "rate" and scale is None and bare and max(bare) > 1:
        notes.append(
            f"{heading.text.strip()}: above 1, read as events per neuron; a percentage needs its % sign"
        )
    figures: list[Figure | None] = []
    for item in parsed:
        if item is None:
            figures.append(None)
            continue
        factor = item[1] or scale or 1.0
        figures.append(Figure(item[0].value * factor, item[0].half * factor))
    return figures, notes


def _cell(where: str, quantity: str, cell: str) -> tuple[Figure, float | None] | None:
    """A figure as it is printed, and the factor of the cell's own unit.  None: left out."""
    if cell.lower() in MISSING:
        return None
    text = re.sub(r"^(\d{1,3})((?:,\d{3})+)(?=\D|$)", lambda m: m[1] + m[2].replace(",", ""), cell)
    steps = re.fullmatch(r"(\d+)\s*[x×*]\s*(\d+)", text) if quantity == "T" else None
    if steps:
        text = str(int(steps[1]) * int(steps[2]))
    match = NUMBER.fullmatch(text)
    factor = _unit(match[3].lower(), quantity) if match and match[3] else None
    if (
        match is None
        or (match[3] and factor is None)
        or not math.isfinite(float(match[1] + (match[2] or "")))
    ):
        units = {"mj": "12.3 or 12.3 mJ", "rate": "0.23 or 23 %", "T": "a whole number, 1 or more"}
        right = units.get(quantity, "6.82 or 6.82G")
        raise DataError(f"{where}: {cell[:40]!r} is no figure; right would be {right}, or nothing at all")
    value = float(match[1] + (match[2] or ""))
    if quantity == "T" and (value < 1 or value != int(value)):
        raise DataError(f"{where}: {cell!r} time steps; right would be a whole number, 1 or more")
    return Figure(value, 0.0 if quantity == "T" else _half_unit(match[1], match[2] or "")), factor


def _half_unit(digits: str, exponent: str) -> float:
    """Half a unit of the last digit; zeros that end a whole number of four digits or more claim nothing."""
    power = int(exponent[1:]) if exponent else 0
    whole, _, decimals = digits.partition(".")
    if decimals:
        places = -len(decimals)
    else:
        places = len(whole) - len(whole.rstrip("0")) if len(whole) > 3 and whole.strip("0") else 0
    return 0.5 * 10.0 ** (places + power)
