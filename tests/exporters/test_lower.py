"""Lowering: every population of the netlist against the de-quantized network in PyTorch; refusals by name."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron
from torch import nn

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.chip.calibrate import calibrate, lower_model
from snn_energy.exporters.chip.parts import NetlistPart
from snn_energy.exporters.chip.reference import accuracies, dequantized_model, reference
from snn_energy.exporters.lava.package import read_package
from snn_energy.exporters.lowering.lower import lower
from snn_energy.exporters.lowering.plan import Neuron, Plan, Pool, Source, Synapse
from snn_energy.exporters.lowering.quantize import Calibration, input_scale, quantize
from snn_energy.exporters.netlist.compare import compare_activities
from snn_energy.exporters.netlist.record import (
    Edge,
    Identity,
    Input,
    Netlist,
    Population,
    Relay,
    SpikeAttention,
)
from snn_energy.exporters.netlist.simulate import encode, simulate
from snn_energy.exporters.network import see
from snn_energy.graph.capture import capture
from snn_energy.models.neurons import LIF, PLIF, reset
from snn_energy.models.statten import STAtten, STAttenConfig


def lively(model: nn.Module, seed: int = 0, gain: float = 6.0) -> nn.Module:
    """Random but firing: untrained STAtten weights are too small to cross a threshold."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.01, 0.1)
            module.weight.data.uniform_(0.7, 1.5)
            module.bias.data.uniform_(-0.2, 0.6)
        elif isinstance(module, nn.Conv2d):
            module.weight.data *= gain
    return model.eval()


def statten(**fields) -> nn.Module:
    config = {"in_channels": 2, "num_classes": 5, "embed_dims": 16, "num_heads": 2, "mlp_ratios": 2}
    config |= {"depths": 1, "T": 4, "chunk_size": 2, "pooling_stat": "0011"}
    return lively(STAtten(STAttenConfig(**(config | fields))))


def assert_lowers(model: nn.Module, x: np.ndarray, **options):
    lowering = lower_model(model, x, **options)
    netlist = lowering.netlist
    activity = simulate(netlist, encode(netlist, x))
    wanted = reference(lowering.dequantized, netlist, x)
    compared = compare_activities(netlist, wanted, activity, encode(netlist, x))
    assert [str(d) for d in compared.differences] == []
    assert len(compared.checks) >= len(wanted.outputs) > 0
    silent = [c.name for c in compared.checks if c.spikes == 0]
    assert len(silent) < len(compared.checks) / 3, silent
    (name,) = activity.logits
    np.testing.assert_allclose(activity.logits[name], wanted.logits[name], atol=1e-12)
    _, differ = accuracies(see(model, x), dequantized_model(model, lowering), lowering, x, None, activity)
    assert differ == 0
    return lowering, activity


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def counts(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, shape).astype(np.float32)


def test_statten_has_attention_over_chunks():
    lowering, _ = assert_lowers(statten(), images(4, 2, 8, 12))
    (name,) = lowering.netlist.named(SpikeAttention)
    attention = lowering.netlist.nodes[name]
    assert (attention.heads, attention.chunk, attention.shape) == (2, 2, (16, 2, 3))
    assert lowering.netlist.nodes["block.0.attn.attn_lif"].threshold == 8 * 2 - 1  # gain · H - 1, exact


def test_large_biases_behind_a_spatial_sum_leave_room_for_rounding():
    """Every term of a stream is rounded to even values; the sum over H·W multiplies each error by as much."""
    rng, shape = np.random.default_rng(0), (3, 4, 6)
    for _ in range(40):
        terms = tuple("abcdefgh")
        plan = Plan(4)
        plan.sources = {"x": Source("input", shape), "head": Source("lif", (3, 1, 1))}
        weight = np.full((3, 1, 1, 1), 1e-3)
        plan.terms = {name: Synapse("conv", "x", shape, weight, groups=3) for name in terms}
        plan.terms["sum"] = Pool("sum", terms, shape, (3, 1, 1), (4, 6), (4, 6))
        plan.biases = {name: 1 + rng.random(3) for name in terms}
        total = np.sum([plan.biases[name] for name in terms], axis=0)
        plan.neurons = {"head": Neuron(("sum",), total, (3, 1, 1), 2.0, 0.5, 1.0)}
        fire = quantize(plan, Calibration(1.0, True, {"head": 0.1})).neurons["head"]
        assert fire.bias_exponent == 6 and np.abs(fire.bias).max() <= 4095
        assert 20000 < np.abs(fire.extra + fire.bias).max() <= 254 * 128 + 4095  # it is what limits the scale
        assert np.abs(fire.extra).max() <= 254 * 128 and not np.any(fire.extra % 256)


