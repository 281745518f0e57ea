"""The simulator against hardware-like loops, another array library, and counts by hand."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netlists import Loops, T, chain, conv_loops, even, everything, messages

from snn_energy.errors import DataError, VerificationError
from snn_energy.exporters.netlist.record import (
    Conv,
    Dense,
    Edge,
    Identity,
    Input,
    Netlist,
    Population,
    Readout,
    Sparse,
    SpikeAttention,
    align,
)
from snn_energy.exporters.netlist.simulate import encode, simulate
from snn_energy.exporters.netlist.synapses import fan_out


def assert_same(netlist, x, **options):
    expected = Loops(netlist).run(x)
    got = simulate(netlist, x, probes=tuple(netlist.nodes), **options)
    for name in netlist.order():
        np.testing.assert_array_equal(got.outputs[name], expected[name], err_msg=name)
    return got


@pytest.mark.parametrize("lif", [{}, {"voltage_decay": 0}, {"voltage_decay": 1111, "current_decay": 900},
                                 {"voltage_decay": 4095}, {"current_decay": 4095}])  # fmt: skip
def test_chain_equals_loops(lif):
    rng = np.random.default_rng(1)
    netlist = chain(rng, **lif)
    got = assert_same(netlist, messages(netlist, rng, 3), batch=2)
    assert 0.02 < got.outputs["lif3"].mean() < 0.98


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_every_node_kind_equals_loops(chunk):
    rng = np.random.default_rng(3)
    netlist = everything(rng, chunk)
    got = assert_same(netlist, messages(netlist, rng, 2))
    for name in netlist.populations():
        assert 0 < got.outputs[name].mean() < 1, f"{name} says nothing"


def test_array_api_strict_gives_the_same():
    rng = np.random.default_rng(4)
    netlist = everything(rng)
    x = messages(netlist, rng, 3)
    ours, strict = simulate(netlist, x), simulate(netlist, x, xp=array_api_strict, batch=2)
    assert ours.counts == strict.counts
    for name, values in ours.outputs.items():
        np.testing.assert_array_equal(values, strict.outputs[name])


def test_still_image_is_held_for_every_step():
    rng = np.random.default_rng(5)
    netlist = everything(rng)
    x = messages(netlist, rng, 2, still=True)
    held = np.repeat(x[:, None], T, axis=1)
    np.testing.assert_array_equal(
        simulate(netlist, x).logits["logits"], simulate(netlist, held).logits["logits"]
    )


def test_samples_do_not_see_each_other():
    rng = np.random.default_rng(6)
    netlist = everything(rng)
    x = messages(netlist, rng, 4)
    together, alone = simulate(netlist, x), simulate(netlist, x[2:3])
    for name, values in alone.outputs.items():
        np.testing.assert_array_equal(values, together.outputs[name][2:3])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_conv_equals_loops_and_counts_its_events(data):
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    groups, kh, kw = draw(1, 3), draw(1, 3), draw(1, 4)
    stride, padding, dilation = (draw(1, 3), draw(1, 2)), (draw(0, 2), draw(0, 3)), (draw(1, 2), draw(1, 2))
    h, w = dilation[0] * (kh - 1) + 1 + draw(0, 4), dilation[1] * (kw - 1) + 1 + draw(0, 3)
    rng = np.random.default_rng(draw(0, 999))
    weight = even(rng, groups * draw(1, 2), draw(1, 3), kh, kw) * (rng.random((kh, kw)) < 0.8)
    conv = Conv((weight.shape[1] * groups, h, w), weight, stride, padding, dilation, groups, draw(0, 2))
    nodes = {"x": Input(conv.in_shape, 5), "conv": conv, "lif": Population(conv.shape, 100)}
    netlist = Netlist(nodes, (Edge("x", "conv"), Edge("conv", "lif")), 1, probes=("conv",))
    x = messages(netlist, rng, 2)
    got = simulate(netlist, x)
    expected = np.stack([conv_loops(frame, conv) for frame in x[:, 0]])
    np.testing.assert_array_equal(got.outputs["conv"][:, 0], expected)
    ones = Conv(conv.in_shape, (weight != 0).astype(int), stride, padding, dilation, groups)
    assert got.counts["conv"].synaptic_events == sum(conv_loops(f != 0, ones).sum() for f in x[:, 0])


def test_fan_out_of_dense_sparse_and_identity_skips_zero_weights():
    dense = Dense((2, 1, 3), np.array([[0, 1, 2, 0, 0, 0], [4, 5, 0, 0, 0, 6]]))
    assert fan_out(dense).ravel().tolist() == [1, 2, 1, 0, 0, 1]
    sparse = Sparse(
        (1, 1, 4), (2, 1, 1), np.array([3, 3, 0, 3]), np.array([0, 1, 1, 0]), np.array([2, 4, 0, 2])
    )
    assert fan_out(sparse).ravel().tolist() == [0, 0, 0, 3]
    assert fan_out(Identity((1, 2, 1), 0)).sum() == 0


def test_a_projection_into_two_populations_counts_twice():
    nodes = {
        "x": Input((1, 1, 3)), "w": Identity((1, 1, 3), 8),
        "a": Population((1, 1, 3), 1), "link": Identity((1, 1, 3), 2), "b": Population((1, 1, 3), 1),
    }  # fmt: skip
    edges = (Edge("x", "w"), Edge("w", "a"), Edge("a", "link"), Edge("link", "b"), Edge("w", "b"))
    netlist = align(Netlist(nodes, edges, 2))
    got = simulate(netlist, np.ones((1, 1, 1, 3), int))
    assert got.counts["w"].synaptic_events == 2 * 3 * 2
    assert got.counts["a"].spikes == 6 and got.counts["a"].updates == 6


def test_attention_saturates_instead_of_wrapping():
    shape = (4, 8, 8)
    nodes = {"x": Input(shape), **{f"{p}w": Identity(shape, 4) for p in "qkv"},
             **{p: Population(shape, 1) for p in "qkv"}, "attn": SpikeAttention(shape, 1, 2, 4096),
             "lif": Population(shape, 131071 - 1)}  # fmt: skip
    edges = [e for p in "qkv" for e in (Edge("x", f"{p}w"), Edge(f"{p}w", p), Edge(p, "attn", p))]
    netlist = Netlist(nodes, (*edges, Edge("attn", "lif")), 2, probes=("attn", "lif"))
    got = simulate(netlist, np.ones((1, *shape), int))
    assert got.outputs["attn"].max() == 131071 and got.outputs["lif"].all()


def test_a_current_that_does_not_fit_is_refused_and_placed():
    nodes = {
        "x": Input((3, 1, 2), 8),
        "w": Dense((3, 1, 2), np.full((2, 6), 254), 2),
        "lif": Population((2, 1, 1), 5),
    }
    netlist = Netlist(nodes, (Edge("x", "w"), Edge("w", "lif")), 2)
    x = np.zeros((2, 2, 3, 1, 2), int)
    simulate(netlist, x + 21)
    x[1, 1] = 22
    with pytest.raises(VerificationError, match=r"lif: 134112 in sample 1, step 1, neuron 0 does not fit"):
        simulate(netlist, x)


def test_bad_samples_are_refused():
    netlist = chain(np.random.default_rng(0))
    with pytest.raises(DataError, match="takes integers, not float64"):
        simulate(netlist, np.zeros((1, 2, 7, 9)))
    with pytest.raises(DataError, match=r"takes samples of \(2, 7, 9\)"):
        simulate(netlist, np.zeros((1, 2, 9, 7), int))
    with pytest.raises(DataError, match="messages from 0 to 1"):
        simulate(netlist, np.full((1, 2, 7, 9), 2))


def test_encode_rounds_and_clips():
    nodes = {"x": Input((1, 1, 5), 4, 4.0), "w": Identity((1, 1, 5)), "out": Readout((1, 1, 5), np.zeros(5))}
    netlist = Netlist(nodes, (Edge("x", "w"), Edge("w", "out")), 1)
    assert encode(netlist, np.array([-9.0, -0.3, 0.125, 0.375, 9.0])).tolist() == [-8, -1, 0, 2, 7]
