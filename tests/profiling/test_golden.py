"""The official STAtten code's reference case: every count, exactly."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from snn_energy.profiling import Profile, profile, record_spikes

STEPS, BATCH = 4, 3


@pytest.fixture(scope="module")
def model(golden: Path) -> torch.nn.Module:
    from snn_energy.models.statten import STAtten, STAttenConfig

    with torch.serialization.safe_globals([argparse.Namespace]):
        state = torch.load(golden / "checkpoint-0.pth.tar", weights_only=True)["state_dict"]
    config = STAttenConfig(
        in_channels=3,
        num_classes=10,
        embed_dims=64,
        num_heads=8,
        depths=2,
        T=STEPS,
        chunk_size=2,
        pooling_stat="0011",
    )
    net = STAtten(config)
    net.load_state_dict(state)
    return net.eval()


@pytest.fixture(scope="module")
def x(golden: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(golden / "input.npz")["x"])


@pytest.fixture(scope="module")
def measured(model: torch.nn.Module, x: torch.Tensor) -> Profile:
    return profile(model, [x])


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def whole(text: str) -> list[int]:
    return [int(v) for v in text.split()]


def test_every_convolution_and_linear_layer(golden: Path, measured: Profile) -> None:
    rows = {r.name: r for r in measured.rows if r.op in ("conv2d", "linear")}
    expected = [
        r for r in table(golden / "op_counts.csv") if r["kind"].startswith("conv") or r["kind"] == "linear"
    ]
    assert {r["layer"] for r in expected} == set(rows)
    for reference in expected:
        row = rows[reference["layer"]]
        per_sample = whole(reference["ops_exact_per_sample"])
        if reference["op"] == "AC":
            assert (row.ac, row.mac, row.ac_square_sum) == (
                sum(per_sample),
                0,
                sum(v * v for v in per_sample),
            )
            assert sum(row.ac_by_step) == row.ac and len(row.ac_by_step) == STEPS
        else:
            assert (row.ac, row.mac_executed, row.mac) == (0, sum(per_sample), sum(per_sample) // STEPS)
            assert row.static_repeats == STEPS and row.role == "encoder"
        assert row.dense_macs == BATCH * int(reference["dense_macs_per_sample"])
        assert row.valid_macs == BATCH * int(reference["valid_macs_per_sample"])
        assert row.input_nonzero == int(reference["input_nonzero_batch"])
        assert row.input_elements == BATCH * int(reference["input_elems_per_sample"])


def test_both_attention_products(golden: Path, measured: Profile) -> None:
    rows = {(r.name, r.site): r for r in measured.rows if r.op == "matmul"}
    expected = table(golden / "attention_counts.csv")
    assert len(rows) == 2 * len(expected) > 0
    for reference in expected:
        attn = f"{reference['block']}.attn"
        kv, qkv = rows[attn, 0], rows[attn, 1]
        assert (kv.input_kind, kv.right_kind) == ("binary", "binary")
        assert kv.ac == kv.ac_coincident == sum(whole(reference["kv_acs_coincident"]))
        assert kv.ac_one_sided == sum(whole(reference["kv_acs_k_driven"]))
        assert kv.counts["right"].total == sum(whole(reference["kv_acs_v_driven"]))
        assert kv.ac_square_sum == sum(v * v for v in whole(reference["kv_acs_coincident"]))
        assert kv.sources == (f"{attn}.k_lif", f"{attn}.v_lif")
        assert (qkv.input_kind, qkv.right_kind) == ("binary", "real")
        assert qkv.ac == qkv.ac_one_sided == sum(whole(reference["qkv_acs_q_driven"]))
        assert qkv.ac_coincident == sum(whole(reference["qkv_acs_q_and_nonzero_kv"]))
        assert qkv.feeds == (f"{attn}.attn_lif",)
        assert kv.dense_macs == BATCH * int(reference["dense_macs_kv_per_sample"])
        assert qkv.dense_macs == BATCH * int(reference["dense_macs_qkv_per_sample"])
        scale = next(r for r in measured.rows if r.name == attn and r.op == "scale")
        assert scale.scale_muls == BATCH * int(reference["scale_mults_per_sample"])


def test_spikes_and_rates_of_every_neuron(
    golden: Path, model: torch.nn.Module, x: torch.Tensor, measured: Profile
) -> None:
    """Hook tensor by hook tensor: shape, nonzeros, nonzeros per step."""
    spikes = record_spikes(model, x)
    neurons = {r.name: r for r in measured.neurons}
    assert set(spikes) == set(neurons)
    names = {"MS_SPS_lif": "patch_embed.proj_lif", "head_lif": "head_lif"}
    names |= {f"MS_SPS_lif{i}": f"patch_embed.proj_lif{i}" for i in (1, 2, 3)}
    inner = {"first": "shortcut", "q": "q", "k": "k", "v": "v", "after_qkv": "attn"}
    for block in (0, 1):
        for hook, path in inner.items():
            suffix = "" if hook == "after_qkv" else "_lif"
            names[f"MS_SSA_Conv{block}_{hook}{suffix}"] = f"block.{block}.attn.{path}_lif"
        names |= {f"MS_MLP_Conv{block}_fc{i}_lif": f"block.{block}.mlp.fc{i}_lif" for i in (1, 2)}
    hooks = table(golden / "firing.csv")
    assert {h["hook"] for h in hooks} == set(names)
    for hook in hooks:
        name = names[hook["hook"]]
        by_step = whole(hook["nonzero_per_t"])
        assert spikes[name].flatten(1).sum(1).tolist() == by_step
        assert list(neurons[name].output_nonzero_by_step) == by_step
        assert spikes[name].transpose(0, 1).flatten(1).sum(1).tolist() == whole(hook["nonzero_per_sample"])


def test_counting_changes_nothing(model: torch.nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        before = model(x)
        profile(model, [x])
        assert torch.equal(model(x), before)


def test_nothing_is_left_out_and_what_never_ran_is_named(measured: Profile) -> None:
    assert measured.uncounted == ()
    assert set(measured.uncalled) == {"block.0.attn.talking_heads", "block.1.attn.talking_heads"}
    assert measured.parameters == 163_794
    assert all(r.norm_folded for r in measured.rows if r.op == "norm")
