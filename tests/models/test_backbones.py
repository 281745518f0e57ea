"""Backbones: their layer lists counted by hand, and the shapes that this package had first."""

from __future__ import annotations

import pytest
import torch
from test_staa import B, C, count, small
from torch import nn

from snn_energy.models.backbones import BasicBlock
from snn_energy.models.zoo import create_model


def convolutions(widths, blocks, stem: int, classes: int, hidden: int = 0) -> int:
    """Weights and norms of a residual network, counted by hand: two 3×3 a block, 1×1 where widths change."""
    total, c = stem, widths[0]
    for width, count_ in zip(widths, blocks, strict=True):
        for i in range(count_):
            total += 9 * (c if i == 0 else width) * width + 9 * width**2 + 2 * 2 * width
            if i == 0 and c != width:
                total += c * width + 2 * width
        c = width
    if hidden:
        total, c = total + c * hidden + 2 * hidden, hidden
    return total + (c + 1) * classes


@pytest.mark.parametrize(
    ("backbone", "shapes", "expected"),
    [
        ("resnet18", "source", convolutions((64, 128, 256, 512), (2, 2, 2, 2), 49 * 3 * 64 + 128, 10)),
        ("resnet34", "source", convolutions((64, 128, 256, 512), (3, 4, 6, 3), 49 * 3 * 64 + 128, 10)),
        ("resnet19", "source", convolutions((128, 256, 512), (3, 3, 2), 27 * 128 + 256, 10)),
        ("resnet19", "pooled", convolutions((128, 256, 512), (3, 3, 2), 27 * 128 + 256, 10, 256)),
        (
            "resnet20",
            "source",
            convolutions((64, 128, 256, 512), (2, 2, 2, 2), 27 * 64 + 2 * 9 * 64**2 + 6 * 64, 10),
        ),
    ],
)
def test_backbones_have_the_parameters_of_their_layer_lists(backbone, shapes, expected):
    with torch.device("meta"):
        model = create_model(f"staa-{backbone}", num_classes=10, shapes=shapes, gc=False, pe="off", sa=False)
    assert count(model) == expected


@pytest.mark.parametrize("backbone", ["resnet18", "resnet19", "resnet20", "resnet34"])
@pytest.mark.parametrize("shapes", ["source", "pooled"])
def test_shortcuts_and_pools_are_those_of_the_source_or_the_ones_we_had_first(backbone, shapes):
    """ResNet-20's source pools in its shortcuts, the others' stride; the early shapes pooled everywhere."""
    with torch.device("meta"):
        model = create_model("decoupled", backbone=backbone, shapes=shapes, spatial=False, temporal=False)
    shortcuts = [m.shortcut for m in model.modules() if isinstance(m, BasicBlock) and len(m.shortcut)]
    assert len(shortcuts) == (2 if backbone == "resnet19" else 3)
    pooled = shapes == "pooled" or backbone == "resnet20"
    for shortcut in shortcuts:
        kinds = [type(m) for m in shortcut]
        assert kinds == [nn.AvgPool2d] * pooled + [nn.Conv2d, nn.BatchNorm2d]
        assert shortcut[-2].stride == ((1, 1) if pooled else (2, 2))
    stem = {type(m) for m in model.backbone.stem.modules()} & {nn.AvgPool2d, nn.MaxPool2d}
    average = nn.AvgPool2d if shapes == "source" or backbone == "resnet20" else nn.MaxPool2d
    assert stem == (set() if backbone == "resnet19" else {average})
    assert (model.head.hidden is not None) == (backbone == "resnet19" and shapes == "pooled")


def test_strided_shortcuts_keep_every_convolution_on_spikes_and_pooled_ones_do_not():
    """Of ResNet-19, `syops` calls what a 2×2 mean feeds a MAC: 67 M at 32×32 and T = 4."""
    from snn_energy.profiling.session import profile

    real = {}
    for shapes in ("source", "pooled"):
        model = small(backbone="resnet19", shapes=shapes, gc=False, pe="off", sa=False, v_threshold=0.2)
        ops = profile(model, [torch.randn(B, C, 8, 12)]).ops
        convolutions = ops[ops.name.str.contains("shortcut") & (ops.op == "conv2d")]
        real[shapes] = set(convolutions.input_kind)
    assert real["source"] == {"binary"} != real["pooled"]
    dense = 4 * (16 * 16 * 128 * 256 + 8 * 8 * 256 * 512)
    assert round(dense / 1e6) == 67
