"""Reading a NIR file: HDF5, groups and arrays, as a tree of plain dicts.

The fields are read as they stand, not through the nir package: its `read` checks types even where it is told
not to (in subgraphs), answers an unknown node with a bare assertion, and refuses files that older versions
wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn_energy.errors import CheckpointError, MissingDependency, SnnEnergyError

MAGIC = b"\x89HDF\r\n\x1a\n"
DEEPEST = 32  # graphs in graphs; a file whose groups contain themselves has no bottom


def is_nir(path: Path, start: bytes) -> bool:
    """Is it one by its name, or by its first bytes, which are those of every HDF5 file?"""
    return path.suffix.lower() == ".nir" or start.startswith(MAGIC)


def read_nir(path: Path) -> dict[str, Any]:
    """The graph in a file: `type`, `nodes` by name, `edges` as pairs of names, `metadata`.

    A node is a dict of its fields (numpy arrays, numbers, text) with its `type`; a graph in it is one of the
    same form.  Raises `CheckpointError`, in one line, for a file that is damaged or holds something else.
    """
    try:
        import h5py
    except ImportError:
        raise MissingDependency("h5py", "nir", "reading NIR files") from None
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("node"), h5py.Group):
                raise CheckpointError(f"{path}: an HDF5 file, but no NIR graph (it has no group 'node')")
            tree = _tree(file["node"], path, 0)
    except SnnEnergyError:
        raise
    except Exception as error:  # a damaged file can raise anything inside HDF5
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: not a NIR file, or a damaged one: {reason}") from None
    return as_graph(tree, str(path))


def as_graph(tree: Any, where: str) -> dict[str, Any]:
    """`tree` checked to be a graph of typed nodes, its edges as pairs of names; graphs in it likewise."""
    if not isinstance(tree, dict) or tree.get("type") != "NIRGraph":
        kind = tree.get("type") if isinstance(tree, dict) else None
        raise CheckpointError(f"{where}: holds {kind or 'something without a type'}, must hold a NIRGraph")
    nodes, edges = tree.get("nodes"), tree.get("edges")
    if not isinstance(nodes, dict) or not nodes:
        raise CheckpointError(f"{where}: a NIRGraph without nodes")
    for name, node in nodes.items():
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            raise CheckpointError(f"{where}: node {name!r} has no type")
    metadata = tree.get("metadata")
    return {
        "type": "NIRGraph",
        "nodes": {
            name: as_graph(node, f"{where}: {name}") if node["type"] == "NIRGraph" else node
            for name, node in nodes.items()
        },
        "edges": _pairs(edges, where),
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


def _pairs(edges: Any, where: str) -> list[tuple[str, str]]:
    found = np.asarray([] if edges is None else edges, dtype=object)
    if found.size and (found.ndim != 2 or found.shape[1] != 2):
        raise CheckpointError(f"{where}: edges of shape {found.shape}, must be pairs of names (E, 2)")
    return [(_text(a), _text(b)) for a, b in found.reshape(-1, 2)]


def _tree(group: Any, path: Path, depth: int) -> dict[str, Any]:
    import h5py
    from h5py import h5t as t

    if depth > DEEPEST:
        raise CheckpointError(f"{path}: groups in groups, more than {DEEPEST} deep")
    found: dict[str, Any] = {}
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise CheckpointError(f"{path}: {group.name}/{name} is a link, must be in the file itself")
        item = group[name]
        if isinstance(item, h5py.Group):
            found[name] = _tree(item, path, depth + 1)
        elif item.external or item.is_virtual:
            raise CheckpointError(f"{path}: {item.name} lies in another file")
        elif item.id.get_type().get_class() not in (t.INTEGER, t.FLOAT, t.STRING, t.ENUM):
            raise CheckpointError(
                f"{path}: {item.name} holds neither numbers nor text"
            )  # HDF5 may crash on it
        else:
            value = item[()]
            found[name] = _text(value) if isinstance(value, bytes) else value
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def arrays(graph: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values of the numeric fields of a graph's nodes."""
    for name, node in graph["nodes"].items():
        if node["type"] == "NIRGraph":
            yield from arrays(node, f"{prefix}{name}.")
            continue
        for field, value in node.items():
            array = np.asarray(value)
            if array.dtype.kind in "fiub":
                yield f"{prefix}{name}.{field}", torch.as_tensor(array)
