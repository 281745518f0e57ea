"""Our own model, all dimensions distinct and not square: attention counted event by event."""

from __future__ import annotations

import brute
import pytest
import torch
from torch import nn

from snn_energy.models.statten import STAtten, STAttenConfig
from snn_energy.profiling import profile, record_spikes

T, B, HEADS, DIM, H, W, CHUNK = 6, 2, 4, 3, 4, 6, 3
E = 24  # = 2 · HEADS · DIM, so that head_dim 6 differs from everything but W


def network(mode: str) -> nn.Module:
    torch.manual_seed(0)
    config = STAttenConfig(
        in_channels=3, num_classes=5, embed_dims=E, num_heads=HEADS, depths=1, T=T, chunk_size=CHUNK,
        pooling_stat="0011", attention_mode=mode,
    )  # fmt: skip
    model = STAtten(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0.5, 0.5)
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(image())  # norms take on the statistics of the image: every layer fires
    return model.eval()


def image() -> torch.Tensor:
    return torch.randn(B, 3, 4 * H, 4 * W, generator=torch.Generator().manual_seed(1))


def tokens(s: torch.Tensor) -> torch.Tensor:
    """(T, B, E, H, W) -> [chunk][sample][head] -> (chunk·H·W tokens, head_dim)."""
    s = s.float().reshape(T // CHUNK, CHUNK, B, HEADS, E // HEADS, H * W)
    return s.permute(0, 2, 3, 1, 5, 4).flatten(3, 4)


def test_spatial_temporal_attention() -> None:
    model, x = network("STAtten"), image()
    rows = [r for r in profile(model, [x], strict=True).rows if r.name == "block.0.attn" and r.op == "matmul"]
    spikes = record_spikes(model, x)
    q, k, v = (tokens(spikes[f"block.0.attn.{name}_lif"]) for name in "qkv")
    first = [
        [[brute.products(k[c, b, h].T, v[c, b, h]) for h in range(HEADS)] for b in range(B)] for c in range(2)
    ]
    second = [
        [[brute.products(q[c, b, h], k[c, b, h].T @ v[c, b, h] / H) for h in range(HEADS)] for b in range(B)]
        for c in range(2)
    ]
    for row, counts, ac in ((rows[0], first, "coincident"), (rows[1], second, "left")):
        per_sample = [sum(counts[c][b][h][ac] for c in range(2) for h in range(HEADS)) for b in range(B)]
        assert row.ac == sum(per_sample) > 0
        assert row.ac_square_sum == brute.squares(per_sample)
        assert row.ac_by_step == tuple(
            sum(counts[c][b][h][ac] for b in range(B) for h in range(HEADS)) for c in range(2)
        )
        for column, name in (
            ("ac_coincident", "coincident"),
            ("ac_one_sided", "left"),
            ("dense_macs", "valid"),
        ):
            assert getattr(row, column) == sum(n[name] for c in counts for b in c for n in b)
    assert (rows[0].right_kind, rows[1].right_kind) == ("binary", "real")
    assert rows[1].dense_macs == B * T * H * W * E * (E // HEADS)


def test_spike_driven_attention_is_masks_and_a_sum() -> None:
    model, x = network("SDT"), image()
    rows = [r for r in profile(model, [x], strict=True).rows if r.name == "block.0.attn"]
    spikes = record_spikes(model, x)
    k, v = (spikes[f"block.0.attn.{name}_lif"] for name in "kv")
    assert not [r for r in rows if r.op == "matmul"]
    masks = [r for r in rows if r.op == "mul"]
    assert len(masks) == 2 and all(r.ac == r.mac == 0 for r in masks)
    (total,) = [r for r in rows if r.op == "sum"]
    assert total.ac == int((k & v).sum()) > 0
    assert total.ac_by_step == tuple((k & v).flatten(1).sum(1).tolist())
    assert masks[0].sources == ("block.0.attn.k_lif", "block.0.attn.v_lif")


@pytest.mark.parametrize("frames", [False, True])
def test_an_image_and_its_repetition_cost_the_same(frames: bool) -> None:
    """(B, C, H, W), and (B, T, C, H, W) with equal frames: one static input."""
    model, x = network("STAtten"), image()
    measured = profile(model, [x.unsqueeze(1).repeat(1, T, 1, 1, 1) if frames else x])
    first = measured.rows[0]
    assert (first.role, first.static_repeats, first.mac * T) == ("encoder", T, first.mac_executed)
    assert measured.samples == B and measured.time_steps == T
