"""Which rule counts which function: the table's names resolved, and rules that a user adds.

A rule is added for one profile, `profile(..., rules={"cumsum": rule})`, or for all by an entry point of the
group `snn_energy.rules` whose name is the function's: docs/extending.md.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import metadata

from snn_energy.errors import ConfigError
from snn_energy.profiling import composites, elementwise, movement, pooling, products, synapses
from snn_energy.profiling.call import Rule
from snn_energy.profiling.operations import ASIDE, OPERATIONS, Operation

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
    own = dict(own or {})
    for name, rule in own.items():
        if not isinstance(name, str) or name != name.strip("_") or not name.isidentifier():
            raise ConfigError(f"rules: {name!r}: must be a torch function's name without underscores around it")
        if name in ASIDE:
            raise ConfigError(f"rules: {name!r} asks about a tensor and is never counted: no rule can be added")
        if not callable(rule):
            raise ConfigError(f"rules: {name!r}: {rule!r} is no function of a Call")
    return {**RULES, **_installed(), **own}


@functools.cache
def _installed() -> Mapping[str, Rule]:
    """Rules that installed packages offer."""
    found: dict[str, Rule] = {}
    for point in metadata.entry_points(group=GROUP):
        try:
            found[point.name] = point.load()
        except Exception as error:
            raise ConfigError(f"rule {point.name!r} of {point.value}: cannot be imported: {error}") from None
    return found
