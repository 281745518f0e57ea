"""Spiking neurons as ONNX functions: one definition for a whole file, whatever the number of layers and
steps.

`Lif(x) -> spikes` runs T steps from rest over x (T·B, ...); `LifHeld(x)` does so with the same current x (B,
...) at every step, as a static image gives; `LifFrom(x, v) -> (spikes, v')` goes on from a given membrane.
They call `LifCharge(x, v) -> h` and `LifReset(h, fires) -> v`.  Time constant, threshold and reset are
attributes, so layers share the definition.  Variants (soft reset, undecayed input, τ that must be divided by,
no leak) are functions of their own, made only where they occur.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp
from typing import Any, Literal

import numpy as np

from snn_energy.graph.nodes import If, Lif, falls_by

DOMAIN = "snn_energy"
OPSET = 20
Reset = Literal["zero", "value", "soft"]


@dataclass(frozen=True)
class Variant:
    """What distinguishes one definition from another."""

    leak: Literal["divide", "multiply", "none"]  # by τ, by 1/τ, or an IF neuron
    decay_input: bool
    reset: Reset

    @property
    def name(self) -> str:
        """`Lif`, `LifSoft`, `LifUndecayed`, `IfToValue` …"""
        base = {"divide": "LifDivided", "multiply": "Lif", "none": "If"}[self.leak]
        undecayed = "Undecayed" if self.leak != "none" and not self.decay_input else ""
        return base + undecayed + {"zero": "", "value": "ToValue", "soft": "Soft"}[self.reset]

    @property
    def attributes(self) -> list[str]:
        """The attributes that its functions take."""
        more = {"zero": ["below"], "soft": ["taken"], "value": []}[self.reset]
        return ["v_threshold", "v_reset", *more] + ([] if self.leak == "none" else ["tau"])


def variant_of(node: Lif | If) -> Variant:
    """The definition that a neuron needs.  Dividing by a power of two is multiplying, exactly and faster."""
    reset: Reset = "soft" if node.v_reset is None else "value" if node.v_reset else "zero"
    if isinstance(node, If):
        return Variant("none", False, reset)
    exact = node.learned or frexp(node.tau)[0] == 0.5
    return Variant("multiply" if exact else "divide", node.decay_input, reset)


def just_below(threshold: float) -> float:
    """The largest float32 under a threshold: ONNX's ThresholdedRelu is strict, a neuron is not."""
    return float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))


def attributes(node: Lif | If) -> dict[str, float]:
    """What a call of the function states about its layer."""
    variant = variant_of(node)
    values = {"v_threshold": node.v_threshold, "v_reset": node.v_reset or 0.0}
    values |= {"below": just_below(node.v_threshold), "taken": falls_by(node)}
    if isinstance(node, Lif):
        values["tau"] = 1 / node.tau if variant.leak == "multiply" else node.tau
    return {name: values[name] for name in variant.attributes}


def _parameter(name: str, attribute: str) -> Any:
    """A scalar constant whose value is an attribute of the enclosing function."""
    from onnx import helper

    node = helper.make_node("Constant", [], [name])
    node.attribute.append(_reference("value_float", attribute))
    return node


def _function(name: str, inputs: list[str], outputs: list[str], nodes: list[Any], variant: Variant) -> Any:
    from onnx import helper

    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_function(DOMAIN, name, inputs, outputs, nodes, opsets, variant.attributes)


def charge_function(variant: Variant) -> Any:
    """`LifCharge(x, v) -> h`, in the order of operations that SpikingJelly uses."""
    return _function(variant.name + "Charge", ["x", "v"], ["h"], _charge(variant), variant)


def reset_function(variant: Variant) -> Any:
    """`LifReset(h, fires) -> v`.

    A hard reset to 0 is h - ThresholdedRelu(h), which is 0 where h is at least the threshold and takes fewer
    passes over memory than a `Where`.
    """
    from onnx import TensorProto, helper

    make = helper.make_node
    if variant.reset == "soft":
        nodes = [_parameter("taken", "taken"), make("Cast", ["fires"], ["s"], to=TensorProto.FLOAT)]
        nodes += [make("Mul", ["s", "taken"], ["fall"]), make("Sub", ["h", "fall"], ["v"])]
    elif variant.reset == "value":
        nodes = [_parameter("rest", "v_reset"), make("Where", ["fires", "rest", "h"], ["v"])]
    else:
        nodes = [make("ThresholdedRelu", ["h"], ["fall"]), make("Sub", ["h", "fall"], ["v"])]
        nodes[0].attribute.append(_reference("alpha", "below"))
    return _function(variant.name + "Reset", ["h", "fires"], ["v"], nodes, variant)


def _charge(variant: Variant) -> list[Any]:
    """x, v -> h."""
    from onnx import helper

    make = helper.make_node
    if variant.leak == "none":
        return [make("Add", ["v", "x"], ["h"])]
    leak = "Mul" if variant.leak == "multiply" else "Div"
    start = [_parameter("tau", "tau"), _parameter("rest", "v_reset"), make("Sub", ["v", "rest"], ["above"])]
    if variant.decay_input:
        change = [make("Sub", ["x", "above"], ["drive"]), make(leak, ["drive", "tau"], ["change"])]
        return [*start, *change, make("Add", ["v", "change"], ["h"])]
    change = [make(leak, ["above", "tau"], ["lost"]), make("Sub", ["v", "lost"], ["kept"])]
    return [*start, *change, make("Add", ["kept", "x"], ["h"])]


