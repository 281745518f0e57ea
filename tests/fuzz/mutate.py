"""Files made hostile: bytes changed, values of JSON replaced, members of archives written anew."""

from __future__ import annotations

import io
import json
import random
import warnings
import zipfile
from typing import Any

TOKENS = (
    b"", b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"PK\x03\x04", b"\x80\x02", b"NaN",
    b"-1", b"1e999", b"Infinity", b"9" * 400, b"null", b"true", b"{", b"[", b"]", b"}", b":", b'"', b"'",
    b"\n", b"&a ", b"*a", b"!!python/object:os.system ", b"!!int x", b"2001-13-41", b"<<: ", b"\xc3\x28",
    b"../../etc/passwd", b"__class__", b"\x1b[2J", b"$x$", b"=1+1",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**59, 10**70, -0.5, 1e308, 1e-300, float("nan"),
    float("inf"), "", "x", "ü\u0000", "../x", "$", "x" * 5000, [], {}, [[]], [None], {"": 0}, [1, 2, 3], [-1],
    [10**9] * 3, "1", "nan",
)  # fmt: skip


def change(raw: bytes, chance: random.Random) -> bytes:
    """`raw` changed once, in a way that suits what it looks like."""
    if raw[:2] == b"PK" and chance.random() < 0.8:
        return change_member(raw, chance)
    if raw[:1] in b"{[" and chance.random() < 0.7:
        return change_json(raw, chance)
    return change_bytes(raw, chance)


def change_bytes(raw: bytes, chance: random.Random) -> bytes:
    """Some bytes flipped, cut out, doubled, or replaced by a token."""
    out = bytearray(raw)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(out) + 1)
        kind = chance.randrange(5)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del out[at : at + chance.choice((1, 2, 8, 64, 1 << 20))]
        elif kind == 2:
            out[at:at] = out[at : at + chance.choice((1, 8, 64))] * chance.choice((1, 2, 50))
        elif kind == 3:
            out[at : at + chance.randrange(8)] = chance.choice(TOKENS)
        else:
            lines = out.split(b"\n")
            chance.shuffle(lines) if len(lines) < 9 else lines.insert(0, chance.choice(lines))
            out = bytearray(b"\n".join(lines))
    return bytes(out)


def change_json(raw: bytes, chance: random.Random) -> bytes:
    """One value of a JSON text replaced, left out, doubled or wrapped."""
    try:
        whole = json.loads(raw)
    except ValueError:
        return change_bytes(raw, chance)
    places: list[tuple[Any, Any]] = []
    waiting = [whole]
    while waiting:
        part = waiting.pop()
        for key in list(part) if isinstance(part, dict) else range(len(part)):
            places.append((part, key))
            if isinstance(part[key], (dict, list)):
                waiting.append(part[key])
    for _ in range(chance.choice((1, 1, 2, 5)) if places else 0):
        part, key = chance.choice(places)
        kind = chance.randrange(5)
        if kind == 0 and isinstance(part, dict):
            part.pop(key, None)
        elif kind == 1 and isinstance(part, dict):
            part[chance.choice(("x", "", "__class__", "name"))] = part.get(key)
        elif isinstance(part, dict) or key < len(part):
            known = chance.choice(places)
            other = known[0].get(known[1]) if isinstance(known[0], dict) else chance.choice(VALUES)
            part[key] = chance.choice(VALUES) if kind else other
    try:
        return json.dumps(whole).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return change_bytes(raw, chance)


def change_member(raw: bytes, chance: random.Random) -> bytes:
    """One member of an archive changed, renamed, doubled or packed; its checksum is right again."""
    out = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as before, zipfile.ZipFile(out, "w") as after:
            names = before.namelist()
            chosen = chance.choice(names)
            for name in names:
                content, method = before.read(name), zipfile.ZIP_STORED
                if name == chosen:
                    kind = chance.randrange(6)
                    if kind == 0:
                        continue
                    if kind == 1:
                        name = chance.choice((*names, "x", "../x", name + "x"))
                    elif kind == 2:
                        method = chance.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
                    else:
                        content = change(content, chance) if content[:2] != b"PK" else content
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of names that stand twice
                    after.writestr(name, content, method)
    except (zipfile.BadZipFile, ValueError, EOFError):
        return change_bytes(raw, chance)
    return out.getvalue()
