"""Spike maps and Grad-CAM as small pictures in the page: PNG files in `data:` addresses, written here."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from snn_energy.profiling.maps import SampleMaps

LARGEST = 56  # pixels a side: larger maps are averaged down
COLD, HOT = np.array([16, 24, 64]), np.array([255, 176, 32])


@dataclass(frozen=True)
class Picture:
    """A picture's address and what it shows."""

    address: str
    words: str


@dataclass(frozen=True)
class SamplePictures:
    """One sample: what the network said, its image, and (layer, spike map, Grad-CAM) of each layer."""

    words: str
    image: Picture | None
    layers: list[tuple[str, Picture, Picture | None]]


def pictures(samples: Sequence[SampleMaps], class_names: Sequence[str] = ()) -> list[SamplePictures]:
    """The pictures of every sample; spike maps on one scale per sample, Grad-CAM each to its own largest."""
    found = []
    for n, sample in enumerate(samples, 1):
        top = max((float(layer.spikes.max()) for layer in sample.layers), default=0.0) or 1.0
        said = f"sample {n}: predicted {_class(sample.predicted, class_names)}"
        if sample.label is not None:
            said += f", is {_class(sample.label, class_names)}"
        layers: list[tuple[str, Picture, Picture | None]] = []
        for layer in sample.layers:
            spikes = Picture(png(layer.spikes / top), f"spikes of {layer.name}, sample {n}")
            cam = (
                None
                if layer.cam is None
                else Picture(png(heat(layer.cam)), f"Grad-CAM of {layer.name}, sample {n}")
            )
            layers.append((layer.name, spikes, cam))
        image = None if sample.image is None else Picture(png(sample.image), f"sample {n}")
        found.append(SamplePictures(f"{said}; spike maps from 0 (black) to {top:.2f} (white)", image, layers))
    return found


def _class(number: int, names: Sequence[str]) -> str:
    return names[number] if 0 <= number < len(names) else f"class {number}"


def heat(values: np.ndarray) -> np.ndarray:
    """(H, W) in 0 … 1 -> (H, W, 3): from dark blue to amber."""
    share = np.clip(values, 0, 1)[..., None]
    return (COLD + share * (HOT - COLD)) / 255


def png(values: np.ndarray) -> str:
    """(H, W) or (H, W, 3) in 0 … 1 as a PNG of 8 bits a sample, in a `data:` address."""
    small = shrunk(np.asarray(values, dtype=np.float64))
    pixels = np.rint(255 * np.clip(small, 0, 1)).astype(np.uint8)
    height, width = pixels.shape[:2]
    colour = 2 if pixels.ndim == 3 else 0
    lines = b"".join(b"\0" + pixels[y].tobytes() for y in range(height))
    content = (
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(lines, 9))
        + _chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + content).decode("ascii")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def shrunk(values: np.ndarray) -> np.ndarray:
    """Averaged over squares of positions so that no side is longer than `LARGEST`."""
    step = -(-max(values.shape[:2]) // LARGEST)
    if step == 1:
        return values
    height, width = (-(-side // step) for side in values.shape[:2])
    sums = np.zeros((height, width, *values.shape[2:]))
    number = np.zeros((height, width) + (1,) * (values.ndim - 2))
    for dy in range(step):
        for dx in range(step):
            part = values[dy::step, dx::step]
            sums[: part.shape[0], : part.shape[1]] += part
            number[: part.shape[0], : part.shape[1]] += 1
    return sums / number
