"""The netlist record: alignment, register widths, files that notice when they were changed."""

import dataclasses
import json
import re

import numpy as np
import pytest
from netlists import chain, everything, messages

from snn_energy.errors import ConfigError, DataError
from snn_energy.exporters.netlist.check import check, node_problems
from snn_energy.exporters.netlist.files import load, save
from snn_energy.exporters.netlist.listing import listing
from snn_energy.exporters.netlist.record import (
    Conv,
    Delay,
    Dense,
    Edge,
    Identity,
    Input,
    Netlist,
    Population,
    Sparse,
    align,
    first_misaligned,
    time_offsets,
)
from snn_energy.exporters.netlist.simulate import simulate

RNG = np.random.default_rng(0)


def test_offsets_are_longest_paths_and_align_fills_the_shorter_ones():
    shape = (1, 2, 3)
    nodes = {"x": Input(shape), **{f"w{i}": Identity(shape, 2) for i in range(4)},
             "a": Population(shape, 1), "b": Population(shape, 1), "c": Population(shape, 1)}  # fmt: skip
    pairs = ["x-w0", "w0-a", "a-w1", "w1-b", "b-w2", "w2-c", "w0-c", "x-w3", "w3-c", "w0-b"]
    edges = tuple(Edge(*pair.split("-")) for pair in pairs)
    netlist = Netlist(nodes, edges, 3)
    assert first_misaligned(netlist) in {"b", "c"}
    with pytest.raises(ConfigError, match="inputs carry different sample steps; call align"):
        check(netlist)
    straight = align(netlist)
    assert {n: d.steps for n, d in straight.nodes.items() if isinstance(d, Delay)} == {
        "w0.delay1": 1, "w0.delay2": 2, "w3.delay2": 2}  # fmt: skip
    assert time_offsets(straight) == time_offsets(netlist) | {"w0.delay1": 2, "w0.delay2": 3, "w3.delay2": 3}
    assert align(straight) == check(straight)


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        (Population((2, 1, 1), 1 << 17), "threshold 131072 does not fit 17 unsigned bits"),
        (Population((2, 1, 1), -1), "threshold -1 does not fit"),
        (Population((2, 1, 1), 5, voltage_decay=4096), "voltage decay 4096 does not fit 12 bits"),
        (Population((2, 1, 1), 5, current_decay=0), "current decay 0 is outside 1 to 4096"),
        (
            Population((2, 1, 1), 5, bias_mantissa=np.array([[[4096]], [[0]]])),
            "bias mantissas 0 to 4096 do not fit",
        ),
        (Population((2, 1, 1), 5, bias_exponent=8), "bias exponent 8 does not fit 3 bits"),
        (Population((2, 1, 1), 5, bias_mantissa=np.zeros((3, 1, 1), int)), "does not broadcast"),
        (Identity((1, 1, 1), 256), "weights 256 to 256 do not fit 8 bits"),
        (Identity((1, 1, 1), -257), "weights -257 to -257 do not fit"),
        (Identity((1, 1, 1), 2, 8), "weight exponent 8 is outside 0 to 7"),
        (Dense((1, 1, 2), np.array([[1, -2]])), "weights of both signs must be even"),
        (Dense((1, 1, 2), np.array([[256, -2]])), "weights -2 to 256 do not fit 8 signed bits"),
        (Dense((1, 1, 2), np.array([[0.5, 1]])), "weights are float64, not integers"),
        (Dense((1, 1, 3), np.array([[1, 2]])), r"weight \(1, 2\) does not fit \(1, 1, 3\)"),
        (Conv((3, 4, 4), np.ones((2, 2, 1, 1), int)), "does not fit 3 channels"),
        (Conv((2, 2, 9), np.ones((2, 2, 3, 3), int)), "is larger than the padded input"),
        (
            Sparse((1, 1, 2), (1, 1, 2), np.array([2]), np.array([0]), np.array([1])),
            "a source index is outside",
        ),
        (Delay((1, 1, 1), 63), "delay of 63 steps; a synapse delays 1 to 62"),
        (Input((1, 1, 1), 25), "messages of 25 bits; at most 24"),
    ],
)
def test_what_a_register_cannot_hold_is_refused(node, problem):
    (found,) = node_problems(node)
    assert re.search(problem, found)


