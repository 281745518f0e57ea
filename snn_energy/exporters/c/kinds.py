"""How each kind of node writes itself: buffers, constants and the calls that compute it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from snn_energy.exporters.c import layout
from snn_energy.exporters.c.emit import Emitter, Traced, dims
from snn_energy.exporters.c.plan import channelwise, signed_type
from snn_energy.exporters.c.staa import emit_staa
from snn_energy.exporters.netlist.record import (
    DECAY_UNITY,
    Conv,
    Dense,
    GradedMaxPool,
    Identity,
    Input,
    Population,
    Readout,
    Relay,
    Sparse,
    SpikeAttention,
    StaaLif,
)

BELOW = -(1 << 24)
"""What the simulator gives for a window of padding alone."""


def emit_node(e: Emitter, name: str) -> None:
    """Write one node into its function."""
    node = e.plan.netlist.nodes[name]
    RULES[type(node)](e, name, node)


def _input(e: Emitter, name: str, node: Input) -> None:
    value, (c, h, w) = e.plan.values[name], node.shape
    call = f"{e.kernel('channels_last', value.type)}(x, {e.write(name)}, {c}, {h * w});"
    e.block(0, f"{name}: messages, {dims(node.shape)}", [call, e.trace(name)])


def _conv(e: Emitter, name: str, node: Conv) -> None:
    weight, exponent = layout.halved(node.weight.astype(np.int64), node.exponent)
    node = Conv(node.in_shape, weight, node.stride, node.padding, node.dilation, node.groups, exponent)
    (c, h, w), (o, ho, wo) = node.in_shape, node.shape
    kh, kw = weight.shape[2:]
    shape = e.shape(
        name, "_shape", "conv_shape", channels=c, height=h, width=w, outputs=o, out_height=ho, out_width=wo,
        kernel_h=kh, kernel_w=kw, stride_h=node.stride[0], stride_w=node.stride[1], pad_h=node.padding[0],
        pad_w=node.padding[1], dilation_h=node.dilation[0], dilation_w=node.dilation[1], groups=node.groups,
        group_in=weight.shape[1], group_out=o // node.groups,
    )  # fmt: skip
    text = f"{kh}x{kw} taps, {c} channels in, {o} out"
    _projection(e, name, layout.conv_weights(node), text, exponent, shape, channelwise(node))


def _dense(e: Emitter, name: str, node: Dense) -> None:
    weight, exponent = layout.halved(node.weight.astype(np.int64), node.exponent)
    ((_, source),) = e.plan.sources[name]
    seen = e.plan.values[source]
    arranged = layout.dense_weights(Dense(node.in_shape, weight), seen.shape)
    inputs, outputs = arranged.shape
    shape = e.shape(
        name, "_shape", "conv_shape", channels=inputs, height=1, width=1, outputs=outputs, out_height=1,
        out_width=1, kernel_h=1, kernel_w=1, stride_h=1, stride_w=1, pad_h=0, pad_w=0, dilation_h=1,
        dilation_w=1, groups=1, group_in=inputs, group_out=outputs,
    )  # fmt: skip
    _projection(e, name, arranged, f"{inputs} inputs, {outputs} outputs", exponent, shape, False)


def _projection(
    e: Emitter, name: str, weight: np.ndarray, text: str, exponent: int, shape: str, own: bool
) -> None:
    """A convolution or dense layer: weights, one call, and the exponent."""
    value, lag = e.plan.values[name], e.plan.lags[name]
    ((_, source),) = e.plan.sources[name]
    kind = layout.narrowest(weight, "i8", "u8", "i16")
    array = e.constant(name, "_weight", kind, weight, f"{text}, current = 2^{exponent} * weight")
    types = (e.plan.values[source].type, kind, value.type)
    seen, out = e.read(lag, source), e.write(name)
    if own:
        call = f"{e.kernel('conv_channelwise', *types)}({seen}, {array}, {out}, &{shape});"
    elif e.plan.engines[name] == "dense":
        call = f"{e.kernel('conv_dense', *types)}({seen}, {array}, {out}, &{shape});"
    else:
        call = f"{e.kernel('conv_events', *types)}({seen}, {array}, {out}, channel_list, &{shape});"
        e.list_size = max(e.list_size, _channels(e, name))
    engine = "dense" if own else e.plan.engines[name]
    said = f"{name}: current {dims(value.shape)} of {source}, {text}; {engine}"
    e.block(lag, said, [call, *_scaled(e, name, exponent), e.trace(name)])


def _channels(e: Emitter, name: str) -> int:
    """Messages that one position of a projection's input can send."""
    node = e.plan.netlist.nodes[name]
    assert isinstance(node, Conv | Dense)
    return node.in_shape[0] if isinstance(node, Conv) else int(np.prod(node.in_shape))


