"""A netlist on disk: `netlist.json`, which a person can read, and its arrays in `netlist.h5`.

The JSON carries the SHA-256 of the HDF5 file and of its own content, so a changed file is refused.
Inside the HDF5 file every array lies at `<node name>/<field>`; the network's names are its names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from snn_energy.errors import DataError, MissingDependency, SnnEnergyError
from snn_energy.exporters.netlist.check import check
from snn_energy.exporters.netlist.record import NODE_KINDS, Edge, Netlist, Node, time_offsets
from snn_energy.files import atomic_write, write_text
from snn_energy.reading import limit, one_line, read_json, too_large
from snn_energy.records import record_from, short

FORMAT = "snn-energy netlist"
VERSION = 1
ARRAYS_FILE, MANIFEST_FILE = "netlist.h5", "netlist.json"


@dataclasses.dataclass(frozen=True)
class _Head:
    """What a manifest says of the netlist as a whole."""

    edges: tuple[Edge, ...]
    time_steps: int
    probes: tuple[str, ...]
    origin: dict[str, Any]


def save(netlist: Netlist, directory: str | Path) -> None:
    """Check `netlist` and write it into `directory` (made if need be)."""
    check(netlist)
    h5py = _h5py()
    directory = Path(directory)
    offsets = time_offsets(netlist)
    rows: list[dict[str, Any]] = []
    with atomic_write(directory / ARRAYS_FILE) as temporary:
        with h5py.File(temporary, "w") as file:
            for name, node in netlist.nodes.items():
                plain, arrays = _split(node)
                for key, array in arrays.items():
                    file.create_dataset(f"{name}/{key}", data=array, track_times=False)
                rows.append(
                    {
                        "name": name,
                        "kind": type(node).__name__,
                        "offset": offsets[name],
                        **plain,
                        "arrays": sorted(arrays),
                    }
                )
        digest = sha256(temporary)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "time_steps": netlist.time_steps,
        "depth": max(offsets.values()),
        "nodes": rows,
        "edges": [[e.source, e.target, e.port] for e in netlist.edges],
        "probes": list(netlist.probes),
        "origin": dict(netlist.origin),
        "arrays_sha256": digest,
    }
    content["sha256"] = content_digest(content)
    write_text(directory / MANIFEST_FILE, json.dumps(content, indent=1) + "\n")


def load(directory: str | Path) -> Netlist:
    """Read and check a saved netlist; a file that was changed since is a `DataError`."""
    directory = Path(directory)
    content = _read_manifest(directory / MANIFEST_FILE)
    if sha256(directory / ARRAYS_FILE) != content["arrays_sha256"]:
        raise DataError(
            f"{directory / ARRAYS_FILE} was changed after export: its SHA-256 is not the manifest's"
        )
    path = directory / ARRAYS_FILE
    nodes: dict[str, Node] = {}
    try:
        with _h5py().File(path, "r") as file:
            taken = 0
            for row in content["nodes"]:
                arrays = {key: _array(file, f"{row['name']}/{key}", path) for key in row["arrays"]}
                taken += sum(array.nbytes for array in arrays.values())
                if taken > limit("arrays"):
                    too_large(path, taken, "arrays")
                nodes[row["name"]] = _join(row, arrays, path)
        edges = [dict(zip(("source", "target", "port"), edge, strict=True)) for edge in content["edges"]]
        told = {key: content[key] for key in ("time_steps", "probes", "origin")} | {"edges": edges}
        head = record_from(_Head, told, str(directory / MANIFEST_FILE), bounds={"time_steps": 1})
        netlist = Netlist(nodes, head.edges, head.time_steps, head.probes, head.origin)
    except SnnEnergyError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DataError(f"{directory}: not a netlist that was saved: {one_line(error)}") from error
    return check(netlist)


def _array(file: Any, name: str, path: Path) -> np.ndarray:
    """One array of numbers that lies in the file itself: no link, no other file, no filter, within the limit.

    Every step of the name is looked at: a group may be a link, too.
    """
    h5py = _h5py()
    here, walked = file, ""
    for step in name.split("/"):
        walked = f"{walked}/{step}" if walked else step
        if not isinstance(here, h5py.Group) or not isinstance(here.get(step, getlink=True), h5py.HardLink):
            raise DataError(f"{path}: {short(walked)} is missing or a link; must lie in the file")
        here = here[step]
    if (
        not isinstance(here, h5py.Dataset)
        or here.external
        or here.is_virtual
        or here.dtype.kind not in "biuf"
    ):
        raise DataError(f"{path}: {short(name)} must be numbers that lie in the file itself")
    if here.nbytes > limit("arrays"):
        too_large(f"{path}: {short(name)}", here.nbytes, "arrays")
    return np.asarray(here[()])


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file; `DataError` if it is not there."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def content_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's canonical JSON without its own `sha256` entry."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    content = read_json(path, "netlist")
    if content.get("format") != FORMAT:
        raise DataError(f"{path} is not a netlist: it does not say format {FORMAT!r}")
    if content.get("version") != VERSION:
        raise DataError(f"{path} has version {short(content.get('version'))}; this release reads {VERSION}")
    if content.get("sha256") != content_digest(content):
        raise DataError(f"{path} was changed after export: its SHA-256 is not the one written in it")
    return content


def _split(node: Node) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(plain fields, array fields) of a node; entries of a mapping become arrays named `field/key`."""
    plain: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for item in dataclasses.fields(node):
        value = getattr(node, item.name)
        if isinstance(value, np.ndarray):
            arrays[item.name] = value
        elif isinstance(value, Mapping):
            arrays.update({f"{item.name}/{key}": entry for key, entry in value.items()})
        else:
            plain[item.name] = list(map(int, value)) if isinstance(value, tuple) else value
    derived = {} if "shape" in plain else {"shape": list(map(int, node.shape))}
    return plain | derived, arrays


_LEAST = dict.fromkeys(("shape", "in_shape", "kernel", "stride", "dilation", "groups", "heads", "steps"), 1)


def _join(row: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Path) -> Node:
    kind = NODE_KINDS.get(row["kind"])
    if kind is None:
        raise DataError(f"{path}: node {short(row['name'])}: unknown kind {short(row['kind'])}")
    values: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        if item.name in row:
            values[item.name] = row[item.name]
        elif item.name in arrays:
            values[item.name] = arrays[item.name]
        else:
            prefix = f"{item.name}/"
            values[item.name] = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
    node: Node = record_from(kind, values, f"{path}: node {short(row['name'])}", least=None, bounds=_LEAST)
    return node


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingDependency("h5py", "lava", "reading and writing netlists") from error
    return h5py
