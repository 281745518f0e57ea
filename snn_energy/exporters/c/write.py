"""The files of a C program: templates filled with what the nodes wrote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, resources
from typing import Any

import numpy as np

from snn_energy.errors import ConfigError
from snn_energy.exporters.c.emit import Emitter, Function, Traced, dims, packed
from snn_energy.exporters.c.kinds import emit_node
from snn_energy.exporters.c.layout import Constant, numpy_type
from snn_energy.exporters.c.names import Names, comment, identifiers, quoted
from snn_energy.exporters.c.plan import BYTES, C_TYPES, Plan, plan
from snn_energy.exporters.netlist.record import (
    VOLTAGE_LIMIT,
    Array,
    Delay,
    Input,
    Netlist,
    Readout,
    neurons,
)
from snn_energy.exporters.netlist.simulate import message_range
from snn_energy.exporters.netlist.staa_lif import sigmoid_table

TEMPLATES = ("network.h", "network.c", "weights.h", "weights.c", "kernels.h", "staa.h", "main.c", "Makefile",
             "README.md")  # fmt: skip
BOARDS = ("board.h", "main.c", "cortex_m.c", "cortex-m.ld", "riscv32.c", "riscv32.ld", "boards.mk")
MCU = tuple(f"mcu/{name}" for name in BOARDS)
SUM_BITS = 62


@dataclass(frozen=True)
class Program:
    """A netlist in C: `files` name -> text, and what a host needs to know of it.

    `traced`: what network_trace is told of each node number; `input_type`: of a message.
    """

    plan: Plan
    files: Mapping[str, str]
    constants: tuple[Constant, ...]
    traced: tuple[Traced, ...]
    input_type: str
    sum_type: str
    rates: Mapping[str, float]
    state_bytes: int

    @property
    def netlist(self) -> Netlist:
        return self.plan.netlist

    @property
    def input(self) -> Input:
        """The netlist's only input."""
        (name,) = self.netlist.named(Input)
        node = self.netlist.nodes[name]
        assert isinstance(node, Input)
        return node


def program(
    netlist: Netlist,
    rates: Mapping[str, float] | None = None,
    *,
    frames: int = 1,
    engines: Mapping[str, str] | None = None,
) -> Program:
    """Write `netlist` in C.

    `rates`: node -> share of its messages that are not zero, which chooses engines; `frames`: of a sample in
    a file, 1 where it is held for every step; `engines`: see `plan.plan`.
    Raises `ConfigError` for what C cannot index or hold.
    """
    decided = plan(netlist, rates, engines)
    taken = frozenset().union(*(identifiers(_source(name)) for name in (*TEMPLATES, *MCU)))
    e = Emitter(decided, Names(taken))
    for name in decided.order:
        emit_node(e, name)
        _watch_delayed(e, name)
    facts = _facts(e, frames, rates or {})
    wanted = [n for n in (*TEMPLATES, *MCU) if n != "staa.h" or e.staa]
    files = {name: render(name, facts) for name in wanted}
    (entry,) = netlist.named(Input)
    return Program(
        decided, files, tuple(e.constants), tuple(e.traced), decided.values[entry].type, e.sum_type,
        dict(rates or {}), facts["static_bytes"],
    )  # fmt: skip


def _watch_delayed(e: Emitter, name: str) -> None:
    """A delay holds 24 bits: what enters one is held against them, as in the simulator."""
    plan = e.plan
    delayed = any(
        isinstance(plan.netlist.nodes[edge.target], Delay) for edge in plan.netlist.targets_of(name)
    )
    if delayed and plan.bounds[name] >= VOLTAGE_LIMIT:
        value = plan.values[name]
        fits = f"{e.kernel('fits', value.type)}({e.read(value.lag, name)}, VOLTAGE_LIMIT, {value.size})"
        e.block(value.lag, f"{name} is delayed", [f"if (!{fits})", f"    return wrong({e.number[name]});"])


