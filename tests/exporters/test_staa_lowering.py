"""STAA networks as netlists: against PyTorch, with every kind of layer around them, and in real Lava."""

from functools import cache

import numpy as np
import pytest
from lava_environment import lava_python
from staa_nets import Net, randomised, staa_net
from test_lower import assert_lowers, images, lively
from torch import nn

from snn_energy.errors import ConfigError, UnsupportedOp
from snn_energy.exporters.chip.calibrate import lower_model
from snn_energy.exporters.chip.parts import ChipEnergyPart, NetlistPart, StaaPart
from snn_energy.exporters.chip.reference import dequantized_model, rounded
from snn_energy.exporters.chip.staa import gate_errors
from snn_energy.exporters.lava.export import export_lava, verify_dir
from snn_energy.exporters.netlist.listing import listing
from snn_energy.exporters.netlist.record import Population, Relay, StaaLif
from snn_energy.models.backbones import PerStep, halve
from snn_energy.models.neurons import LIF
from snn_energy.models.staa_neuron import STAALIF, NeuronConfig


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


def test_the_pool_of_an_imagenet_stem_is_refused_by_name():
    from snn_energy.models.staa import STAASNN, STAAConfig

    fields = {"backbone": "resnet18", "in_channels": 2, "num_classes": 5, "width": 1 / 32, "T": 2}
    plain = {"gc": False, "pe": "off", "sa": False}
    with pytest.raises(
        UnsupportedOp, match=r"backbone.stem.1.layer.*average pool whose stride is its kernel"
    ):
        lower_model(STAASNN(STAAConfig(**fields, **plain)).eval(), images(2, 2, 16, 24))
    model = lively(STAASNN(STAAConfig(**fields, **plain, shapes="pooled")), gain=3.0)
    assert assert_lowers(model, images(2, 2, 16, 24))[0].exact


def test_the_decoupled_model_lowers_without_its_attentions():
    from snn_energy.models.decoupled import Decoupled, DecoupledConfig

    fields = {"in_channels": 2, "num_classes": 5, "width": 1 / 32, "num_heads": 2, "T": 2, "temporal": False}
    model = lively(Decoupled(DecoupledConfig(**fields | {"spatial": False})), gain=3.0)
    lowering, _ = assert_lowers(model, images(2, 2, 8, 12))
    assert lowering.exact and lowering.netlist.origin["stock_processes"] is True


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


def test_the_netlist_alone_is_a_target(tmp_path):
    from snn_energy.exporters.targets import export, verify

    x, y = images(3, 2, 8, 12), np.array([0, 1, 2])
    net = Net(lambda c: STAALIF(c, NeuronConfig(T=2, gc=False)) if c == 7 else LIF(), 2).eval()
    verdict = export(net, "netlist", tmp_path / "out", x=x, y=y)
    assert verdict.verdict == "identical" and verdict.target == "netlist"
    assert set(verdict.accuracy) == {"model", "dequantized", "netlist"}
    (unpriced,) = verdict.part(ChipEnergyPart).unpriced
    assert unpriced.endswith("products in gates of STAA neurons") and unpriced[0] != "0"
    assert "PE at input, SA" in (tmp_path / "out" / "netlist.txt").read_text()
    again = verify(tmp_path / "out", x=x[:2])
    assert again.verdict == "identical" and again.samples == 2 and again.target == "netlist"
    with pytest.raises(ConfigError, match="option 'runtime' is not one of target netlist"):
        verify(tmp_path / "out", x=x, runtime="lava")


@pytest.mark.slow
def test_real_lava_fires_the_same(tmp_path):
    """Three samples streamed with their resets, every gate, odd maps, shortcuts of spikes and of their means;
    the package verifies again from its files."""
    verdict = export_lava(staa_net(T=3, pe_at="state"), tmp_path / "out", images(3, 2, 7, 13))
    assert verdict.verdict == "identical" and verdict.part(NetlistPart).own_processes == ("StaaLif",)
    assert verdict.part(StaaPart).spikes_compared == 3 * 3 * (6 * 91 + 6 * 28 + 7 * 8)
    assert verify_dir(tmp_path / "out").verdict == "identical"
    in_lava = verify_dir(tmp_path / "out", runtime="lava", python=lava_python(), timeout=300)
    assert in_lava.verdict == "identical" and in_lava.mismatches == 0
    assert len(in_lava.neurons) == 5 and all(c.spikes for c in in_lava.neurons)
