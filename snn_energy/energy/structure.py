"""Where attention is in a Profile: products of spikes, or masks and sums of them; found without names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from snn_energy.profiling.profile import OpRow
from snn_energy.profiling.resolve import WEIGHTED

MASKS = ("mul", "sum")


def is_event_kind(kind: str | None) -> bool:
    """Is an operand of this kind event-driven?  Not one that was not read."""
    return kind not in (None, "", "real")


def is_mask(row: OpRow) -> bool:
    """Does the row multiply spikes with spikes?"""
    return row.op == "mul" and is_event_kind(row.input_kind) and is_event_kind(row.right_kind)


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


def order(first: OpRow, second: OpRow) -> str | None:
    """How two consecutive (m, k) × (k, n) products make an attention.

    `scores`: Q Kᵀ, then A V.  `state`: Kᵀ V, then Q (Kᵀ V).  None: they are no such pair, or nothing in the
    first is a spike.  Where as many tokens as channels fit both, the real operand of the second decides.
    """
    shapes = (row.input_shape for row in (first, second)), (row.output_shape for row in (first, second))
    if min(len(shape) for pair in shapes for shape in pair) < 2:
        return None
    if first.input_kind == "real" and first.right_kind == "real":
        return None
    m1, k1, n1 = *first.input_shape[-2:], first.output_shape[-1]
    m2, k2, n2 = *second.input_shape[-2:], second.output_shape[-1]
    fits = {"scores": (m1, n1, k1) == (m2, k2, n2), "state": (k1, n1, m1) == (m2, n2, k2)}
    if all(fits.values()):
        return "scores" if second.input_kind == "real" else "state"
    return next((name for name, fit in fits.items() if fit), None)
