"""The verdict on an export: does the file compute what the model computes, spike for spike?

Two programs that add the same numbers in another order differ in the last bits.  A membrane that stands
exactly that close to its threshold may then fire in one and not in the other: a *tie*.  So every differing
sample is traced to the first neuron that differs, and that neuron's currents and membrane are computed again
in float64: if the file's currents are those, to `TIE`, and the membrane is within `TIE` of the threshold, it
is a tie, and what follows in that sample is its consequence; otherwise the export is wrong.

Samples on which nothing fires prove nothing: that verdict is "vacuous", and no success.  Where a file takes
any numbers, such samples are compared again a little louder (`LOUDER`) before it is given.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, TypeVar

from snn_energy.errors import DataError, VerificationError
from snn_energy.files import sha256, write_text
from snn_energy.reading import read_json
from snn_energy.records import record_from, short

SCHEMA = 2
VERIFICATION_FILE = "verification.json"
TIE = 1e-5  # |membrane - threshold|, in units of the membrane, computed in float64
LOGITS = 1e-5  # largest difference of a logit in a sample without ties
LOUDER = (2.0, 4.0)  # what samples that fire nothing are multiplied by
Verdict = Literal["identical", "identical but for ties", "different", "vacuous"]
ADVICE = "give samples that make its neurons fire (--data, --input; x= in Python)"


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
class Part:
    """Facts about an export besides what was compared: a frozen dataclass of plain values.

    Each kind stands in the record once, under its `key`.  A target derives its own.
    """

    key: ClassVar[str] = ""


@dataclass(frozen=True)
class Source(Part):
    """Where network and samples came from: names, as the command line knows them."""

    key: ClassVar[str] = "source"
    data: str | None = None
    calibration: str | None = None
    batch_axis: int | None = None  # of the samples, where it was said
    frames: int | None = None  # T of event data, where the network says it
    origin: Mapping[str, str] = field(default_factory=dict)  # the checkpoint, the code that built the network


@dataclass(frozen=True)
class TimePart(Part):
    """A network that knows nothing of time: how often it was called (T, where a call is one step), and T
    where samples and steps shared the first axis of its input, which in the export are two."""

    key: ClassVar[str] = "time"
    calls: int = 1
    folded: int | None = None


P = TypeVar("P", bound=Part)


@dataclass(frozen=True, repr=False)
class Verification:
    """What was compared and what came out; `verification.json` is this record.

    `reference`: what the file was held against.  `scaled`: what the samples were multiplied by, because as
    given they made nothing fire (their logits and predictions are compared all the same).  `truncated`: the
    file rounds membranes as its chip does, so that spikes which differ are counted and are no failure.
    `files`: size and SHA-256 of what was exported.
    """

    target: str
    form: str
    samples: int
    logits_difference: float  # largest, over samples without ties
    predictions_differ: int
    neurons: tuple[NeuronCheck, ...] = ()
    differences: tuple[Difference, ...] = ()  # the first of each sample that differs
    accuracy: dict[str, float] = field(default_factory=dict)
    tolerance: float = LOGITS
    reference: str = "the model"
    scaled: float = 1.0
    truncated: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    def __repr__(self) -> str:
        return f"<Verification of {self.target} ({self.form}): {self.verdict}, {self.samples} samples>"

    def __str__(self) -> str:
        return f"{self.target} ({self.form}) against {self.reference}: {self.summary()}"

    @property
    def mismatches(self) -> int:
        """Spikes that differ, consequences of ties included."""
        return sum(check.mismatches for check in self.neurons)

    @property
    def silent(self) -> tuple[str, ...]:
        """Neuron layers of which none fired in the model."""
        return tuple(check.name for check in self.neurons if not check.spikes)

    @property
    def verdict(self) -> Verdict:
        wrong = not all(d.tie for d in self.differences) or (self.mismatches and not self.differences)
        if wrong or self.predictions_differ or not self.logits_difference <= self.tolerance:
            return "different"
        if len(self.silent) == len(self.neurons):
            return "vacuous"
        return "identical but for ties" if self.differences else "identical"

    @property
    def ok(self) -> bool:
        return self.verdict in ("identical", "identical but for ties")

    @property
    def first_difference(self) -> Difference | None:
        """The worst that happened: a mistake before a tie, then what is furthest from its threshold."""
        return max(self.differences, key=lambda d: (not d.tie, d.margin), default=None)

    def part(self, kind: type[P]) -> P | None:
        """The part of that kind, if there is one."""
        return next((part for part in self.parts if isinstance(part, kind)), None)

    def with_parts(self, *parts: Part) -> Verification:
        """The same with further parts; one of a kind that it has takes its place."""
        new = {part.key for part in parts}
        kept = (part for part in self.parts if part.key not in new)
        return dataclasses.replace(self, parts=(*kept, *parts))

    def summary(self) -> str:
        """One line for a terminal."""
        compared = sum(check.compared for check in self.neurons)
        spikes = f"{compared - self.mismatches:,} of {compared:,} spikes equal"
        if self.verdict == "vacuous":
            layers = f"none of {len(self.neurons)} neuron layers" if self.neurons else "no neuron compared"
            return f"vacuous: {spikes}, but {layers} fired on {self.samples} samples; {ADVICE}"
        logits = f"logits within {self.logits_difference:.1e}"
        predictions = f"{self.samples - self.predictions_differ} of {self.samples} predictions equal"
        ties = f", {len(self.differences)} samples with a tie at a threshold" if self.differences else ""
        quiet = (
            f", {len(self.silent)} of {len(self.neurons)} neuron layers never fired" if self.silent else ""
        )
        louder = f", on the samples times {self.scaled:g}: as given none fires" if self.scaled != 1 else ""
        return f"{self.verdict}: {spikes}, {logits}, {predictions}{ties}{quiet}{louder}"

    def require(self) -> Verification:
        """Itself, or `VerificationError` naming the first node that differs."""
        if self.ok or (self.truncated and self.verdict == "different"):
            return self
        first = self.first_difference
        if first is not None and not first.tie:
            raise VerificationError(f"{self.target} ({self.form}) differs from the model at {first}")
        bound = "" if self.verdict == "vacuous" else f"; must be within {self.tolerance:g}"
        raise VerificationError(f"{self.target} ({self.form}): {self.summary()}{bound}")

    def louder(self, compare: Callable[[float], Verification]) -> Verification:
        """Itself or, if it is vacuous, the first of `compare(factor)` that is not, with what both found."""
        if self.verdict != "vacuous":
            return self
        for factor in LOUDER:
            again = compare(factor)
            if again.verdict != "vacuous":
                return dataclasses.replace(
                    again,
                    scaled=factor,
                    accuracy=self.accuracy,
                    logits_difference=max(self.logits_difference, again.logits_difference),
                    predictions_differ=self.predictions_differ + again.predictions_differ,
                )
        return self

    def to_json(self) -> dict[str, Any]:
        """The record with what is derived from it: verdict, summary, margins; parts by their keys."""

        def plain(difference: Difference) -> dict[str, Any]:
            return dataclasses.asdict(difference) | {"margin": difference.margin}

        first = self.first_difference
        derived = {
            "differences": [plain(d) for d in self.differences],
            "first_difference": None if first is None else plain(first),
            "parts": {part.key: dataclasses.asdict(part) for part in self.parts},
            "listed": _seal(self.files),
        }
        head = {"schema": SCHEMA, "verdict": self.verdict, "summary": self.summary()}
        return head | dataclasses.asdict(self) | derived

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `verification.json` atomically."""
        write_text(path, json.dumps(self.to_json(), indent=1) + "\n")


