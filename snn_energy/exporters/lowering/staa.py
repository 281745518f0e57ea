"""A STAA neuron from its module to registers: real-valued parameters, then whole numbers.

Membranes count in U = 64·scale per real unit, `scale` being current units per real unit.  What turns a
membrane into a logit, a hidden value or back carries U in its weights, so nothing is converted while it runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.netlist.record import Array, Shape, StaaLif
from snn_energy.exporters.netlist.staa_lif import FRACTION_BITS, LOGIT_BITS, NORM_BITS, ONE, ONE_BITS
from snn_energy.graph.graph import Graph
from snn_energy.graph.nodes import Lif, Node

GATE_WEIGHT_MAX = (1 << 15) - 1  # 16 signed bits
GATE_BIAS_MAX = 1 << 45
SHIFT_MAX = 44
HIDDEN_SHIFT_MAX = 36  # keeps the square of the layer norm's epsilon inside 64 bits


@dataclass(frozen=True)
class ContextGate:
    """A GC block in float64: weights (C,), (R, C), (C, R) and biases; norm and eps are its layer norm's."""

    key: Array
    key_bias: float
    query: Array
    query_bias: Array
    norm_weight: Array
    norm_bias: Array
    eps: float
    value: Array
    value_bias: Array


@dataclass(frozen=True)
class StaaParameters:
    """A STAA neuron in float64.  `position` (T, C); `conv1` and `conv2` of SA (3,), α in the first."""

    threshold: float
    gain: float
    keep: float
    position: Array | None = None
    position_at: str = "off"
    context_in: ContextGate | None = None
    context_state: ContextGate | None = None
    attention: tuple[Array, Array] | None = None

    @property
    def is_lif(self) -> bool:
        """Without gates, and with M + N = 1, it is the plain LIF of τ = 1/N."""
        gated = self.context_in or self.attention is not None or self.position is not None
        return not gated and 0 < self.keep < 1 and math.isclose(self.keep + self.gain, 1)


IN_INTEGERS: dict[str, tuple[Any, ...]] = {
    "sa_form": ("channel",),
    "pe_at": ("input", "state", "aggregate", "output"),
    "adaptive": ("off", "layer"),
    "v_reset": (0,),
}
"""Fields of a STAA neuron that decide whether it has a form in integers, and the values that have one."""


def read_module(module: Any, name: str = "STAALIF") -> StaaParameters:
    """The parameters of a `snn_energy.models.staa_neuron.STAALIF`, called `name`.

    Raises `UnsupportedOp` for one that has no form in integers.
    """
    config = module.config
    present = {"sa_form": module.sa, "pe_at": module.pe}
    for field, values in IN_INTEGERS.items():
        value = getattr(config, field)
        if value not in values and present.get(field, module) is not None:
            raise UnsupportedOp(
                name,
                f"a STAA neuron with {field} = {value}",
                supported=f"{field} = {' or '.join(map(str, values))}",
                way_out="export to ONNX, or train it so",
            )
    position = None if module.pe is None else _array(module.pe.table)
    sa = None if module.sa is None else (
        _array(module.sa.conv1.weight).ravel() * _number(module.sa.alpha),
        _array(module.sa.conv2.weight).ravel(),
    )  # fmt: skip
    return StaaParameters(
        config.v_threshold,
        _number(module.N),
        _number(module.M),
        position,
        "off" if position is None else config.pe_at,
        _read_context(module.gc_in),
        _read_context(module.state_context),
        sa,
    )


def plain_lifs(graph: Graph, neurons: Mapping[str, StaaParameters]) -> Graph:
    """`graph` with its STAA neurons that are LIFs as such."""

    def lif(node: Node) -> Node:
        p = neurons.get(node.name)
        if p is None or not p.is_lif:
            return node
        place = {"name": node.name, "inputs": node.inputs, "shape": node.shape, "module": node.module}
        return Lif(**place, tau=1 / p.gain, v_threshold=p.threshold)  # type: ignore[arg-type]

    return dataclasses.replace(graph, nodes=tuple(map(lif, graph)))


