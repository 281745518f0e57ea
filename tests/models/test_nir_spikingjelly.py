"""What SpikingJelly's own exporter writes fires as the SpikingJelly network does.

Weights and inputs lie on binary grids and thresholds beside them, so that no sum is rounded and no membrane
meets its threshold, which SpikingJelly's neurons fire at and NIR's above.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from exact import STEP, exact_images, on_grid
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import snn_energy

pytest.importorskip("nir")
pytest.importorskip("nirtorch")
from spikingjelly.activation_based.nir_exchange import export_to_nir

T, B = 7, 3


def network(first: nn.Module, second: nn.Module) -> nn.Sequential:
    torch.manual_seed(2)
    net = nn.Sequential(
        layer.Conv2d(2, 5, 3, stride=(2, 1), padding=1, bias=False),  # nir takes kernels for square
        first,
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Linear(5 * 2 * 5, 6),
        second,
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(on_grid(torch.randn(parameter.shape) * 0.4 + 0.03, STEP))
    return net.eval()


NEURONS = {
    "IF": lambda: neuron.IFNode(v_threshold=0.9),
    "LIF": lambda: neuron.LIFNode(tau=2.0, v_threshold=0.9),
    "LIF, input undecayed": lambda: neuron.LIFNode(tau=4.0, decay_input=False, v_threshold=0.9),
    "LIF, rest below 0": lambda: neuron.LIFNode(tau=2.0, v_threshold=0.65, v_reset=-0.25),
    "CUBALIF": lambda: neuron.CUBALIFNode(c_decay=0.5, v_decay=0.5, v_threshold=1.9, v_reset=0.0),
}


@pytest.mark.parametrize("kind", NEURONS)
def test_spikes_of_spikingjelly(kind: str, tmp_path: Path) -> None:
    net = network(NEURONS[kind](), NEURONS[kind]())
    x = exact_images(T, B, 2, 8, 10)
    export_to_nir(net, x[0], save_path=tmp_path / "net.nir", dt=1e-4)
    functional.reset_net(net)
    with torch.no_grad():
        expected = torch.stack([net(frame) for frame in x])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = snn_energy.load(tmp_path / "net.nir")
    assert torch.equal(model(x), expected)
    assert 0.05 < expected.mean() < 0.95
