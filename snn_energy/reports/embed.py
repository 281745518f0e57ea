"""What the page's own evaluator (`templates/evaluate.js`) reads: counts by row, conventions, prices.

The evaluator repeats `energy.charges` and `energy.estimate` in the page, so that a reader can switch between
conventions and prices without Python; a browser test holds every pair against `estimate`.  Columns of a
profile are lists over rows; a column of zeros is left out.  What a convention cannot change (data movement,
standard errors of counts, the network as it would be at other rates) comes computed.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from snn_energy.energy import Convention, CostTable, Energy, conventions, cost_tables, estimate
from snn_energy.energy.analysis import follows_spikes, silenced
from snn_energy.energy.conventions import CHOICES
from snn_energy.energy.estimate import OPERATIONS
from snn_energy.energy.structure import attention_rows, order
from snn_energy.energy.structure import drivers as drivers_of
from snn_energy.energy.twin import dense_twin
from snn_energy.profiling.profile import SCHEMA, OpRow, Profile
from snn_energy.profiling.resolve import SYNAPTIC, WEIGHTED
from snn_energy.reports.render import finite

COUNTS = (
    "site", "dense_macs", "valid_macs", "ac", "ac_events", "ac_executed", "mac", "mac_executed",
    "mac_nonzero",
    "ac_unpruned", "ac_events_unpruned", "mac_unpruned", "mac_nonzero_unpruned", "input_elements",
    "input_nonzero", "input_units", "right_elements", "right_nonzero", "right_units", "output_elements",
    "output_nonzero", "bias_adds", "bias_elements", "calls", "norm_elements", "norm_macs", "neuron_mul",
    "neuron_add", "neuron_cmp", "neuron_reset", "pool_cmp", "scale_muls", "special_evals",
)  # fmt: skip
TEXTS = ("name", "op", "role", "block", "input_kind", "right_kind")
PRICES = ("ac", "mac", "mul", "cmp", "neuron_update", "neuron_active", "spike")


def page_data(
    profiles: Iterable[Profile], known: tuple[list[Convention], list[CostTable]], shown: Energy, **more: Any
) -> str:
    """All that the scripts read: the profiles, the conventions and prices on offer, which are shown first."""
    rules, prices = known
    record = {
        "profiles": [embedded_profile(profile, prices) for profile in profiles],
        "conventions": [embedded_convention(c) for c in rules],
        "costs": [embedded_costs(c) for c in prices],
        "choices": {name: list(words) for name, words in CHOICES.items()},
        "convention": shown.convention.name,
        "prices": shown.costs.name,
    }
    return script_json(record | more)


def embedded_profile(profile: Profile, costs: Iterable[CostTable]) -> dict[str, Any]:
    """The counts of `profile` by column, its twin's operations, and its counts at rates 0 and 1.

    `variants`: what changes where neurons are silent or always fire; the page puts a variant's row in the
    place of a measured one where a convention lets it follow spikes.  `memory`: pJ at each of `costs`.
    """
    known = tuple(costs)
    moving = [c for c in known if c.memory]
    columns = _columns(profile) | _structure(profile)
    kept = {name: values for name, values in columns.items() if any(v != _absent(name) for v in values)}
    variants = {}
    for name, rate in (("silent", 0.0), ("full", 1.0)):
        moved = silenced(profile, EVERY_EVENT, rate)
        found = _columns(moved).items()
        changed = {key: v for key, v in found if v != columns[key] and not key.endswith("_error")}
        variants[name] = {"columns": changed, "memory": {c.name: _memory(moved, c) for c in moving}}
    return {
        "model": profile.model or "this model",
        "samples": profile.samples,
        "steps": profile.time_steps,
        "accuracy": profile.accuracy,
        "count": len(profile.rows),
        "columns": kept,
        "memory": {c.name: _memory(profile, c) for c in moving},
        "unmoved": {c.name: estimate(profile, "exact", c).unmoved for c in moving},
        "variants": variants,
        "twin": _twin(profile, moving),
    }


EVERY_EVENT = Convention("every event", events_are=("binary", "scaled", "ternary", "integer"))
"""Under which every row that can follow spikes does."""


def _absent(name: str) -> Any:
    """What a column that is left out stands for; `rowsOf` in the page knows the same."""
    if name in ("right_kind", "input_value", "right_value", *STRUCTURE):
        return None
    return "" if name in (*TEXTS, "norm_function") else 0


def _columns(profile: Profile) -> dict[str, list[Any]]:
    """Columns of counts and of what stands beside them: kinds, unit values, norms, errors."""
    rows = profile.rows
    columns: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in (*TEXTS, *COUNTS)}
    return columns | {
        "static_repeats": [row.static_repeats for row in rows],
        "two_valued": [int(row.two_valued_input) for row in rows],
        "input_read": [int(row.input_read) for row in rows],
        "synaptic": [int(row.op in SYNAPTIC) for row in rows],
        "weighted": [int(row.op in WEIGHTED) for row in rows],
        "input_value": [_single(row.input_values) for row in rows],
        "right_value": [_single(row.right_values) for row in rows],
        "norm_function": [row.details.get("function", "batch_norm") if _is_norm(row) else "" for row in rows],
        "norm_scales": [int(bool(row.details.get("affine", True))) if _is_norm(row) else 0 for row in rows],
        "ac_error": [_error(row.ac, row.ac_square_sum, profile.samples) for row in rows],
        "mac_error": [_error(row.mac, row.mac_square_sum, profile.samples) for row in rows],
    }


STRUCTURE = ("source_neurons", "qkv_neurons", "pair", "owners", "drives")


def _structure(profile: Profile) -> dict[str, list[Any]]:
    """Which rows a row hangs on, by their numbers: what `energy.rates` and `energy.analysis` find by name.

    `source_neurons`: those that a sum or a pool reads, null where others feed it, too; `qkv_neurons`: those
    that hear the Q, K and V layers; `pair`: of a product in an attention whose Q Kᵀ comes first, which of
    the two it is, both, and width and tokens; `owners`: whose spikes it follows; `drives`: the neurons that
    a weighted layer drives, each with the share that is this layer's.
    """
    rows = profile.rows
    neuron = {row.name: i for i, row in enumerate(rows) if row.neuron_cmp}
    named: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.neuron_cmp:
            named.setdefault(row.name, []).append(i)
    drivers = Counter(name for row in rows if row.op in WEIGHTED for name in row.feeds)
    number = {row.key: i for i, row in enumerate(rows)}
    found: dict[str, list[Any]] = {name: [None] * len(rows) for name in STRUCTURE}
    found["follows"] = [int(follows_spikes(row)) for row in rows]
    for i, row in enumerate(rows):
        if row.op in ("sum", "max_pool", "avg_pool") and set(row.sources) <= set(neuron):
            found["source_neurons"][i] = [neuron[name] for name in row.sources]
        own = [row.name] if row.neuron_cmp else [name for name in row.sources if name in neuron]
        found["owners"][i] = [neuron[name] for name in own] or None
        if row.op in WEIGHTED:
            driven = [(n, drivers[name]) for name in row.feeds for n in named.get(name, ())]
            found["drives"][i] = [[n, share] for n, share in driven] or None
    for attention in attention_rows(rows).values():
        operands = {source for row in attention for source in row.sources if source in neuron}
        layers = drivers_of(rows, attention)
        heard = sorted(neuron[name] for row in layers for name in {*row.feeds} & operands)
        for row in layers if heard else ():
            found["qkv_neurons"][number[row.key]] = sorted({*heard})
        for first, second in itertools.pairwise(attention):
            if order(first, second) == "scores":
                tokens, width = second.output_shape[-2:]
                both = [number[first.key], number[second.key], width, tokens]
                found["pair"][both[0]], found["pair"][both[1]] = [0, *both], [1, *both]
    return found


def _single(values: tuple[float, ...] | None) -> float | None:
    return values[0] if values is not None and len(values) == 1 else None


def _is_norm(row: OpRow) -> bool:
    return bool(row.norm_elements or row.norm_macs)


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


def _twin(profile: Profile, moving: Iterable[CostTable]) -> dict[str, Any]:
    """The dense twin's operations under `exact`, all and of each weighted layer, and its data movement."""
    twin = dense_twin(profile)
    rows = estimate(twin, "exact").rows
    found: dict[str, Any] = {name: math.fsum(getattr(r, name) for r in rows) for name in OPERATIONS}
    number = {row.key: i for i, row in enumerate(profile.rows) if row.op in WEIGHTED}
    mine = {i: number[row.key] for i, row in enumerate(twin.rows) if row.key in number}
    found["special"] = sum(row.special_evals for row in twin.rows)
    found["layers"] = {k: [getattr(rows[i], name) for name in OPERATIONS] for i, k in mine.items()}
    memory = {c.name: _memory(twin, c) for c in moving}
    found["memory"] = {name: math.fsum(pj) for name, pj in memory.items()}
    found["layer_memory"] = {name: {k: pj[i] for i, k in mine.items()} for name, pj in memory.items()}
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
    """What the page offers: everything shipped, then the user's own."""
    named = {c.name: c for c in conventions().values()} | {c.name: c for c in first}
    tables = {c.name: c for c in cost_tables().values()} | {c.name: c for c in prices}
    return list(named.values()), list(tables.values())


def script_json(value: Any) -> str:
    """JSON that can stand in a <script> element: nothing in it ends the element or begins another."""
    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def profile_link(profile: Profile) -> str:
    """profile.json, packed (gzip), as a `data:` address; the same profile gives the same bytes."""
    text = json.dumps({"schema": SCHEMA, **dataclasses.asdict(profile)})
    packed = gzip.compress(text.encode("utf-8", "backslashreplace"), 9, mtime=0)
    return "data:application/gzip;base64," + base64.b64encode(packed).decode("ascii")
