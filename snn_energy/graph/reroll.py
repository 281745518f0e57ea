"""Neurons that were written out, step by step, become one node; the loop around them becomes a time axis.

`rolled` finds spikes whose membranes follow from one another, v ← a·v + b·x with a hard reset to 0 or a soft
one, T steps of each neuron, and then computes every layer for all steps at once.  Where anything of the
network cannot be rolled up, all of it stays as it is: nothing is guessed.  Beside neurons that take all steps
in a call, only layers are left to be rolled up.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_energy.graph import nodes as n
from snn_energy.graph.forms import Form, Forms
from snn_energy.graph.integrator import integrator
from snn_energy.graph.nodes import NEURONS, Node

# what has no axis among its attributes: one more in front changes nothing
PLAIN = (
    n.Conv, n.ConvTranspose, n.Linear, n.LayerNorm, n.MaxPool, n.AvgPool, n.AdaptiveAvgPool, n.Add, n.Sub,
    n.Mul, n.Div, n.Scale, n.Activation, n.Heaviside, n.Threshold, n.MatMul, n.Reshape,
)  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """A neuron: its spikes, one node per step, the nodes that it hears, and its equation."""

    spikes: tuple[str, ...]
    currents: tuple[str, ...]
    keep: float  # a
    gain: float  # b
    threshold: float
    taken: float | None  # by a soft reset
    fades: float = 0.0  # what a synaptic current keeps of itself


class CannotRoll(Exception):
    """Something of the network is no loop over steps."""


def rolled(nodes: list[Node], outputs: tuple[str, ...]) -> tuple[list[Node], tuple[str, ...]]:
    """`nodes` and `outputs` with the loops over time rolled up, or as they are."""
    table = {node.name: node for node in nodes}
    forms, chains, steps = Forms(table), [], 1
    known = next((node for node in nodes if isinstance(node, NEURONS)), None)
    try:
        if known is not None:
            stacks = [len(node.inputs) for node in nodes if isinstance(node, n.Stack)]
            steps = next((count for count in stacks if count == known.shape[0]), 1)
        else:
            for node in nodes:
                if isinstance(node, n.Heaviside):
                    forms.of(node.name)
            chains = _chains(forms)
            steps = len(chains[0].spikes) if chains else 1
        return Roller(table, forms, chains, steps).run(outputs) if steps > 1 else (nodes, outputs)
    except (CannotRoll, RecursionError):
        return nodes, outputs


def _chains(forms: Forms) -> list[Chain]:
    """Every neuron.  Raises `CannotRoll` where a spike belongs to none, or steps are not as many for all."""
    links = {spike: _link(forms, spike) for spike in forms.fires}
    heads = [spike for spike, link in links.items() if link.before is None]
    after = {link.before: spike for spike, link in links.items() if link.before is not None}
    chains, seen = [], 0
    for head in heads:
        spikes = [head]
        while spikes[-1] in after:
            spikes.append(after[spikes[-1]])
        seen += len(spikes)
        chains.append(_chain(tuple(spikes), [links[spike] for spike in spikes]))
    steps = {len(chain.spikes) for chain in chains}
    if seen != len(links) or len(steps) != 1 or steps == {1}:
        raise CannotRoll("spikes that form no neurons of equal numbers of steps")
    return chains


@dataclass(frozen=True)
class Link:
    """A step of a neuron: the spike before, what of the membrane before is kept, the current that enters as a
    form, the threshold, and what a soft reset takes."""

    before: str | None
    keep: float
    current: Form
    threshold: float
    taken: float | None


def _link(forms: Forms, spike: str) -> Link:
    """How a step's membrane follows from the one before."""
    fires = forms.fires[spike]
    gates = [atom for atom in fires.terms if atom in forms.gates]
    if len(gates) > 1:
        raise CannotRoll("two membranes in one")
    if gates:
        before, behind = forms.gates[gates[0]]
        rest = Form(terms={k: v for k, v in fires.terms.items() if k != gates[0]})
        charged = forms.fires[before].plus(Form(behind.constant - forms.fires[before].constant))
        if charged.key != behind.key or behind.constant:
            raise CannotRoll("a reset of something else than the membrane")
        return Link(before, fires.terms[gates[0]], rest, -fires.constant, None)
    for before in reversed([atom for atom in fires.terms if atom in forms.fires and fires.terms[atom] < 0]):
        earlier = forms.fires[before]
        shared = next(
            (atom for atom in earlier.terms if atom in fires.terms and atom not in forms.fires), None
        )
        if shared is None:
            continue
        keep = fires.terms[shared] / earlier.terms[shared]
        level = -earlier.constant
        rest = fires.plus(earlier.plus(Form(level)), -keep)
        taken = rest.terms.get(before, 0.0)
        rest = rest.plus(Form(terms={before: taken}), -1.0)
        if taken < 0 < keep:
            fall = -taken / keep
            fall = level if math.isclose(fall, level, rel_tol=1e-9) else fall
            return Link(before, keep, Form(terms=rest.terms), -rest.constant, fall)
    return Link(None, 0.0, Form(terms=fires.terms), -fires.constant, None)


