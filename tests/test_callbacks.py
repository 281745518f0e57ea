"""Energy after each epoch: the numbers of a profile, written where they are wanted, and nothing disturbed."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import snn_energy
from snn_energy.callbacks import EnergyLogger
from snn_energy.errors import ConfigError


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(3)
    fields = {"in_channels": 1, "num_classes": 3, "embed_dims": 8, "num_heads": 2, "depths": 1, "T": 2}
    return snn_energy.create_model("statten", **fields, chunk_size=2, pooling_stat="0011")


@pytest.fixture
def samples() -> torch.Tensor:
    return 3 * torch.randn(3, 1, 8, 12, generator=torch.Generator().manual_seed(4))


def test_values_are_those_of_a_profile(model: nn.Module, samples: torch.Tensor) -> None:
    y = torch.tensor([0, 2, 1])
    logger = EnergyLogger([(samples, y)], convention="sdt")
    values = logger(model, 0)
    profile = snn_energy.profile(model, [(samples, y)])
    energy = profile.energy("sdt")
    assert (values["energy_mj"], values["ac"], values["mac"]) == (energy.mj, energy.ac, energy.mac)
    assert values["accuracy"] == profile.accuracy
    fired = sum(row.output_nonzero for row in profile.neurons)
    assert values["firing_rate"] == fired / sum(row.output_elements for row in profile.neurons)
    assert {name for name in values if name.startswith("rate/")} == {
        f"rate/{r.name}" for r in profile.neurons
    }
    assert logger.history == [{"epoch": 0.0, **values}] and logger.profile.rows == profile.rows


def test_training_goes_on_as_if_nobody_had_looked(model: nn.Module, samples: torch.Tensor) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    EnergyLogger([samples])(model, 0)
    assert model.training and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_every_kind_of_writer_gets_the_values(
    model: nn.Module, samples: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    scalars: dict[tuple[str, int], float] = {}
    lines: list[Any] = []
    board = SimpleNamespace(add_scalar=lambda name, value, step: scalars.__setitem__((name, step), value))
    run = SimpleNamespace(log=lines.append)
    told: list[Any] = []
    logger = EnergyLogger([samples], to=[board, run, lambda *given: told.append(given)], every=2)
    assert [bool(logger(model, epoch)) for epoch in range(3)] == [True, False, True]
    assert {step for _, step in scalars} == {0, 2} and [line["epoch"] for line in lines] == [0, 2]
    assert scalars["snn/energy_mj", 2] == lines[1]["snn/energy_mj"] == told[1][0]["snn/energy_mj"] > 0
    wandb = ModuleType("wandb")
    wandb.run = SimpleNamespace(log=lines.append)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    EnergyLogger([samples])(model, 7)
    assert lines[-1]["epoch"] == 7


def test_lightning_calls_it_as_one_of_its_own(
    model: nn.Module, samples: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Callback:
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None: ...
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None: ...
        def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None: ...

    lightning = ModuleType("pytorch_lightning")
    lightning.Callback = Callback  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytorch_lightning", lightning)
    monkeypatch.delitem(sys.modules, "lightning.pytorch", raising=False)
    logger = EnergyLogger([samples], module="net")
    assert isinstance(logger, Callback) and isinstance(logger, EnergyLogger)

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.logged = model, []

        def log_dict(self, values: dict[str, float], **options: Any) -> None:
            self.logged.append(values)

    wrapper, trainer = Wrapper(), SimpleNamespace(current_epoch=0, sanity_checking=True)
    logger.on_validation_epoch_end(trainer, wrapper)
    assert not wrapper.logged
    trainer.sanity_checking = False
    with torch.inference_mode():  # as Lightning validates
        logger.on_validation_epoch_end(trainer, wrapper)
    logger.on_train_epoch_end(trainer, wrapper)  # the same epoch: once is enough
    trainer.current_epoch = 1
    logger.on_train_epoch_end(trainer, wrapper)  # no validation in this one
    assert [set(values) for values in wrapper.logged] == [
        {f"snn/{name}" for name in logger.history[0] if name != "epoch"}
    ] * 2
    assert not isinstance(_without(monkeypatch, samples), Callback)


def _without(monkeypatch: pytest.MonkeyPatch, samples: torch.Tensor) -> EnergyLogger:
    monkeypatch.delitem(sys.modules, "pytorch_lightning")
    return EnergyLogger([samples])


def test_mistakes_are_named(model: nn.Module, samples: torch.Tensor) -> None:
    for options, message in (
        ({"every": 0}, "every = 0"),
        ({"convention": "exakt"}, "did you mean 'exact'"),
        ({"to": 3}, "must have add_scalar"),
    ):
        with pytest.raises(ConfigError, match=message):
            EnergyLogger([samples], **options)
    with pytest.raises(ConfigError, match="module = 'nett'"):
        EnergyLogger([samples], module="nett")(nn.Sequential(model), 0)
