"""A network of the user's own: built by code that the user names, its weights read by the safe reader.

`--model path/to/net.py:build` and `--model package.module:callable` end here.  Only what is named runs, and
what it imports: its folder is on `sys.path` while it is imported and built, and nothing of that stays behind
but the modules that its classes come from.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from snn_energy import weights
from snn_energy.errors import CheckpointError, ConfigError, suggest
from snn_energy.frameworks import known_neuron
from snn_energy.models.walk import named_modules
from snn_energy.own.source import find, one_line, workshop
from snn_energy.safe_load import safe_load

SEED = 0  # of the weights of a network without a checkpoint
RANDOM = f"random weights (seed {SEED}): no checkpoint was given; rates are not those of a trained network"

STATE = ("mem", "syn", "spk", "v_mem", "i_syn", "syn_exc", "syn_inh", "membrane", "mem_pot")
"""Buffers in which neurons keep their state (snnTorch, sinabs, SLAYER, hand-written ones)."""

BUFFERS_OF_STATE = (*STATE, "v", "i", "u")  # short names, taken for state only where they are buffers

EXTRA = "_extra_state"  # what torch calls the entries of `get_extra_state`
COUNTER = "num_batches_tracked"  # of batch norms; means nothing at inference


@dataclass(frozen=True)
class OwnModel:
    """A network in evaluation mode, what it is called, and what a person should be told of its weights."""

    module: nn.Module
    spec: str
    settings: dict[str, Any] = field(default_factory=dict)
    class_names: list[str] | None = None
    notes: tuple[str, ...] = ()


def names_own(model: Any) -> bool:
    """Does `--model` name code (`net.py:build`, `package.module:callable`), and no registered network?"""
    return isinstance(model, str) and (":" in model or "/" in model or model.endswith(".py"))


def load_own(
    spec: str,
    settings: Mapping[str, Any] | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    weights_key: str | None = None,
    allow_nonfinite: bool = False,
) -> OwnModel:
    """Build `spec` with `settings` and, where a checkpoint is given, fill it with the weights at `path`.

    Without one the weights are as the builder makes them, every time the same; a note says that they are
    random.  Raises `ConfigError` for code that cannot be built, `CheckpointError` for a file that does not
    fit.
    """
    settings = dict(settings or {})
    module = build_own(spec, settings)
    if path is None:
        if weights_key is not None:
            raise ConfigError(f"--weights-key {weights_key}: there is no checkpoint to look into")
        note = f"{RANDOM}, unless {spec} loads weights itself"
        return OwnModel(_ready(module, spec), spec, settings, notes=(note,))
    path = Path(path)
    content = safe_load(path)
    notes = _fit(module, path, content, weights_key, spec, allow_nonfinite)
    names = content.get("class_names") if isinstance(content, Mapping) else None
    known = names if isinstance(names, list) and all(isinstance(n, str) for n in names) else None
    return OwnModel(_ready(module, spec), spec, settings, known, notes)


def load_builder(spec: str) -> Callable[..., Any]:
    """The callable that `path/to/net.py:build` or `package.module:callable` names, imported anew.

    Raises `ConfigError`, in one line with the next step, where there is no such thing.
    """
    with workshop(find(spec)) as code:
        return code.resolve()


def build_own(spec: str, settings: Mapping[str, Any] | None = None) -> nn.Module:
    """The network that the code at `spec` builds, called with `settings` as keyword arguments.

    A name that stands for a ready network is taken as it is.  Random weights are drawn with a fixed seed, and
    the random streams are as before.  Raises `ConfigError` for a builder that raises, wants or does not know
    an argument, or returns no module.
    """
    settings = dict(settings or {})
    with workshop(find(spec)) as code, seeded():
        made = code.resolve()
        if not isinstance(made, nn.Module):
            positional, named = _arguments(spec, made, settings)
            try:
                made = made(*positional, **named)
            except (Exception, SystemExit) as error:
                raise ConfigError(f"{spec} raised {one_line(error)} ({code.where(error)})") from None
        elif settings:
            raise ConfigError(f"{spec} is a ready network: --set needs a function or a class to call")
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{spec} returned {_what(made)}, must return a torch.nn.Module{_way_out(made)}")
    return made.eval()


def failure(spec: str, error: Exception) -> ConfigError:
    """An exception that the network raised as it ran, in one line, and what may help below it."""
    found = ConfigError(f"{spec}: the network raised {one_line(error)} ({find(spec).where(error)})")
    for note in getattr(error, "__notes__", ()):
        found.add_note(note)
    return found


def fit_weights(
    module: nn.Module, path: str | os.PathLike[str], weights_key: str | None = None, *, name: str = ""
) -> tuple[str, ...]:
    """Fill `module` with the weights in a file; returns what a person should be told, a sentence each.

    The file is read without running anything in it.  Of several state dicts in it the one that fits best is
    taken, or the one at the dotted path `weights_key`; prefixes of wrappers are taken off.  What frameworks
    store as buffers but belongs to a run, such as snnTorch's `mem`, is left as the network was built.
    Raises `CheckpointError` where names, shapes or kinds of number do not agree.
    """
    path = Path(path)
    return _fit(module, path, safe_load(path), weights_key, name or type(module).__name__)


WAY_OUT = """\
a network of your own, from the command line:
    snn-energy profile {path} --model path/to/net.py:build --set num_classes=10 --input x.npz