def _chain(spikes: tuple[str, ...], links: list[Link]) -> Chain:
    """One neuron, whose steps must all follow one equation."""
    keep, taken = (links[1] if len(links) > 1 else links[0]).keep, links[-1].taken
    threshold, currents, gain, fades = links[0].threshold, [], 0.0, None
    before = Form()
    for step, link in enumerate(links):
        new = [atom for atom in link.current.terms if atom not in before.terms]
        if len(new) != 1:
            raise CannotRoll("a current that is a sum")
        currents.append(new[0])
        gain = gain or link.current.terms[new[0]]
        old = next(iter(before.terms), None)
        if fades is None and old is not None:
            fades = link.current.terms.get(old, 0.0) / before.terms[old]
        expected = before.times(fades or 0.0).plus(Form(terms={new[0]: gain}))
        same = expected.key == link.current.key and math.isclose(link.threshold, threshold, rel_tol=1e-9)
        if not same or (step and not (_equal(link.keep, keep) and _equal(link.taken, taken))):
            raise CannotRoll("steps of different equations")
        before = link.current
    leaks = 0 <= keep <= 1 and not (keep == 0 and len(links) > 1 and links[1].before)
    if gain <= 0 or threshold <= 0 or not leaks or not 0 <= (fades or 0.0) < 1:
        raise CannotRoll("no leaky integrator")
    return Chain(spikes, tuple(currents), keep, gain, threshold, taken, fades or 0.0)


def _equal(a: float | None, b: float | None) -> bool:
    return a is b if a is None or b is None else math.isclose(a, b, rel_tol=1e-9)


