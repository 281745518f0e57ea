"""Cycles, graphs in graphs, shortcuts, delays: what arrives when, beside plain loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

nir = pytest.importorskip("nir")

from nir_graphs import DT, agree, load, neuron, reference, rng  # noqa: E402

from snn_energy.errors import CheckpointError  # noqa: E402
from snn_energy.models.nir import NirNetwork  # noqa: E402

T, B = 19, 3


def weights(*shape: int, seed: int = 5, size: float = 1.0) -> np.ndarray:
    return (rng(seed).normal(size=shape) * size).astype(np.float32)


def graph(edges: list[tuple[str, str]], **nodes: Any) -> Any:
    inner = {
        "input": nir.Input({"input": np.array([5])}),
        **nodes,
        "output": nir.Output({"output": np.array([4])}),
    }
    return nir.NIRGraph(inner, edges, type_check=False)


def frames(seed: int = 1) -> np.ndarray:
    return rng(seed).normal(0.3, 1.0, (T, B, 5))


RECURRENT = [("w_rec", "lif"), ("lif", "output"), ("lif", "w_rec"), ("fc", "lif"), ("input", "fc")]


@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF", "LI"])
def test_what_a_neuron_sends_itself_arrives_a_step_later(kind: str, tmp_path) -> None:
    """The bias of the recurrent layer is there from the first step on: its equation holds at all times."""
    recurrent = nir.Affine(weights(4, 4, size=0.4), weights(4, seed=6, size=0.2))
    net = graph(RECURRENT, fc=nir.Linear(weights(4, 5)), lif=neuron(kind, (4,)), w_rec=recurrent)
    model = load(net, tmp_path)
    expected = agree(model, net, frames(), late=(("lif", "w_rec"),))
    without = reference(graph(RECURRENT[1:], **{k: net.nodes[k] for k in ("fc", "lif", "w_rec")}), frames())
    assert (expected != without["output"]).any()


def test_a_neuron_that_drives_itself_directly(tmp_path) -> None:
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "lif"), ("lif", "output")]
    net = graph(edges, fc=nir.Linear(weights(4, 5)), lif=neuron("LIF", (4,)))
    agree(load(net, tmp_path), net, frames(), late=(("lif", "lif"),))


def test_of_a_cycle_through_two_layers_one_edge_waits(tmp_path) -> None:
    """What goes forward arrives within its step, what comes back in the next."""
    edges = [
        ("input", "fc"),
        ("fc", "a"),
        ("a", "ab"),
        ("ab", "b"),
        ("b", "ba"),
        ("ba", "a"),
        ("b", "output"),
    ]
    net = graph(
        edges, fc=nir.Linear(weights(3, 5)), a=neuron("LIF", (3,)), ab=nir.Linear(weights(4, 3, seed=7)),
        b=neuron("CubaLIF", (4,)), ba=nir.Affine(weights(3, 4, seed=8), weights(3, seed=9, size=0.2)),
    )  # fmt: skip
    expected = agree(load(net, tmp_path), net, frames(), late=(("b", "ba"),))
    assert expected.any()


def test_cycles_in_cycles(tmp_path) -> None:
    edges = [
        ("input", "fc"), ("fc", "a"), ("a", "aa"), ("aa", "a"), ("a", "ab"), ("ab", "b"), ("b", "bb"),
        ("bb", "b"), ("b", "ba"), ("ba", "a"), ("b", "output"),
    ]  # fmt: skip
    linear = lambda a, b, seed: nir.Linear(weights(a, b, seed=seed, size=0.6))  # noqa: E731
    net = graph(
        edges, fc=nir.Linear(weights(3, 5)), a=neuron("LIF", (3,)), b=neuron("IF", (4,)), aa=linear(3, 3, 1),
        ab=linear(4, 3, 2), bb=linear(4, 4, 3), ba=linear(3, 4, 4),
    )  # fmt: skip
    agree(load(net, tmp_path), net, frames(), late=(("a", "aa"), ("b", "bb"), ("b", "ba")))


@pytest.mark.parametrize("steps", [1, 3])
def test_a_delay_in_a_cycle_is_all_that_waits_there(steps: int, tmp_path) -> None:
    edges = [
        ("input", "fc"),
        ("fc", "lif"),
        ("lif", "wait"),
        ("wait", "rec"),
        ("rec", "lif"),
        ("lif", "output"),
    ]
    net = graph(
        edges, fc=nir.Linear(weights(4, 5)), lif=neuron("LIF", (4,)), rec=nir.Linear(weights(4, 4, size=0.6)),
        wait=nir.Delay(np.full(4, steps * DT)),
    )  # fmt: skip
    model = load(net, tmp_path)
    shorter = graph(edges, **{**net.nodes, "wait": nir.Delay(np.full(4, (steps - 1) * DT))})
    expected = reference(shorter, frames(), late=(("lif", "wait"),))[
        "output"
    ]  # steps - 1, and one on the edge
    out = model(torch.as_tensor(frames(), dtype=torch.float32)).detach()
    assert (out.numpy() == expected).all()
    spiked = expected[:, 0].any(1).nonzero()[0][0]
    apart = reference(graph([e for e in edges if e != ("rec", "lif")], **net.nodes), frames())["output"]
    assert (apart[: spiked + steps] == expected[: spiked + steps])[:, 0].all()


def test_edges_that_meet_are_summed_and_a_doubled_one_twice(tmp_path) -> None:
    edges = [("input", "a"), ("input", "b"), ("a", "lif"), ("b", "lif"), ("b", "lif"), ("lif", "output")]
    net = graph(
        edges, a=nir.Linear(weights(4, 5)), b=nir.Linear(weights(4, 5, seed=2)), lif=neuron("IF", (4,))
    )
    x = torch.as_tensor(frames(), dtype=torch.float32)
    model = NirNetwork(net.to_dict())
    merged = nir.Linear(net.nodes["a"].weight + 2 * net.nodes["b"].weight)
    one = graph([("input", "a"), ("a", "lif"), ("lif", "output")], a=merged, lif=net.nodes["lif"])
    expected = reference(one, frames())["output"]
    assert (model(x).detach().numpy() == expected).all() and expected.any()


def nested() -> tuple[Any, Any]:
    """A graph with a recurrent one in it, and the same without nesting."""
    recurrent, lif = nir.Linear(weights(4, 4, size=0.5)), neuron("CubaLIF", (4,))
    inner = nir.NIRGraph(
        {
            "in": nir.Input({"input": np.array([4])}),
            "lif": lif,
            "w_rec": recurrent,
            "out": nir.Output({"output": np.array([4])}),
        },
        [("in", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "out")],
        type_check=False,
    )
    fc = nir.Linear(weights(4, 5))
    outer = graph([("input", "fc"), ("fc", "rnn"), ("rnn", "output")], fc=fc, rnn=inner)
    flat = graph(RECURRENT, fc=fc, lif=lif, w_rec=recurrent)
    return outer, flat


def test_a_recurrent_graph_inside_a_graph(tmp_path) -> None:
    outer, flat = nested()
    model = load(outer, tmp_path)
    expected = reference(flat, frames(), late=(("lif", "w_rec"),))["output"]
    assert (model(torch.as_tensor(frames(), dtype=torch.float32)).detach().numpy() == expected).all()
    assert expected.any()
    assert set(dict(model.named_modules())) == {"", "fc", "rnn", "rnn.lif", "rnn.w_rec"}


def test_an_edge_may_name_a_node_inside_a_graph() -> None:
    outer, flat = nested()
    outer.edges = [("input", "fc"), ("fc", "rnn.in"), ("rnn.out", "output")]
    expected = reference(flat, frames(), late=(("lif", "w_rec"),))["output"]
    out = NirNetwork(outer.to_dict())(torch.as_tensor(frames(), dtype=torch.float32))
    assert (out.detach().numpy() == expected).all()


def test_names_that_modules_cannot_have() -> None:
    """Dots as snnTorch writes them, numbers, names of torch's own, one that is another's beginning."""
    names = ["0", "half", "lif1.lif", "lif1", "forward", "type", "a.b"]
    nodes = {name: nir.Scale(np.full(5, 1 + i / 8, np.float32)) for i, name in enumerate(names)}
    inner = {
        "input": nir.Input({"input": np.array([5])}),
        **nodes,
        "output": nir.Output({"output": np.array([5])}),
    }
    order = list(inner)
    net = nir.NIRGraph(inner, list(itertools.pairwise(order)), type_check=False)
    model = NirNetwork(net.to_dict())
    x = torch.as_tensor(frames(), dtype=torch.float32)
    factor = np.prod([1 + i / 8 for i in range(len(names))])
    torch.testing.assert_close(model(x).detach(), x * float(factor))
    assert list(model.paths) == names
    assert len(set(model.paths.values())) == len(names)


def test_several_outputs_come_as_a_dict() -> None:
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "output"), ("fc", "currents")]
    second = nir.Output({"output": np.array([4])})
    net = graph(edges, fc=nir.Linear(weights(4, 5)), lif=neuron("LIF", (4,)), currents=second)
    out = NirNetwork(net.to_dict())(torch.as_tensor(frames(), dtype=torch.float32))
    assert set(out) == {"currents", "output"}
    assert tuple(out["currents"].shape) == tuple(out["output"].shape) == (T, B, 4)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (
            [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")],
            r"the cycle a → b → a has no neuron and no",
        ),
        (
            [("input", "a"), ("a", "c"), ("a", "output"), ("a", "b")],
            r"an edge names 'c', which is no node; nodes: in",
        ),
        ([("input", "a"), ("a", "output")], r"nothing leads to node 'b' \(Scale\)"),
        ([("input", "a"), ("a", "output"), ("b", "b")], r"the cycle b → b has no neuron"),
    ],
)
def test_wiring_that_cannot_be(edges: list[tuple[str, str]], message: str) -> None:
    net = graph(edges, a=nir.Scale(np.ones(5)), b=nir.Scale(np.ones(5)))
    with pytest.raises(CheckpointError, match=f"NIR graph: {message}"):
        NirNetwork(net.to_dict())


def test_a_circle_of_neurons_that_the_input_never_reaches() -> None:
    net = graph(
        [("input", "a"), ("a", "output"), ("b", "b")], a=nir.Linear(weights(4, 5)), b=neuron("LIF", (4,))
    )
    with pytest.raises(CheckpointError, match="node 'b' is not reached from the input"):
        NirNetwork(net.to_dict())
