"""State dicts: where in a file they lie, what wrappers put before their names, whether they fit a network.

Nothing here knows what a network is called or how it is built: `checkpoints` and `own` do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.parameter import is_lazy

from snn_energy.errors import CheckpointError, suggest

CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
"""Keys under which training scripts put a state dict, the likeliest first."""

PREFIXES = ("module.", "model.", "_orig_mod.")
"""What `DistributedDataParallel`, Lightning and `torch.compile` put before every name."""

DEPTH = 3  # containers in containers in a file
ANCHORS, TRIED = 16, 24  # names that vote for a shift of all names, shifts that are tried

State = dict[str, torch.Tensor]
Hint = Callable[[Mapping[str, torch.Tensor], list[str], list[str]], str]


class Stored(NamedTuple):
    """A state dict in a file: where it lies (a dotted path, "" for the file itself), and its entries."""

    where: str
    entries: Mapping[str, Any]


# --- where in a file ------------------------------------------------------------------------------------


def stored_in(content: Any) -> list[Stored]:
    """Every mapping of names to tensors in what a file holds, the likeliest to be a network's first."""

    def rank(stored: Stored) -> tuple[bool, int, int]:
        last = stored.where.rpartition(".")[2]
        place = CONTAINERS.index(last) if last in CONTAINERS else len(CONTAINERS)
        if not stored.where and all(isinstance(value, torch.Tensor) for value in stored.entries.values()):
            place = -1
        return "ema" in stored.where.lower(), place, stored.where.count(".")

    return sorted(_walk(content, "", DEPTH), key=rank)


def _walk(content: Any, where: str, depth: int) -> Iterator[Stored]:
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    if any(isinstance(value, torch.Tensor) for value in content.values()):
        yield Stored(where, content)
    for key, value in content.items() if depth else ():
        yield from _walk(value, f"{where}.{key}" if where else key, depth - 1)


def stored_at(path: Path, content: Any, key: str) -> Stored:
    """The mapping at the dotted path `key`; names in it may have dots themselves.

    Raises `CheckpointError`, with what is there, if there is no such mapping or it holds no tensors.
    """
    found = next((item for item in _reach(content, key)), None)
    known = [item.where for item in stored_in(content) if item.where]
    there = suggest(key, known) if known else "the file has no containers of tensors: leave it out"
    if found is None:
        raise CheckpointError(f"{path}: holds nothing at --weights-key {key}; {there}")
    if not isinstance(found, Mapping) or not any(isinstance(v, torch.Tensor) for v in found.values()):
        raise CheckpointError(
            f"{path}: --weights-key {key} is a {type(found).__name__}, must be a dict of tensors; {there}"
        )
    return Stored(key, found)


def _reach(content: Any, key: str) -> Iterator[Any]:
    if not isinstance(content, Mapping):
        return
    if key in content:
        yield content[key]
    for end in (i for i, letter in enumerate(key) if letter == "."):
        yield from _reach(content.get(key[:end]), key[end + 1 :])


def tensors_in(path: Path, entries: Mapping[str, Any]) -> State:
    """`entries` as they are.  Raises `CheckpointError` for one that is no plain dense tensor."""
    for name, value in entries.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path}: entry {name!r} is a {type(value).__name__}, must be a tensor: not a state dict"
            )
        needed = value.numel() * value.element_size()
        if value.layout != torch.strided or value.is_meta or value.untyped_storage().nbytes() < needed:
            raise CheckpointError(f"{path}: {name} is not a plain dense tensor")
    return dict(entries)


# --- whose names ----------------------------------------------------------------------------------------


def unwrapped(state: State) -> State:
    """`state` without the `PREFIXES` that stand before all its names, in whatever order they are nested."""
    while prefix := next((p for p in PREFIXES if state and all(name.startswith(p) for name in state)), ""):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


class Aligned(NamedTuple):
    """A state dict under a network's names; `taken_off`/`put_before`: the prefix that went or came."""

    state: State
    fitting: int  # entries whose name and shape are the network's
    taken_off: str = ""
    put_before: str = ""
    outside: tuple[str, ...] = ()  # names in the file without the prefix that was taken off