def sequence_function(variant: Variant, steps: int, *, held: bool, stateful: bool) -> Any:
    """`Lif`, `LifHeld`, `LifFrom`, `LifHeldFrom`: `steps` times charge, fire, reset.

    `held`: one current (B, ...) at every step, instead of (T·B, ...).  `stateful`: the membrane (B, ...) is
    an input and an output; otherwise it starts at rest and is dropped.
    """
    from onnx import TensorProto, helper

    make = helper.make_node
    nodes = [_parameter("threshold", "v_threshold")] + ([] if stateful else [_parameter("v", "v_reset")])
    currents = ["x"] * steps if held or steps == 1 else [f"x{t}" for t in range(steps)]
    if not held and steps > 1:
        nodes.append(make("Split", ["x"], currents, axis=0, num_outputs=steps))
    fires = [f"fires{t}" for t in range(steps)]
    v = "v"
    for t, current in enumerate(currents):
        nodes.append(_call(variant, "Charge", [current, v], f"h{t}"))
        nodes.append(make("GreaterOrEqual", [f"h{t}", "threshold"], [fires[t]]))
        last = t == steps - 1
        v = "v_next" if last else f"v{t}"
        if stateful or not last:
            nodes.append(_call(variant, "Reset", [f"h{t}", fires[t]], v))
    nodes.append(make("Concat", fires, ["fires"], axis=0))
    nodes.append(make("Cast", ["fires"], ["spikes"], to=TensorProto.FLOAT))
    inputs, outputs = (["x", "v"], ["spikes", "v_next"]) if stateful else (["x"], ["spikes"])
    return _function(sequence_name(variant, held=held, stateful=stateful), inputs, outputs, nodes, variant)


def filter_function(steps: int) -> Any:
    """`Filter(x) -> y`: over x (T·B, ...), y[t] = keep · y[t-1] + gain · x[t], from 0."""
    from onnx import helper

    make = helper.make_node
    nodes = [
        _parameter("kept", "keep"),
        _parameter("scale", "gain"),
        make("Mul", ["x", "scale"], ["entered"]),
    ]
    parts = [f"x{t}" for t in range(steps)] if steps > 1 else ["entered"]
    if steps > 1:
        nodes.append(make("Split", ["entered"], parts, axis=0, num_outputs=steps))
    held = parts[:1]
    for t, part in enumerate(parts[1:], 1):
        nodes.append(make("Mul", [held[-1], "kept"], [f"faded{t}"]))
        nodes.append(make("Add", [f"faded{t}", part], [f"y{t}"]))
        held.append(f"y{t}")
    nodes.append(make("Concat", held, ["y"], axis=0))
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_function(DOMAIN, "Filter", ["x"], ["y"], nodes, opsets, ["keep", "gain"])


def _call(variant: Variant, part: str, inputs: list[str], output: str) -> Any:
    """A call of a part of the neuron, which gets its attributes."""
    from onnx import helper

    node = helper.make_node(variant.name + part, inputs, [output], domain=DOMAIN)
    node.attribute.extend(_reference(name, name) for name in variant.attributes)
    return node


def sequence_name(variant: Variant, *, held: bool, stateful: bool) -> str:
    """What a sequence function is called."""
    return variant.name + ("Held" if held else "") + ("From" if stateful else "")


def body_function(writer: Any, kind: str, known: dict[str, Any]) -> tuple[dict[str, np.ndarray], Any]:
    """A `Neuron` as a function of its graph's inputs and its weights; (the weights by name, the function).

    `writer` is a Writer of the neuron's own graph.  Layers of one shape get the same function: equal
    definitions in `known` are found again under their name, `STAALIF`, `STAALIF_1`, …
    """
    from onnx import helper, numpy_helper

    for node in writer.graph:
        writer.write(node)
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in writer.initializers.items()}
    weights = {name: a for name, a in arrays.items() if a.dtype == np.float32 and a.ndim}
    plain = [
        helper.make_node("Constant", [], [name], value=tensor)
        for name, tensor in writer.initializers.items()
        if name not in weights
    ]
    inputs = [*(source.name for source in writer.graph.inputs), *weights]
    results = [writer.get(target, "full") for target in writer.graph.outputs]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    for count in range(len(known) + 1):
        name = f"{kind}_{count}" if count else kind
        function = helper.make_function(DOMAIN, name, inputs, results, plain + writer.nodes, opsets)
        if name not in known or known[name].SerializeToString() == function.SerializeToString():
            break
    return weights, function


def _reference(name: str, attribute: str) -> Any:
    """`name` of an inner node is `attribute` of the enclosing function."""
    from onnx import AttributeProto

    return AttributeProto(name=name, ref_attr_name=attribute, type=AttributeProto.FLOAT)
