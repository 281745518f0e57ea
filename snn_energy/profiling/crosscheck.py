"""Dense MACs beside fvcore's: an independent look at the shapes."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from snn_energy.errors import MissingDependency, SnnEnergyError
from snn_energy.models.walk import device_of, named_modules
from snn_energy.profiling.batches import Batch
from snn_energy.profiling.contract import Declared
from snn_energy.profiling.neurons import resting
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.resolve import SYNAPTIC
from snn_energy.profiling.settle import settle

_GROUPS = {
    "conv": "conv",
    "linear": "linear",
    "addmm": "linear",
    "matmul": "matmul",
    "bmm": "matmul",
    "einsum": "matmul",
}
_NORMS = ("aten::batch_norm", "aten::group_norm", "aten::instance_norm", "aten::layer_norm")


def fvcore(model: nn.Module, x: Any, profile: Profile, **declared: Any) -> tuple[dict[str, Any], ...]:
    """Compare `profile` with fvcore on the batch `x`, per module and kind of operation.

    One record per module and kind: `name`, `kind` (conv, linear, matmul), `ours` and `theirs` (dense MACs of
    one sample, all steps), `difference`, and `reason`, empty where they agree.  `x` must be a batch of the
    shapes profiled, `declared` what `profile` was told of the network (`contract.Declared`).  A model that
    fvcore cannot trace or count gets one record that says so.  Raises `MissingDependency` without fvcore.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts functions as it is imported
            from fvcore.nn import FlopCountAnalysis
    except ImportError:
        raise MissingDependency("fvcore", "crosscheck", "the cross-check of dense MACs") from None
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    told = Declared(**{"time_steps": profile.time_steps, **declared, "check": False})
    batch = Batch(x).mapped(lambda x: x.to(device_of(model)))
    with resting(model, told.neurons) as rest, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts its own handlers
        try:
            contract = settle(rest, batch, told)
        except SnnEnergyError as error:  # this one batch leaves open what all of them did not
            return (_failure(profile, error),)
        calls = contract.runs(batch)
        rest.fresh()
        analysis = FlopCountAnalysis(model, _in_order(model, calls[0]))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        for norm in _NORMS:  # not compared, and fvcore's own handlers stop at a vector
            analysis.set_op_handle(norm, lambda inputs, outputs: 0)
        try:
            by_module = analysis.by_module_and_operator()
        except Exception as error:
            return (_failure(profile, error),)
    theirs = {name: {k: n * len(calls) for k, n in counts.items()} for name, counts in by_module.items()}
    samples = contract.layout_of(batch).batch
    vector = {name: m.weight.numel() for name, m in named_modules(model) if isinstance(m, nn.Linear)}
    return compare(profile, theirs, samples, vector)


def _in_order(model: nn.Module, inputs: Any) -> Any:
    """Inputs as positional arguments, which is all that fvcore takes."""
    if isinstance(inputs, Mapping):
        names = [name for name in inspect.signature(model.forward).parameters if name in inputs]
        return tuple(inputs[name] for name in names)
    return tuple(inputs) if isinstance(inputs, list) else inputs


def _failure(profile: Profile, error: Exception) -> dict[str, Any]:
    """The one record of a model that fvcore cannot count."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
    ours = sum(row.dense_macs for row in profile.rows if row.op in SYNAPTIC) // profile.samples
    return {
        "name": "", "kind": "all", "ours": ours, "theirs": 0, "difference": ours,
        "reason": f"fvcore stops at this model ({type(error).__name__}: {first[:200]})",
    }  # fmt: skip


def compare(
    profile: Profile, theirs: dict[str, dict[str, int]], batch: int, vector: dict[str, int] | None = None
) -> tuple[dict[str, Any], ...]:
    """`theirs`: fvcore's counts per module (children included) and operator, for `batch` samples.

    `vector`: what each linear layer costs on one vector.
    """
    rows: dict[tuple[str, str], list[OpRow]] = {}
    for row in profile.rows:
        if row.op in SYNAPTIC:
            kind = row.op if row.op in ("linear", "matmul") else "conv"
            rows.setdefault((row.name, kind), []).append(row)
    whole = {key: value for key, value in _own(theirs).items() if value}
    found = {key: value // batch for key, value in whole.items()}
    records = []
    for name, kind in dict.fromkeys((*rows, *found)):
        ours = sum(row.dense_macs for row in rows.get((name, kind), ())) // profile.samples
        other = found.get((name, kind), 0)
        once = whole.get((name, kind), 0) - ours * batch  # more than the samples ask for
        if ours == other:
            reason = ""
        elif kind == "linear" and once > 0 and once == (vector or {}).get(name):
            reason = "fvcore also counts a product of parameters alone; it is made once, not per sample"
        else:
            reason = _reason(rows.get((name, kind), []), kind, ours, other)
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
