"""Dense MACs beside fvcore's."""

from __future__ import annotations

import pytest
import torch
from networks import ZOO
from torch import nn

from snn_energy.models.zoo import create_model
from snn_energy.profiling import Profile, profile

pytest.importorskip("fvcore.nn", reason="fvcore is not installed")

from snn_energy.profiling import crosscheck


@pytest.mark.parametrize("name", ["sdt", "spikformer", "sew_resnet_iand", "ms_resnet"])
def test_every_layer_agrees_with_fvcore(name: str) -> None:
    torch.manual_seed(0)
    model, x = ZOO[name]()
    model.train()
    records = crosscheck.fvcore(model, x, profile(model, [x, x]))
    assert len(records) > 10 and model.training
    assert [r for r in records if r["difference"]] == []
    assert sum(r["ours"] for r in records) == sum(r["theirs"] for r in records) > 0


def test_a_difference_has_a_reason_and_a_surprise_is_called_unexplained() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(2, 3, 2, stride=2, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.up(x).flatten(2)
            return nn.functional.scaled_dot_product_attention(y, y, y)

    model, x = Model(), torch.rand(2, 2, 4, 5)
    measured = profile(model, [x])
    reasons = {
        (r["name"], r["kind"]): r["reason"] for r in crosscheck.fvcore(model, x, measured) if r["difference"]
    }
    assert set(reasons) == {("", "matmul")}  # the transposed convolution agrees
    assert "scaled_dot_product_attention" in reasons["", "matmul"]
    records = crosscheck.compare(measured, {"up": {"conv": 2}}, 2)
    assert any(r["reason"] for r in records)
    linear = profile(nn.Sequential(nn.Linear(5, 3)), [x])
    (record,) = crosscheck.compare(linear, {"0": {"linear": 2 * 7}}, 2)
    assert record["reason"] == "unexplained" and (record["ours"], record["theirs"]) == (2 * 4 * 15, 7)


def test_gated_neurons_agree_layer_norms_and_all() -> None:
    model = create_model("staa-vgg13", T=2, width=0.05, num_classes=5).eval()
    x = torch.rand(2, 3, 32, 48)
    records = crosscheck.fvcore(model, x, profile(model, [x]))
    assert {r["kind"] for r in records} == {"conv", "linear", "matmul"}
    reasons = {r["reason"] for r in records if r["difference"]}
    assert len(reasons) == 1 and "parameters alone" in reasons.pop()  # what GC2 makes of no membrane


def test_a_model_that_fvcore_cannot_count_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: object) -> None:
        raise AssertionError("[4]")

    model, x = ZOO["ms_resnet"]()
    monkeypatch.setattr("fvcore.nn.FlopCountAnalysis.by_module_and_operator", stop)
    (record,) = crosscheck.fvcore(model, x, profile(model, [x]))
    assert record["reason"] == "fvcore stops at this model (AssertionError: [4])"
    assert record["difference"] == record["ours"] > 0


def test_the_records_travel_with_the_profile(tmp_path) -> None:
    import dataclasses

    model, x = ZOO["ms_resnet"]()
    measured = profile(model, [x])
    measured = dataclasses.replace(measured, crosscheck=crosscheck.fvcore(model, x, measured))
    measured.save(tmp_path / "p.json")
    assert Profile.load(tmp_path / "p.json") == measured
