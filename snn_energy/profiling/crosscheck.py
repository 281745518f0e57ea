"""Dense MACs beside fvcore's: an independent look at the shapes."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn

from snn_energy.errors import MissingDependency
from snn_energy.profiling.layout import infer
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import SYNAPTIC
from snn_energy.profiling.session import undisturbed

_GROUPS = {
    "conv": "conv",
    "linear": "linear",
    "addmm": "linear",
    "matmul": "matmul",
    "bmm": "matmul",
    "einsum": "matmul",
}


def fvcore(model: nn.Module, x: torch.Tensor, profile: Profile) -> tuple[dict[str, Any], ...]:
    """Compare `profile` with fvcore on the batch `x`, per module and kind of operation.

    One record per module and kind: `name`, `kind` (conv, linear, matmul), `ours` and `theirs` (dense MACs of
    one sample, all steps), `difference`, and `reason`, empty where they agree.  `x` must be a batch of the
    shapes profiled.  Raises `MissingDependency` without fvcore.
    """
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        raise MissingDependency("fvcore", "crosscheck", "the cross-check of dense MACs") from None
    from spikingjelly.activation_based import functional

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    with undisturbed(model, place), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts its own handlers
        functional.reset_net(model)
        analysis = FlopCountAnalysis(model, x.to(place))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_module = analysis.by_module_and_operator()
    batch = infer(model, x, None, profile.time_steps, None).batch
    return compare(profile, {name: dict(counts) for name, counts in by_module.items()}, batch)


def compare(profile: Profile, theirs: dict[str, dict[str, int]], batch: int) -> tuple[dict[str, Any], ...]:
    """`theirs`: fvcore's counts per module (children included) and operator, for `batch` samples."""
    rows: dict[tuple[str, str], list[OpRow]] = {}
    for row in profile.rows:
        if row.op in SYNAPTIC:
            kind = row.op if row.op in ("linear", "matmul") else "conv"
            rows.setdefault((row.name, kind), []).append(row)
    found = {key: value // batch for key, value in _own(theirs).items() if value}
    records = []
    for name, kind in dict.fromkeys((*rows, *found)):
        ours = sum(row.dense_macs for row in rows.get((name, kind), ())) // profile.samples
        other = found.get((name, kind), 0)
        reason = "" if ours == other else _reason(rows.get((name, kind), []), kind, ours, other)
        records.append(
            {
                "name": name, "kind": kind, "ours": ours, "theirs": other,
                "difference": ours - other, "reason": reason,
            }
        )  # fmt: skip
    return tuple(records)


def _own(theirs: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    """Counts of each module itself: fvcore's include its children's."""
    own: dict[tuple[str, str], int] = {}
    for name, counts in theirs.items():
        for operator, value in counts.items():
            if operator in _GROUPS:
                key = name, _GROUPS[operator]
                own[key] = own.get(key, 0) + int(value)
    total = dict(own)
    for name, kind in total:
        parent = name
        while parent:
            parent = parent.rpartition(".")[0]
            if (parent, kind) in total:
                own[parent, kind] -= total[name, kind]
                break
    return own


def _reason(rows: list[OpRow], kind: str, ours: int, theirs: int) -> str:
    """What is known to make the two differ."""
    if any("softmax" in row.note for row in rows):
        return "fvcore does not look into scaled_dot_product_attention"
    if kind == "linear" and not rows:
        return "fvcore calls this addmm a linear layer; here it is a matmul"
    if kind == "matmul" and theirs == 0:
        return "a product that fvcore has no handle for"
    return "unexplained"