def _facts(e: Emitter, frames: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """What the templates are filled with."""
    netlist, values = e.plan.netlist, e.plan.values
    (entry,) = netlist.named(Input)
    node = netlist.nodes[entry]
    assert isinstance(node, Input)
    low, high = message_range(node)
    functions = [e.functions[lag] for lag in sorted(e.functions)]
    groups, needed = _groups(e, functions)
    readouts = netlist.named(Readout)
    logit = _logit(e, readouts[0]) if len(readouts) == 1 else None
    return {
        "title": comment(str(netlist.origin.get("model") or "A spiking network")),
        "summary": f"{len(netlist.populations())} populations, {neurons(netlist):,} neurons, "
        f"{netlist.time_steps} time steps a sample",
        "version": metadata.version("snn-energy"),
        "steps": netlist.time_steps,
        "frames": frames,
        "inputs": values[entry].size,
        "input_shape": dims(values[entry].shape),
        "input_type": C_TYPES[values[entry].type],
        "low": low,
        "high": high,
        "scale": repr(float(node.scale)),
        "numpy_type": str(numpy_type(values[entry].type)),
        "constant_bytes": _bytes(e.constants),
        "static_bytes": _static(e, needed),
        "engines": [
            (n, engine, f"{rates[e.plan.source(n)]:.1%}" if e.plan.source(n) in rates else "not measured")
            for n, engine in e.plan.engines.items()
        ],
        "messages": f"{low} to {high}, clip(round(sample * {float(node.scale)!r}))",
        "outputs": e.outputs,
        "readouts": len(readouts),
        "readout_lines": [comment(_readout_line(e, n)) for n in readouts],
        "sum_type": C_TYPES[e.sum_type],
        "logit": logit,
        "lag": e.plan.lag,
        "ring": e.plan.ring,
        "index_type": "uint16_t" if e.list_size < 1 << 16 else "uint32_t",
        "staa": e.staa,
        "state": e.state,
        "scratch": _scratch(e, needed),
        "shapes": e.shapes,
        "groups": groups,
        "checked": any("return wrong(" in line for group in groups for line in group["lines"]),
        "arrays": e.constants,
        "kernels": _by_kind(e),
        "kinds": _kinds(e),
        "sigmoid": sigmoid_table(),
        "sigmoid_text": ",\n".join(
            "    " + ", ".join(map(str, sigmoid_table()[i : i + 12]))
            for i in range(0, len(sigmoid_table()), 12)
        ),
        "traced": [(quoted(t.node), int(t.spiking), t.shape[0], int(np.prod(t.shape[1:]))) for t in e.traced],
    }


def _by_kind(e: Emitter) -> Mapping[str, list[tuple[str, ...]]]:
    """Kernel -> the types for which it is needed."""
    found: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for kind, *types in sorted(e.kernels):
        found[kind].append(tuple(types))
    return found


def _kinds(e: Emitter) -> set[str]:
    """Families of kernels that share types and helpers."""
    found = {kind.split("_")[0] for kind, *_ in e.kernels}
    return {"conv" if k == "conv" else "pool" if k == "max" else "fire" if k in ("fire", "charge") else k
            for k in found}  # fmt: skip


def _groups(e: Emitter, functions: list[Function]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    groups, needed = [], dict[str, int]()
    for function in functions:
        pointers, sizes = packed(function)
        for kind, size in sizes.items():
            needed[kind] = max(needed.get(kind, 0), size)
        lines = [*pointers.values(), *function.lines.values()]
        if function.samples:
            lines += ["if (step == 0) {", *("    " + line for line in function.samples), "}"]
        for block in function.blocks:
            lines += ["", *block]
        last = function.lag == e.plan.lag
        groups.append(
            {
                "function": "compute" if e.plan.lag == 0 else f"compute_{function.lag}",
                "comment": "One step of all nodes."
                if e.plan.lag == 0
                else f"One step of the nodes that run {function.lag} steps behind the input.",
                "first": function.lag == 0,
                "last": last,
                "lag": function.lag,
                "lines": [*lines, ""],
            }
        )
    return groups, needed


def _scratch(e: Emitter, needed: Mapping[str, int]) -> list[str]:
    lines = [f"static {C_TYPES[kind]} scratch_{kind}[{size}];" for kind, size in sorted(needed.items())]
    if e.list_size:
        lines.append(f"static index_type channel_list[{e.list_size}];")
    return lines


def _static(e: Emitter, needed: Mapping[str, int]) -> int:
    """Bytes of state and buffers."""
    index = 2 if e.list_size < 1 << 16 else 4
    buffers = sum(size * BYTES[kind] for kind, size in needed.items())
    return e.state_bytes + buffers + e.list_size * index + e.outputs * BYTES[e.sum_type]


def _readout_line(e: Emitter, name: str) -> str:
    node = e.plan.netlist.nodes[name]
    assert isinstance(node, Readout)
    first, size = e.readouts[name], e.plan.values[name].size
    logit = f"{float(node.scale)!r} * sum / {e.plan.netlist.time_steps} + bias"
    return f"{name}: [{first}] to [{first + size - 1}]; logit = {logit}"


def _logit(e: Emitter, name: str) -> dict[str, Any]:
    """Logits as integers: sums and biases in a common unit of 2^-shift currents."""
    node = e.plan.netlist.nodes[name]
    assert isinstance(node, Readout)
    steps = e.plan.netlist.time_steps
    bias = np.broadcast_to(np.asarray(node.bias, np.float64).reshape(-1), (e.plan.values[name].size,))
    if not (np.isfinite(node.scale) and np.isfinite(bias).all()):
        raise ConfigError(f"{name}: scale {node.scale} and bias must be finite")
    sign = int(np.sign(node.scale))
    units = bias * steps / abs(node.scale) if sign else bias
    most = (
        steps * min(e.plan.heard(name), VOLTAGE_LIMIT) * abs(sign) + float(np.abs(units).max(initial=0)) + 1
    )
    shift = min(30, SUM_BITS - int(np.ceil(np.log2(most))) - 1)
    if shift < 0:
        raise ConfigError(
            f"{name}: biases up to {np.abs(units).max():.3g} units of current do not fit 64 bits"
        )
    held: Array = np.array([round(u * 2.0**shift) for u in units.tolist()], np.int64)
    kind = "i32" if np.abs(held).max(initial=0) < 1 << 31 else "i64"
    array = e.constant(name, "_bias", kind, held, f"biases, 2^-{shift} of a unit of current")
    return {"sign": sign, "shift": shift, "bias": array}


def constant_bytes(program: Program) -> int:
    """Bytes of flash that the constants take."""
    return _bytes(program.constants)


def static_bytes(program: Program) -> int:
    """Bytes of RAM that state and buffers take."""
    return program.state_bytes


def _bytes(constants: Iterable[Constant]) -> int:
    return sum(c.size * BYTES[c.type] for c in constants)


@lru_cache(maxsize=1)
def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_source), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )


@lru_cache(maxsize=32)
def _source(name: str) -> str:
    return (
        resources.files("snn_energy.exporters.c").joinpath("templates", *name.split("/")).read_text("utf-8")
    )


def render(name: str, facts: Mapping[str, Any]) -> str:
    """A template filled with `facts`, no line with blanks at its end, no two empty lines."""
    text: str = _environment().get_template(name).render(facts)
    lines = (line.rstrip() for line in text.splitlines())
    tidy: list[str] = []
    for line in lines:
        if line or (tidy and tidy[-1]):
            tidy.append(line)
    return "\n".join(tidy) + "\n"
