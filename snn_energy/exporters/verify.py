"""The verdict on an export: does the file compute what the model computes, spike for spike?

Two programs that add the same numbers in another order differ in the last bits.  A membrane that stands
exactly that close to its threshold may then fire in one and not in the other: a *tie*.  So every differing
sample is traced to the first neuron that differs, and that neuron's currents and membrane are computed again
in float64: if the file's currents are those, to `TIE`, and the membrane is within `TIE` of the threshold, it
is a tie, and what follows in that sample is its consequence; otherwise the export is wrong.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from snn_energy.errors import DataError, VerificationError
from snn_energy.files import write_text

SCHEMA = 1
TIE = 1e-5  # |membrane - threshold|, in units of the membrane, computed in float64
LOGITS = 1e-5  # largest difference of a logit in a sample without ties
Verdict = Literal["identical", "identical but for ties", "different"]


@dataclass(frozen=True)
class NeuronCheck:
    """One neuron layer: spikes compared (samples x steps x neurons), those of the model, those that
    differ."""

    name: str
    compared: int
    spikes: int
    mismatches: int


@dataclass(frozen=True)
class Difference:
    """The first spike that differs in a sample, in network order: where, and how near the threshold.

    `index` is the neuron within its layer; `membrane` is the model's H in float64, `margin` its distance from
    `threshold`; `current_error` is how far the file's currents into that layer are from the true ones,
    relative to them where they exceed 1.
    """

    sample: int
    node: str
    step: int
    index: tuple[int, ...]
    membrane: float
    threshold: float
    current_error: float = 0.0

    @property
    def tie(self) -> bool:
        """Rounding alone explains it: true currents, and a membrane at the threshold."""
        return self.margin <= TIE and self.current_error <= TIE

    @property
    def margin(self) -> float:
        return abs(self.membrane - self.threshold)

    def __str__(self) -> str:
        where = f"{self.node}, step {self.step}, neuron {self.index} of sample {self.sample}"
        membrane = f"membrane {self.membrane:.9g}, threshold {self.threshold:g}, margin {self.margin:.1e}"
        return f"{where}: {membrane}, currents off by {self.current_error:.1e}"


@dataclass(frozen=True)
class Verification:
    """What was compared and what came out; `verification.json` is this record."""

    target: str
    form: str
    samples: int
    logits_difference: float  # largest, over samples without ties
    predictions_differ: int
    neurons: tuple[NeuronCheck, ...] = ()
    differences: tuple[Difference, ...] = ()  # the first of each sample that differs
    accuracy: dict[str, float] = field(default_factory=dict)
    tolerance: float = LOGITS
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def mismatches(self) -> int:
        """Spikes that differ, consequences of ties included."""
        return sum(check.mismatches for check in self.neurons)

    @property
    def verdict(self) -> Verdict:
        wrong = not all(d.tie for d in self.differences)
        if wrong or self.predictions_differ or not self.logits_difference <= self.tolerance:
            return "different"
        return "identical but for ties" if self.differences else "identical"

    @property
    def ok(self) -> bool:
        return self.verdict != "different"

    @property
    def first_difference(self) -> Difference | None:
        """The worst that happened: a mistake before a tie, then what is furthest from its threshold."""
        return max(self.differences, key=lambda d: (not d.tie, d.margin), default=None)

    def summary(self) -> str:
        """One line for a terminal."""
        compared = sum(check.compared for check in self.neurons)
        spikes = f"{compared - self.mismatches:,} of {compared:,} spikes equal"
        logits = f"logits within {self.logits_difference:.1e}"
        predictions = f"{self.samples - self.predictions_differ} of {self.samples} predictions equal"
        ties = f", {len(self.differences)} samples with a tie at a threshold" if self.differences else ""
        return f"{self.verdict}: {spikes}, {logits}, {predictions}{ties}"

    def require(self) -> Verification:
        """Itself, or `VerificationError` naming the first node that differs."""
        if self.ok:
            return self
        first = self.first_difference
        if first is not None and not first.tie:
            raise VerificationError(f"{self.target} ({self.form}) differs from the model at {first}")
        raise VerificationError(
            f"{self.target} ({self.form}): {self.summary()}; must be within {self.tolerance:g}"
        )

    def to_json(self) -> dict[str, Any]:
        """The record with what is derived from it: verdict, summary, margins."""

        def plain(difference: Difference) -> dict[str, Any]:
            return dataclasses.asdict(difference) | {"margin": difference.margin}

        first = self.first_difference
        derived = {
            "differences": [plain(d) for d in self.differences],
            "first_difference": None if first is None else plain(first),
        }
        head = {"schema": SCHEMA, "verdict": self.verdict, "summary": self.summary()}
        return head | dataclasses.asdict(self) | derived

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `verification.json` atomically."""
        write_text(path, json.dumps(self.to_json(), indent=1, default=str) + "\n")


def read_verification(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a `verification.json`.  Raises `DataError` where it is missing or broken."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found; an export directory has a verification.json") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a verification record ({error})") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise DataError(f"{path}: not a verification record of schema {SCHEMA}")
    return record
