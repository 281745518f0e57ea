"""Conventions: which of the measured operations an author charges, and at which rate.  Data, not code.

One measurement, many conventions: `conventions.yaml` declares the shipped ones, and a user declares another
in a few lines of the same form:

    name: ours
    base: exact
    neuron: full
    differs: neuron updates are charged
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snn_energy.energy.yaml_records import (
    check_choice,
    check_keys,
    check_text,
    is_file_name,
    read_mapping,
    shipped,
)
from snn_energy.errors import ConfigError, suggest
from snn_energy.profiling.kinds import KINDS

CHOICES: Mapping[str, Mapping[str, str]] = {
    "counting": {
        "exact": "events followed to their synapses, a static input once",
        "executed": "events followed to their synapses, at every step",
        "rate": "firing rate × dense operations, at every step",
    },
    "graded": {
        "units": "an event of integer value k counts |k| times: T × D steps, a rate that includes D",
        "once": "a nonzero event counts once, whatever its value",
        "value": "an event counts its value: rates are means of the tensor",
    },
    "weights": {
        "all": "every weight is a synapse",
        "nonzero": "a weight of zero is no synapse",
    },
    "encoder": {
        "by-value": "like any other layer",
        "mac-dense": "MACs, padding included, at every step",
        "mac-once": "MACs, padding included, once for a static input",
        "mac-rate": "MACs × rate, at every step",
        "ac-rate": "ACs × rate, at every step",
        "none": "not charged",
    },
    "head": {
        "by-value": "like any other layer",
        "mac-dense": "MACs, padding included",
        "ac-rate": "ACs × rate",
        "none": "not charged",
    },
    "reals": {
        "mac-valid": "MACs of the synapses that exist",
        "mac-dense": "MACs, padding included, at every step",
        "mac-nonzero": "MACs with a nonzero input",
        "none": "not charged",
    },
    "qkv_rate": {
        "input": "the rate of what enters the convolution",
        "output": "the mean rate of the Q, K and V spikes that leave",
    },
    "products": {
        "counted": "as `counting` says: coincidences where both operands are events, else events × fan-out",
        "one-sided": "the rate of the event operand (the left one of two) × dense",
        "min-of-rates": "(min(r_K, r_V) + r_Q) × tokens × d² per head, whichever product comes first",
        "sum-of-rates": "the sum of the rates of the event operands × dense",
        "none": "not charged",
    },
    "elementwise": {
        "counted": "one AC per element or event, multiplications of real operands as MACs",
        "none": "not charged",
    },
    "norm": {
        "unfolded": "one MAC per element where it cannot be folded into a synapse",
        "one-mac": "one MAC per element, folded or not",
        "two-macs": "two MACs per element, folded or not",
        "batch-scaling": "one MAC per element of a batch or instance norm that scales, folded or not",
        "batch-group": "two MACs per element of a batch, instance or group norm, one if it does not scale",
        "none": "not charged",
    },
    "neuron": {
        "none": "not charged",
        "one-ac": "one AC per element and step",
        "one-mac": "one AC and one MAC per element and step",
        "full": "leak (multiply), integrate and reset (AC), compare",
    },
    "pool": {
        "none": "comparisons are not charged; averages as `elementwise`",
        "compare": "one comparison per element compared",
        "per-input": "one operation per input element: AC × rate for events, else MAC",
    },
    "bias": {
        "none": "not charged",
        "ac": "one AC per output element and step",
        "with-row": "like the operations of its layer",
        "per-call": "like `with-row`, but of a linear layer once per call, whatever the number of positions",
    },
    "head_bias": {
        "none": "not charged",
        "ac": "one AC per output",
        "with-row": "like its layer",
        "per-call": "like its layer, but of a linear layer once per call",
    },
    "scale": {"none": "folded into the next threshold", "mul": "one multiplication per element"},
}


@dataclass(frozen=True)
class Convention:
    """Named choices; `CHOICES` lists what each field may be and what it means.

    `events_are`: the input kinds that are charged as events, or "two-valued" for the test of syops (at most
    two values, all within [0, 1]).  Other inputs are charged as `reals`.
    """

    name: str
    differs: str = ""
    source: str = ""
    counting: str = "exact"
    graded: str = "units"
    weights: str = "all"
    encoder: str = "by-value"
    head: str = "by-value"
    events_are: tuple[str, ...] | str = ("binary", "scaled", "ternary", "integer")
    reals: str = "mac-valid"
    qkv_rate: str = "input"
    products: str = "counted"
    elementwise: str = "counted"
    norm: str = "unfolded"
    neuron: str = "none"
    pool: str = "none"
    bias: str = "none"
    head_bias: str = "none"
    scale: str = "none"

    def choices(self) -> dict[str, str]:
        """Every choice in words, for reports."""
        kinds = self.events_are if isinstance(self.events_are, str) else ", ".join(self.events_are)
        return {"events_are": kinds, **{k: CHOICES[k][getattr(self, k)] for k in CHOICES}}


@functools.cache
def conventions() -> Mapping[str, Convention]:
    """Every shipped convention by name."""
    found: dict[str, Convention] = {}
    for name, record in shipped("conventions.yaml").items():
        found[name] = convention_from({"name": name, **record}, "conventions.yaml", found)
    return found


def load_convention(spec: str | os.PathLike[str] | Convention) -> Convention:
    """A convention by name, from a YAML file, or as it is.  Raises `ConfigError` for anything else."""
    if isinstance(spec, Convention):
        return spec
    if str(spec) in conventions():
        return conventions()[str(spec)]
    if is_file_name(spec):
        found = convention_from(read_mapping(spec, "convention"), str(spec))
        if found != conventions().get(found.name, found):
            raise ConfigError(
                f"{spec}: name = {found.name!r} is that of another convention: give yours its own"
            )
        return found
    raise ConfigError(
        f"convention {str(spec)!r} is neither known nor a .yaml file; {suggest(str(spec), conventions())}"
    )


def convention_from(
    record: Mapping[str, Any], where: str, known: Mapping[str, Convention] | None = None
) -> Convention:
    """A convention from a mapping, as YAML gives it.  Raises `ConfigError` naming the key at fault."""
    fields = {f.name for f in dataclasses.fields(Convention)}
    check_keys(record, fields | {"base"}, where)
    if "name" not in record:
        raise ConfigError(f"{where}: a convention needs 'name'")
    given = {k: v for k, v in record.items() if k != "base"}
    given |= {k: check_text(given[k], f"{where}: {k}") for k in ("name", "differs", "source") if k in given}
    for key, value in given.items():
        if key in CHOICES:
            check_choice(value, CHOICES[key], f"{where}: {key}")
    if "events_are" in given:
        given["events_are"] = _event_kinds(given["events_are"], f"{where}: events_are")
    base = record.get("base")
    if base is None:
        return Convention(**given)
    known = conventions() if known is None else known
    check_choice(base, known, f"{where}: base")
    return dataclasses.replace(known[base], **given)


def _event_kinds(value: Any, where: str) -> tuple[str, ...] | str:
    if value == "two-valued":
        return value
    for kind in value if isinstance(value, list) else [value]:
        check_choice(kind, (*KINDS, "two-valued") if not isinstance(value, list) else KINDS, where)
    return tuple(value) if isinstance(value, list) else (value,)
