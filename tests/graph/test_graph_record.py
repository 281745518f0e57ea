"""The Graph as a record: listing, comparison, files."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snn_energy.errors import DataError
from snn_energy.graph import Graph
from snn_energy.graph import nodes as n


def small() -> Graph:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 2)).astype(np.float32)
    body = Graph(
        (
            n.Input(name="x", shape=(4, "B", 3)),
            n.Constant(name="p", shape=(4, 1, 3), value=rng.normal(size=(4, 1, 3)).astype(np.float32)),
            n.Add(name="sum", inputs=("x", "p"), shape=(4, "B", 3)),
            n.Heaviside(name="fire", inputs=("sum",), shape=(4, "B", 3), threshold=0.5),
        ),
        ("fire",),
        1,
    )
    nodes = (
        n.Input(name="x", shape=("B", 2)),
        n.Expand(name="time", inputs=("x",), shape=("T", "B", 2)),
        n.Linear(name="fc", module="fc", inputs=("time",), shape=("T", "B", 3), weight=weight),
        n.Lif(name="lif", module="lif", inputs=("fc",), shape=("T", "B", 3), tau=2.0, v_reset=None),
        n.Neuron(name="odd", module="odd", inputs=("lif",), shape=("T", "B", 3), kind="Odd", body=body),
        n.Reduce(name="out", inputs=("odd",), shape=("B", 3), kind="mean", axes=(0,)),
    )
    return Graph(nodes, ("out",), 4, {"config": {"T": 4}, "class_names": ["a", "b", "c"]})


def test_listing_is_for_people() -> None:
    assert str(small()).splitlines() == [
        "Graph: 6 nodes, T = 4, 18 parameters",
        "  x = Input() -> (B, 2)",
        "  time = Expand(x) -> (T, B, 2)",
        "  fc = Linear(time; weight=float32[3, 2]) -> (T, B, 3)",
        "  lif = Lif(fc; tau=2) -> (T, B, 3)",
        "  odd = Neuron(lif; kind=Odd, body=4 nodes) -> (T, B, 3)",
        "  out = Reduce(odd; kind=mean, axes=(0,)) -> (B, 3)",
        "  return out",
    ]


def test_equality_sees_every_field_and_every_weight() -> None:
    graph = small()
    assert graph == small()
    weight = graph["fc"].attributes()["weight"].copy()
    weight[2, 1] += 1e-6
    for node in (
        dataclasses.replace(graph["fc"], weight=weight),  # type: ignore[call-arg]
        dataclasses.replace(graph["fc"], weight=graph["fc"].attributes()["weight"].astype(np.float64)),
        dataclasses.replace(graph["lif"], v_reset=0.0),  # type: ignore[call-arg]
        dataclasses.replace(graph["lif"], module="other"),
    ):
        changed = [node if old.name == node.name else old for old in graph]
        assert Graph(tuple(changed), graph.outputs, 4, graph.meta) != graph
    assert dataclasses.replace(graph, time_steps=5) != graph
    assert dataclasses.replace(graph, meta={}) != graph


def test_files_bring_it_back(tmp_path: Path) -> None:
    graph = small()
    graph.save(tmp_path / "graph.json")
    assert Graph.load(tmp_path / "graph.json") == graph
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph.json", "graph.npz"]


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    with pytest.raises(DataError, match=r"graph\.json"):
        Graph.load(path)
    small().save(path)
    text = path.read_text()
    for bad in (
        text[:-20],
        text.replace('"Lif"', '"Lofi"'),
        text.replace('"schema": 1', '"schema": 99'),
        "[]",
    ):
        path.write_text(bad)
        with pytest.raises(DataError, match=r"graph\.json"):
            Graph.load(path)
    path.write_text(text)
    (tmp_path / "graph.npz").unlink()
    with pytest.raises(DataError, match=r"graph\.npz: no such file"):
        Graph.load(path)


def test_order_and_names_are_checked() -> None:
    nodes = small().nodes
    with pytest.raises(ValueError, match="two nodes"):
        Graph((*nodes, nodes[0]), ("out",), 4)
    with pytest.raises(ValueError, match="no earlier node"):
        Graph(nodes[1:], ("out",), 4)
    with pytest.raises(ValueError, match="no node"):
        Graph(nodes, ("logits",), 4)


def test_neighbours() -> None:
    graph = small()
    assert [node.name for node in graph.consumers("fc")] == ["lif"]
    assert [node.name for node in graph.producers(graph["fc"])] == ["time"]
    assert [node.name for node in graph.neurons] == ["lif", "odd"]
    assert [node.name for node in graph.of_type(n.Linear, n.Lif)] == ["fc", "lif"]


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, snn_energy.graph.simplify, snn_energy.graph.streaming, snn_energy.graph.attention;"
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