def _read_context(block: Any) -> ContextGate | None:
    if block is None:
        return None
    return ContextGate(
        _array(block.key.weight).ravel(),
        float(_array(block.key.bias)[0]),
        _array(block.query.weight),
        _array(block.query.bias),
        _array(block.norm.weight),
        _array(block.norm.bias),
        float(block.norm.eps),
        _array(block.value.weight),
        _array(block.value.bias),
    )


def _number(value: Any) -> float:
    """A constant, or a learned scalar."""
    return float(value) if isinstance(value, int | float) else float(_array(value))


def _array(tensor: Any) -> Array:
    return np.asarray(tensor.detach().cpu().double().numpy())


def staa_registers(name: str, p: StaaParameters, shape: Shape, scale: float, bias: Array) -> StaaLif:
    """Registers of neurons `name` on a stream of `scale` current units per real unit; `bias` (C,) in those.

    Raises `UnsupportedOp` where the scale leaves less than one current unit below the threshold.
    """
    unit = scale * (1 << FRACTION_BITS)
    threshold = math.ceil(p.threshold * unit - 1e-9)
    if threshold < 1 << FRACTION_BITS:
        raise UnsupportedOp(
            name, f"a threshold of {p.threshold * scale:.3g} current units", supported="1 or more",
            way_out="shrink the weights, biases or gates in front of it, or raise its threshold",
        )  # fmt: skip
    attention = {} if p.attention is None else _attention(*p.attention, shape[1] * shape[2], unit)
    position = np.zeros((0, shape[0])) if p.position is None else p.position
    return StaaLif(
        shape,
        threshold,
        round(p.gain * ONE),
        round(p.keep * ONE),
        bias.astype(np.int64).reshape(-1, 1, 1),
        _whole(position * unit),
        p.position_at,
        {} if p.context_in is None else _context(p.context_in, unit),
        {} if p.context_state is None else _context(p.context_state, unit),
        attention,
        scale,
    )


def _context(gate: ContextGate, unit: float) -> dict[str, Array]:
    to_logit, to_membrane = (1 << LOGIT_BITS) / unit, unit / ONE
    key_shift = _shift(gate.key * to_logit, gate.key_bias * (1 << LOGIT_BITS))
    query_shift = min(_shift(gate.query / unit, gate.query_bias), HIDDEN_SHIFT_MAX)
    value_shift = _shift(gate.value * to_membrane, gate.value_bias * unit)
    return {
        "key": _whole(gate.key * to_logit * 2.0**key_shift),
        "key_bias": _whole(gate.key_bias * 2.0 ** (LOGIT_BITS + key_shift)),
        "key_shift": np.asarray(key_shift),
        "query": _whole(gate.query / unit * 2.0**query_shift),
        "query_bias": _whole(gate.query_bias * 2.0**query_shift),
        "norm_weight": _whole(gate.norm_weight * 2.0**NORM_BITS),
        "norm_bias": _whole(gate.norm_bias * 2.0 ** (NORM_BITS + ONE_BITS)),
        "epsilon": _whole(math.sqrt(gate.eps) * 2.0**query_shift),
        "value": _whole(gate.value * to_membrane * 2.0**value_shift),
        "value_bias": _whole(gate.value_bias * unit * 2.0**value_shift),
        "value_shift": np.asarray(value_shift),
    }


def _attention(conv1: Array, conv2: Array, positions: int, unit: float) -> dict[str, Array]:
    first, second = conv1 * (ONE / (positions * unit)), conv2 * 2.0 ** (LOGIT_BITS - ONE_BITS)
    shift1, shift2 = _shift(first), _shift(second)
    return {
        "conv1": _whole(first * 2.0**shift1),
        "shift1": np.asarray(shift1),
        "conv2": _whole(second * 2.0**shift2),
        "shift2": np.asarray(shift2),
    }


def _shift(weight: Array, bias: Array | float = 0.0) -> int:
    """The most fraction bits with which weights fit 16 bits and biases 46."""
    peaks = (np.abs(weight).max(initial=0), GATE_WEIGHT_MAX), (np.abs(bias).max(initial=0), GATE_BIAS_MAX)
    room = [math.floor(math.log2(limit) - math.log2(peak)) for peak, limit in peaks if peak > 0]
    return max(0, min([*room, SHIFT_MAX]))


def _whole(x: Array | float) -> Array:
    return np.rint(np.asarray(x, np.float64)).astype(np.int64)