def aligned(found: State, expected: Mapping[str, torch.Tensor]) -> Aligned:
    """`found` under the names that the network expects, as far as one shift of all names brings it there.

    Names agree up to `_orig_mod`, which `torch.compile` puts anywhere.  If they do not all agree, one prefix
    may be taken off the file's names (`module.`, a Lightning module's `net.`) and one put before them (the
    network is wrapped, the file is not): the pair under which most names and shapes agree, none if that is
    as good.  Names without the prefix that goes are left out only where most of the network's are found.
    """
    wanted = {_plain(name): name for name in expected}
    given = {_plain(name): name for name in found}
    if len(given) < len(found) or len(wanted) < len(expected):  # `_orig_mod` alone tells some apart
        wanted, given = {name: name for name in expected}, {name: name for name in found}
    best = _shifted(found, expected, given, wanted, "", "")
    if best.fitting == len(expected):
        return best
    for taken_off, put_before in _shifts(given, wanted):
        other = _shifted(found, expected, given, wanted, taken_off, put_before)
        mostly = not other.outside or 2 * other.fitting > len(expected)
        if other.fitting > best.fitting and mostly:
            best = other
    return best


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _shifts(given: Mapping[str, str], wanted: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs (prefix of the file's names, prefix of the network's) for which a few names vote, most first."""
    votes: Counter[tuple[str, str]] = Counter()
    names = list(wanted)
    parts = [name.split(".") for name in given]
    for name in names[:: max(1, len(names) // ANCHORS)]:
        own = name.split(".")
        for other in parts:
            same = 0
            while same < min(len(own), len(other)) and own[-1 - same] == other[-1 - same]:
                same += 1
            if same:
                before = (".".join(p[: len(p) - same]) for p in (other, own))
                votes[tuple(f"{p}." if p else "" for p in before)] += 1  # type: ignore[index]
    return [shift for shift, _ in sorted(votes.items(), key=lambda v: (-v[1], v[0]))][:TRIED]


def _shifted(
    found: State,
    expected: Mapping[str, torch.Tensor],
    given: Mapping[str, str],
    wanted: Mapping[str, str],
    taken_off: str,
    put_before: str,
) -> Aligned:
    state, fitting, outside = {}, 0, []
    for plain, name in given.items():
        if not plain.startswith(taken_off):
            outside.append(name)
            continue
        shifted = put_before + plain.removeprefix(taken_off)
        target = wanted.get(shifted, shifted)
        state[target] = found[name]
        fitting += target in expected and same_shape(found[name], expected[target])
    return Aligned(state, fitting, taken_off, put_before, tuple(outside))


def same_shape(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Of one shape; a lazy layer's parameter, which has none yet, takes any."""
    return is_lazy(expected) or found.shape == expected.shape


# --- whether they fit -----------------------------------------------------------------------------------


def check_finite(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Raise `CheckpointError` for NaN, infinity, or a negative variance."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = value.numel() - int(torch.isfinite(value).sum())
            raise CheckpointError(f"{path}: {name} holds {bad} NaN or infinite of {value.numel()} values")
        if name.endswith("running_var") and bool((value < 0).any()):
            raise CheckpointError(f"{path}: {name} holds a negative variance, {value.min().item():g}")


def check_fit(
    path: Path,
    name: str,
    found: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    hint: Hint = lambda found, missing, unexpected: "",
) -> None:
    """Names, shapes and kinds of number must agree exactly; `name` is what the network is called.

    `hint(found, missing, unexpected)` ends the message.  Raises `CheckpointError` for what comes first.
    """
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    if missing or unexpected:
        parts = [
            f"{len(keys)} {what} ({listed(keys)})"
            for what, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        same = len(expected) - len(missing)
        raise CheckpointError(
            f"{path}: does not fit {name}: {same} of {len(expected)} tensors are there; "
            f"{', '.join(parts)}{hint(found, missing, unexpected)}"
        )
    other = [key for key, value in expected.items() if not same_shape(found[key], value)]
    if other:
        key, more = other[0], f"; {len(other) - 1} more differ ({listed(other[1:])})" if other[1:] else ""
        raise CheckpointError(
            f"{path}: {key} has shape {tuple(found[key].shape)}, {name} expects "
            f"{tuple(expected[key].shape)}{more}{hint(found, [], [])}"
        )
    for key, value in expected.items():
        if found[key].is_floating_point() != value.is_floating_point():
            raise CheckpointError(f"{path}: {key} holds {found[key].dtype}, {name} expects {value.dtype}")


def listed(names: list[str] | tuple[str, ...], most: int = 3) -> str:
    """The first few of `names`."""
    return f"{', '.join(names[:most])}{', …' if len(names) > most else ''}"
