"""No device slips: every network runs with all its tensors on a GPU, pretended by fake tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from snn_energy.models.zoo import create_model

SMALL = {
    "embed_dims": 24,
    "num_heads": 3,
    "depths": 2,
    "in_channels": 3,
    "num_classes": 5,
    "pooling_stat": "0011",
}
MODELS = {
    "statten": ("statten", SMALL),
    "statten dvs plif": ("statten", {**SMALL, "dvs_mode": True, "spike_mode": "plif"}),
    "statten drop path, TET": ("statten", {**SMALL, "drop_path_rate": 0.3, "TET": True}),
    "sdt": ("spike-driven-transformer", SMALL),
    "sdt dvs": ("spike-driven-transformer", {**SMALL, "dvs_mode": True}),
    "spikformer": ("spikformer", {"embed_dims": 48, "num_heads": 3, "depths": 1}),
    "statten-spikformer": ("statten-spikformer", {"embed_dims": 48, "num_heads": 3, "depths": 1}),
    "statten-qkformer": ("statten-qkformer", {"embed_dims": 48, "num_heads": (3, 2, 1), "depths": (1, 1, 1)}),
    "staa": ("staa-vgg13", {"T": 4, "width": 0.05, "tsrd": False}),  # a fake draw on the CPU has no value
    "staa, every option": ("staa-resnet20", {"T": 4, "width": 0.05, "adaptive": True, "pe_at": "state"}),
    "staa, no fused step": ("staa-vgg13", {"T": 4, "width": 0.05, "pe_at": "output"}),
    "decoupled": ("decoupled", {"width": 1 / 32, "num_heads": 2, "causal": True}),
    "statten-maxformer": ("statten-maxformer", {"embed_dims": 64, "depths": (1, 1, 1)}),
}


def pretend_on_gpu(model: nn.Module) -> nn.Module:
    """Fake CUDA tensors in the places of all parameters and buffers; inside a `FakeTensorMode`."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(torch.empty(value.shape, device="cuda"))
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    return model


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("steps", [False, True], ids=["image", "sequence"])
@pytest.mark.parametrize("name", MODELS)
def test_all_tensors_stay_on_the_gpu(name: str, steps: bool, train: bool) -> None:
    registered, fields = MODELS[name]
    model = create_model(registered, **fields).train(train)
    shape = (2, *([4] if steps else []), 3, 32, 48)
    with FakeTensorMode():
        pretend_on_gpu(model)
        logits = model(torch.empty(shape, device="cuda"))
        assert logits.device.type == "cuda"
        assert logits.shape[-2] == 2
        with pytest.raises(RuntimeError, match="device"):  # the pretence can tell
            model(torch.empty(shape, device="cpu"))
