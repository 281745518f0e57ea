"""Spike maps and Grad-CAM against what they are by definition, on a network whose gradient is its head."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from snn_energy.models.neurons import LIF
from snn_energy.profiling.maps import sample_maps
from snn_energy.reports.maps import pictures, png, shrunk

STEPS, CHANNELS, HEIGHT, WIDTH, CLASSES = 4, 3, 5, 2, 6


class Net(nn.Module):
    """Scores are a linear function of spikes: their gradient is the head's weight over T."""

    def __init__(self) -> None:
        super().__init__()
        self.T = STEPS
        self.lif = LIF()
        self.dead = LIF(v_threshold=1e6)
        self.head = nn.Linear(CHANNELS * HEIGHT * WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.lif(x.expand(STEPS, *x.shape))
        self.dead(spikes.detach())
        return self.head(spikes.mean(0).flatten(1))


def net_and_input() -> tuple[Net, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    net = Net().eval()
    weights = torch.randint(-4, 5, net.head.weight.shape, generator=generator)
    with torch.no_grad():
        net.head.weight.copy_(weights / 8)
        net.head.bias.zero_()
    return net, torch.randint(0, 17, (2, CHANNELS, HEIGHT, WIDTH), generator=generator) / 4.0


def test_maps_are_what_they_are_by_definition() -> None:
    net, x = net_and_input()
    found = sample_maps(net, x, torch.tensor([1, 2]))
    for b, sample in enumerate(found):
        spikes = fired(x[b])
        scores = net.head.weight.detach() @ spikes.mean(0).flatten().float()
        assert sample.predicted == int(scores.argmax()) and sample.label == b + 1
        weight = net.head.weight.detach()[sample.predicted].view(CHANNELS, HEIGHT, WIDTH) / STEPS
        lif, dead = sample.layers
        assert (lif.name, dead.name) == ("lif", "dead")
        for h in range(HEIGHT):
            for w in range(WIDTH):
                assert lif.spikes[h, w] == pytest.approx(float(spikes[:, :, h, w].mean()))
        cam = sum(float(weight[c].mean()) * spikes[:, c].mean(0) for c in range(CHANNELS)).clamp_min(0)
        assert float(cam.max()) > 0 and lif.cam is not None
        np.testing.assert_allclose(lif.cam, (cam / cam.max()).numpy(), rtol=1e-6)
        assert dead.cam is None and not dead.spikes.any()
        assert sample.image is not None and sample.image.shape == (HEIGHT, WIDTH, 3)


def test_labels_may_be_soft() -> None:
    net, x = net_and_input()
    assert [s.label for s in sample_maps(net, x, torch.eye(CLASSES)[[2, 1]])] == [2, 1]


def fired(x: torch.Tensor) -> torch.Tensor:
    """(T, C, H, W) spikes of a neuron with τ = 2 and threshold 1, by its equation."""
    v, found = torch.zeros_like(x), []
    for _ in range(STEPS):
        h = v + (x - v) / 2
        found.append((h >= 1).double())
        v = h * (h < 1)
    return torch.stack(found)


def test_nothing_is_left_behind() -> None:
    net, x = net_and_input()
    net.requires_grad_(False)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert sample_maps(net, x)[0].layers[0].cam is not None  # through the input
    assert not net.training and not net.lif.training and not net.lif._forward_hooks
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def decoded(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def test_pictures_hold_the_maps() -> None:
    net, x = net_and_input()
    samples = sample_maps(net, x)
    shown = pictures(samples, ("zero", "one"))
    top = max(layer.spikes.max() for layer in samples[0].layers)
    _, spikes, cam = shown[0].layers[0]
    np.testing.assert_array_equal(decoded(spikes.address), np.rint(255 * samples[0].layers[0].spikes / top))
    assert cam is not None and decoded(cam.address).shape == (HEIGHT, WIDTH, 3)
    assert spikes.words == "spikes of lif, sample 1" and shown[0].layers[1][2] is None


def test_large_maps_are_averaged() -> None:
    values = np.arange(130 * 57).reshape(130, 57) / (130 * 57)
    small = shrunk(values)
    assert small.shape == (44, 19)
    assert small[3, 4] == pytest.approx(values[9:12, 12:15].mean())
    assert small[43, 18] == pytest.approx(values[129:, 54:].mean())
    np.testing.assert_array_equal(decoded(png(values)), np.rint(255 * small))