def test_sdt_needs_stock_processes_only():
    lowering, _ = assert_lowers(statten(attention_mode="SDT", pooling_stat="0110"), images(4, 2, 8, 12))
    assert lowering.netlist.origin["stock_processes"] is True
    kinds = {type(n).__name__ for n in lowering.netlist.nodes.values()}
    synapses = {"Conv", "Identity", "Sparse", "Dense"}
    assert kinds == synapses | {"Input", "Population", "Delay", "Relay", "Readout"}


@pytest.mark.parametrize("mode", ["STAtten", "SDT"])
def test_dvs_branch_on_event_counts(mode):
    lowering, _ = assert_lowers(statten(dvs_mode=True, attention_mode=mode), counts(3, 4, 2, 8, 12))
    assert lowering.netlist.nodes["x"].scale == 1.0
    if mode == "STAtten":
        name = "block.0.attn.add"
        assert isinstance(lowering.netlist.nodes[name], Relay)
        values = simulate(lowering.netlist, encode(lowering.netlist, counts(3, 4, 2, 8, 12)), probes=(name,))
        assert set(np.unique(values.outputs[name])) == {0, 1, 2}


def test_plif_keeps_its_time_constants():
    model = statten(spike_mode="plif")
    for module in model.modules():
        if isinstance(module, PLIF):
            module.w.data.fill_(0.4)
    lowering = lower_model(model, images(4, 2, 8, 12))
    assert not lowering.exact
    decay = lowering.netlist.nodes["head_lif"].voltage_decay
    assert decay == round(4096 * torch.sigmoid(torch.tensor(0.4)).item())
    assert any("head_lif: the decays of tau" in note for note in lowering.notes)


@pytest.mark.parametrize(
    "fields", [{"T": 1, "chunk_size": 1}, {"T": 6, "chunk_size": 3}, {"depths": 2, "mlp_ratios": 1}]
)
def test_other_lengths_and_an_inner_shortcut(fields):
    assert_lowers(statten(**fields), images(3, 2, 8, 12))


