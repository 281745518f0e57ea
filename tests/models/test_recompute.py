"""Activation checkpointing changes memory alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from snn_energy.models.recompute import blocks_of, recompute_blocks
from snn_energy.models.zoo import create_model

SMALL = {"embed_dims": 24, "num_heads": 3, "depths": 2, "pooling_stat": "0011", "in_channels": 3}
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "statten": ("statten", SMALL, 3),
    "plif": ("statten", {**SMALL, "spike_mode": "plif", "drop_path_rate": 0.4}, 3),
    "staa": ("staa-resnet20", {"width": 0.05, "beta": 0.5}, 11),
    "decoupled": ("decoupled", {"width": 1 / 32, "num_heads": 2}, 15),
    "spikformer": ("spikformer", {"embed_dims": 48, "num_heads": 3, "depths": 2}, 2),
}


@pytest.mark.parametrize("name", MODELS)
def test_results_gradients_and_statistics_are_the_same(name: str) -> None:
    registered, fields, count = MODELS[name]
    torch.manual_seed(1)
    plain = create_model(registered, **fields).train()
    ours = copy.deepcopy(plain)
    assert recompute_blocks(ours) == count
    ours = copy.deepcopy(ours)  # as an average of weights is made
    x = torch.randn(2, 3, 16, 24)
    results, saved = [], []
    for model in (plain, ours):
        torch.manual_seed(7)  # of what is dropped
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):  # noqa: B023
            y = model(x)
        loss = y.square().sum()
        if hasattr(model, "regularization"):
            loss = loss + model.regularization()
        loss.backward()
        results.append(y)
        saved.append(sum(kept))
    assert torch.equal(*results)
    assert saved[1] < saved[0]
    assert list(ours.state_dict()) == list(plain.state_dict())
    for (key, a), b in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b), key  # running statistics moved once
    for (key, p), q in zip(ours.named_parameters(), plain.named_parameters(), strict=True):
        assert (p.grad is None) == (q[1].grad is None), key
        if p.grad is not None and q[1].grad is not None:
            torch.testing.assert_close(p.grad, q[1].grad, rtol=1e-5, atol=1e-6)
    assert torch.equal(ours.eval()(x), plain.eval()(x))


def test_blocks_do_not_lie_inside_one_another() -> None:
    model = create_model("decoupled", width=1 / 32, num_heads=2)
    found = blocks_of(model)
    inner = [m for block in found for m in block.modules() if m is not block]
    assert not {id(m) for m in found} & {id(m) for m in inner}
