"""Every model of our registry, in small: nothing uncounted, every layer that ran has its row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact import exact, exact_images
from networks import lively
from torch import nn

from snn_energy.models.decoupled import SpikeAttention
from snn_energy.models.staa_neuron import GlobalContext, StepAttention
from snn_energy.models.zoo import create_model, find, list_models
from snn_energy.profiling import Profile, profile
from snn_energy.profiling.resolve import SYNAPTIC

SMALL: dict[str, Any] = {"width": 0.125, "num_classes": 7, "T": 4, "chunk_size": 2, "mlp_ratios": 2}
TRANSFORMER = {"embed_dims": 32, "num_heads": 4, "depths": 1}
STAGED = {"embed_dims": 64, "num_heads": (1, 2, 4), "depths": (1, 1, 1)}


def small(name: str, width: int = 48, **more: Any) -> tuple[nn.Module, torch.Tensor]:
    """The named architecture with few channels, and two small images, `width` wide where not square; event
    streams keep their channels."""
    torch.manual_seed(0)
    config = find(name).resolve().Config
    known = {field.name for field in dataclasses.fields(config)}
    staged = name.endswith(("qkformer", "maxformer"))
    fields = {**SMALL, **(STAGED if staged else TRANSFORMER), **more}
    fields |= {"img_size_h": 32, "img_size_w": width} if not staged else {}
    model = create_model(name, **{key: value for key, value in fields.items() if key in known})
    gates_awake(lively(model))
    channels = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).in_channels
    size = (64, 64) if name.endswith("qkformer") else (32, width)
    batch = (2, 4, channels, *size) if getattr(model.config, "dvs_mode", False) else (2, channels, *size)
    return model, torch.rand(batch)


def gates_awake(model: nn.Module) -> None:
    """Attention blocks that start as the identity get weights, so that what they add is real."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and not parameter.detach().any():
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    for module in model.modules():
        if isinstance(module, SpikeAttention):  # it takes spikes away: rarely, or none are left behind a few
            module.proj_bn.bias.data.fill_(-0.5)


@pytest.mark.parametrize("name", list_models())
def test_model_is_counted_completely(name: str) -> None:
    model, x = small(name)
    measured = profile(model, [x], strict=True)
    assert measured.uncounted == ()
    rows = {row.name: row for row in measured.rows if row.op in SYNAPTIC}
    layers = {n for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd))}
    assert layers <= set(rows) | set(measured.uncalled) | set(measured.aliases)
    assert sum(row.ac for row in rows.values()) > 0
    assert all(row.ac_square_sum is not None and row.mac_square_sum is not None for row in rows.values())
    assert measured.neurons and all(len(row.output_nonzero_by_step) == 4 for row in measured.neurons)


def counts(measured: Profile) -> dict[tuple[str, str, int], object]:
    """Rows in full, but for sizes of 1 in shapes: with one sample these may be the batch."""
    return {
        row.key: dataclasses.replace(
            row, input_shape=wide(row.input_shape), output_shape=wide(row.output_shape)
        )
        for row in measured.rows
    }


def wide(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size > 1)


def exact_case(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The same with sums that are exact, and 5 samples, one of them black."""
    model, x = small(name, width=64)
    x = exact_images(5, *x.shape[1:])
    x[4] = 0
    return exact(model), x


REAL_OPERANDS = ["staa-resnet20", "staa-vgg13", "decoupled", "statten-maxformer"]


@pytest.mark.parametrize("name", REAL_OPERANDS)
def test_sums_of_exact_networks_are_exact(name: str) -> None:
    """Currents and spikes in float32 are those in float64, but inside gates, which have no effect."""
    model, x = exact_case(name)
    gates = [m for m in model.modules() if isinstance(m, GlobalContext | StepAttention)]
    inside = {id(m) for gate in gates for m in gate.modules() if m is not gate}
    single: dict[str, list[torch.Tensor]] = {}
    double: dict[str, list[torch.Tensor]] = {}

    def note(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, out: torch.Tensor) -> None:
            (single if out.dtype == torch.float32 else double).setdefault(path, []).append(out)

        return hook

    for path, module in model.named_modules():
        if path and id(module) not in inside:
            module.register_forward_hook(note(path))
    with torch.no_grad():
        model(x)
        model.double()(x.double())
    assert len(single) > 60 and set(single) <= set(double)
    for path, outputs in single.items():
        for ours, wider in zip(outputs, double[path], strict=True):
            assert torch.equal(ours.double(), wider), path


@pytest.mark.parametrize("name", REAL_OPERANDS)
def test_real_operands_are_counted_alike_in_any_order_batches_and_shards(name: str) -> None:
    model, x = exact_case(name)
    order = torch.tensor([3, 0, 4, 2, 1])
    whole = profile(model, [x])
    one_by_one = profile(model, x[order].split(1))
    shards = [profile(model, [x[:1], x[1:3]]), profile(model, [x[3:]])]
    assert any(row.input_kind == "real" and row.mac for row in whole.rows)
    assert sum(0 < row.output_nonzero < row.output_elements for row in whole.neurons) > len(whole.neurons) / 2
    for other in (one_by_one, Profile.merge(shards), Profile.merge(reversed(shards))):
        assert other.samples == 5
        assert counts(other) == counts(whole)