or in Python:
    import numpy as np, snn_energy, torch
    model = snn_energy.load({path!r}, model="path/to/net.py:build", settings={{"num_classes": 10}})
    x = torch.from_numpy(np.load("x.npz")["x"]).float()
    print(snn_energy.profile(model, [x]).energy().mj, "mJ")
docs/your-network.md has more."""


def with_way_out(error: CheckpointError, path: Path) -> CheckpointError:
    """`error` with a note on what to do with a checkpoint of a network that is none of ours."""
    error.add_note(WAY_OUT.format(path=str(path)))
    return error


# --- building -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """A fixed seed for torch's random numbers on the CPU, NumPy's and Python's; put back afterwards."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(SEED)
    np.random.seed(SEED)
    random.seed(SEED)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def _arguments(
    spec: str, builder: Callable[..., Any], settings: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """How to call `builder` with `settings`.  Raises `ConfigError` for one that is missing or unknown."""
    try:
        parameters = inspect.signature(builder).parameters.values()
    except (TypeError, ValueError):
        return [], settings  # a builtin without a signature
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    known = [p.name for p in named]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in settings:
            if name not in known:
                takes = suggest(name, known) if known else "it takes no arguments"
                raise ConfigError(f"{spec} takes no argument {name!r} (--set {name}=…); {takes}")
    missing = [p.name for p in named if p.default is p.empty and p.name not in settings]
    if missing:
        flags = " ".join(f"--set {name}=…" for name in missing)
        raise ConfigError(
            f"{spec} wants {', '.join(missing)}: give {flags}, or name a function without arguments that "
            "builds the network"
        )
    first = [settings.pop(p.name) for p in named if p.kind is p.POSITIONAL_ONLY and p.name in settings]
    return first, settings


def _what(made: Any) -> str:
    if made is None:
        return "None"
    return f"the class {made.__name__}" if isinstance(made, type) else f"a {type(made).__name__}"


def _way_out(made: Any) -> str:
    """What probably happened to a builder that returned no network."""
    if made is None:
        return " (is its return statement missing?)"
    if isinstance(made, type):
        return f" (return {made.__name__}(…))"
    items = (
        made.items() if isinstance(made, dict) else enumerate(made) if isinstance(made, list | tuple) else ()
    )
    inside = next((key for key, value in items if isinstance(value, nn.Module)), None)
    return "" if inside is None else f" (item {inside!r} of it is one: return that)"


def _ready(module: nn.Module, spec: str) -> nn.Module:
    """`module`, all of whose parameters have a shape."""
    lazy = [
        f"{path}.{name}" if path else name
        for path, part in named_modules(module)
        for name, value in part._parameters.items()
        if value is not None and is_lazy(value)
    ]
    if lazy:
        raise ConfigError(
            f"{spec}: {weights.listed(lazy)} of a lazy layer has no shape yet: call the network on one "
            "sample in the builder, or give a checkpoint"
        )
    return module.eval()


# --- filling --------------------------------------------------------------------------------------------


def _fit(
    module: nn.Module,
    path: Path,
    content: Any,
    weights_key: str | None,
    name: str,
    allow_nonfinite: bool = False,
) -> tuple[str, ...]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, must hold a dict of weights")
    whole = module.state_dict()
    expected = {key: value for key, value in whole.items() if isinstance(value, torch.Tensor)}
    stored, fit, notes = _chosen(path, content, weights_key, expected)
    state, needed, aside = _without_state(fit.state, expected, _buffers(module))
    if not allow_nonfinite:
        weights.check_finite(path, state)
    where = f" at {stored.where!r}" if stored.where else ""
    if needed and not set(state) & set(needed):
        raise CheckpointError(
            f"{path}: none of its {len(state)} tensors{where} has a name of {name}: it holds "
            f"{weights.listed(list(state))}, the network {weights.listed(list(needed))}"
        )
    weights.check_fit(path, name, state, needed, _hint)
    others = _not_tensors(path, name, whole, stored, fit)
    try:
        module.load_state_dict(state | others, strict=False)
    except Exception as error:  # a hook of the network's own
        raise CheckpointError(f"{path}: does not fit {name}: {one_line(error)}") from None
    return (*notes, *aside)


def _not_tensors(
    path: Path, name: str, whole: Mapping[str, Any], stored: weights.Stored, fit: weights.Aligned
) -> dict[str, Any]:
    """What the network keeps in a state dict besides tensors (`get_extra_state`, packed weights).

    Raises `CheckpointError` where the file has it not; only an extra state is left as it was built.
    """
    wanted = {key: value for key, value in whole.items() if not isinstance(value, torch.Tensor)}
    names = {key: fit.taken_off + key.removeprefix(fit.put_before) for key in wanted}
    missing = [key for key in wanted if names[key] not in stored.entries and not key.endswith(EXTRA)]
    if missing:
        raise CheckpointError(
            f"{path}: does not fit {name}: {len(missing)} missing ({weights.listed(missing)})"
        )
    return {key: stored.entries[names[key]] for key in wanted if names[key] in stored.entries}


def _hint(found: Mapping[str, Any], missing: list[str], unexpected: list[str]) -> str:
    if missing and unexpected:
        return "; is it the same network? --weights-key takes other weights from the file"
    return "; build the network as it was trained (--set NAME=VALUE)"


def _chosen(
    path: Path, content: Mapping[str, Any], key: str | None, expected: Mapping[str, torch.Tensor]
) -> tuple[weights.Stored, weights.Aligned, list[str]]:
    """The state dict to take, under the network's names, and what to say of the choice."""
    candidates = [weights.stored_at(path, content, key)] if key else weights.stored_in(content)
    if not candidates:
        held = ", ".join(f"{k} ({type(v).__name__})" for k, v in list(content.items())[:5])
        raise CheckpointError(f"{path}: holds no weights, only {held or 'an empty dict'}")
    tried = []
    for stored in candidates:
        tensors = {k: v for k, v in stored.entries.items() if isinstance(v, torch.Tensor)}
        tried.append((stored, weights.aligned(tensors, expected)))
    stored, fit = max(tried, key=lambda pair: pair[1].fitting)
    weights.tensors_in(path, fit.state)
    notes = []
    others = [
        repr(other.where)
        for other, also in tried
        if other is not stored and also.fitting == fit.fitting and other.where
    ]
    if stored.where and not key:
        more = f"; {' and '.join(others)} would fit, too (--weights-key)" if others and fit.fitting else ""
        notes.append(f"weights taken from {stored.where!r} in the file{more}")
    if fit.taken_off or fit.put_before:
        parts = [
            f"{p!r} {what}" for p, what in ((fit.taken_off, "taken off"), (fit.put_before, "added")) if p
        ]
        notes.append(f"names in the file fit with {' and '.join(parts)}")
    plain = [
        k for k, v in stored.entries.items() if not isinstance(v, torch.Tensor) and not k.endswith(EXTRA)
    ]
    left = [*fit.outside, *plain]
    if left:
        notes.append(f"left out of the file's weights, not the network's: {weights.listed(left)}")
    return stored, fit, notes


def _buffers(module: nn.Module) -> dict[str, bool]:
    """Every buffer by its name in a state dict, and whether a neuron keeps its state there."""
    found = {}
    for path, part in named_modules(module, every_name=True):
        known = known_neuron(part)
        state = BUFFERS_OF_STATE if known is None else (*STATE, *known[0].state(part))
        for name in part._buffers:
            found[f"{path}.{name}" if path else name] = name in state
    return found


def _without_state(
    found: weights.State, expected: Mapping[str, torch.Tensor], buffers: Mapping[str, bool]
) -> tuple[weights.State, dict[str, torch.Tensor], list[str]]:
    """What the file gives and what the network needs, without what belongs to a run; what to say of that."""

    def of_a_run(name: str) -> bool:
        if name in buffers:
            return buffers[name]
        return name not in expected and name.rpartition(".")[2] in STATE

    state = [name for name in dict.fromkeys((*found, *expected)) if of_a_run(name)]
    counters = [
        name
        for name in dict.fromkeys((*found, *expected))
        if name.rpartition(".")[2] == COUNTER and not (name in found and name in expected)
    ]
    as_built = [
        name
        for name, value in expected.items()
        if name in buffers and name not in (*found, *state, *counters)
        if not is_lazy(value) and value.numel() == 1
    ]
    aside = {*state, *counters, *as_built}
    notes = []
    if any(name in found for name in state):
        held = [name for name in state if name in found]
        notes.append(f"state of neurons in the file, not weights, left out: {weights.listed(held)}")
    if counters:
        notes.append(f"{COUNTER} of {len(counters)} norms is on one side only: not needed at inference")
    if as_built:
        values = [f"{name} = {expected[name].item():g}" for name in as_built]
        notes.append(f"not in the file, left as built: {weights.listed(values)}")
    return (
        {k: v for k, v in found.items() if k not in aside},
        {k: v for k, v in expected.items() if k not in aside},
        notes,
    )
