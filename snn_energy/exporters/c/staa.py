"""How a `StaaLif` writes itself: constants of its gates, and one call a step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from snn_energy.errors import ConfigError
from snn_energy.exporters.c.emit import Emitter, dims
from snn_energy.exporters.netlist.record import Array, StaaLif

SATURATED = {"bias": 1 << 19, "position": 1 << 25}
"""Beyond these a sum saturates whatever else it holds, so 32 bits keep all that matters."""


def emit_staa(e: Emitter, name: str, node: StaaLif) -> None:
    """Write one STAA neuron layer into its function."""
    e.staa = True
    value, lag = e.plan.values[name], e.plan.lags[name]
    c, h, w = value.shape
    current, _, lines = e.summed(name, into="i32")
    membrane = e.keep(
        name, "_h", "i32", value.size, f"membranes of {name}, {dims(value.shape)}, 64 to one of current"
    )
    fields = {
        "channels": str(c),
        "positions": str(h * w),
        "threshold": str(int(node.threshold)),
        "gain": str(int(node.gain)),
        "keep": str(int(node.keep)),
        "bias": _clamped(e, name, "bias", node.bias, "per channel, in units of current"),
    }
    if node.position_at != "off":
        what = f"code of each step, added to the {node.position_at}, (steps, channels)"
        fields[f"at_{node.position_at}"] = _clamped(e, name, "position", node.position, what)
    for place in ("context_in", "context_state"):
        if gate := getattr(node, place):
            fields[place] = "&" + _context(e, name, place, gate)
    if node.attention:
        fields["attention"] = "&" + _steps(e, name, node.attention)
    neuron = _structure(e, name, "_staa", "staa_neuron", fields)
    hidden = max([c, *(len(g["query_bias"]) for g in (node.context_in, node.context_state) if g)])
    inner = [
        e.scratch(lag, name, "_x", "i32", value.size),
        e.scratch(lag, name, "_state", "i32", value.size),
        e.scratch(lag, name, "_pooled", "i64", c),
        e.scratch(lag, name, "_hidden", "i64", hidden),
    ]
    out = e.write(name)
    lines.append(f"fire_staa({', '.join([f'&{neuron}', 'step', current, membrane, out, *inner])});")
    e.at(lag).samples.append(f"memset({membrane}, 0, sizeof {membrane});")
    said = f"{name}: STAA spikes {dims(value.shape)}, threshold {node.threshold}, 64 to one of current"
    e.block(lag, said, [*lines, e.trace(name)])


def _clamped(e: Emitter, name: str, what: str, array: Array, text: str) -> str:
    data = np.clip(np.asarray(array, dtype=np.int64), -SATURATED[what], SATURATED[what])
    return e.constant(name, f"_{what}", "i32", data, f"{what} {text}")


def _context(e: Emitter, name: str, place: str, gate: Mapping[str, Array]) -> str:
    fields = {key: str(int(gate[key])) for key in ("key_bias", "epsilon", "key_shift", "value_shift")} | {
        "hidden": str(len(gate["query_bias"]))
    }
    for key in ("key", "query", "value", "norm_weight"):
        fields[key] = _held(e, name, place, key, gate[key], "i32")
    for key in ("query_bias", "norm_bias", "value_bias"):
        fields[key] = _held(e, name, place, key, gate[key], "i64")
    return _structure(e, name, f"_{place}", "context_gate", fields)


def _held(e: Emitter, name: str, place: str, key: str, array: Array, kind: str) -> str:
    data = np.asarray(array).astype(np.int64)
    if kind == "i32" and np.abs(data).max(initial=0) >= 1 << 31:
        raise ConfigError(f"{name}: {place}: {key} up to {np.abs(data).max():,}; C keeps 32 bits")
    shape = "x".join(map(str, data.shape))
    return e.constant(name, f"_{place}_{key}", kind, data, f"{place}: {key}, {shape}")


def _steps(e: Emitter, name: str, gate: Mapping[str, Array]) -> str:
    fields = {}
    for key in ("conv1", "conv2"):
        values = np.asarray(gate[key]).astype(np.int64)
        if np.abs(values).max() >= 1 << 31:
            raise ConfigError(f"{name}: attention: {key} up to {np.abs(values).max():,}; C keeps 32 bits")
        fields[key] = "{" + ", ".join(map(str, values.tolist())) + "}"
    fields |= {key: str(int(gate[key])) for key in ("shift1", "shift2")}
    return _structure(e, name, "_steps", "step_gate", fields)


def _structure(e: Emitter, name: str, suffix: str, kind: str, fields: Mapping[str, str]) -> str:
    found = e.names(name, suffix)
    inside = ", ".join(f".{key} = {value}" for key, value in fields.items())
    e.shapes.append(f"static const {kind} {found} = {{{inside}}};")
    return found
