"""STAA neurons in integers: against loops, against the float neuron, in whole networks and in real Lava."""

import dataclasses
import itertools
import math
from functools import cache

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lava_environment import lava_python
from staa_loops import membranes
from test_lower import assert_lowers, images, lively
from torch import nn

from snn_energy.errors import ConfigError, DataError, UnsupportedOp, VerificationError
from snn_energy.exporters.lava.export import dequantized_model, export_lava, lower_model, rounded, verify_dir
from snn_energy.exporters.lava.package import watched
from snn_energy.exporters.lava.staa import gate_errors, spikes
from snn_energy.exporters.lowering.staa import read_module, staa_registers
from snn_energy.exporters.netlist import staa_lif
from snn_energy.exporters.netlist.check import check
from snn_energy.exporters.netlist.energy import gate_products, netlist_energy
from snn_energy.exporters.netlist.files import load, save
from snn_energy.exporters.netlist.listing import listing
from snn_energy.exporters.netlist.mapping import map_netlist
from snn_energy.exporters.netlist.record import Edge, Identity, Input, Netlist, Population, Relay, StaaLif
from snn_energy.exporters.netlist.simulate import simulate
from snn_energy.models.backbones import BasicBlock, ConvNeuron, Head, PerStep, halve
from snn_energy.models.neurons import LIF
from snn_energy.models.staa_neuron import STAALIF, NeuronConfig
from snn_energy.models.steps import to_sequence

TOLERANCE = 2**-8  # |ΔV| of fixed-point gates, relative to the largest membrane (docs/neuromorphic.md)
PLACES = ("input", "state", "aggregate", "output")
GATES = (
    {}, {"pe": "off"}, {"gc": False}, {"sa": False}, {"gc": False, "sa": False},
    {"gc": False, "pe": "off"}, {"pe": "off", "sa": False}, {"pe": "fixed", "pe_at": "state"},
    {"pe_at": "aggregate", "adaptive": True}, {"pe_at": "output", "alpha": -1.5, "r": 2},
    {"gc": False, "pe_at": "state", "tau": 3.0, "adaptive": True}, {"r": 40, "alpha": 0.0},
)  # fmt: skip


def randomised(neuron: STAALIF, seed: int) -> STAALIF:
    """No gate is the identity: weights of the size that training leaves."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in neuron.named_parameters():
            scalar = name in ("M", "N")
            p.copy_(0.3 + 0.7 * torch.rand(p.shape, generator=generator) if scalar
                    else 0.5 * torch.randn(p.shape, generator=generator))  # fmt: skip
    return neuron.eval()


def made(shape, T, seed, scale=300.0, **fields) -> tuple[STAALIF, StaaLif]:
    neuron = randomised(STAALIF(shape[0], NeuronConfig(T=T, **fields)), seed)
    bias = np.random.default_rng(seed).integers(-90, 90, shape[0])
    return neuron, staa_registers("lif", read_module(neuron), shape, scale, bias)


def currents(node: StaaLif, *lead: int, seed: int = 0, spread: float = 1.5) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.rint(generator.normal(0.2, spread, (*lead, *node.shape)) * node.scale).astype(np.int64)


def alone(node: StaaLif, T: int) -> Netlist:
    """x - w - lif, whose current is twice its message."""
    nodes = {"x": Input(node.shape, 20), "w": Identity(node.shape, 2), "lif": node}
    return Netlist(nodes, (Edge("x", "w"), Edge("w", "lif")), T)


# ----------------------------------------------------------------------------------------- the definition


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


# ------------------------------------------------------------------------------------- whole networks


class Net(nn.Module):
    """A convolution, an average pool, a block whose shortcut is the pool, one whose shortcut has a layer."""

    def __init__(self, neuron, T: int, channels: int = 6) -> None:
        super().__init__()
        self.T, c = T, channels
        self.first, self.pool = ConvNeuron(2, c, neuron), PerStep(halve())
        self.same, self.block = BasicBlock(c, c, 1, neuron), BasicBlock(c, 7, 2, neuron)
        self.head = Head(7, 0, 5, neuron)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.first(to_sequence(x, self.T)))
        return self.head(self.block(self.same(x))).mean(0)


def staa_net(T: int = 2, seed: int = 0, **fields) -> Net:
    """Every other neuron layer is a STAA neuron: three of five."""
    config, staa = NeuronConfig(T=T, **fields), itertools.cycle([True, False])
    net = lively(Net(lambda c: STAALIF(c, config) if next(staa) else LIF(), T), seed, gain=3.0)
    for i, module in enumerate(m for m in net.modules() if isinstance(m, STAALIF)):
        randomised(module, seed + i)
    return net


@cache
def lowered(**fields):
    return assert_lowers(staa_net(**fields), images(3, 2, 8, 12))[0]


@pytest.mark.parametrize(
    "fields", [{}, {"T": 1}, {"T": 4, "r": 1, "pe_at": "state"}, {"gc": False, "adaptive": True}], ids=str
)
def test_networks_lower(fields):
    lowering = lowered(**fields)
    netlist = lowering.netlist
    assert netlist.named(StaaLif) == ["first.lif", "same.lif2", "block.lif2"] and lowering.exact
    errors = gate_errors(lowering.dequantized, netlist, rounded(netlist, images(3, 2, 8, 12)))
    assert sum(e.differ for e in errors.values()) <= 2e-3 * sum(e.compared for e in errors.values())
    assert all(e.spikes for e in errors.values())


def test_a_shortcut_of_spikes_keeps_its_weight():
    """A mean of four spikes, and spikes: their synapses are exactly ¼ and 1 in the stream's unit."""
    netlist = lowered().netlist
    pooled = netlist.nodes["same.add.from.first.lif"]
    scale = netlist.nodes["same.lif2"].scale
    assert set(np.unique(pooled.weight)) == {round(scale / 4 / 2**pooled.exponent)}
    assert int(pooled.weight[0, 0, 0, 0]) << pooled.exponent == scale / 4


