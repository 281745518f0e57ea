"""What the page's own evaluator (`templates/evaluate.js`) reads: counts by row, conventions, prices.

The evaluator repeats `energy.charges` and `energy.estimate` in the page, so that a reader can switch between
conventions and prices without Python; a browser test holds every pair against `estimate`.  Columns of a
profile are lists over rows; a column of zeros is left out.  What a convention cannot change (data movement,
standard errors of counts, rates of neurons around an attention) comes computed.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from snn_energy.energy import Convention, CostTable, conventions, cost_tables, estimate
from snn_energy.energy.rates import Rates
from snn_energy.energy.twin import dense_twin
from snn_energy.profiling.profile import SCHEMA, OpRow, Profile
from snn_energy.profiling.resolve import SYNAPTIC, WEIGHTED

COUNTS = (
    "site", "dense_macs", "valid_macs", "ac", "ac_events", "ac_executed", "mac", "mac_executed",
    "mac_nonzero",
    "ac_unpruned", "ac_events_unpruned", "mac_unpruned", "mac_nonzero_unpruned", "input_elements",
    "input_nonzero", "input_units", "right_elements", "right_nonzero", "right_units", "output_elements",
    "output_nonzero", "bias_adds", "bias_elements", "calls", "norm_elements", "norm_macs", "neuron_mul",
    "neuron_add", "neuron_cmp", "neuron_reset", "pool_cmp", "scale_muls", "special_evals",
)  # fmt: skip
TEXTS = ("name", "op", "role", "block", "input_kind", "right_kind")
GRADED = ("units", "once", "value")
PRICES = ("ac", "mac", "mul", "cmp", "neuron_update", "neuron_active", "spike")


def embedded_profile(profile: Profile, costs: Iterable[CostTable]) -> dict[str, Any]:
    """The counts of `profile` by column, and its dense twin's operations; memory at each of `costs`."""
    rows = profile.rows
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in (*TEXTS, *COUNTS)}
    columns["static_repeats"] = [row.static_repeats for row in rows]
    columns["two_valued"] = [int(row.two_valued_input) for row in rows]
    columns["input_read"] = [int(row.input_read) for row in rows]
    columns |= _derived(profile)
    kept = {name: values for name, values in columns.items() if any(v != _absent(name) for v in values)}
    known = tuple(costs)
    return {
        "model": profile.model or "this model",
        "samples": profile.samples,
        "steps": profile.time_steps,
        "accuracy": profile.accuracy,
        "pruning": Rates.of(profile, conventions()["exact"]).pruning,
        "count": len(rows),
        "columns": kept,
        "memory": {c.name: _memory(profile, c) for c in known if c.memory},
        "unmoved": {c.name: estimate(profile, "exact", c).unmoved for c in known if c.memory},
        "twin": _twin(profile, known),
    }


def _absent(name: str) -> Any:
    """What a column that is left out stands for; `rowsOf` in the page knows the same."""
    if name in ("right_kind", "source_rates", "qkv", "minimum", "input_value", "right_value"):
        return None
    return "" if name in (*TEXTS, "norm_function") else 0


def _derived(profile: Profile) -> dict[str, list[Any]]:
    """Columns of what is no count: kinds of operation, unit values, norms, rates beyond the row, errors."""
    rows = profile.rows
    exact = conventions()["exact"]
    rates = {g: Rates.of(profile, dataclasses.replace(exact, graded=g)) for g in GRADED}
    neurons = rates["units"].neurons
    least = [[rates[g].minimum.get(row.key) for g in GRADED] for row in rows]
    return {
        "synaptic": [int(row.op in SYNAPTIC) for row in rows],
        "weighted": [int(row.op in WEIGHTED) for row in rows],
        "input_value": [_single(row.input_values) for row in rows],
        "right_value": [_single(row.right_values) for row in rows],
        "norm_function": [row.details.get("function", "batch_norm") if _is_norm(row) else "" for row in rows],
        "norm_scales": [int(bool(row.details.get("affine", True))) if _is_norm(row) else 0 for row in rows],
        "source_rates": [_source_rates(row, neurons) for row in rows],
        "qkv": [rates["units"].qkv.get(row.key) for row in rows],
        "minimum": [found if found[0] is not None else None for found in least],
        "ac_error": [_error(row.ac, row.ac_square_sum, profile.samples) for row in rows],
        "mac_error": [_error(row.mac, row.mac_square_sum, profile.samples) for row in rows],
    }