class Plain(nn.Module):
    """Average pool into a strided grouped convolution, IF, spike pool, a mean of spikes before the head."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1, self.lif1 = nn.Conv2d(3, 8, (3, 5), padding=(1, 2)), nn.BatchNorm2d(8), first
        self.avg = nn.AvgPool2d((2, 3))
        self.conv2, self.lif2 = nn.Conv2d(8, 6, 3, (1, 2), 1, groups=2), LIF()
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=False)
        self.conv3, self.lif3 = nn.Conv2d(6, 10, 2, padding=1), neuron.IFNode(1.0, 0.0, step_mode="m")
        self.head = nn.Linear(10, 4)

    def forward(self, x):
        reset(self)
        x = x.unsqueeze(0).expand(3, *x.shape)
        each = lambda f, z: f(z.flatten(0, 1)).unflatten(0, z.shape[:2])  # noqa: E731
        x = each(self.avg, self.lif1(each(lambda z: self.bn1(self.conv1(z)), x)))
        x = each(self.pool, self.lif2(each(self.conv2, x)))
        return self.head(self.lif3(each(self.conv3, x)).mean((3, 4)).mean(0))


def test_plain_network():
    lowering, _ = assert_lowers(lively(Plain(LIF()), gain=5), images(5, 3, 8, 12))
    assert lowering.netlist.nodes["conv2"].weight.shape == (6, 4, 6, 9)  # the pool's window is in the kernel


def test_fewer_bits_are_kept_too():
    lowering, _ = assert_lowers(statten(), images(3, 2, 8, 12), bits=5)
    weights = [n.weight for n in lowering.netlist.nodes.values() if hasattr(n, "groups")]
    assert max(int(np.abs(w).max()) for w in weights) <= 30


class Wrapped(nn.Module):
    def __init__(self, layer: nn.Module, before: bool = False) -> None:
        super().__init__()
        self.conv, self.lif, self.layer, self.before = nn.Conv2d(2, 2, 1), LIF(), layer, before
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        reset(self)
        x = self.layer(x) if self.before else x
        x = self.conv(x).unsqueeze(0).expand(4, -1, -1, -1, -1)
        x = self.lif(x)
        x = x if self.before else self.layer(x.flatten(0, 1)).unflatten(0, (4, -1))
        return self.head(x.mean((3, 4))).mean(0)


@pytest.mark.parametrize(
    ("layer", "before", "message"),
    [
        (nn.BatchNorm2d(2), True, r"layer: cannot lower Norm; .*must stand directly behind a convolution"),
        (nn.ConvTranspose2d(2, 2, 2), False, "layer: cannot lower ConvTranspose; .*ordinary convolution"),
        (nn.GELU(), False, r"layer.*: cannot lower Activation; .*replace it by a LIF"),
        (nn.MaxPool2d(2, ceil_mode=True), False, "layer.*: cannot lower MaxPool; .*without ceil_mode"),
    ],
)
def test_refusals_name_node_operation_and_way_out(layer, before, message):
    with pytest.raises(UnsupportedOp, match=message):
        lower_model(Wrapped(layer, before).eval(), images(2, 2, 6, 4))


def test_soft_reset_is_refused():
    model = Wrapped(nn.MaxPool2d(2)).eval()
    model.lif = neuron.LIFNode(v_reset=None, step_mode="m")
    with pytest.raises(UnsupportedOp, match=r"lif: cannot lower Lif; .*soft reset does not exist there"):
        lower_model(model, images(2, 2, 6, 4))


def test_other_rest_and_undecayed_input():
    model = Wrapped(nn.MaxPool2d(2)).eval()
    model.lif = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=0.4, v_reset=-0.25, step_mode="m")
    assert_lowers(model, images(9, 2, 6, 4))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.sampled_from([0.3, 0.5, 1.0, 1.7]))
def test_the_chip_neuron_is_the_real_one_up_to_seven_steps(seed, steps, threshold):
    """τ = 2: integer spikes equal those of v ← (v + x)/2 with the weights that the registers stand for."""
    rng = np.random.default_rng(seed)
    shape = (5, 1, 1)
    weight, bias = rng.normal(size=5), rng.normal(size=5) * 0.3
    plan = Plan(steps)
    plan.sources = {"x": Source("input", shape), "lif": Source("lif", shape)}
    plan.terms = {"w": Synapse("conv", "x", shape, weight.reshape(5, 1, 1, 1), groups=5)}
    plan.biases = {"w": bias}
    plan.neurons = {"lif": Neuron(("w",), bias, shape, 2.0, 0.5, threshold)}
    registers = quantize(plan, Calibration(1.0, True, {"lif": 3.0}))
    x = (rng.random((1, steps, *shape)) < 0.6).astype(int)
    from snn_energy.exporters.lowering.lower import Emitter

    nodes, edges = Emitter(plan, registers).run()
    got = simulate(Netlist(nodes, tuple(edges), steps), x).outputs["lif"][0].reshape(steps, 5)
    real, fire = registers.weights["w"].real.ravel(), registers.neurons["lif"]
    added = registers.biases["w"] / registers.scales["w"]
    v, wanted = np.zeros(5), []
    for step in x[0].reshape(steps, 5):
        v = (v + real * step + added) / 2
        wanted.append(v >= fire.real_threshold)
        v = np.where(wanted[-1], 0, v)
    np.testing.assert_array_equal(got, np.array(wanted))
    assert fire.real_threshold == pytest.approx(threshold, rel=1e-12)


@pytest.mark.parametrize(
    ("peak", "whole", "expected"),
    [(1.0, True, (1.0, 0)), (3.0, True, (1.0, 8)), (2.5, False, (50.8, 8)), (254.0, True, (0.5, 8))],
)
def test_input_scale(peak, whole, expected):
    scale = input_scale(Calibration(peak, whole, {}))
    assert (scale.scale, scale.message_bits) == expected


def test_first_difference_is_named():
    nodes = {"x": Input((1, 1, 3)), "w": Identity((1, 1, 3), 8), "lif": Population((1, 1, 3), 4)}
    netlist = Netlist(nodes, (Edge("x", "w"), Edge("w", "lif")), 2)
    activity = simulate(netlist, np.ones((2, 2, 1, 1, 3), int))
    changed = simulate(netlist, np.ones((2, 2, 1, 1, 3), int))
    changed.outputs["lif"][1, 1, 0, 0, 2] ^= 1
    compared = compare_activities(netlist, activity, changed, np.ones((2, 2, 1, 1, 3), int))
    (difference,) = compared.differences
    assert (difference.sample, difference.node, difference.step, difference.index) == (1, "lif", 1, (0, 0, 2))
    # It fired at step 0, so its membrane starts at rest again.
    assert (difference.membrane, difference.threshold) == (8 * 64, 4 * 64 + 0.5)
    assert compared.clean.tolist() == [True, False]


def test_other_samples_than_those_verified_set_the_scales(tmp_path):
    """Calibrated on louder samples, the input's scale is smaller; the record says what calibrated."""
    from snn_energy.exporters.targets import export, options

    model, x = statten(depths=1, T=2), images(3, 2, 8, 12)
    own = export(model, "lava", tmp_path / "a", x=x)
    other = export(model, "lava", tmp_path / "b", x=x, calibration=4 * x[:2])
    scales = [read_package(tmp_path / folder)[0].nodes["x"].scale for folder in "ab"]
    assert scales[1] == scales[0] / 4
    assert own.part(NetlistPart).calibration == "3 samples, of those verified"
    assert other.part(NetlistPart).calibration == "2 samples, others"
    assert "calibration" in options("lava") and "calibration" not in options("onnx")


