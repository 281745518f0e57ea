"""What synapses, norms, neurons and pools of ATen and SpikingJelly become."""

from __future__ import annotations

import operator
from typing import Any

import torch

from snn_energy.graph import nodes as n
from snn_energy.graph.aten import Call, Filled, array, handles
from snn_energy.graph.integrator import nodes_of


def each(value: Any, rank: int) -> tuple[int, ...]:
    """One number per space axis: PyTorch lets a single one stand for all."""
    values = [value] if isinstance(value, int) else list(value)
    return tuple(values * rank if len(values) == 1 else values)


# ------------------------------------------------------------------------------------------- synapses


@handles("aten.conv1d", "aten.conv2d", "aten.conv3d")
def conv(call: Call) -> str:
    weight = _weight(call, "weight")
    rank = weight.ndim - 2
    stride, dilation = each(call["stride"], rank), each(call["dilation"], rank)
    if isinstance(call["padding"], str):
        padding = _named_padding(call, weight.shape[2:], dilation)
    else:
        padding = each(call["padding"], rank)
    bias = _weight(call, "bias")
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": call["groups"]}
    return call.emit(n.Conv, call["input"], weight=weight, bias=bias, **settings)


def _named_padding(call: Call, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    if call["padding"] == "valid":
        return (0,) * len(kernel)
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if any(t % 2 for t in total):
        raise call.unsupported("with padding 'same' for an even kernel")
    return tuple(t // 2 for t in total)


@handles("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
def conv_transpose(call: Call) -> str:
    weight = _weight(call, "weight")
    names = ("stride", "padding", "output_padding", "dilation")
    settings = {name: each(call[name], weight.ndim - 2) for name in names}
    return call.emit(
        n.ConvTranspose,
        call["input"],
        weight=weight,
        bias=_weight(call, "bias"),
        groups=call["groups"],
        **settings,
    )


@handles("aten.linear")
def linear(call: Call) -> str:
    return call.emit(n.Linear, call["input"], weight=_weight(call, "weight"), bias=_weight(call, "bias"))


@handles("aten.matmul", "aten.bmm", "aten.mm")
def matmul(call: Call) -> str:
    left, right = call["self"], call["other"] if "other" in call.args else call["mat2"]
    if isinstance(right, torch.Tensor) and right.dim() == 2:
        return call.emit(n.Linear, left, weight=array(right.t()))
    return call.emit(n.MatMul, left, right)


def _weight(call: Call, name: str) -> Any:
    value = call[name]
    if value is None:
        return None
    if not isinstance(value, torch.Tensor):
        raise call.unsupported(f"whose {name} is computed from the input")
    return call.converter.array(value)


# ---------------------------------------------------------------------------------------------- norms


@handles("aten.batch_norm")
def batch_norm(call: Call) -> str:
    if call["training"] or call["running_mean"] is None:
        raise call.unsupported("that normalises by the statistics of its own input")
    mean, var = _weight(call, "running_mean"), _weight(call, "running_var")
    weight = _weight(call, "weight") if call["weight"] is not None else mean * 0 + 1
    bias = _weight(call, "bias") if call["bias"] is not None else mean * 0
    return call.emit(
        n.Norm, call["input"], weight=weight, bias=bias, mean=mean, var=var, eps=float(call["eps"]), axis=1
    )


@handles("aten.layer_norm")
def layer_norm(call: Call) -> str:
    shape = tuple(call["normalized_shape"])
    weight = _weight(call, "weight") if call["weight"] is not None else array(torch.ones(shape))
    bias = _weight(call, "bias") if call["bias"] is not None else array(torch.zeros(shape))
    return call.emit(n.LayerNorm, call["input"], weight=weight, bias=bias, eps=float(call["eps"]))


# -------------------------------------------------------------------------------------------- neurons


@handles("sj_lif.forward")
def lif(call: Call) -> tuple[Any, ...]:
    if _goes_on(call):
        return _step(call, 1 / float(call["tau"]), bool(call["decay_input"]))
    _from_rest(call)
    spikes = call.emit(
        n.Lif,
        call["x"],
        tau=float(call["tau"]),
        v_threshold=float(call["threshold"]),
        v_reset=call["reset"],
        decay_input=call["decay_input"],
    )
    return spikes, None, None


@handles("sj_plif.forward")
def plif(call: Call) -> tuple[Any, ...]:
    if not isinstance(call["w"], torch.Tensor):
        raise call.unsupported("whose time constant is computed from the input")
    if _goes_on(call):
        return _step(call, float(call["w"].sigmoid()), bool(call["decay_input"]))
    _from_rest(call)
    spikes = call.emit(
        n.Lif,
        call["x"],
        tau=1 / float(call["w"].sigmoid()),
        v_threshold=float(call["threshold"]),
        v_reset=call["reset"],
        decay_input=call["decay_input"],
        learned=True,
    )
    return spikes, None, None


@handles("sj_if.forward")
def integrate_and_fire(call: Call) -> tuple[Any, ...]:
    if _goes_on(call):
        return _step(call, 0.0, False)
    _from_rest(call)
    threshold, reset = float(call["threshold"]), call["reset"]
    return call.emit(n.If, call["x"], v_threshold=threshold, v_reset=reset), None, None


def _goes_on(call: Call) -> bool:
    """Is it one step of several calls: is its membrane that of the call before, or taken by the next one?"""
    used = any(user.target is operator.getitem and user.args[1] == 1 for user in call.node.users)
    return call.input_shape("x")[0] == 1 and (used or isinstance(call["v"], str))


def _step(call: Call, leak: float, decays: bool) -> tuple[Any, ...]:
    """Charge, fire and reset of one step, written out: `reroll` finds the neuron that all steps are."""
    shape = call.input_shape("x")[1:]
    x, v = call.emit(n.Reshape, call["x"], shape=shape), call["v"]
    threshold, reset = float(call["threshold"]), call["reset"]
    above = v if not reset else call.emit(n.Scale, v, shape=shape, offset=-float(reset))
    if leak == 0:
        h = call.emit(n.Add, v, x, shape=shape)
    elif decays:
        drive = call.emit(n.Sub, x, above, shape=shape)
        h = call.emit(n.Add, v, call.emit(n.Scale, drive, shape=shape, factor=leak), shape=shape)
    else:
        kept = call.emit(n.Sub, v, call.emit(n.Scale, above, shape=shape, factor=leak), shape=shape)
        h = call.emit(n.Add, kept, x, shape=shape)
    spikes = call.emit(n.Heaviside, h, shape=shape, threshold=threshold)
    if reset is None:
        fall = call.emit(n.Scale, spikes, shape=shape, factor=threshold)
    else:
        fall = call.emit(n.Mul, spikes, h, shape=shape)
    after = call.emit(n.Sub, h, fall, shape=shape)
    if reset:
        after = call.emit(n.Add, after, call.emit(n.Scale, spikes, shape=shape, factor=reset), shape=shape)
    return call.emit(n.Reshape, spikes, shape=(1, *shape)), after, None


@handles("snn_energy.neuron")
def neuron(call: Call) -> str:
    """A neuron module of ours: its own equations are captured beside the network."""
    path = call["path"]
    module = call.converter.model.get_submodule(path)
    sizes = tuple(d if isinstance(d, int) else 3 for d in call.input_shape("x"))
    inputs, fields = (call.name(call["x"]),), call.converter.equations(module, sizes)
    kind, shape = type(module).__name__, call.shape
    return call.converter.append(n.Neuron, path, name=path, inputs=inputs, shape=shape, kind=kind, **fields)


@handles("snn_energy.integrator")
def known_neuron(call: Call) -> str:
    """A neuron whose equation is known: its node, behind one for its synaptic current if it has that."""
    path, current, shape = call["path"], call.name(call["x"]), call.shape
    one = call.converter.integrators[path]
    if path in call.converter.names and not one.facts.passed:
        raise call.unsupported("twice in a pass: its membrane would go on from the first call")
    kinds = list(nodes_of(one.equation))
    for kind, attributes in kinds:
        name = path if kind is kinds[-1][0] else f"{path}.synapse"
        inputs = (current,)
        current = call.converter.append(kind, path, name=name, inputs=inputs, shape=shape, **attributes)
    return current


def _from_rest(call: Call) -> None:
    """Membranes start at v_reset (0 for a soft reset): a graph has no memory of an earlier call."""
    rest = call["reset"] or 0.0
    start = call["v"]
    known = isinstance(start, Filled) and start.value == rest
    if not known and not (isinstance(start, torch.Tensor) and bool((start == rest).all())):
        raise call.unsupported("whose membrane does not start at rest")


@handles("aten.ge", "aten.gt", "aten.le", "aten.lt")
def compare(call: Call) -> Any:
    """x ≥ c or x > c as a step function; x ≤ c is -x ≥ -c; against a tensor, the sign of the difference."""
    value, threshold, name = call["self"], call["other"], call.node.target._opname  # type: ignore[union-attr]
    strict, turned = name in ("gt", "lt"), name in ("le", "lt")
    if isinstance(value, Filled) and isinstance(threshold, int | float):
        left, right = (-value.value, -threshold) if turned else (value.value, threshold)
        return Filled(float(left > right if strict else left >= right))
    if isinstance(threshold, torch.Tensor) and threshold.numel() == 1:
        threshold = threshold.item()
    if isinstance(threshold, Filled):
        threshold = threshold.value
    if not isinstance(threshold, int | float):
        value, threshold = call.emit(n.Sub, value, threshold), 0.0
    if turned:
        value = call.emit(n.Scale, value, factor=-1.0)
    return call.emit(
        n.Heaviside, value, threshold=-float(threshold) if turned else float(threshold), strict=strict
    )


# -------------------------------------------------------------------------------------------- pooling


@handles("aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d")
def max_pool(call: Call) -> str:
    settings = _window(call)
    dilation = each(call["dilation"], len(settings["kernel"]))
    return call.emit(n.MaxPool, call["self"], dilation=dilation, ceil_mode=call["ceil_mode"], **settings)


@handles("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")
def avg_pool(call: Call) -> str:
    if call["divisor_override"] is not None:
        raise call.unsupported("with divisor_override")
    flags = {"ceil_mode": call["ceil_mode"], "count_include_pad": call["count_include_pad"]}
    return call.emit(n.AvgPool, call["self"], **_window(call), **flags)


def _window(call: Call) -> dict[str, tuple[int, ...]]:
    rank = int(call.node.target._opname[-2])  # type: ignore[union-attr]
    kernel = each(call["kernel_size"], rank)
    stride = each(call["stride"], rank) if call["stride"] else kernel
    return {"kernel": kernel, "stride": stride, "padding": each(call["padding"], rank)}


@handles("aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d", "aten.adaptive_avg_pool3d")
def adaptive_avg_pool(call: Call) -> str:
    rank = int(call.node.target._opname[-2])  # type: ignore[union-attr]
    return call.emit(n.AdaptiveAvgPool, call["self"], size=tuple(int(d) for d in call.shape[-rank:]))
