"""STAA neurons in integers: against loops, against the float neuron; what they refuse; files and reports."""

import dataclasses
import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from staa_loops import membranes
from staa_nets import alone, currents, made

from snn_energy.errors import ConfigError, UnsupportedOp, VerificationError
from snn_energy.exporters.chip.energy import gate_products, netlist_energy
from snn_energy.exporters.chip.mapping import map_netlist
from snn_energy.exporters.chip.staa import spikes
from snn_energy.exporters.lava.package import watched
from snn_energy.exporters.netlist import staa_lif
from snn_energy.exporters.netlist.check import check
from snn_energy.exporters.netlist.files import load, save
from snn_energy.exporters.netlist.listing import listing
from snn_energy.exporters.netlist.simulate import simulate

TOLERANCE = 2**-8  # |ΔV| of fixed-point gates, relative to the largest membrane (docs/neuromorphic.md)
PLACES = ("input", "state", "aggregate", "output")
GATES = (
    {}, {"pe": "off"}, {"gc": False}, {"sa": False}, {"gc": False, "sa": False},
    {"gc": False, "pe": "off"}, {"pe": "off", "sa": False}, {"pe": "fixed", "pe_at": "state"},
    {"pe_at": "aggregate", "adaptive": True}, {"pe_at": "output", "alpha": -1.5, "r": 2},
    {"gc": False, "pe_at": "state", "tau": 3.0, "adaptive": True}, {"r": 40, "alpha": 0.0},
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(1, 4)),
    st.integers(1, 4),
    st.fixed_dictionaries({
        "gc": st.booleans(), "sa": st.booleans(), "pe": st.sampled_from(["off", "fixed", "learnable"]),
        "pe_at": st.sampled_from(PLACES), "adaptive": st.booleans(), "r": st.integers(1, 9),
        "alpha": st.floats(-3, 3), "tau": st.floats(1, 5),
    }),
    st.sampled_from([1.0, 0.0, 1e-3, 300.0]),
    st.floats(5, 3000),
    st.integers(0, 99),
)  # fmt: skip
def test_simulator_equals_loops(shape, T, fields, spread, scale, seed):
    _, node = made(shape, T, seed, max(scale, 70.0), **fields)
    x = np.clip(currents(node, 2, T, seed=seed, spread=spread), -(2**17) + 2, 2**17 - 2) // 2
    x[0] *= spread != 1.0  # a zero map, too
    got = simulate(alone(node, T), x, probes=("lif",)).outputs["lif"]
    v = staa_lif.run(vars(node), 2 * x, np)
    for sample in range(2):
        wanted_v, wanted_s = membranes(node, 2 * x[sample])
        np.testing.assert_array_equal(v[sample], wanted_v)
        np.testing.assert_array_equal(got[sample], wanted_s)


def test_sigmoid_and_root():
    logits = np.arange(-14 * 4096, 14 * 4096)
    wanted = 1 / (1 + np.exp(-logits / 4096))
    off = np.abs(staa_lif.sigmoid(logits, np) / 65536 - wanted)
    assert off.max() < 2**-14 and off[logits == 0] == 0
    assert staa_lif.sigmoid_table()[-2:] == (65536, 65536)
    rng = np.random.default_rng(0)
    near = [r * r + d for r in (1, 2, 3, 94906265, 94906266, 2**31 - 1) for d in (-1, 0, 1)]
    numbers = [0, 1, *near, *rng.integers(0, 2**62, 2000).tolist()]
    roots = staa_lif.square_root(np.array(numbers), np)
    assert roots.tolist() == [math.isqrt(n) for n in numbers]


@pytest.mark.parametrize("fields", GATES, ids=str)
def test_fixed_point_is_near_the_float_neuron(fields):
    """On the same currents: membranes within the tolerance, and hardly a spike that differs."""
    differ = total = rate = 0
    for seed in range(6):
        neuron, node = made((9, 4, 5), 3, seed, v_threshold=0.6, **fields)
        a = currents(node, 4, 3, seed=seed)
        v = staa_lif.run(vars(node), a, np) / (64 * node.scale)
        x = torch.as_tensor(a + node.bias).double().transpose(0, 1) / node.scale
        seen = []
        neuron.double().fire.register_forward_hook(lambda *args, seen=seen: seen.append(args[1][0]))
        with torch.no_grad():
            fired = neuron(x).transpose(0, 1).numpy() > 0
        wanted = seen[0].transpose(0, 1).numpy()
        same = (fired == (v >= node.threshold / (64 * node.scale))).reshape(4, -1).all(axis=1)
        differ += int((fired != (v * 64 * node.scale >= node.threshold)).sum())
        total, rate = total + fired.size, rate + fired.sum()
        off = np.abs(v - wanted)[same].max(initial=0.0)
        assert off < TOLERANCE * max(1.0, np.abs(wanted).max())
    assert differ <= total * 5e-4 and 0.02 < rate / total < 0.9