@pytest.mark.parametrize("fields", [{}, {"attention_mode": "SDT", "depths": 2, "pooling_stat": "0110"}])
def test_a_dequantized_network_is_lowered_as_it_is(fields):
    """Weights and biases on a grid stay on it, also where float32 rounded them and norms are folded anew."""
    model, x = statten(**fields), images(4, 2, 8, 12)
    first = lower_model(model, x)
    twin = dequantized_model(model, first).float()
    again = lower(capture(twin, x[:1]), calibrate(capture(twin, x[:1]), x))
    assert again.registers.scales == pytest.approx(first.registers.scales, rel=1e-6)
    for name, weights in first.registers.weights.items():
        np.testing.assert_array_equal(again.registers.weights[name].values, weights.values, err_msg=name)
        np.testing.assert_array_equal(
            again.registers.biases[name], first.registers.biases[name], err_msg=name
        )
    for name, fire in first.registers.neurons.items():
        assert again.registers.neurons[name].threshold == fire.threshold


def test_a_bias_beyond_its_register_comes_through_synapses():
    """The head's bias, summed over 96 positions, leaves the stream's weights their bits."""
    torch.manual_seed(0)
    model = statten(pooling_stat="0000", embed_dims=16, T=2)
    with torch.no_grad():
        model.patch_embed.rpe_bn.bias.uniform_(-3, 5)
    lowering, activity = assert_lowers(model, images(3, 2, 8, 12))
    clock, extra = lowering.netlist.nodes["head_lif.clock"], lowering.netlist.nodes["head_lif.extra_bias"]
    assert activity.outputs["head_lif.clock"].all() and clock.shape == (1, 1, 1)
    total = (
        lowering.registers.neurons["head_lif"].extra + (lowering.netlist.nodes["head_lif"].bias >> 6).ravel()
    )
    np.testing.assert_array_equal(extra.weight[:, 0] << 7, lowering.registers.neurons["head_lif"].extra)
    assert 8190 < np.abs(total).max() < 40000
    assert np.abs(lowering.registers.weights["patch_embed.rpe_conv"].values).max() > 60
    assert any("always fires" in note for note in lowering.notes)


def test_an_attention_scale_that_is_no_power_of_two_has_no_ties():
    """Q(KᵀV)/7 reaches thresholds that float sums of sevenths miss by their rounding."""
    lowering, activity = assert_lowers(statten(T=2, depths=1), images(4, 2, 28, 12))
    assert lowering.netlist.nodes["block.0.attn.attn_lif"].shape[1:] == (7, 3)
    threshold = lowering.registers.neurons["block.0.attn.attn_lif"].real_threshold
    assert threshold < sum([1 / 7] * 7) / 2 < 0.5
    assert 0.01 < activity.outputs["block.0.attn.attn_lif"].mean() < 0.99
