"""The table's parameters are torch's own, in torch's order, wherever torch says what they are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import get_testing_overrides

from snn_energy.profiling.operations import ALIASES, OPERATIONS, OTHERWISE

# deliberately otherwise: the reason
OTHERWISE_NAMED = {
    "rtruediv": "a method without a signature; torch calls its operand `other`",
    "itruediv": "a method without a signature; torch calls its operand `other`",
    "ipow": "the schema is that of pow_, whose exponent the method calls `other`",
    "rpow": "the schema is that of pow, whose exponent the method calls `other`",
    "iter": "a method without a signature; it arrives as unbind",
    "new_tensor": "a method without a signature; its data are numbers, not an operand",
}
SAME = {"self": "input", "train": "training", "use_input_stats": "training", "a": "input"}


@functools.cache
def _overrides() -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for function, override in get_testing_overrides().items():
        name = getattr(function, "__name__", str(function)).strip("_")
        found.setdefault(name, []).append(list(inspect.signature(override).parameters))
    return found


def signatures(name: str) -> Iterator[list[str]]:
    """Names of parameters, as operator schemas, functional's functions and torch's overrides give them."""
    for schema in (name, f"{name}_", f"__{name}__", f"_{name}", name[1:] if name[0] in "ri" else name):
        try:
            for found in torch._C._jit_get_schemas_for_operator(f"aten::{schema}"):
                yield [argument.name for argument in found.arguments]
        except RuntimeError:
            continue
    for space in (F, torch):
        try:
            yield list(inspect.signature(getattr(space, name)).parameters)
        except (AttributeError, TypeError, ValueError):
            continue
    yield from _overrides().get(name, [])


def agrees(ours: tuple[str, ...], name: str) -> bool:
    """Does some signature of torch begin with our parameters?"""
    given = [[SAME.get(p, p) for p in signature] for signature in signatures(name)]
    mine = [SAME.get(p, p) for p in ours]
    return any(signature[: len(mine)] == mine for signature in given)


@pytest.mark.filterwarnings("ignore")
def test_parameters_are_torchs_own() -> None:
    wrong = {name for name, operation in OPERATIONS.items() if not agrees(operation.parameters, name)}
    assert wrong == set(OTHERWISE_NAMED)


def test_other_orders_are_torchs_own_and_as_long_as_they_say() -> None:
    schemas = {n: [] for n, _ in OTHERWISE}
    for (name, length), parameters in OTHERWISE.items():
        assert len(parameters) == length
        schemas[name].append(parameters)
    for name in ("batch_norm", "instance_norm"):
        (parameters,) = schemas[name]
        assert agrees(parameters, name)
    for name in (
        "add",
        "sub",
        "subtract",
        "addmm",
        "addmv",
        "baddbmm",
    ):  # deprecated: the schemas know no more of them
        for parameters in schemas[name]:
            assert set(parameters) <= {SAME.get(p, p) for s in signatures(name) for p in s}


def test_no_alias_is_a_name_that_the_table_uses_for_another_parameter() -> None:
    for name, operation in OPERATIONS.items():
        for parameter in operation.parameters:
            other = ALIASES.get(parameter)
            assert other is None or other not in operation.parameters, (name, parameter)
