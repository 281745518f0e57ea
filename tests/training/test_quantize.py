"""Training in a netlist's numbers: the forward pass is the netlist's, the result an ordinary network."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from trained_statten import trained

from snn_energy.checkpoints import load
from snn_energy.data import load_data
from snn_energy.errors import CheckpointError, ConfigError, UnsupportedOp
from snn_energy.exporters.lava.export import dequantized_model, lower_model, rounded
from snn_energy.models.neurons import LIF, reset
from snn_energy.training import load_recipe, train
from snn_energy.training.loop import evaluate
from snn_energy.training.quantize import Quantization
from snn_energy.training.recipe import recipe_from_dict

TINY = ("embed_dims=16", "num_heads=2", "depths=1", "T=2")


class Pooled(nn.Module):
    """A layer without a norm, a depthwise one with a dead channel, an average pool before the next."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.lif = LIF()
        self.deep = nn.Conv2d(6, 6, 3, stride=2, groups=6, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.lif2 = LIF(v_threshold=0.7)
        self.wide = nn.Conv2d(6, 8, (1, 2))
        self.lif3 = LIF()
        self.head = nn.Linear(8 * 2 * 2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reset(self)
        steps = x.unsqueeze(0).expand(3, *x.shape)
        each = lambda f, s: f(s.flatten(0, 1)).unflatten(0, s.shape[:2])  # noqa: E731
        spikes = self.lif2(each(lambda s: self.norm(self.deep(s)), self.lif(each(self.stem, steps))))
        pooled = each(lambda s: nn.functional.avg_pool2d(s, (2, 1)), spikes)
        return self.head(self.lif3(each(self.wide, pooled)).flatten(2)).mean(0)


def pooled() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = Pooled()
    with torch.no_grad():
        model.norm.running_mean.uniform_(-0.3, 0.3)
        model.norm.running_var.uniform_(0.01, 0.1)
        model.norm.weight[2] = 0.0
        model.norm.weight[3] = -0.6
        for layer in (model.stem, model.wide):
            layer.weight.mul_(4)
            layer.bias.uniform_(0, 1)
    return model.eval(), torch.randn(24, 2, 9, 7)


def test_the_forward_pass_is_the_dequantized_networks() -> None:
    """In evaluation mode, to float32 rounding, after some steps; the lowering keeps what comes out."""
    model, x = pooled()
    quantization = Quantization(model, x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), torch.arange(24) % 5).backward()
        optimizer.step()
    quantization.refresh(model)
    model.eval()
    lowering, latent = quantization.lowering, copy.deepcopy(quantization.plain)
    twin = dequantized_model(latent, lowering)
    with torch.no_grad():
        wanted = twin(torch.as_tensor(rounded(lowering.netlist, x.numpy())))
        assert (model(x).double() - wanted).abs().max() < 1e-5
        assert (latent(x).double() - wanted).abs().max() > 1e-3  # the rounding is there
    plain = quantization.rounded(model)
    assert set(plain.state_dict()) == set(Pooled().state_dict())
    again = lower_model(plain, x.numpy())
    for name, weights in lowering.registers.weights.items():
        np.testing.assert_array_equal(again.registers.weights[name].values, weights.values, err_msg=name)


def test_gradients_pass_the_rounding() -> None:
    """Every parameter gets one, near that of the network that is not rounded."""
    model, x = pooled()
    plain = copy.deepcopy(model).train()
    Quantization(model, x)
    model.train()
    for network in (model, plain):
        nn.functional.cross_entropy(network(x), torch.arange(24) % 5).backward()
    originals = {n: p.grad for n, p in model.named_parameters() if n.endswith("original")}
    assert len(originals) == 8
    for name, grad in originals.items():
        theirs = plain.get_parameter(name.replace("parametrizations.", "").removesuffix(".original")).grad
        used = (theirs != 0).float().mean()
        assert used > 0.3 and (grad != 0).float().mean() > 0.7 * used, name
    head = model.head.parametrizations.weight.original.grad
    assert nn.functional.cosine_similarity(head.flatten(), plain.head.weight.grad.flatten(), 0) > 0.8


def test_event_counts_are_not_rounded() -> None:
    model, _ = pooled()
    x = torch.randint(0, 2, (8, 2, 9, 7)).float()
    quantization = Quantization(model, x)
    assert quantization._round_input(model, (x,)) == (x,)


@pytest.mark.slow
def test_fine_tuning_loses_nothing_on_the_way_to_the_netlist(tmp_path: Path) -> None:
    """The checkpoint is a plain one, its weights are its netlist's, and both classify alike."""
    first = trained()
    before = yaml.safe_load((first.out / "recipe.yaml").read_text())
    recipe = recipe_from_dict(
        before | {"quantize": "loihi", "init": str(first.best), "epochs": 2, "lr": 1e-3}
    )
    tuned = train(recipe, tmp_path, device="cpu")
    data = load_data("digits")
    model = load(tuned.best)
    assert evaluate(model, data.test, 64, torch.device("cpu")) == tuned.accuracy >= first.accuracy - 0.01
    lowering = lower_model(model, data.train.take(256).batch(slice(None))[0].numpy())
    twin, (x, y) = dequantized_model(model, lowering), data.test.batch(slice(None))
    with torch.no_grad():
        answers = twin(torch.as_tensor(rounded(lowering.netlist, x.numpy()))).argmax(1)
    assert float((answers == y).float().mean()) >= tuned.accuracy - 0.005
    for node in lowering.graph:
        if node.name in lowering.registers.weights and hasattr(node, "weight"):
            held = lowering.dequantized[node.name].weight
            np.testing.assert_allclose(node.weight, held, rtol=1e-4, atol=1e-6, err_msg=node.name)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (("quantize=lohi",), ConfigError, r"quantize = 'lohi'; did you mean 'loihi'"),
        (("init=nowhere.pth",), CheckpointError, r"nowhere\.pth"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, overrides: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        train(load_recipe("digits-statten", (*TINY, *overrides)), tmp_path / "out", device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_network_that_cannot_be_lowered_is_named() -> None:
    model, x = pooled()
    model.lif = nn.ReLU()
    with pytest.raises(UnsupportedOp, match="lif"):
        Quantization(model, x)
