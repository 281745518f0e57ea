"""Text of strangers (names of modules, words of conventions, messages) made harmless where it is printed."""

from __future__ import annotations

import json
import re
import unicodedata
from html import escape
from typing import Any

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "µ": r"\textmu{}", "±": r"$\pm$",
    "×": r"$\times$", "–": "--", "…": r"\ldots{}",
}  # fmt: skip


_MARKUP = r"([`*|\[\]$~]|\\(?=[!-/:-@\[-`{-~])|(?<!\w)_|_(?!\w))"
"""What Markdown reads as more than itself; a backslash only before punctuation, `_` at the edge of a word."""


def plain(text: object) -> str:
    """One line for a terminal: white space is a blank, and what steers a terminal is written out (`\\x1b`).

    Controls, marks that turn the direction of text, and halves of surrogate pairs are written out.
    """
    blanks = re.sub(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+", " ", str(text))
    return blanks if blanks.isprintable() else "".join(map(_visible, blanks))


def _visible(char: str) -> str:
    if unicodedata.category(char) not in ("Cc", "Cf", "Cs"):
        return char
    return char.encode("unicode_escape").decode("ascii")


def lines(text: object) -> str:
    """The same for text of several lines, which stay lines."""
    return "\n".join(plain(line) for line in str(text).split("\n"))


def latex(text: object) -> str:
    """A cell of a LaTeX tabular: special characters escaped, on one line, no optional argument of `\\\\`."""
    escaped = "".join(_TEX.get(c, c) for c in plain(text))
    return f"{{}}{escaped}" if re.match(r"\s*[\[*]", escaped) else escaped


def latex_comment(text: object) -> str:
    """A comment of one line: TeX reads nothing of it."""
    return f"% {plain(text)}"


def markdown(text: object) -> str:
    """A cell or line of Markdown: no HTML, no markup, no cell of its own."""
    escaped = re.sub(_MARKUP, r"\\\1", plain(text))
    escaped = re.sub(r"&(?=#|\w+;)", "&amp;", escaped)  # what would be read as a character reference
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def html(text: object) -> str:
    """Text between tags or in an attribute of HTML."""
    return escape(plain(text), quote=True)


def json_text(value: Any, indent: int | None = 1) -> str:
    """A value as readable JSON for a terminal or a file; what `plain` writes out is escaped as JSON has it.

    Infinities and NaN are as in `json.dumps`; hand over null for them where a strict reader follows.
    """
    raw = json.dumps(value, indent=indent, ensure_ascii=False)
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in raw)


def csv_cell(value: object) -> object:
    """A value for a CSV file: text that a spreadsheet would take for a formula begins with an apostrophe.

    Numbers stay numbers.  https://owasp.org/www-community/attacks/CSV_Injection has the characters.
    """
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@", "＝", "＋", "－", "＠") else text
