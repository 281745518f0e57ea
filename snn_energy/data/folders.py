"""Folders of classes: which files there are, of which class, in which order."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from snn_energy.errors import DataError


def class_names(folder: Path) -> tuple[str, ...]:
    """The folders in `folder`, sorted as text, as torchvision and SpikingJelly number classes."""
    return tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))


def list_classes(folder: Path, names: tuple[str, ...], suffixes: tuple[str, ...]) -> list[list[str]]:
    """The files of each class, in the order of torchvision's `DatasetFolder`.

    Raises `DataError` for a class without its folder or without files.
    """
    found = []
    for name in names:
        place = folder / name
        files = [
            os.path.join(root, file)
            for root, _, inside in sorted(os.walk(place, followlinks=True))
            for file in sorted(inside)
            if file.lower().endswith(suffixes)
        ]
        if not files:
            what = "holds no " + " or ".join(suffixes) if place.is_dir() else "is missing"
            raise DataError(f"{place}: {what} (files of class {name})")
        found.append(files)
    return found


def in_turn(classes: list[list[str]]) -> tuple[tuple[str, ...], torch.Tensor]:
    """Files and labels, the first of every class, the second of every class, …: any few hold all classes."""
    places = sorted((i, label) for label, files in enumerate(classes) for i in range(len(files)))
    labels = torch.tensor([label for _, label in places], dtype=torch.int64)
    return tuple(classes[label][i] for i, label in places), labels
