"""A kind of node that a table forgets is a failing test, not a surprise in somebody's export."""

from __future__ import annotations

import pytest

from snn_energy.exporters.lowering import read
from snn_energy.exporters.onnx.rules import RULES as ONNX
from snn_energy.graph import interpret, layout, streaming
from snn_energy.graph import nodes as n

KINDS = set(n.node_types().values())
TABLES = {
    "axes (layout)": set(layout.RULES),
    "runs (interpret)": {*interpret.RULES, n.Input, n.Constant},  # held, not computed
    "written (onnx)": set(ONNX),
    "lowered or refused with a way out (lowering.read)": {*read.HANDLERS, *read.WAYS_OUT},
    "mixes steps (streaming)": set(streaming.MIXES),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_kind_of_node_stands_in_every_table(name: str) -> None:
    forgotten = {kind.__name__ for kind in KINDS - TABLES[name]}
    assert not forgotten, f"{name} says nothing of {sorted(forgotten)}"


def test_what_is_lowered_has_no_way_out_beside_it() -> None:
    assert not set(read.HANDLERS) & set(read.WAYS_OUT)


def test_every_kind_is_a_neuron_or_is_none() -> None:
    assert set(n.NEURONS) <= KINDS and len(KINDS) > 30
