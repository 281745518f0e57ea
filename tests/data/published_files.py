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


def write_aedat2(path: Path, events: dict[str, np.ndarray]) -> None:
    """CIFAR10-DVS: a text header, then address and time of every event, big-endian.

    The camera lies on its side: its columns are the picture's rows from below, and it calls OFF 1.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = zip(*(events[k].tolist() for k in "xytp"), strict=True)
    body = b"".join(
        ((127 - x) << 8 | (127 - y) << 1 | (1 - p)).to_bytes(4, "big") + t.to_bytes(4, "big")
        for x, y, t, p in rows
    )
    path.write_bytes(b"#!AER-DAT2.0\r\n# of a test\r\n" + body)


def write_aedat3(path: Path, events: dict[str, np.ndarray]) -> None:
    """DVS128 Gesture: a text header, then packets of polarity events, little-endian, here two of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(zip(*(events[k].tolist() for k in "xytp"), strict=True))
    packets = b""
    for part in (rows[:7], rows[7:]):
        head = [1 | 1 << 16, 8, 4, 0, len(part), len(part), len(part)]  # type and source, size, …
        packets += b"".join(n.to_bytes(4, "little") for n in head)
        for x, y, t, p in part:
            packets += (x << 17 | y << 2 | p << 1 | 1).to_bytes(4, "little") + t.to_bytes(4, "little")
    path.write_bytes(b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" + packets)


def write_atis(path: Path, events: dict[str, np.ndarray]) -> None:
    """N-Caltech101: 40 bits per event, x, y, polarity, 23 bits of time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = zip(*(events[k].tolist() for k in "xytp"), strict=True)
    path.write_bytes(b"".join(bytes([x, y]) + ((p << 23) | t).to_bytes(3, "big") for x, y, t, p in rows))


def random_events(count: int, seed: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Times in order, places and polarities at random."""
    rng = np.random.default_rng(seed)
    return {
        "t": np.sort(rng.integers(0, 2**20, count)),
        "x": rng.integers(0, width, count),
        "y": rng.integers(0, height, count),
        "p": rng.integers(0, 2, count),
    }
