"""Reading a `Graph` for NIR: what a chip can do, and beyond it soft resets and spikes as the answer."""

from __future__ import annotations

import dataclasses

from snn_energy.exporters.lowering.plan import Averaged, Faded, Output, Plan, TimeMean, Value
from snn_energy.exporters.lowering.read import Reader
from snn_energy.graph import nodes as n
from snn_energy.graph.graph import Graph


def read(graph: Graph) -> Plan:
    """The plan of `graph`; its `meta` has `input_shape`, of a sample's step, and what a reset takes from
    `soft` neurons.

    Raises `UnsupportedOp` with the node, its operation and the nearest way out.
    """
    return NirReader(graph).run()


class NirReader(Reader):
    """A `Reader` without a chip behind it."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph, {})
        self.plan.meta["soft"] = {}

    def input(self, node: n.Input) -> Value:
        self.plan.meta["input_shape"] = tuple(dim for dim in node.shape if isinstance(dim, int))
        return super().input(node)

    def filter(self, node: n.Filter, value: Value) -> Value:
        return Faded(self.as_stream(node, value), node.keep, node.gain)

    def neuron(self, node: n.Lif | n.If, value: Value) -> Value:
        if node.v_reset is None:
            self.plan.meta["soft"][node.name] = n.falls_by(node)
            node = dataclasses.replace(node, v_reset=0.0)
        return super().neuron(node, value)

    def finish(self, node: n.Node) -> None:
        """The answer may be spikes averaged over space, too."""
        value = self.held[node.name]
        inner = value.view if isinstance(value, TimeMean) else value
        if isinstance(inner, Averaged):
            stream = self.as_stream(node, inner)
            self.plan.outputs[f"{node.name}.readout"] = Output(stream.terms, stream.bias, stream.shape)
            return
        super().finish(node)
