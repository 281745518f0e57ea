"""SANA-FE (optional, GPL) as a second opinion: the same spikes, and an energy that grows with activity.

It is one of the development extras; where it is missing, the tests that run it say so and are skipped.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch
from netlists import chain, everything, messages
from test_lower import images, statten
from torch import nn

from snn_energy.errors import ConfigError, UnsupportedOp
from snn_energy.exporters.chip.parts import NetlistPart
from snn_energy.exporters.netlist.record import Input
from snn_energy.exporters.netlist.simulate import simulate
from snn_energy.exporters.sanafe.export import SanafePart, verify_dir
from snn_energy.exporters.sanafe.run import run_sanafe
from snn_energy.exporters.sanafe.wires import bit_planes, obstacle
from snn_energy.exporters.targets import export
from snn_energy.models.neurons import LIF, reset
from snn_energy.reports.cards import cards

MISSING = "SANA-FE is not installed: pip install 'snn-energy[sanafe]'"


def test_own_processes_are_refused_by_name():
    refusal = obstacle(everything(np.random.default_rng(0)))
    assert str(refusal).startswith("pool: cannot lower GradedMaxPool in SANA-FE")
    assert obstacle(chain(np.random.default_rng(0))) is None
    persistent = obstacle(chain(np.random.default_rng(0), current_decay=1000))
    assert str(persistent).startswith("lif1: cannot lower bias with a decaying current")


def test_bits_of_a_message_carry_its_value():
    values = np.arange(-32, 32).reshape(2, 4, 4, 2)
    bits = bit_planes(Input((4, 4, 2), 6), values)
    weights = np.array([1, 2, 4, 8, 16, -32]).reshape(1, 6, 1, 1, 1)
    np.testing.assert_array_equal((bits * weights).sum(axis=1), values)
    binary = bit_planes(Input((4, 4, 2)), values % 2)
    np.testing.assert_array_equal(binary[:, 0], values % 2)


@pytest.mark.slow
@pytest.mark.parametrize("lif", [{}, {"voltage_decay": 128}])
def test_spikes_are_identical(lif):
    pytest.importorskip("sanafe", reason=MISSING)
    rng = np.random.default_rng(1)
    netlist = chain(rng, **lif)
    x = messages(netlist, rng, 1)
    result, ours = run_sanafe(netlist, x), simulate(netlist, x)
    for name in netlist.populations():
        np.testing.assert_array_equal(result.spikes[name], ours.outputs[name], err_msg=name)
    assert 0.02 < ours.outputs["lif3"].mean() < 0.98
    assert sum(result.energy_parts.values()) == pytest.approx(result.energy, rel=1e-6)
    if not lif:
        silent = run_sanafe(netlist, np.zeros_like(x))
        assert result.energy > silent.energy > 0 and result.latency > 0


class Events(nn.Module):
    """For event frames of 0 and 1: strided and depthwise convolutions, a max pool, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(2, 6, 3, stride=2, padding=1), LIF()
        self.conv2, self.lif2 = nn.Conv2d(6, 6, 3, groups=6), LIF()
        self.head_lif, self.mix, self.head = LIF(), nn.Conv2d(6, 8, (3, 4)), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reset(self)
        each = lambda f, s: f(s.flatten(0, 1)).unflatten(0, s.shape[:2])  # noqa: E731
        spikes = self.lif1(each(self.conv1, x.transpose(0, 1)))
        spikes = self.lif2(each(self.conv2, each(nn.MaxPool2d(3, 1, 1), spikes)))
        return self.head(self.head_lif(each(self.mix, spikes)).flatten(2)).mean(0)


@pytest.mark.slow
def test_a_convolutional_network_on_event_frames(tmp_path):
    pytest.importorskip("sanafe", reason=MISSING)
    torch.manual_seed(0)
    model = Events().eval()
    with torch.no_grad():
        for layer in (model.conv1, model.conv2, model.mix):
            layer.weight.mul_(4)
            layer.bias.uniform_(0, 0.6)
    x = (np.random.default_rng(0).random((3, 4, 2, 9, 12)) < 0.3).astype(np.float32)
    verdict = export(model, "sanafe", tmp_path / "out", x=x, sanafe_samples=1)
    assert verdict.verdict == "identical" and verdict.target == "sanafe" and verdict.samples == 3
    ran = verdict.part(SanafePart)
    assert ran.summary.startswith("identical: ") and ran.samples == 1
    assert sum(ran.joules_by_part.values()) == pytest.approx(ran.joules_per_inference, rel=1e-6)
    assert 0 < ran.seconds_per_inference < 1 and ran.neurons > 2 * 9 * 12
    record = json.loads((tmp_path / "out" / "verification.json").read_text())
    assert record["parts"]["sanafe"] == dataclasses.asdict(ran)
    facts = cards([tmp_path / "out"])[0].facts
    assert facts["energy per inference (SANA-FE's Loihi)"].endswith(("pJ", "nJ", "µJ"))
    assert "12 % for energy" in facts["how far SANA-FE is from the chip"]
    assert facts["latency per inference (SANA-FE's Loihi)"].endswith(" µs")
    assert all(0 < check.spikes < check.compared for check in verdict.neurons) and len(verdict.neurons) == 3


@pytest.mark.slow
def test_a_whole_transformer_on_an_image(tmp_path):
    """A graded image as bits, shortcuts with delays, a composed spatial mean: all spikes are equal."""
    pytest.importorskip("sanafe", reason=MISSING)
    model, x = statten(attention_mode="SDT", pooling_stat="0110", T=2), images(2, 2, 8, 6)
    verdict = export(model, "netlist", tmp_path / "out", x=x)
    again = verify_dir(tmp_path / "out", x[1:])
    assert again.verdict == "identical" and again.mismatches == 0
    assert sum(check.spikes > 2 for check in again.neurons) >= 10
    assert again.part(SanafePart).neurons > verdict.part(NetlistPart).neurons


def test_what_it_cannot_run_is_refused(tmp_path):
    pytest.importorskip("sanafe", reason=MISSING)
    netlist = everything(np.random.default_rng(0))
    with pytest.raises(UnsupportedOp, match="pool: cannot lower GradedMaxPool"):
        run_sanafe(netlist, np.zeros((1, 2, 6, 10), int))
    with pytest.raises(ConfigError, match="sanafe_samples = 0: must be at least 1"):
        export(Events(), "sanafe", tmp_path / "out", x=np.zeros((1, 4, 2, 9, 12)), sanafe_samples=0)


def test_a_refusal_writes_nothing(tmp_path):
    """Attention over chunks is an own process: refused by name before the netlist is written."""
    pytest.importorskip("sanafe", reason=MISSING)
    with pytest.raises(UnsupportedOp, match="SpikeAttention"):
        export(statten(pooling_stat="0110", T=2), "sanafe", tmp_path / "out", x=images(1, 2, 8, 6))
    assert not (tmp_path / "out").exists()
