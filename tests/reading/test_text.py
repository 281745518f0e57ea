"""Text of strangers in tables, figures and messages: whatever it is, it stays text."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_energy import text
from snn_energy.reports.render import Column, Table, render

ANY = st.text(max_size=30) | st.text(
    alphabet="\\$%&_#{}~^|[]*`<>=+-@\n\r\t\x1b\u202e\u2028;a1 \"'!&lt;", max_size=30
)


def table(words: str) -> Table:
    columns = (Column("name", words), Column("pj", "µJ"), Column("remark", "remark"))
    return Table(
        columns, ({"name": words, "pj": 2.5, "remark": "plain"},) * 2, (words, f"Convention {words}")
    )


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_a_terminal_is_not_steered(words: str) -> None:
    printed = render(table(words), "text")
    assert all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in printed)
    assert len(printed.split("\n")) == 2 + 2 + 3 + 1


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_latex_stays_in_its_cell(words: str) -> None:
    lines = render(table(words), "latex").rstrip("\n").split("\n")
    assert len(lines) == 10 and all(line.startswith("% ") for line in lines[-2:])
    for line in (lines[2], lines[4], lines[5]):
        bare = re.sub(
            r"\\text\w+\{\}|\\ldots\{\}|\\textmu\{\}|\$\\(?:pm|times)\$|\\[&%$#_{}]|^\{\}", "", line
        )
        assert bare.count("&") == 2 and bare.count("\\\\") == 1 and bare.endswith("\\\\")
        assert not set(bare.removesuffix("\\\\")) & set("\\%$#_{}~^")
        assert not re.match(r"\s*[\[*]", line)


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_markdown_holds_no_html_and_no_cell_of_its_own(words: str) -> None:
    printed = render(table(words), "markdown")
    lines = printed.split("\n")
    assert len(lines) == 4 + 1 + 2 + 1
    for line in lines[:4]:
        unescaped = re.sub(r"\\[!-/:-@\[-`{-~]", "", line)
        assert unescaped.count("|") == 4

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            raise AssertionError(tag)

        handle_endtag = handle_comment = handle_decl = handle_pi = handle_starttag  # type: ignore[assignment]

    Tags().feed(printed)
    cell = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", lines[2].split(" | 2.5 | ")[0].removeprefix("| "))
    assert html.unescape(cell) == text.plain(words) or "\\" in words or "&" in words


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_no_cell_of_a_csv_file_is_a_formula(words: str) -> None:
    rows = list(csv.reader(io.StringIO(render(table(words), "csv"))))
    assert len(rows) == 3 and {len(row) for row in rows} == {3}
    assert rows[1][0].lstrip()[:1] not in {"=", "+", "-", "@"} and rows[1][1] == "2.5"


def test_numbers_below_zero_stay_numbers() -> None:
    rows = render(Table((Column("a", "a"),), ({"a": -1.5, "b": "-1.5"},)), "csv").splitlines()
    assert rows == ["a,b", "-1.5,'-1.5"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [("block.0.attn.q_lif", "block.0.attn.q_lif"), ("a\x1b[31mb", "a\\x1b[31mb"), ("a\r\nb", "a b"),
     ("\u202egpj", "\\u202egpj"), ("µ–×", "µ–×"), ("\ud800", "\\ud800")],
)  # fmt: skip
def test_plain(words: str, shown: str) -> None:
    assert text.plain(words) == shown


@pytest.mark.parametrize("name", [r"$\frac$ a\$b$ %$%", "$^$_{"])
def test_dollars_are_drawn_as_they_are(name: str, tmp_path: Path) -> None:
    from snn_energy.profiling.profile import OpRow, Profile
    from snn_energy.reports import figures

    row = OpRow(name, "conv1d", input_kind="real", input_elements=4, dense_macs=8, valid_macs=8, mac=8)
    fires = dataclasses.replace(
        OpRow(name + "n", "lif"), neuron_cmp=4, output_elements=4, output_nonzero=2, output_kind="binary",
        output_nonzero_by_step=(2, 0),
    )  # fmt: skip
    measured = Profile((row, fires), 1, 2)
    energy = measured.energy()
    energy = dataclasses.replace(energy, convention=dataclasses.replace(energy.convention, name=name))
    figures.write_figures(measured, [energy], tmp_path)
    drawn = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.svg")}
    for figure, shown in (("energy_by_layer", name), ("conventions", name), ("firing_rates", f"{name}n")):
        assert html.escape(shown, quote=False) in drawn[figure], figure


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_json_is_the_value_and_steers_nothing(value: object) -> None:
    printed = text.json_text(value)
    assert json.loads(printed) == value
    assert all(c == "\n" or c.isprintable() for c in printed)


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_html_is_text_between_tags_and_in_attributes(words: str) -> None:
    seen: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag == "i" and [name for name, _ in attrs] == ["title"]
            seen.append(attrs[0][1] or "")

        def handle_data(self, data: str) -> None:
            seen.append(data)

    reader = Reader()
    reader.feed(f'<i title="{text.html(words)}">{text.html(words)}</i>')
    reader.close()
    assert seen[0] == "".join(seen[1:]) == text.plain(words)
