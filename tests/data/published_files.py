"""Small files of the published formats, written by hand."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

PIXELS = 3 * 32 * 32


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, PIXELS), np.uint8)


def python2_pickle(batch: dict[str, Any]) -> bytes:
    """Protocol 2 as Python 2's NumPy 1 wrote it: text for keys and pixels, lists of numbers.

    `batch` holds uint8 arrays, lists of small numbers and of text.
    """

    def text(value: bytes) -> bytes:
        if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        return b"T" + len(value).to_bytes(4, "little") + value

    def number(n: int) -> bytes:
        return b"K" + bytes([n]) if 0 <= n < 256 else b"J" + n.to_bytes(4, "little", signed=True)

    def array(a: np.ndarray) -> bytes:
        kind = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
        state = b"(" + number(3) + text(b"|") + b"NNN" + number(-1) * 2 + number(0) + b"tb"
        shape = number(a.shape[0]) + number(a.shape[1]) + b"\x86"
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b")
        filled = b"(" + number(1) + shape + kind + state + b"\x89" + text(a.tobytes()) + b"tb"
        return empty + b"\x87R" + filled

    def value(v: Any) -> bytes:
        if isinstance(v, np.ndarray):
            return array(v)
        if isinstance(v, list):
            return b"](" + b"".join(map(value, v)) + b"e"
        return number(v) if isinstance(v, int) else text(v.encode())

    items = b"".join(text(key.encode()) + value(v) for key, v in batch.items())
    return b"\x80\x02}(" + items + b"u."


def write_cifar(
    folder: Path, labels: dict[str, list[int]], names: list[str], *, fine: bool = False, protocol: int = -1
) -> dict[str, np.ndarray]:
    """Files in the python format: name of a file -> its labels; protocol -1: as Python 2 wrote them."""
    folder.mkdir(parents=True, exist_ok=True)
    found, key = {}, "fine_labels" if fine else "labels"
    for seed, (name, classes) in enumerate(labels.items()):
        found[name] = pixels(len(classes), seed)
        batch = {"batch_label": "a batch", key: classes, "data": found[name]}
        raw = python2_pickle(batch) if protocol < 0 else pickle.dumps(batch, protocol)
        (folder / name).write_bytes(raw)
    meta, key = ("meta", "fine_label_names") if fine else ("batches.meta", "label_names")
    (folder / meta).write_bytes(python2_pickle({key: names}))
    return found


def write_cifar_binary(folder: Path, records: dict[str, list[tuple[int, ...]]]) -> dict[str, np.ndarray]:
    """Files in the binary format: name of a file -> the bytes before each image."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for seed, (name, heads) in enumerate(records.items()):
        found[name] = pixels(len(heads), seed)
        rows = (bytes(head) + row.tobytes() for head, row in zip(heads, found[name], strict=True))
        (folder / name).write_bytes(b"".join(rows))
    return found