def test_without_gates_it_is_a_stock_lif():
    lowering = lowered(T=3, gc=False, pe="off", sa=False)
    assert not lowering.netlist.named(StaaLif) and len(lowering.netlist.named(Population)) == 5
    assert any("same.lif2: threshold 1 becomes" in note for note in lowering.notes)
    assert lowering.netlist.origin["stock_processes"] is True


def test_a_dequantized_network_is_lowered_as_it_is():
    """Weights on a grid stay on it, whatever neurons hear them."""
    model, first = staa_net(), lowered()
    twin = dequantized_model(model, first).float()
    for path, module in model.named_modules():
        if isinstance(module, STAALIF):
            parent, _, child = path.rpartition(".")
            setattr(twin.get_submodule(parent), child, module)
    again = lower_model(twin, images(3, 2, 8, 12))
    assert again.registers.scales == pytest.approx(first.registers.scales, rel=1e-6)
    for name, weights in first.registers.weights.items():
        np.testing.assert_array_equal(again.registers.weights[name].values, weights.values, err_msg=name)
    for name, node in first.registers.staa.items():
        np.testing.assert_array_equal(again.registers.staa[name].bias, node.bias, err_msg=name)


def test_learned_weights_of_state_and_current_stay_what_they_are():
    """Without gates, M and N that do not add up to 1 are no LIF's: the own process keeps both."""
    lowering = lowered(gc=False, pe="off", sa=False, adaptive=True)
    node = lowering.netlist.nodes["same.lif2"]
    assert isinstance(node, StaaLif) and not (node.context_in or node.attention or node.position.size)
    assert 0.3 * 65536 <= node.keep <= 65536 and node.keep + node.gain != 65536
    assert "no gates" in listing(lowering.netlist)


def test_a_shortcut_that_its_stream_dwarfs_is_refused():
    net = Net(lambda c: LIF(), 2)
    net.same.bn2.bias.data.fill_(9e4)
    with pytest.raises(UnsupportedOp, match=r"same.conv2.*a shortcut of spikes beside currents"):
        lower_model(net.eval(), images(2, 2, 8, 12))


def test_residual_networks_of_plain_lif_lower():
    """Their thresholds move to where the weight of the shortcut allows it; that is noted."""
    lowering, _ = assert_lowers(lively(Net(lambda c: LIF(), 4), gain=3.0), images(3, 2, 8, 12))
    assert any("same.lif2: threshold 1 becomes" in note for note in lowering.notes)


def test_average_pools_of_odd_maps():
    """7×13 -> 4×7 -> 2×4 in windows of 4, 2 and 1: graded messages in quarters, in layers and shortcuts."""
    net = Net(lambda c: STAALIF(c, NeuronConfig(T=2, gc=False)) if c == 7 else LIF(), 2)
    lowering, _ = assert_lowers(lively(net, gain=3.0), images(3, 2, 7, 13))
    relay, synapses = lowering.netlist.nodes["pool.layer"], lowering.netlist.nodes
    assert isinstance(relay, Relay) and relay.shape == (6, 4, 7) and relay.message_bits == 4
    listed = {size: synapses[f"pool.layer.windows{size}"].sources.size for size in (4, 2, 1)}
    assert listed == {4: 6 * 6 * 12, 2: 6 * (6 + 12), 1: 6}
    assert {size: set(synapses[f"pool.layer.windows{size}"].values.tolist()) for size in (4, 2, 1)} == {
        4: {1}, 2: {2}, 1: {4}
    }  # fmt: skip