class Roller:
    """Writes the network anew, every layer for all steps at once."""

    def __init__(self, nodes: dict[str, Node], forms: Forms, chains: list[Chain], steps: int) -> None:
        self.nodes, self.forms, self.steps = nodes, forms, steps
        self.chains = {chain.spikes: chain for chain in chains}
        self.stepped = {name for chain in chains for name in chain.spikes}
        self.made: list[Node] = []
        self.names: set[str] = set()
        self.whole: dict[tuple[str, ...], str] = {}
        self.single: dict[str, str] = {}

    def run(self, outputs: Sequence[str]) -> tuple[list[Node], tuple[str, ...]]:
        for name, node in self.nodes.items():
            if isinstance(node, n.Input):
                self.one(name)
        return self.made, tuple(self.one(name) for name in outputs)

    def add(self, node: Node) -> str:
        name = node.name
        while name in self.names:
            name += "'"
        self.names.add(name)
        self.made.append(dataclasses.replace(node, name=name))
        return name

    # ------------------------------------------------------------------------ tensors without a time axis

    def one(self, name: str) -> str:
        """A node outside of the loop, on the new inputs."""
        if name in self.single:
            return self.single[name]
        node = self.nodes[name]
        if self.forms.same.get(name, name) in self.stepped:
            raise CannotRoll("a single step that is used outside of the loop")
        if isinstance(node, n.Stack) and len(node.inputs) == self.steps:
            made = self.moved(self.all(node.inputs), node)
        elif isinstance(node, n.Add | n.Sub | n.Scale | n.Div) and (summed := self.summed(node)):
            made = summed
        else:
            inputs = tuple(self.one(i) for i in node.inputs)
            made = self.add(dataclasses.replace(node, inputs=inputs))
        self.single[name] = made
        return made

    def moved(self, whole: str, node: n.Stack) -> str:
        """All steps stacked along another axis than the first."""
        if node.axis == 0:
            return whole
        rank = len(node.shape)
        order = list(range(1, rank))
        order.insert(node.axis, 0)
        moved = n.Permute(
            name=node.name, inputs=(whole,), shape=node.shape, module=node.module, order=tuple(order)
        )
        return self.add(moved)

    def summed(self, node: Node) -> str | None:
        """A sum over all steps, times a number: an accumulator or a mean that the loop wrote out."""
        form = self.forms.of(node.name)
        factors = {round(value, 12) for value in form.terms.values()}
        if len(form.terms) != self.steps or len(factors) != 1 or form.constant:
            return None
        try:
            whole = self.all(tuple(form.terms))
        except CannotRoll:
            return None
        factor = next(iter(form.terms.values())) * self.steps
        where: dict[str, Any] = {"name": node.name, "shape": node.shape, "module": node.module}
        mean = self.add(n.Reduce(**where, inputs=(whole,), kind="mean", axes=(0,)))
        if math.isclose(factor, 1.0, rel_tol=1e-12):
            return mean
        return self.add(n.Scale(**where, inputs=(mean,), factor=factor))

    # ------------------------------------------------------------------------------------- all steps at once

    def all(self, names: tuple[str, ...]) -> str:
        """The tensor (T, …) of the tensors `names` of the steps.  Raises `CannotRoll` where they are no steps
        of one thing."""
        names = tuple(self.forms.same.get(name, name) for name in names)
        if names not in self.whole:
            self.whole[names] = self._all(names)
        return self.whole[names]

    def _all(self, names: tuple[str, ...]) -> str:
        if names in self.chains:
            return self.neuron(self.chains[names])
        group = [self.nodes[name] for name in names]
        first = group[0]
        if len(set(names)) == 1:
            if isinstance(first, n.Constant):
                return self.one(first.name)
            shape = (self.steps, *first.shape)
            return self.add(n.Expand(name="expand", inputs=(self.one(first.name),), shape=shape))
        if any(type(node) is not type(first) or node.shape != first.shape for node in group):
            raise CannotRoll("steps of different kinds")
        if isinstance(first, n.Select) and len({node.inputs for node in group}) == 1:
            return self.taken(group)
        if any(not _alike(first, node) or len(node.inputs) != len(first.inputs) for node in group):
            raise CannotRoll("steps with different weights")
        inputs = tuple(self.all(tuple(node.inputs[i] for node in group)) for i in range(len(first.inputs)))
        return self.add(dataclasses.replace(_shifted(first), inputs=inputs, shape=(self.steps, *first.shape)))

    def taken(self, group: list[Node]) -> str:
        """Steps picked from one tensor, in order: that tensor, time in front."""
        first = group[0]
        assert isinstance(first, n.Select)
        source = self.nodes[first.inputs[0]]
        picked = [(x.inputs, x.axis, x.index) for x in group if isinstance(x, n.Select)]
        if picked != [(first.inputs, first.axis, t) for t in range(self.steps)]:
            raise CannotRoll("steps in another order")
        if source.shape[first.axis] != self.steps:
            raise CannotRoll("not all steps of a tensor")
        whole = self.one(source.name)
        if first.axis == 0:
            return whole
        rank = len(source.shape)
        order = (first.axis, *(i for i in range(rank) if i != first.axis))
        shape = tuple(source.shape[i] for i in order)
        return self.add(n.Permute(name="steps", inputs=(whole,), shape=shape, order=order))

    def neuron(self, chain: Chain) -> str:
        """The node of a neuron.  With b = 1 - a it decays its input, too; else θ counts in units of b."""
        first, current = self.nodes[chain.spikes[0]], self.all(chain.currents)
        where: dict[str, Any] = {"module": first.module, "shape": (self.steps, *first.shape)}
        name = first.module or "neuron"
        if chain.fades:
            faded = n.Filter(name=f"{name}.synapse", inputs=(current,), keep=chain.fades, **where)
            current = self.add(faded)
        where |= {"name": name, "inputs": (current,)}
        strict = isinstance(first, n.Heaviside) and first.strict
        kind, attributes = integrator(
            chain.keep, chain.gain, chain.threshold, taken=chain.taken, strict=strict
        )
        return self.add(kind(**where, **attributes))


def _alike(a: Node, b: Node) -> bool:
    """Have two nodes the same attributes and weights?"""
    left, right = a.attributes(), b.attributes()

    def same(x: Any, y: Any) -> bool:
        return x is y or (np.array_equal(x, y) if isinstance(x, np.ndarray) else bool(x == y))

    return all(same(left[key], right[key]) for key in left)


def _shifted(node: Node) -> Node:
    """The node with one more axis in front.  Raises `CannotRoll` for one that cannot have it."""
    if isinstance(node, PLAIN):
        return node
    if isinstance(node, n.Norm | n.Concat | n.Stack | n.Slice | n.Select):
        return dataclasses.replace(node, axis=node.axis + 1)
    if isinstance(node, n.Permute):
        return dataclasses.replace(node, order=(0, *(i + 1 for i in node.order)))
    if isinstance(node, n.Reduce):
        return dataclasses.replace(node, axes=tuple(axis + 1 for axis in node.axes))
    if isinstance(node, n.Pad):
        return dataclasses.replace(node, before=(0, *node.before), after=(0, *node.after))
    raise CannotRoll(f"a {node.op} in every step")
