"""The course of a training as the page shows it: accuracy, energy and loss by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snn_energy.profiling.profile import Profile
from snn_energy.reports.charts import Point, course, scatter
from snn_energy.reports.words import many, percent, picojoules

ACCURACIES = ("test_accuracy", "validation_accuracy", "accuracy")
UNITS = {"pj": 1.0, "nj": 1e3, "uj": 1e6, "mj": 1e9}


@dataclass(frozen=True)
class Training:
    """A sentence, charts with their titles, and the table behind them, its cells as printed."""

    words: str
    charts: list[tuple[str, str]]
    columns: list[str]
    rows: list[list[str]]


def training(profile: Profile) -> Training | None:
    """What there is to say of `profile.history`; None where the checkpoint had none."""
    history = [row for row in profile.history if _number(row.get("epoch")) is not None]
    if not history:
        return None
    accuracy = next((key for key in ACCURACIES if _series(history, key)), "")
    energy = _energy_key(history)
    columns = list(dict.fromkeys(key for row in history for key in row))
    rows = [[_cell(key, row.get(key)) for key in columns] for row in history]
    return Training(_words(history, accuracy, energy), _charts(history, accuracy, energy), columns, rows)


def _energy_key(history: Sequence[Mapping[str, Any]]) -> str:
    """The first column of energies whose name says its unit: energy_uj_exact, energy_mj."""
    for row in history:
        for key in row:
            if key.startswith("energy") and _unit(key) and _series(history, key):
                return key
    return ""


def _unit(key: str) -> float | None:
    return next((UNITS[part] for part in key.split("_")[1:] if part in UNITS), None)


def _series(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """(epoch, value) where the value is a number."""
    pairs = ((row["epoch"], _number(row.get(key))) for row in history)
    return [(int(epoch), value) for epoch, value in pairs if value is not None]


def _number(value: Any) -> float | None:
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if right else None


def _words(history: Sequence[Mapping[str, Any]], accuracy: str, energy: str) -> str:
    said = many(len(history), "epoch")
    if accuracy:
        best = max(_series(history, accuracy), key=lambda pair: pair[1])
        said += f"; {accuracy.replace('_', ' ')} at most {percent(best[1])}, in epoch {best[0]}"
    if energy:
        values = [value * (_unit(energy) or 1.0) for _, value in _series(history, energy)]
        said += f"; energy from {picojoules(values[0])} to {picojoules(values[-1])}"
    return said + "." + ("" if energy else " The training measured no energies.")


def _charts(history: Sequence[Mapping[str, Any]], accuracy: str, energy: str) -> list[tuple[str, str]]:
    found = []
    if accuracy and len(_series(history, accuracy)) > 1:
        series = _series(history, accuracy)
        ends = percent(min(v for _, v in series)), percent(max(v for _, v in series))
        name = accuracy.replace("_", " ")
        found.append((f"{name} by epoch", course(series, "epoch", ends, name)))
    if energy and len(_series(history, energy)) > 1:
        series = [(epoch, value * (_unit(energy) or 1.0)) for epoch, value in _series(history, energy)]
        ends = picojoules(min(v for _, v in series)), picojoules(max(v for _, v in series))
        found.append(("energy of an inference by epoch", course(series, "epoch", ends, "energy")))
    points = _points(history, accuracy, energy)
    if len(points) > 1:
        chart = scatter(points, "energy per inference", accuracy.replace("_", " "))
        found.append(("accuracy against energy, a point per epoch; filled: no other epoch beats it", chart))
    losses = _series(history, "loss")
    if not found and len(losses) > 1:
        ends = f"{min(v for _, v in losses):.4g}", f"{max(v for _, v in losses):.4g}"
        found.append(("loss by epoch", course(losses, "epoch", ends, "loss")))
    return found


def _points(history: Sequence[Mapping[str, Any]], accuracy: str, energy: str) -> list[Point]:
    """Epochs that have both an accuracy and an energy."""
    if not accuracy or not energy:
        return []
    right, cost = dict(_series(history, accuracy)), dict(_series(history, energy))
    scale = _unit(energy) or 1.0
    return [Point(str(epoch), scale * cost[epoch], right[epoch]) for epoch in right if epoch in cost]


def _cell(key: str, value: Any) -> str:
    number = _number(value)
    if number is None:
        return "" if value is None else str(value)
    if key.endswith("accuracy"):
        return percent(number)
    return str(int(number)) if key == "epoch" else f"{number:.4g}"
