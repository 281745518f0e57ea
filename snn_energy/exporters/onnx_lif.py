"""Spiking neurons as ONNX functions: one definition for a whole file, whatever the number of layers and
steps.

`LifStep(x, v) -> (spikes, v')` is one time step with the membrane outside; `Lif(x) -> spikes` runs T steps
from rest over x (T·B, ...), `LifHeld(x)` does so with the same current x (B, ...) at every step, as a static
image gives, and `LifFrom(x, v) -> (spikes, v')` goes on from a given membrane.  Time constant, threshold and
reset are attributes, so layers share the definition.  Variants (soft reset, undecayed input, learned τ, no
leak) are functions of their own, made only where they occur.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from snn_energy.graph.nodes import If, Lif

DOMAIN = "snn_energy"
OPSET = 20


@dataclass(frozen=True)
class Variant:
    """What distinguishes one definition from another."""

    leak: str  # "divide" by τ, "multiply" by 1/τ (PLIF), or "none"
    decay_input: bool
    soft: bool

    @classmethod
    def of(cls, node: Lif | If) -> Variant:
        """The definition that a neuron needs."""
        if isinstance(node, If):
            return cls("none", False, node.v_reset is None)
        return cls("multiply" if node.learned else "divide", node.decay_input, node.v_reset is None)

    @property
    def name(self) -> str:
        """`Lif`, `PlifSoft`, `LifUndecayed`, `If` …"""
        base = {"divide": "Lif", "multiply": "Plif", "none": "If"}[self.leak]
        undecayed = "Undecayed" if self.leak != "none" and not self.decay_input else ""
        return base + undecayed + ("Soft" if self.soft else "")

    @property
    def attributes(self) -> list[str]:
        """The attributes that its functions take."""
        return ["v_threshold", "v_reset"] + ([] if self.leak == "none" else ["tau"])


def attributes(node: Lif | If) -> dict[str, float]:
    """What a call of the function states about its layer."""
    values = {"v_threshold": node.v_threshold, "v_reset": node.v_reset or 0.0}
    if isinstance(node, Lif):
        values["tau"] = 1 / node.tau if node.learned else node.tau
    return values


def _parameter(name: str, attribute: str) -> Any:
    """A scalar constant whose value is an attribute of the enclosing function."""
    from onnx import AttributeProto, helper

    node = helper.make_node("Constant", [], [name])
    node.attribute.append(
        AttributeProto(name="value_float", ref_attr_name=attribute, type=AttributeProto.FLOAT)
    )
    return node


def _function(name: str, inputs: list[str], outputs: list[str], nodes: list[Any], variant: Variant) -> Any:
    from onnx import helper

    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_function(DOMAIN, name, inputs, outputs, nodes, opsets, variant.attributes)


def step_function(variant: Variant) -> Any:
    """`LifStep`: charge, fire, reset, in the order of operations that SpikingJelly uses."""
    from onnx import TensorProto, helper

    make = helper.make_node
    nodes = [_parameter("threshold", "v_threshold"), _parameter("rest", "v_reset")]
    if variant.leak == "none":
        nodes += [make("Add", ["v", "x"], ["h"])]
    else:
        leak = "Mul" if variant.leak == "multiply" else "Div"
        nodes += [_parameter("tau", "tau"), make("Sub", ["v", "rest"], ["above"])]
        if variant.decay_input:
            nodes += [make("Sub", ["x", "above"], ["drive"]), make(leak, ["drive", "tau"], ["change"])]
            nodes += [make("Add", ["v", "change"], ["h"])]
        else:
            nodes += [make(leak, ["above", "tau"], ["lost"]), make("Sub", ["v", "lost"], ["kept"])]
            nodes += [make("Add", ["kept", "x"], ["h"])]
    nodes += [
        make("GreaterOrEqual", ["h", "threshold"], ["fires"]),
        make("Cast", ["fires"], ["spikes"], to=TensorProto.FLOAT),
    ]
    if variant.soft:
        nodes += [make("Mul", ["spikes", "threshold"], ["fall"]), make("Sub", ["h", "fall"], ["v_next"])]
    else:
        nodes += [make("Where", ["fires", "rest", "h"], ["v_next"])]
    return _function(variant.name + "Step", ["x", "v"], ["spikes", "v_next"], nodes, variant)


def sequence_function(variant: Variant, steps: int, *, held: bool, stateful: bool) -> Any:
    """`Lif`, `LifHeld`, `LifFrom`, `LifHeldFrom`: `steps` calls of the step function.

    `held`: one current (B, ...) at every step, instead of (T·B, ...).  `stateful`: the membrane (B, ...) is
    an input and an output; otherwise it starts at rest and is dropped.
    """
    from onnx import helper

    make = helper.make_node
    nodes = [] if stateful else [_parameter("v", "v_reset")]
    currents = ["x"] * steps if held or steps == 1 else [f"x{t}" for t in range(steps)]
    if not held and steps > 1:
        nodes.append(make("Split", ["x"], currents, axis=0, num_outputs=steps))
    spikes = [f"s{t}" for t in range(steps)]
    for t, current in enumerate(currents):
        before = f"v{t - 1}" if t else "v"
        after = f"v{t}" if t < steps - 1 else "v_next"
        call = make(variant.name + "Step", [current, before], [spikes[t], after], domain=DOMAIN)
        call.attribute.extend(_reference(name) for name in variant.attributes)
        nodes.append(call)
    nodes.append(make("Concat", spikes, ["spikes"], axis=0))
    inputs, outputs = (["x", "v"], ["spikes", "v_next"]) if stateful else (["x"], ["spikes"])
    return _function(sequence_name(variant, held=held, stateful=stateful), inputs, outputs, nodes, variant)


def sequence_name(variant: Variant, *, held: bool, stateful: bool) -> str:
    """What a sequence function is called."""
    return variant.name + ("Held" if held else "") + ("From" if stateful else "")


def _reference(name: str) -> Any:
    from onnx import AttributeProto

    return AttributeProto(name=name, ref_attr_name=name, type=AttributeProto.FLOAT)