def _scaled(e: Emitter, name: str, exponent: int) -> list[str]:
    value = e.plan.values[name]
    if exponent == 0:
        return []
    return [f"{e.kernel('scale', value.type)}({e.ids[name]}, {1 << exponent}, {value.size});"]


def _sparse(e: Emitter, name: str, node: Sparse) -> None:
    value, lag = e.plan.values[name], e.plan.lags[name]
    ((_, source),) = e.plan.sources[name]
    start, targets, values = layout.by_source(node)
    values, exponent = layout.halved(values, node.exponent)
    index = "u16" if max(values.size, value.size) < 1 << 16 else "u32"
    kind = layout.narrowest(values, "i8", "u8", "i16")
    text = f"{values.size} synapses sorted by source"
    arrays = [
        e.constant(name, "_start", index, start, f"{text}: where those of each source begin"),
        e.constant(name, "_target", index, targets, f"{text}: their targets"),
        e.constant(name, "_weight", kind, values, f"{text}: weights, current = 2^{exponent} * weight"),
    ]
    seen, out = e.read(lag, source), e.write(name)
    kernel = e.kernel("sparse", e.plan.values[source].type, kind, value.type, index)
    events = int(e.plan.engines[name] == "events")
    sizes = f"{e.plan.values[source].size}, {value.size}, {events}"
    call = f"{kernel}({seen}, {', '.join(arrays)}, {out}, {sizes});"
    said = f"{name}: current {dims(value.shape)} of {source}, {text}; {e.plan.engines[name]}"
    e.block(lag, said, [call, *_scaled(e, name, exponent), e.trace(name)])


def _identity(e: Emitter, name: str, node: Identity) -> None:
    value, lag = e.plan.values[name], e.plan.lags[name]
    ((_, source),) = e.plan.sources[name]
    kernel = e.kernel("one_to_one", e.plan.values[source].type, value.type)
    weight = int(node.weight) << node.exponent
    call = f"{kernel}({e.read(lag, source)}, {weight}, {e.write(name)}, {value.size});"
    said = f"{name}: current {dims(value.shape)}, {weight} for each message of {source}; dense"
    e.block(lag, said, [call, e.trace(name)])


def _population(e: Emitter, name: str, node: Population) -> None:
    value, lag = e.plan.values[name], e.plan.lags[name]
    c, h, w = value.shape
    current, kind, lines = e.summed(name)
    v = e.keep(
        name, "_v", "i32", value.size, f"membranes of {name}, {dims(value.shape)}, 64 to one of current"
    )
    clear = [v]
    biased, bias = _bias(e, name, node)
    decay, register = _decay(DECAY_UNITY - node.voltage_decay)
    out = e.write(name)
    rest = [
        v,
        out,
        *bias,
        *([] if register is None else [register]),
        str(node.threshold << 6),
        str(h * w),
        str(c),
    ]
    if node.current_decay == DECAY_UNITY:
        kernel = e.kernel("fire", kind, decay, biased)
        lines.append(f"{kernel}({', '.join([current, *rest])});")
    else:
        u = e.keep(name, "_u", "i32", value.size, f"currents of {name}, which decay, 64 to one of current")
        clear.append(u)
        kept = DECAY_UNITY - node.current_decay
        charge = e.kernel("charge", kind, "decayed")
        lines.append(f"if (!{charge}({current}, {u}, {kept}, {value.size}))")
        lines.append(f"    return wrong({e.number[name]});")
        lines.append(f"{e.kernel('fire_charged', decay, biased)}({', '.join([u, *rest])});")
    e.at(lag).samples += [f"memset({array}, 0, sizeof {array});" for array in clear]
    said = (
        f"{name}: spikes {dims(value.shape)}, threshold {node.threshold} of current, keeps "
        f"{DECAY_UNITY - node.voltage_decay}/4096 of its membrane"
    )
    e.block(lag, said, [*lines, e.trace(name)])


def _decay(kept: int) -> tuple[str, str | None]:
    """Which kernel decays a membrane of which `kept` / 4096 stays, and its argument."""
    if kept == DECAY_UNITY:
        return "none", None
    if kept > 0 and kept & (kept - 1) == 0:
        return "halved", str(13 - kept.bit_length())
    return "decayed", str(kept)


def _bias(e: Emitter, name: str, node: Population) -> tuple[str, list[str]]:
    """Whether a bias is there, per channel or per neuron, and the arguments that pass it."""
    if not np.any(node.bias_mantissa):
        return "no", []
    shape = (1,) * (3 - node.bias_mantissa.ndim) + node.bias_mantissa.shape
    mantissa = node.bias_mantissa.reshape(shape)
    c = node.shape[0]
    unit = str(1 << node.bias_exponent)
    if shape[1:] == (1, 1):
        data = np.broadcast_to(mantissa.ravel(), (c,))
        return "channel", [
            e.constant(name, "_bias", "i16", data, f"bias per channel, {unit} membrane units"),
            unit,
        ]
    data = layout.maps_last(mantissa, node.shape)
    return "neuron", [e.constant(name, "_bias", "i16", data, f"bias per neuron, {unit} membrane units"), unit]


