"""The kernels in C and the short cuts of training: the same spikes bit for bit, gradients to rounding."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import exact
import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from snn_energy.models import native
from snn_energy.models.native import build
from snn_energy.models.neurons import LIF, LIFSequence, reset
from snn_energy.models.steps import conv_bn, norm
from snn_energy.models.zoo import create_model

SHAPE = (3, 2, 5, 4, 7)  # T, B, C, H, W
KINDS = ("c", "threads", "no compiler")


class OwnSigmoid(surrogate.Sigmoid):
    """Not one of SpikingJelly's own, so its reference in PyTorch operations runs."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With the kernels, with them in three threads, and without."""
    if request.param == "no compiler":
        monkeypatch.setattr(native, "library", lambda: None)
    elif build.library() is None:
        pytest.skip("no C compiler here")
    if request.param == "threads":
        monkeypatch.setattr(native, "GRAIN", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    yield request.param


def laid_out(order: str, generator: torch.Generator) -> torch.Tensor:
    """(T, B, C, H, W) in several orders of memory."""
    x = 2 * torch.randn(SHAPE, generator=generator)
    if order == "channels last":
        return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, SHAPE[:2])
    if order == "still":
        return x[0].expand(SHAPE)
    return x.transpose(0, 1).contiguous().transpose(0, 1) if order == "batch first" else x


def eager(tau: float, threshold: float) -> neuron.LIFNode:
    spike = OwnSigmoid(4.0)
    return neuron.LIFNode(tau, True, threshold, 0.0, spike, detach_reset=True, step_mode="m")


@pytest.mark.parametrize("order", ["usual", "channels last", "still", "batch first"])
@pytest.mark.parametrize(("tau", "threshold"), [(2.0, 1.0), (1.7, 0.5)])
def test_a_layer_is_spikingjellys(kind: str, order: str, tau: float, threshold: float) -> None:
    generator = torch.Generator().manual_seed(3)
    x, weight = laid_out(order, generator), torch.randn(SHAPE, generator=generator)
    theirs, there = eager(tau, threshold), x.double().requires_grad_()
    (expected,) = torch.autograd.grad((theirs(there) * weight).sum(), there)
    plain = eager(tau, threshold)
    spikes_expected = plain(x)

    here = x.detach().requires_grad_()
    spikes, v = LIFSequence.apply(here, tau, threshold)
    assert torch.equal(spikes, spikes_expected)
    assert torch.equal(v, plain.v)
    (grad,) = torch.autograd.grad((spikes * weight).sum(), here)
    torch.testing.assert_close(grad, expected.float(), rtol=1e-5, atol=2e-6)
    assert 0 < spikes.mean() < 1


def test_more_numbers_than_a_block(kind: str) -> None:
    """Blocks end inside a step."""
    x = torch.randn(2, 3, 1111, generator=torch.Generator().manual_seed(5)).requires_grad_()
    plain, there = eager(2.0, 1.0), x.detach().double().requires_grad_()
    spikes, _ = LIFSequence.apply(x, 2.0, 1.0)
    assert torch.equal(spikes, plain(there).float())
    weight = torch.arange(x.numel()).reshape(x.shape) % 7
    (grad,) = torch.autograd.grad((spikes * weight).sum(), x)
    plain.reset()
    (expected,) = torch.autograd.grad((plain(there) * weight).sum(), there)
    torch.testing.assert_close(grad, expected.float(), rtol=1e-5, atol=2e-6)


def test_no_number_stays_no_number(kind: str) -> None:
    x = torch.full((2, 1, 3), float("nan"), requires_grad=True)
    spikes, v = LIFSequence.apply(x, 2.0, 1.0)
    spikes.sum().backward()
    assert spikes.sum() == 0
    assert v.isnan().all()
    assert x.grad is not None
    assert x.grad.isnan().all()


def test_half_precision_charges_in_single_precision() -> None:
    """Under autocast a layer's currents are bfloat16; a membrane of 8 bits would stand still."""
    x = (torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1)) * 2).bfloat16()
    node = LIF().train()
    spikes = node(x)
    assert spikes.dtype is torch.bfloat16
    reset(node)
    assert torch.equal(spikes.float(), node(x.float()))


