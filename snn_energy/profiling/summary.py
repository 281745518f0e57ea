"""From a closed recording to a `Profile`: rows with their roles, and what the model is."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import platform
from typing import Any

from torch import nn

from snn_energy.models.walk import modules, named_modules, parameters
from snn_energy.profiling.neurons import named_neurons
from snn_energy.profiling.profile import OpRow, Profile
from snn_energy.profiling.recorder import Recorder
from snn_energy.profiling.resolve import SYNAPTIC, WEIGHTED, resolve


def summary(
    model: nn.Module, recorder: Recorder, steps: int, *, notes: tuple[str, ...] = (), **fields: Any
) -> Profile:
    """What `recorder` holds of `model` over `steps` time steps; `fields` of `Profile` besides."""
    return Profile(
        rows=_rows(recorder, steps, model),
        time_steps=steps,
        model=type(model).__name__,
        config=config_of(model),
        parameters=sum(p.numel() for p in parameters(model)),
        uncalled=_uncalled(model, recorder),
        aliases=_aliases(model),
        environment=_environment(),
        notes=(*notes, *_of_constants(recorder)),
        **fields,
    )


def _of_constants(recorder: Recorder) -> tuple[str, ...]:
    """A note on products of constants alone: an inference does not need them, but a reader may miss them."""
    if not recorder.idle:
        return ()
    names = ", ".join(name or "(model)" for name in recorder.idle)
    return (f"products of constants alone are prepared once and not counted: in {names}",)


def _rows(recorder: Recorder, steps: int, model: nn.Module) -> tuple[OpRow, ...]:
    """Rows in order of first execution, with the roles that only the whole shows."""
    rows = [tally.row(steps) for tally in recorder.tallies.values()]
    leaves = {name for name, module in named_modules(model) if not any(module.children())}
    weighted = [row for row in rows if row.op in WEIGHTED]
    last = weighted[-1].key if weighted else None
    return tuple(
        resolve(row, role=_role(row, last), block=block_of(row.name, row.name in leaves)) for row in rows
    )


def _role(row: OpRow, last: Any) -> str:
    if row.op in SYNAPTIC and row.sources == ("input",):
        return "encoder"
    if row.op == "matmul" and not row.weight_elements:
        return "attention"
    return "head" if row.key == last else "hidden"


def block_of(path: str, leaf: bool) -> str:
    """The part of a module path that groups layers: `block.0.attn.q_conv` -> `block.0`, `head` -> `head`."""
    parts = path.split(".")
    last = max(
        (i for i, part in enumerate(parts) if part.isdigit() and (i < len(parts) - 1 or not leaf)), default=0
    )
    return ".".join(parts[: last + 1])


def _uncalled(model: nn.Module, recorder: Recorder) -> tuple[str, ...]:
    """Leaf modules that never ran; what belongs to a neuron is the neuron's."""
    neurons = set(named_neurons(model).values())
    inside = {child for m in neurons for child in modules(m) if child is not m}
    leaves = (
        name
        for name, module in named_modules(model)
        if module not in inside
        and (module in neurons or not any(module.children()))
        and not _container(module)
    )
    return tuple(name for name in leaves if name not in recorder.called)


def _container(module: nn.Module) -> bool:
    return isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict))


def _aliases(model: nn.Module) -> dict[str, str]:
    """Further names of shared modules -> the first name."""
    first: dict[nn.Module, str] = {}
    aliases = {}
    for name, module in named_modules(model, every_name=True):
        if first.setdefault(module, name) != name:
            aliases[name] = first[module]
    return aliases


def config_of(model: nn.Module) -> dict[str, Any]:
    """The fields of `model.config`, a dataclass or a dict; nothing for a network without one."""
    config = getattr(model, "config", None)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.asdict(config)
    return dict(config) if isinstance(config, dict) else {}


@functools.cache
def _versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in ("snn-energy", "torch", "spikingjelly")}


def _environment() -> dict[str, str]:
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {**_versions(), "python": platform.python_version(), "date": date}