def read_verification(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a `verification.json`.  Raises `DataError` where it is missing or broken."""
    path = Path(path)
    record = read_json(path, "verification record", finite=False)  # a difference of logits may be NaN
    if "schema" not in record:
        raise DataError(f"{path}: not a verification record of schema {SCHEMA}")
    if record["schema"] != SCHEMA:
        raise DataError(f"{path}: a record of schema {short(record['schema'])}, not {SCHEMA}: export again")
    told = {key: value for key, value in record.items() if key not in _DERIVED}
    if isinstance(told.get("differences"), list):
        told["differences"] = [_without(entry, "margin") for entry in told["differences"]]
    record_from(Verification, told, f"{path}: damaged", bounds=_ANY_NUMBER)
    for key in ("verdict", "summary"):
        if not isinstance(record.get(key), str):
            raise DataError(f"{path}: damaged: {key!r} is {short(record.get(key))}, must be a text")
    for key in ("files", "parts"):
        if not isinstance(record.get(key), dict):
            raise DataError(f"{path}: damaged: {key!r} is {short(record.get(key))}, must be a table")
    for name, entry in record["files"].items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise DataError(f"{path}: damaged: files[{short(name)}] lies outside the folder")
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
            raise DataError(f"{path}: damaged: files[{short(name)}] is {short(entry)}, must have a sha256")
    for key, entry in record["parts"].items():
        if not isinstance(entry, dict):
            raise DataError(f"{path}: damaged: parts[{short(key)}] is {short(entry)}, must be a table")
    return record


_DERIVED = ("schema", "verdict", "summary", "first_difference", "parts", "listed")
_ANY_NUMBER = dict.fromkeys(("logits_difference", "membrane", "threshold", "current_error"))


def _without(entry: Any, key: str) -> Any:
    """A table without what is derived from it."""
    return {k: v for k, v in entry.items() if k != key} if isinstance(entry, dict) else entry


def file_record(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def exported_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file below `folder` but the record itself, by its path there."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: file_record(path) for name, path in names.items() if name != VERIFICATION_FILE}


def _seal(files: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 over names and hashes of a list of files."""
    names = sorted((name, entry["sha256"]) for name, entry in files.items())
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def check_files(folder: Path) -> dict[str, Any]:
    """The record of an export; `DataError` where one of its files is missing or is not what was exported, and
    where its list of files is empty or is not the one that was written."""
    record = read_verification(folder / VERIFICATION_FILE)
    if not record["files"] or record.get("listed") != _seal(record["files"]):
        what = "was changed" if record["files"] else "is empty"
        raise DataError(f"{folder / VERIFICATION_FILE}: its list of files {what}: export again")
    for name, expected in record["files"].items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: missing; {VERIFICATION_FILE} lists it")
        found = sha256(path)
        if found != expected["sha256"]:
            wanted = f"exported as {expected['sha256'][:12]}…"
            raise DataError(f"{path}: corrupted or replaced (sha256 {found[:12]}…, {wanted})")
    return record
