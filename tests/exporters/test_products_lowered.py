"""Norms behind products of spikes, and spikes that take others away, in a netlist: the decoupled model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact import exact, exact_images
from spikingjelly.activation_based import functional, layer, neuron
from test_lower import images, lively
from torch import nn

import snn_energy
from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.chip.calibrate import lower_model
from snn_energy.exporters.chip.reference import reference
from snn_energy.exporters.netlist.compare import compare_activities
from snn_energy.exporters.netlist.record import Conv, Relay, SpikeAttention
from snn_energy.exporters.netlist.simulate import encode, simulate
from snn_energy.models.decoupled import Decoupled, DecoupledConfig, SpatialAttention

FIELDS: dict[str, Any] = {"in_channels": 2, "num_classes": 5, "width": 1 / 32, "num_heads": 2, "T": 2}


def awake(**fields: Any) -> nn.Module:
    """The model with norms behind its attentions that let something through."""
    torch.manual_seed(1)
    model = lively(Decoupled(DecoupledConfig(**FIELDS, **fields)), gain=3.0)
    for module in model.modules():
        if isinstance(module, SpatialAttention):
            channels = module.attn_bn.num_features
            for norm in (module.attn_bn, module.proj_bn):
                norm.weight.data = torch.linspace(0.5, 1.5, channels)
                norm.bias.data = torch.linspace(-0.25, 0.5, channels)
            module.attn_bn.running_mean.fill_(2.0)
            module.attn_bn.running_var.fill_(9.0)
            module.attn_bn.weight.data[0] *= -1  # a factor may be negative
    return model.eval()


@pytest.mark.parametrize("residual", ["iand", "plain"])
def test_spatial_attention_lowers_with_its_norm(residual: str) -> None:
    model, x = awake(temporal=False, residual=residual), images(3, 2, 8, 12)
    lowering = lower_model(model, x)
    netlist = lowering.netlist
    relays = [name for name in netlist.named(Relay) if name.endswith("attn_bn.relay")]
    assert len(netlist.named(SpikeAttention)) == len(relays) > 0
    for name in relays:
        factors = netlist.nodes[name.removesuffix(".relay")]
        assert isinstance(factors, Conv) and factors.groups == factors.shape[0]
        assert factors.weight[0].max() < 0 < factors.weight[1].min()
    messages = encode(netlist, x)
    got, wanted = simulate(netlist, messages), reference(lowering.dequantized, netlist, x)
    compared = compare_activities(netlist, wanted, got, messages)
    fired = {check.name: check.spikes for check in compared.checks}
    assert not any(check.mismatches for check in compared.checks) and lowering.exact
    heard = [name for name in fired if name.endswith("attn_lif")]
    assert len(heard) == len(relays) and sum(fired[name] for name in heard) > 0
    if residual == "iand":  # what goes on is part of what came in, and not all of it
        for name in (name for name in netlist.nodes if name.endswith(".mul")):
            assert name in got.counts and got.counts[name].spikes > 0


def test_a_mask_over_steps_is_refused_in_one_line() -> None:
    with pytest.raises(
        UnsupportedOp, match=r"attention1.1.past: .* between steps: .*temporal=false"
    ) as refused:
        lower_model(Decoupled(DecoupledConfig(**FIELDS)).eval(), images(2, 2, 8, 12))
    assert "\n" not in str(refused.value)


class Gated(nn.Module):
    """Spikes that those of another layer take away, in both spellings."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = layer.Linear(7, 9), layer.Linear(7, 9), layer.Linear(9, 4)
        self.x, self.y = neuron.LIFNode(), neuron.LIFNode()
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        frames = x.unsqueeze(0).expand(3, *x.shape)
        return self.head((1 - self.y(self.b(frames))) * self.x(self.a(frames))).mean(0)


@pytest.mark.parametrize("target", ["onnx", "nir", "netlist"])
def test_what_a_spike_takes_away(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Gated()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    x = 3 * exact_images(6, 7).numpy()
    verdict = snn_energy.export(exact(model), target, tmp_path, x=x)
    assert verdict.verdict == "identical"
    assert all(0 < check.spikes < check.compared for check in verdict.neurons)
    again = snn_energy.verify(tmp_path)
    assert again.verdict == "identical" and np.isfinite(again.logits_difference)
