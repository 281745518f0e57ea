"""Whatever a network's author called things, no command's output steers a terminal or leaves its cell."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import unicodedata
from pathlib import Path
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from snn_energy.cli import out, tables
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.tables import ops_csv

NASTY = st.text(
    alphabet="\\$%&_#{}~^|[]*`<>=+-@\n\r\t\x07\x1b\x7f\x9b\u202e\u2066\u2028;aB1. \"'!µ",
    min_size=1,
    max_size=24,
)


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def of(name: str, note: str) -> Profile:
    rows = (
        OpRow(name, "linear", input_kind="binary", dense_macs=90, valid_macs=80, ac=33, ac_executed=33),
        OpRow(f"{name}.b", "uncounted", calls=2, note=note),
    )
    fields = {"model": name, "data": note, "contract": note, "notes": (note,), "class_names": (name,)}
    return Profile(rows, samples=2, time_steps=3, **fields)  # type: ignore[arg-type]


def printed(stream: io.StringIO, measured: Profile, format: str = "text") -> str:
    energies = [measured.energy("exact"), measured.energy("syops")]
    with patch.object(sys, "stdout", stream), patch.object(sys, "stderr", io.StringIO()) as err:
        tables.print_profile(measured, energies, measured.table(), format=format, whole=False)
        assert harmless(err.getvalue())
    return stream.getvalue()


def harmless(text: str) -> bool:
    return all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in text)


@given(NASTY, NASTY)
@settings(max_examples=60, deadline=None)
def test_a_profile_on_terminals_and_in_pipes(name: str, note: str) -> None:
    measured = of(name, note)
    for format in ("text", "markdown", "latex", "json", "csv"):
        assert harmless(printed(io.StringIO(), measured, format)), format
    colours = re.sub(r"\x1b\[[0-9;]*m", "", printed(Screen(), measured))  # what rich itself writes
    assert harmless(colours)
    assert harmless(str(measured)) and harmless(repr(measured)) and harmless(str(measured.energy()))


@given(NASTY, NASTY)
@settings(max_examples=60, deadline=None)
def test_layers_csv_has_no_formula(name: str, note: str) -> None:
    rows = list(csv.reader(io.StringIO(ops_csv(of(name, note)))))
    assert len(rows) == 3 and len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for cell in row):
        starts = cell.lstrip()[:1] in {"=", "+", "-", "@"}
        assert not starts or re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", cell)


@given(NASTY)
@settings(max_examples=60, deadline=None)
def test_echo_and_json(words: str) -> None:
    with patch.object(sys, "stdout", io.StringIO()) as stream:
        out.echo(words)
        assert harmless(stream.getvalue())
    with patch.object(sys, "stdout", io.StringIO()) as stream:
        out.echo_json({words: [words]})
        assert harmless(stream.getvalue()) and json.loads(stream.getvalue()) == {words: [words]}


def test_commands_print_by_the_one_way_out() -> None:
    for path in Path(out.__file__).parent.glob("*.py"):
        found = re.findall(r"typer\.echo\(|^\s*print\(", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not found or path.name == "out.py", f"{path.name}: print with cli.out.echo, which escapes"


def test_the_csv_is_what_pandas_writes() -> None:
    measured = of("a.b", "plain, with a comma")
    assert ops_csv(measured) == measured.ops.to_csv(index=False)
