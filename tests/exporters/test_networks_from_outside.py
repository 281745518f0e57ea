"""Networks as others write them: samples along any axis, answers in tuples, dicts, or for every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact import exact, exact_images
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import snn_energy
from snn_energy.errors import ConfigError, DataError, UnsupportedOp
from snn_energy.exporters.network import see
from snn_energy.exporters.onnx.run import OnnxModel

T = 3


@dataclass
class Found:
    boxes: Any
    logits: Any


class Net(nn.Module):
    """Still images (B, 2, 5, 6); `wrap` makes the output of the scores (T, B, 4)."""

    def __init__(self, wrap: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.net = nn.Sequential(
            layer.Conv2d(2, 5, 3), neuron.LIFNode(), layer.Flatten(), layer.Linear(60, 4)
        )
        functional.set_step_mode(self.net, "m")
        self.wrap = wrap

    def forward(self, x: torch.Tensor) -> Any:
        functional.reset_net(self)
        return self.wrap(self.net(x.unsqueeze(0).expand(T, *x.shape)))


class Frames(Net):
    """Frames as they come: `order` brings them to (T, B, …)."""

    def __init__(self, order: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> None:
        super().__init__(lambda y: y.mean(0))
        self.order = order

    def forward(self, x: torch.Tensor) -> Any:
        functional.reset_net(self)
        return self.net(self.order(x)).mean(0)


def alive(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return exact(model)


X = exact_images(3, 2, 5, 6) * 3
FRAMES = exact_images(T, 4, 2, 5, 6, seed=2) * 3  # (T, B, …)
OUTPUTS: dict[str, tuple[Callable[[torch.Tensor], Any], Any]] = {
    "with None": (lambda y: (y.mean(0), None), None),
    "None first": (lambda y: [None, y.mean(0)], None),
    "a dict": (lambda y: {"aux": y.sum(0), "logits": y.mean(0)}, None),
    "a dict, one named": (lambda y: {"aux": y.mean(0), "logits": y.sum(0)}, "aux"),
    "nested": (lambda y: ((y.mean(0), y), {"rest": y}), None),
    "the second": (lambda y: (y.amax(0), y.mean(0)), 1),
    "the last": (lambda y: (y.amax(0), y.mean(0)), "-1"),
    "for every step": (lambda y: y, None),
    "for every step, said": (lambda y: (y, None), "0:mean-T"),
    "batch first": (lambda y: y.transpose(0, 1), None),
    "steps merged with samples": (lambda y: y.flatten(0, 1), None),
}


def scores(out: Any, name: str) -> torch.Tensor:
    """(B, 4) by hand."""
    match name:
        case "with None":
            return out[0]
        case "None first" | "the second" | "the last":
            return out[1]
        case "a dict":
            return out["logits"]
        case "a dict, one named":
            return out["aux"]
        case "nested":
            return out[0][0]
        case "for every step, said":
            return out[0].mean(0)
        case "batch first":
            return out.mean(1)
        case "steps merged with samples":
            return out.reshape(T, 3, 4).mean(0)
        case _:
            return out.mean(0)


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_form_of_answer_goes_to_onnx(name: str, tmp_path: Path) -> None:
    wrap, output = OUTPUTS[name]
    torch.manual_seed(0)
    model = alive(Net(wrap))
    verdict = snn_energy.export(model, "onnx", tmp_path, x=X, y=np.zeros(3, int), output=output)
    assert verdict.verdict == "identical" and verdict.neurons[0].spikes > 0 and verdict.scaled == 1
    runner = OnnxModel(tmp_path / "model.onnx")
    answer = torch.from_numpy(runner.run(X)[runner.outputs[0]])
    with torch.no_grad():
        wanted = scores(model(X), name)
    if answer.shape != wanted.shape:
        answer = {"batch first": lambda a: a.mean(1)}.get(name, lambda a: a.reshape(T, 3, 4).mean(0))(answer)
    torch.testing.assert_close(answer, wanted, atol=1e-5, rtol=1e-5)
    assert verdict.accuracy["model"] == float((wanted.argmax(1) == 0).float().mean())


@pytest.mark.parametrize("name", ["with None", "a dict", "for every step", "for every step, said"])
@pytest.mark.parametrize("target", ["nir", "netlist"])
def test_and_to_nir_and_netlists(name: str, target: str, tmp_path: Path) -> None:
    wrap, output = OUTPUTS[name]
    torch.manual_seed(0)
    verdict = snn_energy.export(alive(Net(wrap)), target, tmp_path, x=X, output=output)
    assert verdict.verdict == "identical" and snn_energy.verify(tmp_path).verdict == "identical"


def test_single_step_form_of_an_answer_for_every_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = alive(Net(lambda y: y))
    assert snn_energy.export(model, "onnx", tmp_path, x=X, form="single-step").verdict == "identical"
    runner = OnnxModel(tmp_path / "model.onnx")
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(runner.run(X)[runner.outputs[0]]), model(X))


def test_a_dataclass_answers_by_its_logits() -> None:
    from snn_energy.graph.answer import answer

    assert answer(Found(boxes="b", logits="l")) == "l" and answer(Found("b", "l"), "boxes") == "b"
    assert answer(([], ("first", "second"))) == "first"
    with pytest.raises(DataError, match="puts out nothing"):
        answer(None)
    with pytest.raises(ConfigError, match="output 'score': the network puts out boxes, logits"):
        answer(Found("b", "l"), "score")


ORDERS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[], nn.Module]]] = {
    "TB": (lambda x: x, Frames),
    "BT": (lambda x: x.transpose(0, 1), lambda: Frames(lambda x: x.transpose(0, 1))),
    "BT-last": (lambda x: x.movedim(0, -1), lambda: Frames(lambda x: x.movedim(-1, 0))),
}


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("layout", ["TB", "BT", "BT-last"])
@pytest.mark.parametrize("target", ["onnx", "nir", "netlist"])
def test_frames_in_every_layout(target: str, layout: str, said: bool, tmp_path: Path) -> None:
    if layout == "BT-last" and target != "onnx":
        pytest.skip("time behind space is turned by the network: a Permute, which neither chip nor NIR has")
    order, build = ORDERS[layout]
    torch.manual_seed(0)
    model, x = alive(build()), order(FRAMES).contiguous()
    verdict = snn_energy.export(model, target, tmp_path, x=x, layout=layout if said else None)
    assert verdict.verdict == "identical" and verdict.samples == 4
    again = snn_energy.verify(tmp_path, x=order(FRAMES[:, 1:3]).contiguous())
    assert again.samples == 2 and again.verdict == "identical"
    if target == "onnx":
        runner = OnnxModel(tmp_path / "model.onnx")
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(runner.run(x)[runner.outputs[0]]), model(x))


def test_the_kept_samples_lie_as_the_network_takes_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    snn_energy.export(alive(Frames()), "onnx", tmp_path, x=FRAMES)
    assert np.load(tmp_path / "samples.npz")["real"].shape == (T, 4, 2, 5, 6)
    assert snn_energy.verify(tmp_path).samples == 4


def test_a_fixed_batch_is_the_cause_that_is_named() -> None:
    class Fixed(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).reshape(3, 2, 2).flatten(1)

    with pytest.raises(UnsupportedOp) as refused:
        see(Fixed(lambda y: y.mean(0)).eval(), X.numpy())
    text = str(refused.value)
    assert "the forward fixes that axis to one size" in text and "data-dependent" not in text
    assert text.index("layout='TB'") < text.index("supported:")


def test_a_branch_on_values_is_the_cause_that_is_named() -> None:
    class Branch(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    with pytest.raises(
        UnsupportedOp, match=r"a branch on the values of a tensor .*; use torch\.where.*; supported:"
    ):
        see(Branch(lambda y: y.mean(0)).eval(), X.numpy())


def test_layouts_and_outputs_that_cannot_be() -> None:
    model = Net(lambda y: (y.mean(0), y)).eval()
    with pytest.raises(ConfigError, match="layout 'TBC': must be TB for"):
        see(model, X.numpy(), layout="TBC")
    with pytest.raises(ConfigError, match="output 7: the network puts out 0, 1"):
        see(model, X.numpy(), output="7")
    with pytest.raises(ConfigError, match="answers with the mean over steps"):
        see(model, X.numpy(), output="1:last-T")