def test_cut_windows_of_averages_are_refused_by_name():
    class Twice(Net):
        def __init__(self):
            super().__init__(lambda c: LIF(), 2)
            self.pool = nn.Sequential(PerStep(nn.AvgPool2d((1, 3))), PerStep(halve()))

    with pytest.raises(UnsupportedOp, match=r"pool.1.layer.*maps that divide into windows"):
        lower_model(Twice().eval(), images(2, 2, 7, 12))


@pytest.mark.slow
def test_the_shipped_models_lower():
    from snn_energy.models.staa import STAASNN, STAAConfig

    config = STAAConfig(backbone="vgg13", in_channels=1, num_classes=4, width=0.05, T=2)
    model = lively(STAASNN(config), gain=3.0)
    for i, module in enumerate(m for m in model.modules() if isinstance(m, STAALIF)):
        randomised(module, i)
    lowering, _ = assert_lowers(model, images(2, 1, 8, 8))
    assert len(lowering.netlist.named(StaaLif)) == 10


def test_other_neurons_are_refused_by_name():
    class Threshold(nn.Module):
        spiking = True

        def forward(self, v):
            return (v >= 1).to(v.dtype)

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.fire = Threshold()

        def forward(self, x):
            return self.fire(x * 2)

    with pytest.raises(UnsupportedOp, match=r"first.lif: .*Odd has no form in integers"):
        lower_model(Net(lambda c: Odd(), 2).eval(), images(1, 2, 8, 12))


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
    assert not report.fits and "embedded core" in report.off_chip["lif"]
    context, attention = 2 * 72 + 2 * 6 * 3 + 3 * 3, 72 + 6 * 6
    assert gate_products(netlist) == 2 * (2 * context + attention)
    costs = load_costs("loihi")
    count = activity.counts["lif"]
    events = 2 * activity.counts["w"].synaptic_events / 2
    found = netlist_energy(netlist, activity, costs)
    silent = (count.updates - count.spikes) * costs.neuron_update
    active = count.spikes * (costs.neuron_active + costs.spike)
    assert found.picojoules["lif"] == pytest.approx((silent + active) / 2 + events * costs.ac / 2)


def test_the_netlist_alone_is_a_target(tmp_path):
    from snn_energy.exporters.targets import export, verify

    x, y = images(3, 2, 8, 12), np.array([0, 1, 2])
    net = Net(lambda c: STAALIF(c, NeuronConfig(T=2, gc=False)) if c == 7 else LIF(), 2).eval()
    verdict = export(net, "netlist", tmp_path / "out", x=x, y=y)
    assert verdict.verdict == "identical" and verdict.target == "netlist"
    assert set(verdict.accuracy) == {"model", "dequantized", "netlist"}
    assert "PE at input, SA" in (tmp_path / "out" / "netlist.txt").read_text()
    again = verify(tmp_path / "out", x=x[:2])
    assert again.verdict == "identical" and again.samples == 2 and again.target == "netlist"
    with pytest.raises(DataError, match="is no exported package"):
        verify(tmp_path / "out", x=x, runtime="lava")


@pytest.mark.slow
def test_real_lava_fires_the_same(tmp_path):
    """Three samples streamed with their resets, every gate, odd maps, shortcuts of spikes and of their means;
    the package verifies again from its files."""
    verdict = export_lava(staa_net(T=3, pe_at="state"), tmp_path / "out", None, images(3, 2, 7, 13))
    assert verdict.verdict == "identical" and verdict.details["own_processes"] == ["StaaLif"]
    assert verdict.details["staa"]["spikes_compared"] == 3 * 3 * (6 * 91 + 6 * 28 + 7 * 8)
    assert verify_dir(tmp_path / "out").verdict == "identical"
    in_lava = verify_dir(tmp_path / "out", runtime="lava", python=lava_python(), timeout=300)
    assert in_lava.verdict == "identical" and in_lava.mismatches == 0
    assert len(in_lava.neurons) == 5 and all(c.spikes for c in in_lava.neurons)
