"""From a plan to lines of C: one function per lag, one block per node, buffers that share memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from snn_energy.exporters.c.layout import Constant
from snn_energy.exporters.c.names import Names, comment
from snn_energy.exporters.c.plan import BYTES, C_TYPES, Plan, Value, signed_type, wider
from snn_energy.exporters.netlist.record import (
    CURRENT_LIMIT,
    SPIKING,
    VOLTAGE_LIMIT,
    Array,
    Readout,
    Shape,
)

ALIGN = 16
"""Buffers begin at multiples of so many elements."""


@dataclass
class Buffer:
    """Memory of one step: `size` elements from statement `born` to statement `last` of its function."""

    name: str
    type: str
    size: int
    born: int
    last: int


@dataclass
class Function:
    """The nodes of one lag: statements in order, and the buffers that they share."""

    lag: int
    blocks: list[list[str]] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)  # delay line -> the pointer into it
    samples: list[str] = field(default_factory=list)  # at the first step of a sample


@dataclass(frozen=True)
class Traced:
    """What network_trace is told of a node number: the node, what its values are."""

    node: str
    type: str
    shape: Shape
    spiking: bool = False


class Emitter:
    """Collects functions, state, constants and kernels while the kinds of nodes write themselves."""

    def __init__(self, plan: Plan, names: Names) -> None:
        self.plan, self.names = plan, names
        self.functions: dict[int, Function] = {}
        self.constants: list[Constant] = []
        self.kernels: dict[tuple[str, ...], None] = {}
        self.state: list[str] = []
        self.state_bytes = 0
        self.shapes: list[str] = []
        self.list_size = 0  # channels that a list of spikes must hold
        self.staa = False
        self.ids = {name: names(name) for name in plan.order}
        self.traced = [
            Traced(n, plan.values[n].type, plan.values[n].shape, isinstance(plan.netlist.nodes[n], SPIKING))
            for n in plan.order
        ]
        self.number = {name: i for i, name in enumerate(plan.order)}
        self.delay_lines: dict[str, str] = {}
        readouts = plan.netlist.named(Readout)
        sizes = [plan.values[name].size for name in readouts]
        self.readouts = dict(zip(readouts, np.cumsum([0, *sizes]).tolist(), strict=False))
        self.outputs = sum(sizes)
        total = plan.netlist.time_steps * max(
            [min(plan.heard(n), VOLTAGE_LIMIT) for n in readouts], default=0
        )
        self.sum_type = "i32" if total < 1 << 31 else "i64"

    # what kinds of nodes call

    def at(self, lag: int) -> Function:
        """The function of a lag."""
        return self.functions.setdefault(lag, Function(lag))

    def block(self, lag: int, text: str, lines: Iterable[str]) -> None:
        """Statements of one node under a comment."""
        self.at(lag).blocks.append([f"/* {comment(text)} */", *lines])

    def kernel(self, kind: str, *types: str) -> str:
        """The name of a kernel for these types."""
        self.kernels.setdefault((kind, *types))
        return "_".join((kind, *types))

    def constant(self, node: str, suffix: str, kind: str, data: Array, text: str) -> str:
        """An array of weights.c; returns its name."""
        name = self.names(node, suffix)
        self.constants.append(Constant(name, kind, np.asarray(data), comment(f"{node}: {text}")))
        return name

    def keep(self, node: str, suffix: str, kind: str, size: int, text: str) -> str:
        """An array that lasts from step to step."""
        name = self.names(node, suffix)
        self.state_bytes += size * BYTES[kind]
        self.state.append(f"static {C_TYPES[kind]} {name}[{size}]; /* {comment(text)} */")
        return name

    def shape(self, node: str, suffix: str, kind: str, **fields: int) -> str:
        """A constant structure; returns its name."""
        name = self.names(node, suffix)
        inside = ", ".join(f".{key} = {int(value)}" for key, value in fields.items())
        self.shapes.append(f"static const {kind} {name} = {{{inside}}};")
        return name

    def scratch(self, lag: int, node: str, suffix: str, kind: str, size: int) -> str:
        """Memory for the statement that comes next."""
        function = self.at(lag)
        name = self.names(node, suffix)
        now = len(function.blocks)
        function.buffers[name] = Buffer(name, kind, size, now, now)
        return name

    def read(self, lag: int, source: str) -> str:
        """The pointer with which a function of this lag reads a node's values."""
        function, value = self.at(lag), self.plan.values[source]
        name = self.ids[source]
        if value.slots > 1:
            function.lines.setdefault(name, self._slot(value, const=value.lag != lag))
        elif name in function.buffers:
            function.buffers[name].last = len(function.blocks)
        return name

    def write(self, name: str) -> str:
        """The pointer to which a node writes its values: its delay line, or memory of this step."""
        value = self.plan.values[name]
        function = self.at(value.lag)
        if value.slots == 1:
            now = len(function.blocks)
            function.buffers[self.ids[name]] = Buffer(self.ids[name], value.type, value.size, now, now)
        else:
            steps = f"the last {value.slots} steps of {name}, {dims(value.shape)}"
            self.delay_lines[name] = self.keep(name, "_line", value.type, value.slots * value.size, steps)
            function.lines[self.ids[name]] = self._slot(value, const=False)
        return self.ids[name]

    def _slot(self, value: Value, const: bool) -> str:
        kind = f"const {C_TYPES[value.type]}" if const else C_TYPES[value.type]
        place = f"{self.delay_lines[value.node]} + turn % {value.slots} * {value.size}"
        return f"{kind} *const {self.ids[value.node]} = {place};"

    def trace(self, name: str) -> str:
        """The line that shows a node's values."""
        return f"NETWORK_TRACE({self.number[name]}, step, {self.ids[name]});"

    def summed(self, name: str, *, into: str | None = None) -> tuple[str, str, list[str]]:
        """(pointer, type, statements) of the sum of what feeds a node, held against its register.

        `into`: a type that the sum must have, in memory of its own.
        """
        plan, lag = self.plan, self.plan.lags[name]
        sources = [source for _, source in plan.sources[name]]
        heard = plan.heard(name)
        limit = CURRENT_LIMIT if isinstance(plan.netlist.nodes[name], SPIKING) else VOLTAGE_LIMIT
        kinds = [plan.values[source].type for source in sources]
        kind = signed_type(heard)
        for other in kinds:
            kind = wider(kind, other)
        size = plan.values[sources[0]].size
        lines = []
        pointer = self.read(lag, sources[0])
        if len(sources) > 1:
            first = pointer
            pointer = self.scratch(lag, name, "_sum", kind, size)
            lines.append(f"{self.kernel('copy', kinds[0], kind)}({first}, {pointer}, {size});")
            for source, other in zip(sources[1:], kinds[1:], strict=True):
                lines.append(
                    f"{self.kernel('add', other, kind)}({self.read(lag, source)}, {pointer}, {size});"
                )
        else:
            kind = kinds[0]
        if heard >= limit:
            fits = f"{self.kernel('fits', kind)}({pointer}, {limit_name(limit)}, {size})"
            lines.append(f"if (!{fits})")
            lines.append(f"    return wrong({self.number[name]});")
        if into is not None and kind != into:
            narrow = self.scratch(lag, name, "_current", into, size)
            lines.append(f"{self.kernel('copy', kind, into)}({pointer}, {narrow}, {size});")
            return narrow, into, lines
        return pointer, kind, lines


def limit_name(limit: int) -> str:
    return "CURRENT_LIMIT" if limit == CURRENT_LIMIT else "VOLTAGE_LIMIT"


def dims(shape: Shape) -> str:
    """16x4x4"""
    return "x".join(map(str, shape))


def packed(function: Function) -> tuple[dict[str, str], dict[str, int]]:
    """Pointers of a function's buffers, and the elements of each type that it needs: first fit by life."""
    places: dict[str, int] = {}
    needed: dict[str, int] = {}
    for buffer in function.buffers.values():
        others = sorted(
            (places[b.name], places[b.name] + b.size)
            for b in function.buffers.values()
            if b.name in places and b.type == buffer.type and b.last >= buffer.born and b.born <= buffer.last
        )
        place = 0
        for start, end in others:
            if place + buffer.size <= start:
                break
            place = max(place, -(-end // ALIGN) * ALIGN)
        places[buffer.name] = place
        needed[buffer.type] = max(needed.get(buffer.type, 0), place + buffer.size)
    pointers = {
        b.name: f"{C_TYPES[b.type]} *const {b.name} = scratch_{b.type} + {places[b.name]};"
        for b in function.buffers.values()
    }
    return pointers, needed