def norm_written_out(x: torch.Tensor, bn: nn.BatchNorm2d) -> torch.Tensor:
    """Batch norm in training as its equation."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean((0, 2, 3), keepdim=True)
    scaled = (x - mean) / (variance + bn.eps).sqrt()
    return scaled * bn.weight[:, None, None] + bn.bias[:, None, None]


def make_norm(channels: int) -> nn.BatchNorm2d:
    bn = nn.BatchNorm2d(channels)
    with torch.no_grad():
        bn.weight.copy_(torch.linspace(0.4, 1.9, channels))
        bn.bias.copy_(torch.linspace(-1, 1, channels))
    return bn


def test_batch_norm(kind: str) -> None:
    """Channels last: PyTorch's output and running statistics to the bit, the gradient of the equation."""
    generator = torch.Generator().manual_seed(2)
    x = 3 + torch.randn(90, 5, 4, 7, generator=generator).to(memory_format=torch.channels_last)
    weight = torch.randn(x.shape, generator=generator)
    ours = make_norm(5)
    theirs, exactly = copy.deepcopy(ours), copy.deepcopy(ours).double()
    here, there = x.clone().requires_grad_(), x.double().requires_grad_()
    y = norm(here, ours)
    assert torch.equal(y, theirs(x))
    for name, buffer in theirs.named_buffers():
        assert torch.equal(ours.get_buffer(name), buffer)
    (y * weight).sum().backward()
    (norm_written_out(there, exactly) * weight).sum().backward()
    assert here.grad is not None
    assert there.grad is not None
    torch.testing.assert_close(here.grad, there.grad.float(), rtol=1e-4, atol=1e-5)
    for a, b in zip(ours.parameters(), exactly.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad.float(), rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]


def test_a_still_image_goes_through_its_first_layer_once() -> None:
    conv, bn, calls = nn.Conv2d(3, 5, 3, bias=False).double(), make_norm(5).double(), []
    image = torch.randn(2, 3, 6, 9, dtype=torch.float64)
    frames = image.repeat(4, 1, 1, 1, 1)
    plain_conv, plain_norm = copy.deepcopy(conv), copy.deepcopy(bn)
    expected = plain_norm(plain_conv(frames.flatten(0, 1))).unflatten(0, (4, 2))
    y = conv_bn(image.expand(4, *image.shape), conv, bn)
    assert y.stride(0) == 0  # one step, seen four times
    torch.testing.assert_close(y, expected)
    weight = torch.randn_like(expected)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    for a, b in ((conv, plain_conv), (bn, plain_norm)):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)
        for p, q in zip(a.buffers(), b.buffers(), strict=True):
            torch.testing.assert_close(p, q)
    conv.register_forward_hook(lambda _, args, out: calls.append(args[0].shape))
    conv_bn(image.expand(4, *image.shape), conv, bn)
    conv.eval(), bn.eval()
    conv_bn(image.expand(4, *image.shape), conv, bn)
    assert calls == [(8, 3, 6, 9)] * 2  # whoever looks, and evaluation, sees all steps


@pytest.mark.parametrize("mode", ["STAtten", "SDT"])
def test_gradients_of_a_network_are_those_with_spikingjellys_neurons(kind: str, mode: str) -> None:
    """Weights and inputs on grids, norms plain: sums are exact, so no layout may move a spike."""
    torch.manual_seed(0)
    fields = {"embed_dims": 24, "num_heads": 3, "depths": 2, "pooling_stat": "0011", "num_classes": 5}
    theirs = create_model("statten", in_channels=3, attention_mode=mode, **fields)
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(8)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(4)
    exact.exact(theirs)
    ours = copy.deepcopy(theirs).to(memory_format=torch.channels_last)
    for path, module in list(theirs.named_modules()):
        if isinstance(module, LIF):
            parent, _, name = path.rpartition(".")
            setattr(theirs.get_submodule(parent), name, eager(2.0, module.v_threshold))
    for module in ours.modules():
        if isinstance(module, LIF):
            module.train()
    x, fired = exact.exact_images(2, 3, 16, 24), []
    for module in ours.modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda _, args, out: fired.append(bool(out.any())))
    y, expected = ours(x), theirs(x)
    assert sum(fired) > 0.7 * len(fired)
    assert torch.equal(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if q.grad is None:
            assert p.grad is None, name
            continue
        assert p.grad is not None
        assert (p.grad - q.grad).norm() <= 1e-5 * q.grad.norm(), name
    assert ours.patch_embed.proj_conv.weight.grad.abs().max() > 0  # type: ignore[union-attr]


def test_without_a_compiler_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    assert build.library.__wrapped__() is None
    monkeypatch.undo()
    monkeypatch.setenv("SNN_ENERGY_KERNELS", "off")
    assert build.library.__wrapped__() is None


def test_a_compiler_that_fails_is_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    assert build.library.__wrapped__() is None
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.skipif(build.find_compiler() is None, reason="no C compiler here")
def test_the_library_is_compiled_once_into_a_folder_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs: list[Any] = []
    run = subprocess.run
    monkeypatch.setattr(build.subprocess, "run", lambda *a, **k: runs.append(a) or run(*a, **k))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.library.__wrapped__() is not None
    first = len(runs)
    assert first > 0
    assert build.library.__wrapped__() is not None
    assert len(runs) == first
    assert [p.suffix for p in (tmp_path / "snn-energy").iterdir()] == [".so"]
    (tmp_path / "snn-energy").chmod(0o777)  # others may write there: nothing is loaded from it
    assert build.library.__wrapped__() is not None
    assert len(runs) > first
