"""What `export --target nir` writes comes back by `load`, and is the exported network: spike for spike."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact import exact, exact_images
from spikingjelly.activation_based import neuron
from torch import nn

import snn_energy
from snn_energy.exporters.nir.export import NIR_FILE, export_nir
from snn_energy.exporters.nir.write import just_below, key
from snn_energy.graph.capture import capture
from snn_energy.graph.interpret import run
from snn_energy.models.neurons import reset
from snn_energy.models.nir import NirNetwork

pytest.importorskip("nir")
T, B = 6, 5
FIELDS = (
    "ac",
    "mac",
    "dense_macs",
    "input_nonzero",
    "output_nonzero",
    "output_nonzero_by_step",
    "static_repeats",
)
FIELDS += ("neuron_mul", "neuron_add", "neuron_cmp")


class Net(nn.Module):
    """Convolutions, norms, LIF with and without decayed input, IF, both kinds of pool, a shortcut, a head."""

    def __init__(self) -> None:
        super().__init__()
        lif = lambda **o: neuron.LIFNode(v_reset=0.0, step_mode="m", **o)  # noqa: E731
        self.conv1, self.bn1, self.lif1 = (
            nn.Conv2d(2, 8, (3, 5), padding=(1, 2), bias=False),
            nn.BatchNorm2d(8),
            lif(),
        )
        self.pool1 = nn.MaxPool2d(2)
        self.conv2, self.lif2 = (
            nn.Conv2d(8, 6, 3, padding=1, groups=2),
            lif(decay_input=False, v_threshold=0.5),
        )
        self.conv3, self.if3 = nn.Conv2d(6, 6, 1, bias=False), neuron.IFNode(v_reset=0.0, step_mode="m")
        self.pool2 = nn.AvgPool2d(2)
        self.head = nn.Linear(6 * 2 * 3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reset(self)
        x = x.unsqueeze(0).expand(T, *x.shape)
        each = lambda f, z: f(z.flatten(0, 1)).unflatten(0, z.shape[:2])  # noqa: E731
        x = each(self.pool1, self.lif1(each(lambda z: self.bn1(self.conv1(z)), x)))
        current = each(self.conv2, x)
        x = self.if3(current + each(self.conv3, self.lif2(current)))
        return self.head(each(self.pool2, x).flatten(2)).mean(0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Net, torch.Tensor, Path]:
    """The network, weights on a coarse grid so that membranes meet their thresholds; samples; the export."""
    torch.manual_seed(4)
    model = Net()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    model, x = exact(model), exact_images(B, 2, 8, 12)
    folder = tmp_path_factory.mktemp("export")
    assert export_nir(model, folder, x.numpy()).mismatches == 0
    return model, x, folder / NIR_FILE


@pytest.fixture(scope="module")
def loaded(made: Any) -> NirNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # dt is the file's, nothing is inferred
        model = snn_energy.load(made[2])
    assert isinstance(model, NirNetwork) and model.config == {"dt": 1e-4, "dt_from": "metadata"}
    return model


def frames(x: torch.Tensor) -> torch.Tensor:
    return x.unsqueeze(0).expand(T, *x.shape)


def test_every_spike_and_the_logits_are_those_of_the_verification(made, loaded) -> None:
    model, x, _ = made
    graph = capture(model, x[:1].numpy())
    wanted = run(graph, x.numpy(), dtype=torch.float64)
    spikes = snn_energy.record_spikes(loaded, frames(x))
    assert set(spikes) == {key(node.name) for node in graph.neurons} and len(spikes) == 3
    for node in graph.neurons:
        expected = wanted[node.name] != 0
        found = spikes[key(node.name)]
        assert torch.equal(found, expected.reshape(found.shape)), node.name
        assert 0.05 < found.float().mean() < 0.95, node.name
    assert torch.equal(loaded(frames(x)).detach().double().mean(0), wanted[graph.outputs[0]])


def test_membranes_did_meet_their_thresholds(made, loaded) -> None:
    """NIR's neurons fire above the threshold, ours at it: with the number itself the spikes would differ."""
    _, x, _ = made
    right = snn_energy.record_spikes(loaded, frames(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = snn_energy.load(made[2])
    for module in plain.modules():
        if hasattr(module, "v_threshold"):
            module.v_threshold = torch.nextafter(module.v_threshold, torch.tensor(np.inf))
    wrong = snn_energy.record_spikes(plain, frames(x))
    assert any(not torch.equal(wrong[name], right[name]) for name in right)


@pytest.mark.parametrize("threshold", [1.0, 0.5, 0.3, 7.0, -0.25, 0.0])
def test_above_what_is_written_is_at_or_above_the_threshold(threshold: float) -> None:
    written = just_below(np.full(3, threshold, np.float32))
    near = np.float32(threshold)
    for _ in range(4):
        near = np.nextafter(near, np.float32(-np.inf))
    for _ in range(8):
        assert (near > written).all() == (near >= np.float32(threshold))
        near = np.nextafter(near, np.float32(np.inf))


def test_its_profile_is_that_of_the_network(made, loaded) -> None:
    """Accumulates, products and spikes of its layers; pools are written as other operations, or folded."""
    model, x, _ = made
    first = snn_energy.profile(model, [x])
    back = snn_energy.profile(loaded, [frames(x)], strict=True)
    assert (back.time_steps, back.samples) == (first.time_steps, first.samples) == (T, B)
    theirs = {row.name: row for row in first.rows if row.op in ("conv2d", "lif", "if")}
    ours = {row.name: row for row in back.rows}
    assert len(theirs) == 6
    for name, row in theirs.items():
        found = ours[key(name)]
        for field in FIELDS:
            assert getattr(found, field) == getattr(row, field), (name, field)
