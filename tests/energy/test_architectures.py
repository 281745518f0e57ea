"""Descriptions of architectures against published counts, torch's modules and brute force."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_energy.energy import estimate
from snn_energy.energy.architectures import build
from snn_energy.energy.shapes import Net, at_rate, taps
from snn_energy.errors import ConfigError

CIFAR = {"size": 32, "classes": 10, "pools": "0011"}


@pytest.mark.parametrize(
    ("record", "parameters"),
    [
        # printed by the authors' own code, or by the library that ships the model
        ({"build": "spikingformer", "depth": 8, "dim": 512}, 29_705_768),
        ({"build": "spikingformer", "depth": 8, "dim": 768}, 66_363_208),
        ({"build": "spikformer", "depth": 4, "dim": 384, "heads": 12, **CIFAR}, 9_330_874),
        ({"build": "spike-driven", "depth": 2, "dim": 64, **CIFAR}, 163_794),
        ({"build": "spike-driven", "depth": 2, "dim": 256, **CIFAR}, 2_567_082),
        ({"build": "resnet", "depth": 18, "kind": "sew"}, 11_689_512),
        ({"build": "resnet", "depth": 34, "kind": "ann"}, 21_797_672),
        ({"build": "resnet", "depth": 50, "kind": "spiking"}, 25_557_032),
        ({"build": "resnet", "depth": 101, "kind": "ann"}, 44_549_160),
        ({"build": "resnet", "depth": 152, "kind": "ann"}, 60_192_808),
        ({"build": "vit"}, 86_567_656),
        ({"build": "vit", "size": 384}, 86_859_496),
        ({"build": "swin-base"}, 87_768_224),
        ({"build": "staa-resnet20"}, 12_691_216),
        ({"build": "staa-resnet20", "classes": 100}, 12_737_386),
    ],
)  # fmt: skip
def test_parameters(record: dict, parameters: int) -> None:
    assert build(record).parameters == parameters


def test_resnet_against_torchvision() -> None:
    """Dense MACs and parameters of every convolution, in order of kind, from the real modules."""
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    from fvcore.nn import FlopCountAnalysis

    model = torchvision.models.resnet34(weights=None).eval()
    counter = FlopCountAnalysis(model, torch.zeros(1, 3, 96, 96)).unsupported_ops_warnings(False)
    theirs = counter.by_operator()
    net = build({"build": "resnet", "depth": 34, "kind": "ann", "size": 96})
    ours = {op: sum(r.dense_macs for r in net.rows if r.op == op) for op in ("conv2d", "linear")}
    assert (ours["conv2d"], ours["linear"]) == (theirs["conv"], theirs["linear"])
    assert net.parameters == sum(p.numel() for p in model.parameters())


@given(st.integers(1, 14), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_taps_by_brute_force(size: int, kernel: int, stride: int, padding: int) -> None:
    if size + 2 * padding < kernel:
        return
    outputs = (size + 2 * padding - kernel) // stride + 1
    hits = sum(0 <= o * stride - padding + k < size for o, k in product(range(outputs), range(kernel)))
    assert taps(size, kernel, stride, padding) == hits


def test_a_grouped_strided_convolution_of_a_map_that_is_not_square() -> None:
    module = torch.nn.Conv2d(6, 10, 3, stride=2, padding=1, groups=2, bias=True)
    net = Net("one", time_steps=4)
    shape = net.conv("c", (6, 9, 5), 10, 3, 2, 1, groups=2, bias=True, norm=False)
    out = module(torch.ones(1, 6, 9, 5))
    assert shape == tuple(out.shape[1:])
    assert net.parameters == sum(p.numel() for p in module.parameters())
    with torch.no_grad():
        module.weight.fill_(1)
        module.bias.fill_(0)
    (row,) = net.rows
    assert row.valid_macs == 4 * int(module(torch.ones(1, 6, 9, 5)).sum())
    assert row.dense_macs == 4 * out.numel() * 3 * 9
    assert row.bias_adds == 4 * out.numel()


def test_rates_scale_what_spikes_drive_and_nothing_else() -> None:
    net = build({"build": "spike-driven", "depth": 1, "dim": 64, "mask": False, **CIFAR})
    silent, full = (estimate(net.profile(r)) for r in (0.0, 1.0))
    assert silent.ac == 0 and silent.mac == full.mac > 0
    events = [r for r in net.rows if r.input_kind == "binary" and r.dense_macs]
    assert full.ac == sum(r.valid_macs for r in events)
    half = estimate(net.profile(0.5))
    kv = next(i for i, r in enumerate(net.rows) if r.op == "matmul")
    assert half.rows[kv].ac == full.rows[kv].ac / 4  # coincidences of two operands
    assert at_rate(net.rows[0], 0.3) == net.rows[0]  # the encoder reads the image


def test_errors() -> None:
    with pytest.raises(ConfigError, match="did you mean 'spikformer'"):
        build({"build": "spikeformer"})
    with pytest.raises(ConfigError, match="depht"):
        build({"build": "spikformer", "depht": 8})
    with pytest.raises(ConfigError, match="depth 19"):
        build({"build": "resnet", "depth": 19})
    with pytest.raises(ConfigError, match="did you mean 'sew'"):
        build({"build": "resnet", "kind": "swe"})
