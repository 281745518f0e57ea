"""Training in a netlist's numbers: the forward pass is the netlist's, the result an ordinary network."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from trained_statten import ACCURACY, TRAINED, TUNED

from snn_energy.checkpoints import load, read_checkpoint
from snn_energy.data import load_data
from snn_energy.errors import CheckpointError, ConfigError, UnsupportedOp
from snn_energy.exporters.chip.calibrate import lower_model
from snn_energy.exporters.chip.reference import dequantized_model, rounded
from snn_energy.exporters.lowering.grids import WHOLE
from snn_energy.exporters.lowering.lower import Lowering
from snn_energy.models.neurons import LIF, reset
from snn_energy.training import load_recipe, train
from snn_energy.training.quantize import Quantization
from snn_energy.training.recipe import recipe_from_dict
from snn_energy.training.scores import evaluate

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


def answers(model: nn.Module, lowering: Lowering, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes that the network gives, and its netlist: the de-quantized network on rounded inputs."""
    twin = dequantized_model(model, lowering)
    with torch.no_grad():
        return model(x).argmax(1), twin(torch.as_tensor(rounded(lowering.netlist, x.numpy()))).argmax(1)


def test_tuning_brings_a_network_nearer_to_its_netlist() -> None:
    """Two trained networks with fixed weights, one of them tuned: what their netlists answer."""
    data, alike = load_data("digits"), {}
    x, y = data.test.batch(slice(None))
    for path in (TRAINED, TUNED):
        model = load(path)
        lowering = lower_model(model, data.train.take(256).batch(slice(None))[0].numpy())
        floats, integers = answers(model, lowering, x)
        alike[path] = float((floats == integers).float().mean())
        assert float((integers == y).float().mean()) >= ACCURACY[path] - 0.01
    assert alike[TUNED] >= 0.98 and alike[TUNED] >= alike[TRAINED] + 0.01


@pytest.mark.slow
def test_training_in_a_netlists_numbers_ends_on_its_grid(tmp_path: Path) -> None:
    """Whatever the run comes to: the checkpoint is a plain one, and its weights are its netlist's."""
    first = read_checkpoint(TRAINED).recipe
    recipe = recipe_from_dict(
        first | {"quantize": "loihi", "init": str(TRAINED), "epochs": 2, "lr": 1e-3, "batch_size": 96}
    )
    steps = []
    tuned = train(recipe, tmp_path, device="cpu", on_step=steps.append)
    assert all(math.isfinite(s.loss) for s in steps)
    data, before, model = load_data("digits"), load(TRAINED), load(tuned.best)
    assert evaluate(model, data.test, 4 * recipe.batch_size, torch.device("cpu")) == tuned.accuracy
    changed = [n for n, p in model.named_parameters() if not torch.equal(p, before.get_parameter(n))]
    assert len(changed) > 0.8 * len(list(model.parameters()))
    lowering = lower_model(model, data.train.take(256).batch(slice(None))[0].numpy())
    nodes = [n for n in lowering.graph if n.name in lowering.registers.weights and hasattr(n, "weight")]
    assert len(nodes) >= 12
    for node in nodes:
        grid, held = lowering.registers.weights[node.name].grid, lowering.dequantized[node.name].weight
        # a neighbouring scale may be the one that is found: no weight is further from it than this
        assert np.abs(node.weight - held).max() < WHOLE * grid, node.name
    twin = dequantized_model(model, lowering).float()
    again = lower_model(twin, data.train.take(256).batch(slice(None))[0].numpy())
    for name, weights in lowering.registers.weights.items():
        np.testing.assert_array_equal(again.registers.weights[name].values, weights.values, err_msg=name)


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