def test_edges_are_refused_by_name():
    netlist = everything(RNG)
    drop = lambda *names: dataclasses.replace(  # noqa: E731
        netlist, edges=tuple(e for e in netlist.edges if (e.source, e.target) not in names)
    )
    with pytest.raises(ConfigError, match="attn: needs exactly one edge each into q, k and v"):
        check(drop(("v_lif", "attn")))
    with pytest.raises(ConfigError, match="proj: nothing feeds it"):
        check(drop(("attn_lif", "proj")))
    add = lambda *edges: dataclasses.replace(netlist, edges=netlist.edges + edges)  # noqa: E731
    with pytest.raises(ConfigError, match="proj: a Conv has one source, not 2"):
        check(add(Edge("lif", "proj")))
    with pytest.raises(ConfigError, match="there is no node 'ghost'"):
        check(add(Edge("ghost", "lif")))
    with pytest.raises(ConfigError, match="recurrent netlists are not supported"):
        check(add(Edge("proj", "lif")))
    with pytest.raises(ConfigError, match="wants current, but lif emits spikes"):
        check(add(Edge("lif", "attn_lif")))
    with pytest.raises(ConfigError, match=r"wants \(6, 1, 1\), but pool gives \(6, 3, 5\)"):
        check(add(Edge("pool", "head_lif")))
    with pytest.raises(ConfigError, match="an edge is listed twice"):
        check(add(netlist.edges[0]))
    with pytest.raises(ConfigError, match="3 time steps are not divisible by its chunk of 2"):
        check(dataclasses.replace(netlist, time_steps=3))
    with pytest.raises(ConfigError, match="probe 'nobody' is not a node"):
        check(dataclasses.replace(netlist, probes=("nobody",)))


@pytest.mark.parametrize("make", [chain, everything])
def test_saved_and_loaded_it_is_the_same(make, tmp_path):
    netlist = make(RNG)
    save(netlist, tmp_path)
    again = load(tmp_path)
    assert (
        listing(again) == listing(netlist) and again.edges == netlist.edges and again.probes == netlist.probes
    )
    x = messages(netlist, RNG, 2)
    ours, theirs = simulate(netlist, x), simulate(again, x)
    for name, values in ours.outputs.items():
        np.testing.assert_array_equal(values, theirs.outputs[name])
    assert ours.counts == theirs.counts


def test_a_changed_file_is_refused(tmp_path):
    save(chain(RNG), tmp_path)
    path, arrays = tmp_path / "netlist.json", tmp_path / "netlist.h5"
    text, data = path.read_text(), arrays.read_bytes()
    path.write_text(text.replace('"threshold": 300', '"threshold": 301'))
    with pytest.raises(DataError, match=r"netlist\.json was changed after export"):
        load(tmp_path)
    path.write_text(text)
    arrays.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match=r"netlist\.h5 was changed after export"):
        load(tmp_path)
    arrays.unlink()
    with pytest.raises(DataError, match=r"cannot read .*netlist\.h5: No such file"):
        load(tmp_path)
    path.write_text(json.dumps({"format": "other"}))
    with pytest.raises(DataError, match="is not a netlist"):
        load(tmp_path)
    path.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        load(tmp_path)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        save(chain(np.random.default_rng(5)), tmp_path / name)
    assert (tmp_path / "one/netlist.json").read_bytes() == (tmp_path / "two/netlist.json").read_bytes()


def test_a_netlist_that_does_not_fit_is_not_written(tmp_path):
    netlist = chain(RNG)
    nodes = dict(netlist.nodes) | {"lif1": dataclasses.replace(netlist.nodes["lif1"], threshold=1 << 17)}
    with pytest.raises(ConfigError, match="lif1: threshold 131072"):
        save(dataclasses.replace(netlist, nodes=nodes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_listing_is_readable():
    text = listing(everything(RNG))
    assert text.startswith("8 populations, 648 neurons, 4 steps a sample\n+0 ")
    assert "<- q=q_lif, k=k_lif, v=v_lif" in text and "6-bit messages, scale 8" in text