def _single(values: tuple[float, ...] | None) -> float | None:
    return values[0] if values is not None and len(values) == 1 else None


def _is_norm(row: OpRow) -> bool:
    return bool(row.norm_elements or row.norm_macs)


def _source_rates(row: OpRow, neurons: Mapping[str, float]) -> list[float] | None:
    """The rates of the neurons that a sum or a pool reads; None where others feed it, too."""
    if row.op not in ("sum", "max_pool", "avg_pool") or not set(row.sources) <= set(neurons):
        return None
    return [neurons[name] for name in row.sources]


def _error(total: int, squares: int | None, samples: int) -> float | None:
    """Standard error of a count's mean over samples; None where its spread was not measured."""
    if not total:
        return 0.0
    if squares is None or samples < 2:
        return None
    return math.sqrt(max(0, squares * samples - total**2) / (samples - 1)) / samples


def _memory(profile: Profile, costs: CostTable) -> list[float]:
    """pJ of data movement of each row, mean over samples: no convention changes it."""
    return [row.memory_pj for row in estimate(profile, "exact", costs).rows]


def _twin(profile: Profile, costs: Iterable[CostTable]) -> dict[str, Any]:
    """The dense twin's operations under `exact`, and its data movement at each of `costs`."""
    twin = dense_twin(profile)
    rows = estimate(twin, "exact").rows
    found: dict[str, Any] = {
        name: math.fsum(getattr(r, name) for r in rows) for name in ("ac", "mac", "mul", "cmp")
    }
    found["special"] = sum(row.special_evals for row in twin.rows)
    found["memory"] = {c.name: math.fsum(_memory(twin, c)) for c in costs if c.memory}
    return found


def embedded_convention(convention: Convention) -> dict[str, Any]:
    """Its name, words and choices, as `conventions.yaml` has them."""
    record = dataclasses.asdict(convention)
    kinds = convention.events_are
    return record | {"events_are": kinds if isinstance(kinds, str) else list(kinds)}


def embedded_costs(costs: CostTable) -> dict[str, Any]:
    """Its prices (null: none), words and citations."""
    return {
        "name": costs.name,
        "words": costs.words,
        "label": costs.label,
        "node": costs.node,
        "citations": list(costs.citations),
        "memory": costs.memory is not None,
        **{name: getattr(costs, name) for name in PRICES},
    }


def choices(
    first: Iterable[Convention], prices: Iterable[CostTable]
) -> tuple[list[Convention], list[CostTable]]:
    """What the page offers: the user's own first, then everything shipped, each name once."""
    named = {c.name: c for c in conventions().values()} | {c.name: c for c in first}
    tables = {c.name: c for c in cost_tables().values()} | {c.name: c for c in prices}
    return list(named.values()), list(tables.values())


def script_json(value: Any) -> str:
    """JSON that can stand in a <script> element: nothing in it ends the element or begins another."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def profile_link(profile: Profile) -> str:
    """profile.json, packed (gzip), as a `data:` address; the same profile gives the same bytes."""
    text = json.dumps({"schema": SCHEMA, **dataclasses.asdict(profile)})
    packed = gzip.compress(text.encode("utf-8", "backslashreplace"), 9, mtime=0)
    return "data:application/gzip;base64," + base64.b64encode(packed).decode("ascii")
