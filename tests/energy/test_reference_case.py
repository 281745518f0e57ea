"""The reference case end to end: official weights, our counter, every convention against recorded counts."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snn_energy.energy import estimate
from snn_energy.energy.analysis import break_even, compare_with_twin, sensitivity, spread
from snn_energy.energy.architectures import build
from snn_energy.energy.shapes import Net
from snn_energy.energy.twin import dense_twin
from snn_energy.profiling.profile import Profile

SAMPLES = 3


@pytest.fixture(scope="module")
def measured(golden: Path) -> Profile:
    import snn_energy

    model = snn_energy.load(golden / "checkpoint-0.pth.tar")
    x = torch.from_numpy(np.load(golden / "input.npz")["x"])
    return snn_energy.profile(model, [x])


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict[str, dict[str, Any]]:
    with (golden / "op_counts.csv").open(encoding="utf-8") as file:
        return {row["layer"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def described() -> Net:
    return build(
        {
            "build": "spike-driven",
            "depth": 2,
            "dim": 64,
            "size": 32,
            "classes": 10,
            "pools": "0011",
            "mask": False,
        }
    )


def layers(recorded: dict[str, dict[str, Any]], column: str, op: str = "AC") -> float:
    """A column summed over the batch, without attention."""
    return sum(
        float(r[column])
        for r in recorded.values()
        if r["op"] == op and r["kind"].startswith(("conv", "linear"))
    )


def products(recorded: dict[str, dict[str, Any]], name: str, column: str) -> float:
    return sum(float(r[column]) for key, r in recorded.items() if key.endswith(f"attn.{name}"))


def synaptic(energy: Any, *ops: str) -> tuple[float, float]:
    """(AC, MAC) of the batch over rows of the given operations."""
    chosen = [row for row in energy.rows if row.op in ops]
    return SAMPLES * sum(r.ac for r in chosen), SAMPLES * sum(r.mac for r in chosen)


def test_exact(measured: Profile, recorded: dict) -> None:
    energy = estimate(measured)
    ac, mac = synaptic(energy, "conv2d", "linear")
    assert ac == pytest.approx(layers(recorded, "ops_exact_batch"))
    assert mac == pytest.approx(layers(recorded, "ops_exact_batch", "MAC") / 4)  # the image is encoded once
    expected = products(recorded, "kv", "ops_exact_batch") + products(recorded, "q_kv", "ops_rate_batch")
    assert synaptic(energy, "matmul") == (pytest.approx(expected), 0)


def test_rate_conventions(measured: Profile, recorded: dict) -> None:
    energy = estimate(measured, "spikformer")
    ac, mac = synaptic(energy, "conv2d", "linear")
    assert ac == pytest.approx(layers(recorded, "ops_rate_batch"))
    assert mac == pytest.approx(layers(recorded, "ops_rate_batch", "MAC"))
    one_sided = products(recorded, "kv", "ops_rate_batch") + products(recorded, "q_kv", "ops_rate_batch")
    assert synaptic(energy, "matmul")[0] == pytest.approx(one_sided)
    head = float(recorded["head"]["dense_macs_per_sample"]) * SAMPLES + 4 * 10 * SAMPLES
    assert synaptic(estimate(measured, "spikingformer"), "linear") == (0, pytest.approx(head))


def test_neurobench_executes_the_encoder_every_step(measured: Profile, recorded: dict) -> None:
    ac, mac = synaptic(estimate(measured, "neurobench"), "conv2d", "linear", "matmul")
    assert ac == pytest.approx(layers(recorded, "ops_exact_batch"))
    assert mac == pytest.approx(layers(recorded, "ops_exact_batch", "MAC"))


def test_sdt_moves_only_q_k_and_v(measured: Profile, recorded: dict) -> None:
    energy = {(r.name, r.site): r.ac for r in estimate(measured, "sdt").rows if r.op == "conv2d"}
    rates = {r.name: r.output_rate for r in measured.rows if r.neuron_cmp}
    for block in ("block.0", "block.1"):
        mean = sum(rates[f"{block}.attn.{s}_lif"] for s in "qkv") / 3
        for s in "qkv":
            dense = float(recorded[f"{block}.attn.{s}_conv"]["dense_macs_per_sample"])
            assert energy[f"{block}.attn.{s}_conv", 0] == pytest.approx(mean * dense)
        name = f"{block}.mlp.fc1_conv"
        assert energy[name, 0] == pytest.approx(float(recorded[name]["ops_rate_batch"]) / SAMPLES)


def test_syops_sees_spikes_before_a_max_pool(measured: Profile) -> None:
    pools = [r for r in estimate(measured, "syops").rows if r.op == "max_pool"]
    rate = next(r.output_rate for r in measured.rows if r.name == "patch_embed.proj_lif2")
    assert pools[0].ac == pytest.approx(rate * 4 * 32 * 32 * 32) and pools[0].mac == 0
    assert pools[1].mac == 4 * 64 * 16 * 16 and pools[1].ac == 0  # an analog map


def test_the_description_is_the_measured_network(measured: Profile, described: Net) -> None:
    profile = described.profile()
    for op in ("conv2d", "linear", "matmul"):
        for field in ("dense_macs", "valid_macs"):
            mine = sum(getattr(r, field) for r in profile.rows if r.op == op)
            assert mine * SAMPLES == sum(getattr(r, field) for r in measured.rows if r.op == op)
    assert profile.parameters == measured.parameters
    assert sum(r.mac for r in dense_twin(measured).rows) == sum(r.mac for r in dense_twin(profile).rows)


def test_analysis_holds_together(measured: Profile) -> None:
    compared = compare_with_twin(measured)
    model = break_even(measured)[-1]
    assert model.spiking_pj == compared.spiking.total_pj and model.dense_pj == compared.dense.total_pj
    assert (model.rate < model.break_even) == (compared.ratio > 1)
    wet = break_even(measured, costs="45nm-memory")[-1]
    assert wet.break_even < model.break_even / 4
    assert (wet.rate < wet.break_even) == (compare_with_twin(measured, costs="45nm-memory").ratio > 1)
    assert sensitivity(measured)[0].name == "patch_embed.proj_lif2"
    assert sum(s.share for s in sensitivity(measured)) < 1  # the encoder and residual sums follow no spike
    assert estimate(measured).standard_error_pj is not None
    assert min(e.total_pj for e in spread(measured)) == estimate(measured).total_pj


def test_a_saved_profile_costs_the_same(measured: Profile, tmp_path: Path) -> None:
    measured.save(tmp_path / "profile.json")
    again = Profile.load(tmp_path / "profile.json")
    for a, b in zip(spread(measured, costs="45nm-memory"), spread(again, costs="45nm-memory"), strict=True):
        assert a.total_pj == b.total_pj


def test_convention_spikingjelly_is_its_own_count(measured: Profile, golden: Path) -> None:
    from spikingjelly.activation_based import functional, op_counter

    import snn_energy

    model = snn_energy.load(golden / "checkpoint-0.pth.tar")
    x = torch.from_numpy(np.load(golden / "input.npz")["x"])
    totals = []
    for counter in (op_counter.SynOpCounter(), op_counter.MACCounter()):
        functional.reset_net(model)
        with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
            model(x)
        totals.append(counter.get_total())
    energy = estimate(measured, "spikingjelly")
    assert [round(SAMPLES * energy.ac, 6), round(SAMPLES * energy.mac, 6)] == totals
