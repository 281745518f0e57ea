"""Every family of the registry as ONNX, in each form that it has: spike for spike, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from spiking_nets import lively

from snn_energy.errors import UnsupportedOp
from snn_energy.exporters.onnx.export import export_onnx
from snn_energy.models.zoo import ZOO, create_model

TRANSFORMER = {"embed_dims": 48, "num_heads": 3, "T": 4}
QKFORMER = {**TRANSFORMER, "num_heads": (3, 2, 1), "depths": (1, 1, 1)}
MAXFORMER = {"embed_dims": 64, "depths": (1, 1, 1), "T": 4}
ATTENTIVE = {"T": 2, "width": 0.05, "v_threshold": 0.3, "num_classes": 5}
DECOUPLED = {**ATTENTIVE, "num_heads": 2, "width": 1 / 32}

CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    # registered name, what makes it small, why it has no single-step form
    "STAtten in Spikformer": ("statten-spikformer", {**TRANSFORMER, "depths": 1}, ""),
    "STAtten in QKFormer": ("statten-qkformer", QKFORMER, ""),
    "STAtten in Max-Former": ("statten-maxformer", MAXFORMER, ""),
    "SEW-ResNet": ("sew-resnet", {"num_classes": 5}, ""),
    "STAA": ("staa-vgg13", ATTENTIVE, ""),
    "decoupled": ("decoupled", DECOUPLED, "past"),
    "decoupled, spatial": ("decoupled", {**DECOUPLED, "temporal": False}, ""),
}


@pytest.mark.slow
@pytest.mark.usefixtures("capture_once")
@pytest.mark.parametrize("name", CASES)
def test_spike_for_spike_in_each_form(name: str, tmp_path: Path) -> None:
    registered, fields, refused = CASES[name]
    torch.manual_seed(3)
    x = torch.rand(4, 3, 32, 48)
    model = lively(create_model(registered, **fields), x)
    found = export_onnx(model, tmp_path / "multi", x)
    assert found.verdict in ("identical", "identical but for ties"), found.summary()
    alive = [check for check in found.neurons if 0 < check.spikes < check.compared]
    assert len(alive) >= 0.8 * len(found.neurons), "most layers must fire for this to say something"
    if refused:
        with pytest.raises(UnsupportedOp, match=refused):
            export_onnx(model, tmp_path / "single", x, form="single-step")
    else:
        single = export_onnx(model, tmp_path / "single", x, form="single-step")
        assert single.verdict in ("identical", "identical but for ties"), single.summary()


def test_no_family_is_left_out() -> None:
    """STAtten itself, its attentions, inputs and neurons are in test_onnx_export."""
    tried = {ZOO[registered].target for registered, _, _ in CASES.values()} | {"statten:STAtten"}
    assert {entry.target for entry in ZOO.values()} == tried
