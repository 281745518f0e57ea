"""Which rule counts which function: the table's names resolved, and rules that a user adds.

A rule is added for one profile, `profile(..., rules={"cumsum": rule})`, or for all by an entry point of the
group `snn_energy.rules` whose name is the function's: docs/extending.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from snn_energy import plugins
from snn_energy.errors import ConfigError
from snn_energy.profiling import composites, elementwise, movement, pooling, products, synapses
from snn_energy.profiling.call import Rule
from snn_energy.profiling.operations import ASIDE, OPERATIONS, TAKES_OUT, Operation
from snn_energy.profiling.own import watched

GROUP = "snn_energy.rules"
_ROOMS = {
    room.__name__.rpartition(".")[2]: room
    for room in (composites, elementwise, movement, pooling, products, synapses)
}


def _resolved(operation: Operation) -> Rule:
    room, _, name = operation.rule.partition(".")
    return getattr(_ROOMS[room], name)


RULES: Mapping[str, Rule] = {name: _resolved(operation) for name, operation in OPERATIONS.items()}


def rules_with(own: Mapping[str, Rule] | None = None) -> Mapping[str, Rule]:
    """All rules by function name: a user's `own` before those of entry points, these before ours.

    Raises `ConfigError` for a name or a rule that cannot be.
    """
    if own is not None and not isinstance(own, Mapping):
        raise ConfigError(f"rules: must be a mapping of function names to rules, not {type(own).__name__}")
    installed = {name: plugins.load(GROUP, name) for name in plugins.offered(GROUP)}
    theirs = {**installed, **(own or {})}
    for name, rule in theirs.items():
        _check(name, rule)
    return {**RULES, **{name: watched(rule) for name, rule in theirs.items()}}


def _check(name: Any, rule: Any) -> None:
    """Raise `ConfigError` for a name that no function can have, and for what is no rule."""
    if not isinstance(name, str) or not all(
        part.isidentifier() for part in name.replace("::", ".").split(".")
    ):
        raise ConfigError(f"rules: {name!r}: must be a function's name, such as 'cumsum' or 'mylib::op'")
    if name.isidentifier() and name != name.strip("_"):
        raise ConfigError(f"rules: {name!r}: must be a torch function's name without underscores around it")
    if name in ASIDE or (name in TAKES_OUT and name not in OPERATIONS):
        raise ConfigError(f"rules: {name!r} asks about a tensor and is never counted: no rule can be added")
    if not callable(rule):
        raise ConfigError(f"rules: {name!r}: {rule!r} is no function of a Call")


def foreign_name(func: Any, rules: Mapping[str, Rule]) -> str | None:
    """The name of a function that is not torch's own; None for torch's.

    An operator of a library of its own is `namespace::name`.  A Python function goes by its name where no
    function that we count has it, else by `module.name`.
    """
    packet = getattr(func, "overloadpacket", func)
    qualified = getattr(packet, "_qualified_op_name", None)
    if isinstance(qualified, str):
        return None if qualified.startswith("aten::") else qualified
    module = getattr(func, "__module__", None) or ""
    if not inspect.isfunction(func) or module.split(".")[0] == "torch":
        return None
    full, short = f"{module}.{func.__name__}", func.__name__
    return short if short in rules and short not in RULES and full not in rules else full
