"""What a membrane is a sum of: the linear form of a node over the nodes that it does not look into.

Code that writes a neuron out charges, compares and resets in many spellings: `v + (x - v) / tau`,
`mem * decay * (1 - spike) + x`, `mem - spike * mem`, `where(spike, 0, v)`.  As sums of *atoms* they are the
same.  An atom is a spike, another node, or a gate: (1 - spike) times a form, what a reset leaves of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from snn_energy.graph import nodes as n
from snn_energy.graph.nodes import Node

DIGITS = 12  # of coefficients that count as equal


@dataclass(frozen=True)
class Form:
    """constant + Σ coefficient · atom."""

    constant: float = 0.0
    terms: Mapping[str, float] = field(default_factory=dict)

    def plus(self, other: Form, factor: float = 1.0) -> Form:
        terms = dict(self.terms)
        for atom, value in other.terms.items():
            terms[atom] = terms.get(atom, 0.0) + factor * value
        kept = {atom: value for atom, value in terms.items() if round(value, DIGITS)}
        return Form(self.constant + factor * other.constant, kept)

    def times(self, factor: float) -> Form:
        return Form().plus(self, factor)

    @property
    def key(self) -> tuple[float, tuple[tuple[str, float], ...]]:
        """Equal for equal forms."""
        rounded = ((atom, round(value, DIGITS)) for atom, value in self.terms.items())
        return round(self.constant, DIGITS), tuple(sorted(rounded))


class Forms:
    """Forms of the nodes of a graph, found once.

    `fires`: of each spike (the first step function of its form), the form that must be ≥ 0 for it; `gates`:
    of each gate, its spike and the form behind it; `same`: of each step function, the spike that it is.
    """

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes
        self.fires: dict[str, Form] = {}
        self.gates: dict[str, tuple[str, Form]] = {}
        self.same: dict[str, str] = {}
        self._known: dict[str, Form] = {}
        self._spikes: dict[object, str] = {}
        self._gates: dict[object, str] = {}

    def of(self, name: str) -> Form:
        if name not in self._known:
            self._known[name] = self._of(self.nodes[name])
        return self._known[name]

    def _of(self, node: Node) -> Form:
        match node:
            case n.Constant() if node.value.size == 1:
                return Form(float(node.value.ravel()[0]))
            case n.Scale():
                return self.of(node.inputs[0]).times(node.factor).plus(Form(node.offset))
            case n.Add():
                return self.of(node.inputs[0]).plus(self.of(node.inputs[1]))
            case n.Sub():
                return self.of(node.inputs[0]).plus(self.of(node.inputs[1]), -1.0)
            case n.Mul():
                return self._product(node, *map(self.of, node.inputs))
            case n.Div():
                below = self.of(node.inputs[1])
                if not below.terms and below.constant:
                    return self.of(node.inputs[0]).times(1 / below.constant)
            case n.Heaviside():
                return Form(terms={self._spike(node): 1.0})
        return Form(terms={node.name: 1.0})

    def _spike(self, node: n.Heaviside) -> str:
        fires = self.of(node.inputs[0]).plus(Form(-node.threshold))
        name = self._spikes.setdefault((fires.key, node.strict), node.name)
        self.fires[name] = fires
        self.same[node.name] = name
        return name

    def _product(self, node: Node, left: Form, right: Form) -> Form:
        for one, other in ((left, right), (right, left)):
            if not one.terms:
                return other.times(one.constant)
        for one, other in ((left, right), (right, left)):
            ((atom, value), *rest) = one.terms.items()
            if rest or atom not in self.fires:
                continue
            if (one.constant, value) == (1.0, -1.0):
                return self._gate(atom, other)
            if (one.constant, value) == (0.0, 1.0):  # s·h = h - (1 - s)·h
                return other.plus(self._gate(atom, other), -1.0)
        return Form(terms={node.name: 1.0})

    def _gate(self, spike: str, behind: Form) -> Form:
        """(1 - spike) · `behind`; for a multiple of the membrane that fired, that multiple of its gate."""
        charged = Form(terms=self.fires[spike].terms)
        factor = next((v / charged.terms[k] for k, v in behind.terms.items() if k in charged.terms), 1.0)
        if behind.key != charged.times(factor).key:
            charged, factor = behind, 1.0
        atom = self._gates.setdefault((spike, charged.key), f"gate {len(self._gates)}")
        self.gates[atom] = (spike, charged)
        return Form(terms={atom: factor})
