"""Accumulates with a gradient: the same numbers as a profile's, and the gradient of the sum written out."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from exact import exact, exact_images
from spiking_nets import STATTEN, lively
from torch import nn
from torch.nn import functional as F

from snn_energy.errors import ConfigError
from snn_energy.models.neurons import LIF, reset
from snn_energy.models.zoo import create_model
from snn_energy.profiling import profile
from snn_energy.profiling.accumulates import Accumulates

SMALL = {"width": 1 / 16, "num_heads": 2}


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    """On the grid of `exact`: sums are the same whoever makes them, with or without a gradient."""
    return exact_images(*shape, seed=seed)


def lif() -> LIF:
    return LIF(v_threshold=0.5)


class Mixed(nn.Module):
    """Operations of many kinds on spikes, sums and means of them, (B, 2, 6, 5), one step."""

    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"T": 1})
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.strided = nn.Conv2d(6, 9, (3, 2), stride=2, padding=(1, 0), groups=3)
        self.back = nn.ConvTranspose2d(9, 4, 3, stride=2, padding=1)
        self.lifs = nn.ModuleList(lif() for _ in range(4))
        self.head = nn.Linear(4, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reset(self)
        one = self.spike(0, 4 * self.stem(x))
        two = self.spike(1, 4 * self.stem(x.flip(-1)))
        both = one + two  # 0, 1, 2
        both += one
        pooled = F.avg_pool2d(both, 3, 2, 1, ceil_mode=True)
        wide = self.strided(both) + 0.1
        three = self.spike(2, 8 * wide)
        four = self.spike(3, 8 * self.back(three))
        q, k = four.flatten(2), two.flatten(2)[..., : four[0, 0].numel()]
        met = torch.einsum("bcn,bdn->bcd", q, k)
        real = torch.matmul(met, k)
        return self.head((four.sum((-2, -1)) + real.mean((1, 2))[:, None]) / 9) + pooled.mean()

    def spike(self, i: int, x: torch.Tensor) -> torch.Tensor:
        return self.lifs[i](x[None])[0]


def decoupled(**fields: object) -> Callable[[], tuple[nn.Module, torch.Tensor]]:
    def make() -> tuple[nn.Module, torch.Tensor]:
        steps, channels = 3, int(fields.get("in_channels", 1))
        x = image(2, channels, 12, 20) if channels == 1 else (4 * image(2, steps, channels, 12, 20)).floor()
        chosen = {"in_channels": 1, "num_classes": 5, "T": steps, **SMALL, **fields}
        return exact(lively(create_model("decoupled", **chosen), x)), x

    return make


def statten() -> tuple[nn.Module, torch.Tensor]:
    x = image(2, 3, 32, 20)
    return exact(lively(create_model("statten", **STATTEN), x)), x


def staa() -> tuple[nn.Module, torch.Tensor]:
    x = image(2, 1, 12, 20)
    fields = {"in_channels": 1, "num_classes": 5, "T": 3, "width": 1 / 16, "v_threshold": 0.3}
    return exact(lively(create_model("staa-resnet20", **fields), x)), x


def mixed() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    return exact(Mixed()), image(3, 2, 6, 5)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "iand, still": decoupled(),
    "or, frames, another backbone": decoupled(residual="or", in_channels=2, backbone="resnet20"),
    "scaled, spatial alone": decoupled(residual="scaled", temporal=False),
    "statten": statten,
    "staa": staa,
    "mixed": mixed,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_value_is_the_accumulates_of_a_profile(name: str) -> None:
    """On the samples of which the places were found, and on more of them (of the same kinds of values)."""
    model, x = NETWORKS[name]()
    counter = Accumulates(model)
    for samples in (x, torch.cat((x[1:], x))):
        rows = profile(model, [samples]).rows
        expected = sum(row.ac for row in rows)
        actual = counter.count(samples)
        assert actual.requires_grad
        assert actual.item() == pytest.approx(expected, rel=1e-6)
        assert sum(row.ac for row in rows if row.op != "add") > 0
    actual.backward()
    assert sum(bool(p.grad.any()) for p in model.parameters() if p.grad is not None) > 3


def test_half_precision_counts_as_well() -> None:
    model, x = decoupled()()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = sum(row.ac for row in profile(model, [x]).rows)
        assert Accumulates(model).count(x).item() == pytest.approx(expected, rel=1e-6)


class Two(nn.Module):
    """Image -> convolution -> LIF -> convolution, T steps: what the penalty is of, by hand."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.config = type("Config", (), {"T": steps})
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 5, 3, padding=1, stride=2)
        self.lif = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reset(self)
        y = self.first(x).expand(self.config.T, -1, -1, -1, -1)
        return self.second(self.lif(2 * y).flatten(0, 1)).unflatten(0, y.shape[:2]).mean((0, 3, 4))


