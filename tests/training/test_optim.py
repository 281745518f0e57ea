"""Optimizers and schedules against timm's own trainers' numbers and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from snn_energy.training.optim import batches_per_epoch, clip_gradients, make_optimizer, make_schedule
from snn_energy.training.recipe import Recipe, recipe_from_dict


def recipe(**fields: object) -> Recipe:
    return recipe_from_dict({"name": "r", "model": "statten", "data": "x", **fields})


def rates(fields: dict, steps: int) -> list[float]:
    """The learning rate of every optimizer step of a run."""
    told = recipe(**fields)
    model = nn.Linear(2, 3)
    optimizer = make_optimizer(told, model)
    schedule = make_schedule(told, optimizer, steps)
    found = []
    for update in range(told.total_epochs * steps):
        schedule.step_update(update)
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        found.append(optimizer.param_groups[0]["lr"])
    return found


CIFAR = {"lr": 3e-4, "min_lr": 1e-5, "warmup_epochs": 20, "warmup_lr": 1e-6, "warmup_prefix": False,
         "epochs": 200, "cooldown_epochs": 10, "schedule_per": "epoch"}  # fmt: skip


def test_the_official_cifar_run() -> None:
    """What the official trainer's log says: per epoch, 210 of them."""
    found = rates(CIFAR, 3)
    assert len(found) == 210 * 3
    assert all(len({*found[3 * e : 3 * e + 3]}) == 1 for e in range(210))
    epochs = found[::3]
    for epoch, lr in (
        (0, 1e-6),
        (1, 1.595e-5),
        (19, 2.8505e-4),
        (20, 2.929e-4),
        (100, 1.55e-4),
        (200, 1e-5),
        (209, 1e-5),
    ):
        assert epochs[epoch] == pytest.approx(lr, rel=2e-4)


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("per", ["step", "epoch"])
def test_warm_up_cosine_and_cool_down_in_closed_form(prefix: bool, per: str) -> None:
    steps, lr, low, start = 5, 0.2, 0.01, 0.03
    fields = {"lr": lr, "min_lr": low, "warmup_lr": start, "warmup_epochs": 3, "epochs": 9,
              "cooldown_epochs": 2, "warmup_prefix": prefix, "schedule_per": per}  # fmt: skip
    unit = 1 if per == "epoch" else steps
    for update, found in enumerate(rates(fields, steps)):
        t = update // steps if per == "epoch" else update
        warm, whole = 3 * unit, 9 * unit
        if t < warm:
            expected = start + (lr - start) * t / warm
        elif t >= whole:
            expected = low
        else:
            share = (t - warm) / (whole - warm) if prefix else t / whole
            expected = low + (lr - low) * (1 + math.cos(math.pi * share)) / 2
        assert found == pytest.approx(expected, rel=1e-9), update


def test_it_agrees_with_timms_factory() -> None:
    from timm.scheduler import create_scheduler_v2

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-4)
    theirs, epochs = create_scheduler_v2(
        optimizer, num_epochs=200, warmup_epochs=20, warmup_lr=1e-6, min_lr=1e-5, cooldown_epochs=10
    )
    assert epochs == 210
    found = rates(CIFAR, 1)
    for epoch in range(epochs):
        theirs.step(epoch)
        assert found[epoch] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


def test_a_constant_rate_warms_up() -> None:
    found = rates({"schedule": "constant", "lr": 0.5, "min_lr": 0.1, "warmup_epochs": 1, "epochs": 3}, 4)
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4] + [0.5] * 8)


@pytest.mark.parametrize(
    ("fields", "kind", "expected"),
    [
        ({"optimizer": "adamw"}, torch.optim.AdamW, {"betas": (0.9, 0.999), "eps": 1e-8}),
        ({"optimizer": "adamw", "opt_eps": 1e-6, "opt_betas": [0.8, 0.95]}, torch.optim.AdamW,
         {"betas": (0.8, 0.95), "eps": 1e-6}),
        ({"optimizer": "sgd"}, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ({"optimizer": "sgd", "nesterov": False, "opt_eps": 1e-3}, torch.optim.SGD, {"nesterov": False}),
        ({"optimizer": "sgd", "momentum": 0.0}, torch.optim.SGD, {"nesterov": False, "momentum": 0.0}),
        ({"optimizer": "lamb"}, None, {"betas": (0.9, 0.999), "eps": 1e-6}),
    ],
)  # fmt: skip
def test_optimizers_and_what_decays(fields: dict, kind: type | None, expected: dict) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    optimizer = make_optimizer(recipe(**fields, weight_decay=0.3, lr=0.25), model)
    assert kind is None or type(optimizer) is kind
    assert type(optimizer).__name__.lower() == fields["optimizer"]
    decays = {tuple(p.shape): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays == {(3, 2, 1, 1): 0.3, (3,): 0.0}
    for group in optimizer.param_groups:
        assert {key: group[key] for key in expected} == expected and group["lr"] == 0.25


def test_lamb_takes_the_step_of_its_equations() -> None:
    """You et al., ICLR 2020, at the first step: Adam's direction, as long as the weights times the rate."""
    weight = nn.Parameter(torch.tensor([[3.0, -4.0]]))
    module = nn.Module()
    module.weight = weight
    optimizer = make_optimizer(recipe(optimizer="lamb", lr=0.1, weight_decay=0.5), module)
    weight.grad = torch.tensor([[0.2, -0.1]])
    optimizer.step()
    direction = torch.tensor([[1.0, -1.0]]) + 0.5 * torch.tensor([[3.0, -4.0]])
    expected = torch.tensor([[3.0, -4.0]]) - 0.1 * 5.0 * direction / direction.norm()
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-4)


def test_clipping() -> None:
    def gradients(**fields: object) -> torch.Tensor:
        weight = nn.Parameter(torch.ones(4, 1))
        weight.grad = torch.tensor([[3.0], [4.0], [0.0], [0.0]])
        clip_gradients(recipe(**fields), [weight])
        return weight.grad.flatten()

    assert gradients().tolist() == [3, 4, 0, 0]
    torch.testing.assert_close(gradients(clip_grad=1.0), torch.tensor([0.6, 0.8, 0, 0]), rtol=1e-4, atol=1e-4)
    assert gradients(clip_grad=3.5, clip_mode="value").tolist() == [3, 3.5, 0, 0]
    torch.testing.assert_close(gradients(clip_grad=0.5, clip_mode="agc"), torch.tensor([0.5, 0.5, 0, 0]))


def test_steps_of_an_epoch() -> None:
    counts = [
        batches_per_epoch(recipe(batch_size=64, drop_last=last), n)
        for last in (False, True)
        for n in (640, 650, 9)
    ]
    assert counts == [10, 11, 1, 10, 10, 1]
    assert batches_per_epoch(recipe(batch_size=64, drop_last=True), 650, 3) == 3
