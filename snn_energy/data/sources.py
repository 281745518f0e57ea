"""What a data name means: `digits`, `cifar10:DIR`, …, or a data set that a user added."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_energy.data import cifar, events, imagenet, memory
from snn_energy.data.parts import Data
from snn_energy.data.stream import default_workers
from snn_energy.errors import ConfigError, DataError, suggest
from snn_energy.plugins import Registry

Loader = Callable[..., Data]


@dataclass(frozen=True)
class Source:
    """A data set of ours: how `load(name, place, **options)` reads it.

    `place`: what follows the colon, DIR or FILE, or "" where nothing does; `options`: what may follow a
    question mark, `NAME:DIR?size=48&T=10`, and of what type; `frames`: the number of frames is chosen by
    whoever asks; `streams`: workers read it.
    """

    load: Loader
    summary: str
    place: str = ""
    options: Mapping[str, type] = field(default_factory=dict)
    frames: bool = False
    streams: bool = False


def _placed(load: Loader, *args: Any) -> Loader:
    """`load(name, place, *args, **options)` as `load(name, place, **options)`."""
    return lambda name, place, **options: load(name, place, *args, **options)


EVENT_OPTIONS = {"T": int, "size": int}
SOURCES: dict[str, Source] = {
    "digits": Source(memory.load_digits, "1,797 handwritten digits 1×8×8, in this package"),
    "digits-dvs": Source(
        memory.load_digits_dvs, "the same as events of a moving camera, T×2×16×16", "", {"T": int}, True
    ),
    "idx": Source(memory.load_idx, "MNIST's format, such as Fashion-MNIST", "DIR"),
    "npz": Source(memory.load_npz, "your arrays x_train, y_train, x_test, y_test", "FILE"),
    "cifar10": Source(_placed(cifar.load_cifar, cifar.CIFAR10), "CIFAR-10, python or binary version", "DIR"),
    "cifar100": Source(
        _placed(cifar.load_cifar, cifar.CIFAR100), "CIFAR-100, python or binary version", "DIR"
    ),
    "imagenet": Source(
        imagenet.load_imagenet, "train and val, folders of classes", "DIR", imagenet.OPTIONS, streams=True
    ),
    **{
        kind: Source(_placed(events.load_events, release), release.summary, "DIR", EVENT_OPTIONS, True, True)
        for kind, release in events.RELEASES.items()
    },
}


def _accept(name: str, load: Any) -> Loader:
    if not callable(load):
        raise ConfigError(f"data set {name!r}: {load!r} is no function; register one that gives a Data")
    return load


DATASETS: Registry[Loader] = Registry("data set", "snn_energy.datasets", {}, _accept)


def register_dataset(name: str, load: Loader | None = None) -> Any:
    """Make a data set known as `name` to `load_data`, and so to `--data`, recipes and training.

    `load()` gives a `Data`; for names with a place in them, `name:PLACE`, it is called as `load("PLACE")`.
    It runs when the data is asked for.  Also a decorator: `@register_dataset("mine")`.

    Raises `ConfigError` for a name of ours, or for what is no function.
    """
    if load is None:
        return functools.partial(register_dataset, name)
    if name in SOURCES:
        raise ConfigError(f"data set {name!r} comes with snn-energy: choose another name")
    DATASETS.register(name, load)
    return load


def describe_data() -> dict[str, str]:
    """The names that `load_data` understands, with what stands behind each; users' own have no text."""
    ours = {f"{kind}:{s.place}" if s.place else kind: s.summary for kind, s in SOURCES.items()}
    return ours | dict.fromkeys(DATASETS, "")


def list_data() -> tuple[str, ...]:
    """The names that `load_data` understands."""
    return tuple(describe_data())


def load_data(
    name: str, *, val_fraction: float = 0.0, frames: int | None = None, workers: int | None = None
) -> Data:
    """The data set called `name`: `snn-energy list data` names all, docs/data.md says what each is.

    `val_fraction`: how much of every class of the training part becomes the validation part (none for 0).
    `frames`: T of event data, unless the name says so, `NAME:DIR?T=10`.  `workers`: processes that read
    ahead in data that does not stay in memory; by default as many as there are processors, at most 8.

    Raises `DataError` for a name that means nothing, and files that are missing or not what they should be;
    `ConfigError` for a bad `val_fraction` or `workers`.
    """
    match = re.match(r"([^:?]*)(?::([^?]*))?(?:\?(.*))?$", name, re.DOTALL)
    kind = match[1] if match else ""
    if kind in SOURCES:
        given = (match[2] or "", match[3] or "") if match else ("", "")
        data = _ours(name, kind, *given, frames, default_workers() if workers is None else workers)
    else:
        kind, _, where = name.partition(":")
        if kind not in DATASETS:
            raise DataError(f"unknown data {name!r}; {suggest(name, list_data())}")
        data = _registered(kind, where, name)
    return data.with_validation(val_fraction)


def _ours(name: str, kind: str, place: str, query: str, frames: int | None, workers: int) -> Data:
    source = SOURCES[kind]
    if bool(place) != bool(source.place):
        way_out = f"give its place, {kind}:{source.place}" if source.place else "takes no place after a colon"
        raise DataError(f"data {name!r}: {way_out}")
    if workers < 0:
        raise ConfigError(f"workers = {workers}: must not be negative")
    options = _options(name, source, query)
    if source.frames:
        options["steps"] = options.pop("T", frames)
    if source.streams:
        options["workers"] = workers
    return source.load(name, Path(place).expanduser(), **options) if place else source.load(name, **options)


def _options(name: str, source: Source, query: str) -> dict[str, Any]:
    """What follows the question mark: `size=48&T=10`.  Raises `DataError` for anything else."""
    found: dict[str, Any] = {}
    for item in filter(None, query.split("&")):
        key, _, text = item.partition("=")
        if key not in source.options:
            known = ", ".join(source.options) or "none"
            raise DataError(f"data {name!r}: unknown option {key!r} (it has {known})")
        kind = source.options[key]
        try:
            found[key] = kind(text)
        except ValueError:
            raise DataError(f"data {name!r}: {key} = {text!r}, must be {kind.__name__}") from None
        if kind in (int, float) and not found[key] > 0:
            raise DataError(f"data {name!r}: {key} = {text}, must be above 0")
    return found


def _registered(kind: str, where: str, name: str) -> Data:
    """What a user's function gives, checked and called `name`."""
    load = DATASETS[kind]
    try:
        inspect.signature(load).bind(*([where] if where else []))
    except TypeError:
        way_out = "takes no place after a colon" if where else f"give its place, {name}:PLACE"
        raise DataError(f"data {name!r}: {way_out}") from None
    except ValueError:
        pass  # a builtin without a signature
    try:
        found = load(where) if where else load()
    except OSError as error:
        raise DataError(f"data {name!r}: {error}") from error
    if not isinstance(found, Data):
        given = type(found).__name__
        raise DataError(f"data {name!r}: its function gave {given}, must give snn_energy.data.Data")
    return dataclasses.replace(found, name=name)
