"""Where attention is in a Profile: products of spikes, or masks and sums of them; found without names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from snn_energy.profiling.kinds import value_set
from snn_energy.profiling.profile import OpRow
from snn_energy.profiling.resolve import WEIGHTED

MASKS = ("mul", "sum")


def is_mask(row: OpRow) -> bool:
    """Does the row multiply spikes with spikes?"""
    if row.op != "mul" or row.right_kind in (None, ""):
        return False
    kinds = ((row.input_kind, row.input_values), (row.right_kind, row.right_values))
    return all(value_set(kind or "real", values).event_driven for kind, values in kinds if kind is not None)


def attention_rows(rows: Iterable[OpRow]) -> dict[str, list[OpRow]]:
    """The operations of each attention, by the module that runs them.

    Matrix products that the Profile calls attention; or, in a module without them, masks of spikes by spikes
    together with a sum over tokens or channels (Spike-driven Transformer, Q-K attention).
    """
    products: dict[str, list[OpRow]] = defaultdict(list)
    masks: dict[str, list[OpRow]] = defaultdict(list)
    for row in rows:
        if row.op == "matmul" and row.role == "attention":
            products[row.name].append(row)
        elif row.op in MASKS:
            masks[row.name].append(row)
    found = dict(products)
    for name, listed in masks.items():
        summed = any(row.op == "sum" for row in listed)
        if name not in products and summed and any(is_mask(row) for row in listed):
            found[name] = listed
    return found


def drivers(rows: Iterable[OpRow], attention: list[OpRow]) -> list[OpRow]:
    """The weighted layers of the attention's block whose neurons are its operands: Q, K and V."""
    operands = {source for row in attention for source in row.sources}
    block = attention[0].block
    return [r for r in rows if r.op in WEIGHTED and r.block == block and operands & set(r.feeds)]