def test_the_gradient_is_that_of_spikes_times_fan_out() -> None:
    torch.manual_seed(0)
    model, x = Two(3).train(), image(2, 1, 6, 7)
    counter = Accumulates(model)
    model(x)
    share = counter.share()
    share.backward()
    actual = model.first.weight.grad.clone()

    model.zero_grad()
    reset(model)
    spikes = model.lif(2 * model.first(x).expand(3, -1, -1, -1, -1))
    ones = torch.ones(1, 3, 6, 7, requires_grad=True)  # a position's fan-out: how often the layer reads it
    F.conv2d(ones, torch.ones_like(model.second.weight), None, 2, 1).sum().backward()
    expected = (spikes * ones.grad).sum() / (2 * 3 * ones.grad.sum())
    expected.backward()
    assert share.item() == pytest.approx(expected.item(), rel=1e-6)
    assert expected.item() > 0
    torch.testing.assert_close(actual, model.first.weight.grad)


def test_only_what_is_above_the_target_counts_and_a_pass_is_read_once() -> None:
    torch.manual_seed(0)
    model, x = Two(2).train(), image(4, 1, 6, 7)
    counter = Accumulates(model)
    spent = counter.count(x).item() / 4
    model(x)
    whole = counter.share().item()
    model(x)
    assert counter.followed is not None
    dense, rest = counter.followed.dense, counter.followed.constant
    above = (spent + rest) / 2  # what no spike changes is part of the target
    assert counter.share(above).item() == pytest.approx((spent - above) / dense)
    assert whole == pytest.approx((spent - rest) / dense)
    model(x)
    assert counter.share(above=spent + 1).item() == 0
    with pytest.raises(RuntimeError, match="once after a forward pass in training mode"):
        counter.share()
    model.eval()(x)
    with pytest.raises(RuntimeError, match="training mode"):
        counter.share()


def test_counting_changes_nothing_and_ends() -> None:
    """Outputs, statistics of norms and the generator are those of a network that nobody watches.

    Of frames: a still image goes through the first layer once where nobody watches, which rounds otherwise.
    """
    x = (4 * image(2, 3, 2, 12, 20)).floor()
    model = lively(create_model("decoupled", in_channels=2, num_classes=5, T=3, **SMALL), x)
    twin = copy.deepcopy(model)
    counter = Accumulates(model)
    copied = copy.deepcopy(model).train()  # hooks and all, as an average over steps has them
    results = []
    for one in (model, twin):
        torch.manual_seed(3)
        one.train()
        results.append((one(x), torch.rand(1), one.state_dict()))
    (watched, drawn, state), (plain, alone, other) = results
    assert torch.equal(watched, plain)
    assert torch.equal(drawn, alone)
    assert all(torch.equal(state[name], other[name]) for name in other)
    assert torch.equal(copied(x), watched)
    counter.share()
    copied(x)
    with pytest.raises(RuntimeError):  # a copy is not counted
        counter.share()
    counter.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Fork(Two):
    """Goes another way in training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            reset(self)
            y = self.lif(self.first(x)[None])[0]
            return F.conv2d(y, self.second.weight).mean((2, 3))
        return super().forward(x)


class Elsewhere(Two):
    """Takes the mean over steps in another line while it trains."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reset(self)
        spikes = self.lif(2 * self.first(x).expand(self.config.T, -1, -1, -1, -1))
        mean = spikes.flatten(3).mean(0) if not self.training else spikes.mean(0).flatten(2)
        return self.second(mean.unflatten(2, x.shape[2:])).sum((2, 3))


def test_the_same_in_another_line_is_the_same() -> None:
    torch.manual_seed(0)
    model, x = Elsewhere(3).eval(), image(2, 1, 6, 7)
    expected = sum(row.ac for row in profile(model, [x]).rows)
    assert expected > 0
    counter = Accumulates(model)
    assert counter.count(x).item() == pytest.approx(expected, rel=1e-6)
    model.train()
    assert counter.count(x).item() == pytest.approx(expected, rel=1e-6)


def test_two_may_count_one_network() -> None:
    torch.manual_seed(0)
    model, x = Two(3).train(), image(2, 1, 6, 7)
    counters = [Accumulates(model), Accumulates(model)]
    model(x)
    first, second = (counter.share().item() for counter in counters)
    assert first == second > 0
    assert torch._C._is_torch_function_enabled()


def test_what_cannot_be_followed_is_refused_by_name() -> None:
    x = image(2, 1, 6, 7)
    with pytest.raises(ConfigError, match="accumulates of second: cannot be followed"):
        Accumulates(Fork(1).train()).count(x)
    silent = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with pytest.raises(ConfigError, match="no spikes meet synapses"):
        Accumulates(silent).count(x)
