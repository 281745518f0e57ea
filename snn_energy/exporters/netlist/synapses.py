"""How many synapses a projection has and how many of them each message meets.

A zero weight is no synapse: a chip neither stores it nor spends energy on it.
"""

from __future__ import annotations

import numpy as np

from snn_energy.exporters.netlist.record import (
    Array,
    Conv,
    Delay,
    Dense,
    Identity,
    Netlist,
    Sparse,
    Synapses,
)


def fan_out(node: Synapses) -> Array:
    """Non-zero synapses that a message at each input position meets: int64 of `node.in_shape`."""
    match node:
        case Conv():
            return _conv_fan_out(node)
        case Dense():
            return np.count_nonzero(node.weight, axis=0).reshape(node.in_shape).astype(np.int64)
        case Sparse():
            used = node.sources[node.values != 0]
            return (
                np.bincount(used, minlength=int(np.prod(node.in_shape)))
                .reshape(node.in_shape)
                .astype(np.int64)
            )
        case Identity():
            return np.full(node.in_shape, int(node.weight != 0), np.int64)


def _conv_fan_out(node: Conv) -> Array:
    """fan_out[c, y, x] = Σ_ij n[c,i,j] · rows[i,y] · columns[j,x]: taps that land inside the output."""
    per_group = node.weight.shape[0] // node.groups
    nonzero = (node.weight != 0).reshape(node.groups, per_group, *node.weight.shape[1:]).sum(axis=1)
    taps = nonzero.reshape(node.in_shape[0], *node.weight.shape[2:]).astype(np.int64)
    rows, columns = (_reach(node, axis) for axis in (0, 1))
    return np.asarray(np.einsum("cij,iy,jx->cyx", taps, rows, columns))


def _reach(node: Conv, axis: int) -> Array:
    """(k, n) 0/1: whether some output position puts tap i on input position y."""
    n, k = node.in_shape[1 + axis], node.weight.shape[2 + axis]
    reach = np.zeros((k, n), np.int64)
    for i in range(k):
        at = (
            np.arange(node.shape[1 + axis]) * node.stride[axis] + i * node.dilation[axis] - node.padding[axis]
        )
        reach[i, at[(at >= 0) & (at < n)]] = 1
    return reach


def listed(node: Synapses) -> tuple[Array, Array, Array]:
    """Every non-zero synapse: flat source index, flat target index, weight with its exponent."""
    match node:
        case Conv():
            sources, targets, weights = _conv_listed(node)
        case Dense():
            targets, sources = np.nonzero(node.weight)
            weights = node.weight[targets, sources]
        case Sparse():
            sources, targets, weights = node.sources, node.targets, node.values
        case Identity():
            sources = targets = np.arange(int(np.prod(node.shape)))
            weights = np.full(sources.size, node.weight)
    used = weights != 0
    return sources[used], targets[used], weights[used].astype(np.int64) << node.exponent


def _conv_listed(node: Conv) -> tuple[Array, Array, Array]:
    (_, h, w), (o, ho, wo) = node.in_shape, node.shape
    i, kh, kw = node.weight.shape[1:]
    grids = np.meshgrid(*(np.arange(n) for n in (o, i, kh, kw, ho, wo)), indexing="ij")
    out, into, a, b, y, x = (g.ravel() for g in grids)
    rows = y * node.stride[0] + a * node.dilation[0] - node.padding[0]
    columns = x * node.stride[1] + b * node.dilation[1] - node.padding[1]
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    channel = out // (o // node.groups) * i + into
    sources, targets = (channel * h + rows) * w + columns, (out * ho + y) * wo + x
    return sources[inside], targets[inside], node.weight[out, into, a, b][inside]


def targets_reached(netlist: Netlist, name: str) -> list[str]:
    """The nodes that the current of `name` reaches, through delays; each needs its own synapses."""
    reached: list[str] = []
    for edge in netlist.targets_of(name):
        further = isinstance(netlist.nodes[edge.target], Delay)
        reached += targets_reached(netlist, edge.target) if further else [edge.target]
    return reached


def copies(netlist: Netlist, name: str) -> int:
    """How many nodes the current of `name` reaches."""
    return len(targets_reached(netlist, name))