def _relay(e: Emitter, name: str, node: Relay) -> None:
    value, lag = e.plan.values[name], e.plan.lags[name]
    current, kind, lines = e.summed(name)
    out = e.write(name)
    lines.append(f"{e.kernel('copy', kind, value.type)}({current}, {out}, {value.size});")
    e.block(
        lag, f"{name}: graded messages {dims(value.shape)}, the sum of its currents", [*lines, e.trace(name)]
    )


def _max_pool(e: Emitter, name: str, node: GradedMaxPool) -> None:
    value, lag = e.plan.values[name], e.plan.lags[name]
    (c, h, w), (_, ho, wo) = node.in_shape, node.shape
    shape = e.shape(
        name, "_shape", "pool_shape", channels=c, height=h, width=w, out_height=ho, out_width=wo,
        kernel_h=node.kernel[0], kernel_w=node.kernel[1], stride_h=node.stride[0], stride_w=node.stride[1],
        pad_h=node.padding[0], pad_w=node.padding[1],
    )  # fmt: skip
    current, kind, lines = e.summed(name, into=value.type)
    out = e.write(name)
    below = BELOW if kind != "i16" else -(1 << 15)
    lines.append(f"{e.kernel('max_pool', kind)}({current}, {out}, {below}, &{shape});")
    said = f"{name}: largest current of each window, {dims(value.shape)}"
    e.block(lag, said, [*lines, e.trace(name)])


def _attention(e: Emitter, name: str, node: SpikeAttention) -> None:
    value, lag = e.plan.values[name], e.plan.lags[name]
    c, h, w = node.shape
    dim, chunk = c // node.heads, node.chunk
    kind = signed_type(chunk * h * w)
    port = dict(e.plan.sources[name])
    size = node.heads * dim * dim
    sums = e.keep(name, "_kv", kind, size, f"K^T V of {name} so far, {node.heads} heads of {dim}x{dim}")
    write = e.kernel("attention_write", kind)
    args = f"{e.read(lag, port['k'])}, {e.read(lag, port['v'])}, {sums}, {h * w}, {node.heads}, {dim}"
    number = len(e.traced)
    e.traced.append(Traced(name, kind, (1, 1, size)))
    show = f"NETWORK_TRACE({number}, step, {sums});"
    clear = f"memset({sums}, 0, sizeof {sums});"
    if chunk == 1:
        lines = [clear, f"{write}({args});", show]
    else:
        whole = e.keep(
            name, "_done", kind, size, f"K^T V of {name} over its last whole chunk of {chunk} steps"
        )
        lines = [f"if (step % {chunk} == 0)", f"    {clear}", f"{write}({args});",
                 f"if (step % {chunk} == {chunk - 1}) {{", f"    memcpy({whole}, {sums}, sizeof {sums});",
                 f"    {show}", "}"]  # fmt: skip
        sums = whole
    e.block(lag, f"{name}: k and v of this step into K^T V", lines)
    gain = max(int(node.gain), 0)
    q, out = e.read(value.lag, port["q"]), e.write(name)
    if gain == 0:
        call = f"memset({out}, 0, {value.size} * sizeof *{out});"
    else:
        kernel = e.kernel("attention_read", kind, value.type)
        call = f"{kernel}({q}, {sums}, {out}, {gain}, {h * w}, {node.heads}, {dim});"
    said = f"{name}: current {dims(value.shape)}, {gain} * q K^T V over chunks of {chunk} steps; events"
    e.block(value.lag, said, [call, e.trace(name)])


def _readout(e: Emitter, name: str, node: Readout) -> None:
    value, lag = e.plan.values[name], e.plan.lags[name]
    c, h, w = value.shape
    current, kind, lines = e.summed(name)
    first = e.readouts[name]
    lines.append(
        f"{e.kernel('read_out', kind, e.sum_type)}({current}, network_sums + {first}, {c}, {h * w});"
    )
    e.at(lag).samples.append(f"memset(network_sums + {first}, 0, {value.size} * sizeof network_sums[0]);")
    lines.append(f"NETWORK_TRACE({e.number[name]}, step, {current});")
    e.traced[e.number[name]] = Traced(name, kind, value.shape)
    e.block(lag, f"{name}: sums of the current over the sample, {dims(value.shape)}", lines)


RULES: dict[type[Any], Callable[..., None]] = {
    Input: _input,
    Conv: _conv,
    Dense: _dense,
    Sparse: _sparse,
    Identity: _identity,
    Population: _population,
    StaaLif: emit_staa,
    Relay: _relay,
    GradedMaxPool: _max_pool,
    SpikeAttention: _attention,
    Readout: _readout,
}
