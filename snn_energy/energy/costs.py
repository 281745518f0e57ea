"""Cost tables: what one operation costs in picojoules, each constant with its source and technology node.

The shipped constants and tables are in `costs.yaml`.  A user's own table is a YAML file with the same keys;
a price is a number, the name of a shipped constant, or a list of names to be added:

    name: our-chip
    source: measured on our board, 2025
    node: 22 nm
    ac: 1.2
    mac: [int8_mul, int32_add]
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snn_energy.energy.memory import MODELS, Memory, Sram
from snn_energy.energy.yaml_records import (
    check_choice,
    check_keys,
    check_text,
    is_file_name,
    read_mapping,
    shipped,
)
from snn_energy.errors import ConfigError, suggest
from snn_energy.records import short

PRICES = ("ac", "mac", "mul", "cmp", "neuron_update", "neuron_active", "spike")
LARGEST_PRICE = 1e15  # pJ: a kilojoule for one operation
WORDS = ("name", "words", "source", "node", "label")


@dataclass(frozen=True)
class Constant:
    """One published figure in pJ, its technology node and where it was published."""

    name: str
    pj: float
    node: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class CostTable:
    """Prices in pJ.  None means that the table has no such price: what it would charge is listed as unpriced.

    `ac`, `mac`, `mul`, `cmp` price operations.  A chip also prices each neuron and step (`neuron_update`
    without a spike, `neuron_active` with one) and each `spike` sent.  `memory` adds data movement.
    `label` is printed beside every figure; `constants` are the shipped constants used, for citation.
    """

    name: str
    ac: float
    mac: float | None = None
    mul: float | None = None
    cmp: float | None = None
    neuron_update: float | None = None
    neuron_active: float | None = None
    spike: float | None = None
    memory: Memory | None = None
    words: str = ""
    source: str = ""
    node: str = ""
    label: str = ""
    constants: tuple[Constant, ...] = ()

    @property
    def citations(self) -> tuple[str, ...]:
        """The sources behind the prices, each once."""
        return tuple(dict.fromkeys(s for s in (self.source, *(c.source for c in self.constants)) if s))


@functools.cache
def constants() -> Mapping[str, Constant]:
    """Every shipped constant by name."""
    data = shipped("costs.yaml")
    return {
        name: Constant(name, float(c["pj"]), c["node"], data["sources"][c["source"]], c.get("note", ""))
        for name, c in data["constants"].items()
    }


@functools.cache
def cost_tables() -> Mapping[str, CostTable]:
    """Every shipped cost table by name."""
    tables = shipped("costs.yaml")["tables"]
    return {name: table_from({"name": name, **record}, "costs.yaml") for name, record in tables.items()}


def load_costs(spec: str | os.PathLike[str] | CostTable) -> CostTable:
    """A cost table by name, from a YAML file, or as it is.  Raises `ConfigError` for anything else."""
    if isinstance(spec, CostTable):
        return spec
    if str(spec) in cost_tables():
        return cost_tables()[str(spec)]
    if is_file_name(spec):
        found = table_from(read_mapping(spec, "cost table"), str(spec))
        if found != cost_tables().get(found.name, found):
            raise ConfigError(
                f"{spec}: name = {found.name!r} is that of another cost table: give yours its own"
            )
        return found
    raise ConfigError(
        f"cost table {str(spec)!r} is neither known nor a .yaml file; {suggest(str(spec), cost_tables())}"
    )


def table_from(record: Mapping[str, Any], where: str) -> CostTable:
    """A cost table from a mapping, as YAML gives it.  Raises `ConfigError` naming the key at fault."""
    check_keys(record, (*WORDS, *PRICES, "memory"), where)
    for key in ("name", "ac"):
        if record.get(key) is None:
            raise ConfigError(f"{where}: a cost table needs {key!r}")
    used: dict[str, Constant] = {}
    prices = {k: _price(record[k], f"{where}: {k}", used) for k in PRICES if record.get(k) is not None}
    memory = _memory(record["memory"], f"{where}: memory", used) if record.get("memory") else None
    words = {k: check_text(record[k], f"{where}: {k}") for k in WORDS if k in record}
    words["source"] = shipped("costs.yaml")["sources"].get(words.get("source", ""), words.get("source", ""))
    words.setdefault("node", "; ".join(dict.fromkeys(c.node for c in used.values())))
    return CostTable(**prices, memory=memory, constants=tuple(used.values()), **words)  # type: ignore[arg-type]


def _price(value: Any, where: str, used: dict[str, Constant]) -> float:
    """A number, the name of a constant, or the sum of a list of either."""
    if isinstance(value, list):
        return round(sum(_price(part, where, used) for part in value), 12)
    if isinstance(value, str):
        if value not in constants():
            raise ConfigError(
                f"{where}: {short(value)} is no shipped constant; {suggest(value[:60], constants())}"
            )
        used[value] = constants()[value]
        return used[value].pj
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST_PRICE:
        raise ConfigError(
            f"{where}: {short(value)} is not a price; "
            f"a number of pJ, 0 or more (up to {LARGEST_PRICE:g}), or constants' names"
        )
    return float(value)


def _memory(record: Any, where: str, used: dict[str, Constant]) -> Memory:
    if not isinstance(record, dict):
        raise ConfigError(f"{where}: {short(record)} is not a memory model; a mapping with 'model' is")
    check_choice(record.get("model"), MODELS, f"{where}: model")
    model = MODELS[record["model"]]
    fields = tuple(model.__dataclass_fields__)
    check_keys(record, ("model", *fields), where)
    given = {k: v for k, v in record.items() if k not in ("model", "points")}
    values: dict[str, Any] = {k: _price(v, f"{where}: {k}", used) for k, v in given.items()}
    if model is Sram:
        values["points"] = _points(record.get("points"), where, used)
    try:
        return model(**values)
    except TypeError:
        needed = [k for k in fields if k not in values]
        raise ConfigError(f"{where}: model {record['model']!r} also needs {', '.join(needed)}") from None


def _points(points: Any, where: str, used: dict[str, Constant]) -> tuple[tuple[float, float], ...]:
    """[(bytes, pJ)] with rising sizes."""
    pairs = isinstance(points, list) and len(points) > 1
    if not pairs or any(not isinstance(p, list) or len(p) != 2 for p in points):
        raise ConfigError(f"{where}: points: {short(points)} is not a list of at least two [bytes, pJ] pairs")
    priced = tuple(
        (_price(size, f"{where}: points", used), _price(pj, f"{where}: points", used)) for size, pj in points
    )
    if any(a[0] >= b[0] for a, b in itertools.pairwise(priced)):
        raise ConfigError(f"{where}: points: sizes must rise: {[p[0] for p in priced]}")
    return priced
