"""Names of nodes as C identifiers, each used once."""

from __future__ import annotations

import re

KEYWORDS = frozenset(
    {
        *("auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum"),
        *("extern", "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return"),
        *("short", "signed", "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void"),
        *("volatile", "while", "asm", "main", "NULL"),
    }
)


RESERVED = re.compile(
    r"(INT|UINT|SIZE|PTRDIFF|SIG|WCHAR|WINT)\w*|\w+_t|linux|unix|i386|arm|typeof|bool|true|false"
    r"|scratch_\w+|compute(_\d+)?|channel_list"
)
"""Macros and types of the headers, what compilers define by themselves, and names that the writer makes."""


class Names:
    """Hands out identifiers: a module path with what C forbids made `_`, and a number where it is taken.

    `taken`: what the templates themselves use.
    """

    def __init__(self, taken: frozenset[str] = frozenset()) -> None:
        self._taken = {*KEYWORDS, *taken}

    def __call__(self, name: str, suffix: str = "") -> str:
        """An identifier for `name`, which no other call has been or will be given."""
        stem = re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_") or "node"
        if stem[0].isdigit() or RESERVED.fullmatch(stem):
            stem = f"n{stem}"
        found, number = stem + suffix, 2
        while found in self._taken:
            found, number = f"{stem}_{number}{suffix}", number + 1
        self._taken.add(found)
        return found


def identifiers(text: str) -> frozenset[str]:
    """Every word of a piece of C, comments included: names that nothing else should have."""
    return frozenset(re.findall(r"[A-Za-z_]\w*", text))


def comment(text: str) -> str:
    """`text` as it may stand inside a comment of one line."""
    return re.sub(r"[\x00-\x1f\x7f]", "?", text).replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")


def quoted(text: str) -> str:
    """`text` as a C string."""
    escaped = []
    for byte in text.encode():
        plain = 32 <= byte < 127 and chr(byte) not in '"\\?%'
        escaped.append(chr(byte) if plain else f"\\{byte:03o}")
    return '"' + "".join(escaped) + '"'