def test_other_array_libraries_give_the_same():
    for seed, fields in enumerate(GATES[:4]):
        _, node = made((5, 3, 4), 2, seed, **fields)
        x = currents(node, 3, 2, seed=seed) // 2
        ours, strict = (simulate(alone(node, 2), x, **o) for o in ({}, {"xp": array_api_strict, "batch": 2}))
        np.testing.assert_array_equal(ours.outputs["lif"], strict.outputs["lif"])
        assert ours.counts == strict.counts and 0 < ours.outputs["lif"].mean() < 1


# -------------------------------------------------------------------------------- refusals, by name


def test_what_could_leave_64_bits_is_refused():
    _, node = made((6, 3, 4), 2, 0)
    huge = dict(node.context_in) | {"query": node.context_in["query"] * 2**28}
    with pytest.raises(ConfigError, match=r"lif: context_in: query: sums up to 2\^\d+ do not fit 64 bits"):
        check(alone(dataclasses.replace(node, context_in=huge), 2))
    far = dict(node.context_state) | {"epsilon": np.asarray(1 << 32)}
    with pytest.raises(ConfigError, match="context_state: variance"):
        check(alone(dataclasses.replace(node, context_state=far), 2))
    steep = {
        "conv1": np.full(3, 2**40),
        "shift1": np.asarray(0),
        "conv2": np.ones(3, int),
        "shift2": np.asarray(0),
    }
    with pytest.raises(ConfigError, match="attention: conv1"):
        check(alone(dataclasses.replace(node, attention=steep), 2))


def test_what_does_not_fit_is_refused():
    _, node = made((6, 3, 4), 2, 0)
    for fields, text in (
        ({"threshold": 0}, "threshold 0; must be at least 1"),
        ({"position_at": "nowhere"}, "position_at 'nowhere'; must be one of off, input"),
        ({"bias": np.zeros((1, 1, 1), int)}, r"bias of shape \(1, 1, 1\), not \(6, 1, 1\)"),
        ({"context_in": {"key": np.ones(6, int)}}, r"context_in: arrays \['key'\] are not those of 6"),
        ({"attention": dict(node.attention) | {"shift1": np.asarray(63)}}, "shift1 63 is outside 0 to 62"),
        ({"attention": dict(node.attention) | {"conv2": np.ones(3)}}, "conv2 is float64, not an integer"),
    ):
        with pytest.raises(ConfigError, match=f"lif: .*{text}"):
            check(alone(dataclasses.replace(node, **fields), 2))
    with pytest.raises(ConfigError, match=r"lif: position of shape \(2, 6\), not \(3, 6\)"):
        check(alone(node, 3))


def test_a_current_beyond_its_register_is_refused():
    _, node = made((6, 3, 4), 2, 0)
    with pytest.raises(VerificationError, match="lif: 131072 in sample 0, step 1, neuron 5 does not fit"):
        x = np.zeros((1, 2, 6, 3, 4), int)
        x[0, 1, 0, 1, 1] = 1 << 16
        simulate(alone(node, 2), x)


def test_a_threshold_below_a_unit_of_current_is_refused():
    with pytest.raises(UnsupportedOp, match=r"lif.*a threshold of 0.9 current units"):
        made((6, 3, 4), 2, 0, scale=0.9)


def test_currents_that_are_not_whole_are_no_reference():
    _, node = made((6, 3, 4), 2, 0)
    with pytest.raises(VerificationError, match=r"a current of 0.500000 units"):
        spikes(node, torch.full((2, 1, 6, 3, 4), 0.5 / node.scale, dtype=torch.float64))


# ---------------------------------------------------------------------------------- files and reports


def test_files_listing_mapping_and_energy(tmp_path):
    from snn_energy.energy.costs import load_costs

    _, node = made((6, 3, 4), 2, 0, r=2)
    netlist = alone(node, 2)
    save(netlist, tmp_path)
    again = load(tmp_path)
    x = currents(node, 2, 2) // 2
    for field in dataclasses.fields(node):
        np.testing.assert_equal(getattr(again.nodes["lif"], field.name), getattr(node, field.name))
    activity = simulate(again, x)
    np.testing.assert_array_equal(activity.outputs["lif"], simulate(netlist, x).outputs["lif"])
    assert "GC 3 hidden, PE at input, SA" in listing(netlist)
    assert watched(netlist) == ["lif"]  # its current could leave the register: run.py looks
    report = map_netlist(netlist)
    assert not report.fits and "lif: StaaLif: " in report.problems[0] and "plain LIF" in report.problems[0]
    context, attention = 2 * 72 + 2 * 6 * 3 + 3 * 3, 72 + 6 * 6
    assert gate_products(netlist) == 2 * (2 * context + attention)
    costs = load_costs("loihi")
    count = activity.counts["lif"]
    events = 2 * activity.counts["w"].synaptic_events / 2
    found = netlist_energy(netlist, activity, costs)
    silent = (count.updates - count.spikes) * costs.neuron_update
    active = count.spikes * (costs.neuron_active + costs.spike)
    assert found.picojoules["lif"] == pytest.approx((silent + active) / 2 + events * costs.ac / 2)
