"""Networks whose neurons are written out in the forward, from a batch of samples to files and netlists."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from exact import on_grid
from torch import Tensor, nn

import snn_energy
from snn_energy.errors import UnsupportedOp

T = 4


class Loop(nn.Module):
    """A loop over the first axis of (T, B, 7), membranes as attributes; `late`: snnTorch's reset."""

    def __init__(self, late: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.late = nn.Linear(7, 9), nn.Linear(9, 5), late

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.mem, spike, out = x.new_zeros(x.shape[1], 9), x.new_zeros(x.shape[1], 9), []
        for frame in x:
            taken = spike if self.late else spike * self.mem * 0.5
            self.mem = self.mem * 0.5 + self.a(frame) - taken
            spike = (self.mem >= 1.0).to(x.dtype)
            out.append(self.b(spike))
        return {"logits": torch.stack(out), "last": out[-1]}


def network(**fields: bool) -> nn.Module:
    torch.manual_seed(0)
    model = Loop(**fields)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(on_grid(parameter * 3, 2.0**-6))
    return model.eval()


X = on_grid(torch.rand(T, 3, 7, generator=torch.Generator().manual_seed(1)), 2.0**-4)


@pytest.mark.parametrize("target", ["onnx", "nir", "netlist"])
def test_a_written_out_neuron_is_exported_as_one(target: str, tmp_path: Path) -> None:
    class Scores(Loop):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)["logits"]

    model = network()
    model.__class__ = Scores
    verdict = snn_energy.export(model, target, tmp_path, x=X)
    assert verdict.verdict == "identical" and verdict.samples == 3
    (check,) = verdict.neurons
    assert check.compared == 3 * T * 9 and 0 < check.spikes < check.compared
    assert snn_energy.verify(tmp_path).verdict == "identical"
    assert not hasattr(model, "mem"), "what the forward sets is taken away again"


def test_another_neuron_goes_to_onnx_step_by_step_and_nowhere_else(tmp_path: Path) -> None:
    verdict = snn_energy.export(network(late=True), "onnx", tmp_path / "a", x=X, output="last")
    assert verdict.verdict == "identical" and len(verdict.neurons) == T
    assert sum(check.compared for check in verdict.neurons) == 3 * T * 9
    for target in ("nir", "netlist"):
        with pytest.raises(UnsupportedOp, match=r"its neurons are written out, but .*onnx, which takes any"):
            snn_energy.export(network(late=True), target, tmp_path / target, x=X, output="last")


def test_a_reset_after_the_next_decay_is_one_by_more_than_the_threshold(tmp_path: Path) -> None:
    class Scores(Loop):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)["logits"]

    model = network(late=True)
    model.__class__ = Scores
    for target in ("onnx", "nir"):
        verdict = snn_energy.export(model, target, tmp_path / target, x=X)
        (check,) = verdict.neurons
        assert verdict.verdict == "identical" and 0 < check.spikes < check.compared == 3 * T * 9
    with pytest.raises(UnsupportedOp, match="soft reset does not exist there"):
        snn_energy.export(model, "netlist", tmp_path / "netlist", x=X)
