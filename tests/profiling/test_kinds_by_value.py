"""What a layer costs follows from the values that enter it, and from whether a synapse made them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from observed import counted, elements, entering, row_of, told, total
from spikingjelly.activation_based import functional, neuron
from torch import nn
from torch.nn import functional as F

from snn_energy.errors import SnnEnergyError
from snn_energy.profiling import profile

B, C, H, W, OUT = 3, 4, 6, 5, 7


def spikes(*shape: int, rate: float = 0.4, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class Between(nn.Module):
    """A neuron's spikes are changed by `change` before a convolution of kernel 1, whose fan-out is OUT."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.change = change
        self.lif, self.conv = neuron.IFNode(), nn.Conv2d(C, OUT, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = self.change(self.lif(2 * x))
        if s.dtype != torch.float32:
            s = s.float()
        return F.conv2d(s, self.conv.weight.repeat(1, s.shape[1] // C, 1, 1))


def cost(x: torch.Tensor) -> tuple[int, int]:
    """(AC, MAC) of a fan-out of OUT behind `x`: whole multiples, up to 15, of a unit are events."""
    values = sorted({abs(v) for v in x.double().flatten().tolist() if v})
    for parts in range(1, 16) if values else (1,):
        unit = (values[0] if values else 1.0) / parts
        if all(abs(v / unit - round(v / unit)) < 1e-5 and round(v / unit) <= 15 for v in values):
            if len(values) > 1 and parts > 1 and not all(float(v).is_integer() for v in values):
                break  # the unit is the smallest value
            if len(values) < 2:
                unit = values[0] if values else 1.0
            elif all(float(v).is_integer() for v in values):
                unit = float(math.gcd(*map(int, values)))
            return sum(round(abs(v) / unit) for v in x.flatten().tolist()) * OUT, 0
    return 0, x.numel() * OUT


def mask_of(s: torch.Tensor) -> torch.Tensor:
    return s.roll(1, -1) > 0


HALF = torch.tensor(0.37)
CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "index_fill": lambda s: s.index_fill(1, torch.tensor([1, 2]), 0.37),
    "index_fill_": lambda s: s.clone().index_fill_(1, torch.tensor([1, 2]), 0.37),
    "floor_divide": lambda s: torch.floor_divide(s * 5, 2),
    "nan_to_num": lambda s: torch.nan_to_num(s * 0.37 + 1),
    "masked_fill": lambda s: s.masked_fill(mask_of(s), 0.37),
    "masked_fill_": lambda s: s.clone().masked_fill_(mask_of(s), 0.37),
    "masked_fill keyword": lambda s: torch.masked_fill(input=s, mask=mask_of(s), value=0.37),
    "masked_fill 0-dim": lambda s: s.masked_fill(mask_of(s), HALF),
    "masked_fill 2": lambda s: s.masked_fill(mask_of(s), 2),
    "masked_fill 0": lambda s: s.masked_fill(mask_of(s), 0),
    "masked_fill -1": lambda s: s.masked_fill(mask_of(s), -1.0),
    "masked_fill True": lambda s: s.masked_fill(mask_of(s), True),
    "masked_fill of constants": lambda s: torch.zeros(B, C, H, W).masked_fill(s > 0, 3.0),
    "pad": lambda s: F.pad(s, (1, 0, 2, 1), value=0.37),
    "pad constant": lambda s: F.pad(s, (1, 2), mode="constant", value=1.0),
    "pad positional": lambda s: F.pad(s, (1, 2), "constant", 0.25),
    "pad reflect": lambda s: F.pad(s, (1, 2, 0, 1), mode="reflect"),
    "pad replicate": lambda s: F.pad(s, (1, 2, 0, 1), mode="replicate"),
    "pad circular": lambda s: F.pad(s, (1, 2, 0, 1), mode="circular"),
    "ConstantPad2d": lambda s: nn.ConstantPad2d((0, 1, 2, 0), 0.37)(s),
    "ZeroPad2d": lambda s: nn.ZeroPad2d((0, 1, 2, 0))(s),
    "where number first": lambda s: torch.where(mask_of(s), 0.37, s),
    "where number last": lambda s: torch.where(mask_of(s), s, 0.37),
    "where both numbers": lambda s: torch.where(s > 0, 0.37, 0.11),
    "where both numbers, events": lambda s: torch.where(s > 0, 2.0, 0.0),
    "where 0-dim": lambda s: torch.where(mask_of(s), HALF, s),
    "where constants": lambda s: torch.where(s > 0, torch.full((W,), 0.3), torch.zeros(W)),
    "where constant and spikes": lambda s: torch.where(mask_of(s), torch.ones(H, W), s),
    "where spikes and spikes": lambda s: torch.where(mask_of(s), s.flip(0), s),
    "where method": lambda s: s.where(mask_of(s), HALF),
    "where of integers": lambda s: torch.where(mask_of(s), s + s, s),
    "full": lambda s: s * torch.full((B, C, H, W), 0.37),
    "full added": lambda s: s + torch.full((), 0.37),
    "full_like": lambda s: torch.cat((s, torch.full_like(s, 0.37)), 1),
    "full_like where": lambda s: torch.where(mask_of(s), torch.full_like(s, 0.37), s),
    "new_full": lambda s: torch.stack((s, s.new_full(s.shape, 0.37)), 1).flatten(1, 2),
    "fill_": lambda s: torch.cat((s, s.clone().fill_(0.37)), 1),
    "setitem": lambda s: assigned(s, 0.37),
    "setitem 1": lambda s: assigned(s, 1),
    "setitem of a part": lambda s: assigned_part(s, 0.37),
    "slice assignment": lambda s: assigned_slice(s),
    "clamp min": lambda s: s.clamp(min=0.37),
    "clamp max": lambda s: torch.clamp(s, max=0.37),
    "clip": lambda s: (s + s.roll(1, 0)).clip(0, 1),
    "maximum": lambda s: torch.maximum(s, HALF),
    "threshold": lambda s: F.threshold(s, 0.5, 0.37),
    "cat": lambda s: torch.cat((s, torch.full((B, C, H, W), 0.37)), 1),
    "cat of zeros": lambda s: torch.cat((s, torch.zeros(B, C, H, W)), 1),
    "cat of integers": lambda s: torch.cat((s, s + s.flip(1)), dim=1),
    "hstack": lambda s: torch.hstack((s, torch.full((B, C, H, W), 0.5))),
    "scatter": lambda s: s.scatter(3, torch.zeros(B, C, H, 1, dtype=torch.long), 0.37),
    "scatter_": lambda s: s.clone().scatter_(3, torch.zeros(B, C, H, 1, dtype=torch.long), 2.0),
    "scatter of a tensor": lambda s: s.scatter(3, torch.zeros(B, C, H, 1, dtype=torch.long), s * 0.3),
    "index_put_": lambda s: s.clone().index_put_((torch.tensor([0, 2]),), HALF),
    "dropout": lambda s: F.dropout(s, 0.4, training=True),
    "dropout2d": lambda s: F.dropout2d(s, 0.4, training=True),
    "Dropout in training": lambda s: nn.Dropout(0.2).train()(s),
    "dropout in place": lambda s: F.dropout(s.clone(), 0.3, True, True),
    "dropout at inference": lambda s: F.dropout(s, 0.4, training=False),
    "dropout of integers": lambda s: F.dropout(s + s.roll(1, 0), 0.5, training=True),
    "scaled": lambda s: s * 0.37,
    "scaled by channel": lambda s: s * torch.tensor([0.5, 0.25, 0.3, 0.7]).view(C, 1, 1),
    "shifted": lambda s: s - 0.5,
    "inverted": lambda s: 1 - s,
    "logical": lambda s: torch.logical_not(s),
    "bool": lambda s: s.bool(),
    "bool and": lambda s: s.bool() & mask_of(s),
    "bool to int": lambda s: s.bool().int(),
    "int": lambda s: (s + s.flip(2)).int(),
    "uint8": lambda s: (s * 3).to(torch.uint8),
    "long product": lambda s: s.long() * 5 + s.flip(3).long() * 10,
    "half": lambda s: (s * 0.5).half(),
    "truncated": lambda s: (s * 2.7).long(),
    "sum": lambda s: s + s.roll(1, -2) + s.roll(2, -2),
    "difference": lambda s: s - s.roll(1, -2),
    "square": lambda s: (s + s.roll(1, 0)) ** 2,
    "max pool": lambda s: F.max_pool2d(s + s.roll(1, 0), 2),
    "max pool with padding": lambda s: F.max_pool2d(s - 2.0, 3, 2, 1),
    "average pool": lambda s: F.avg_pool2d(s, (3, 2)),
    "average pool of 16": lambda s: F.avg_pool2d(F.pad(s, (0, 3, 0, 2)), 4, 2),
    "nearest": lambda s: F.interpolate(s, scale_factor=2),
    "flipped": lambda s: s.flip(3),
    "sort": lambda s: s.gather(3, torch.arange(W).flip(0).expand(B, C, H, W)),
    "expand": lambda s: (s * 0.25)[:, :1].expand(B, C, H, W),
}


def assigned(s: torch.Tensor, value: float) -> torch.Tensor:
    s = s.clone()
    s[mask_of(s)] = value
    return s


def assigned_part(s: torch.Tensor, value: float) -> torch.Tensor:
    s = s.clone()
    s[0, 1, 2, 3] = value
    return s


def assigned_slice(s: torch.Tensor) -> torch.Tensor:
    s = s.clone()
    s[:, 1:3] = torch.linspace(0.1, 0.7, W)
    return s


class Recorded(Between):
    """Keeps what enters the convolution, where profiling does not put it back."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.kept = SimpleNamespace()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = self.change

        def keep(s: torch.Tensor) -> torch.Tensor:
            self.kept.seen = change(s)
            return self.kept.seen

        self.change = keep
        try:
            return super().forward(x)
        finally:
            self.change = change


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_of_spikes_keeps_a_kind_that_its_values_deny(change: str) -> None:
    net = Recorded(CHANGES[change])
    measured = counted(net, spikes(B, C, H, W))
    (row,) = [r for r in measured.rows if r.op == "conv2d"]
    assert (row.ac, row.mac) == cost(net.kept.seen)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: torch.cumsum(s, 3),
        lambda s: s.index_add(1, torch.tensor([1, 2]), s[:, :2], alpha=0.37),
        lambda s: s.lerp(s.roll(1, 0), 0.3),
        lambda s: torch.addcmul(s, s.roll(1, 0), s, value=0.2),
        lambda s: F.interpolate(s, scale_factor=2, mode="bilinear"),
        lambda s: torch.fmod(s * 5, 2),
        lambda s: torch.remainder(s * 5, 3),
        lambda s: F.alpha_dropout(s, 0.3, training=True),
        lambda s: torch.cumprod(s + 1, 1),
        lambda s: torch.fft.ifft(torch.fft.fft(s)).real,
    ],
)
def test_what_no_rule_covers_is_listed_and_read_by_value(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    net = Recorded(change)
    measured = profile(net, [spikes(B, C, H, W)])
    (row,) = [r for r in measured.rows if r.op == "conv2d"]
    assert measured.uncounted
    assert (row.ac, row.mac) == cost(net.kept.seen)


class Attention(nn.Module):
    """q·kᵀ of spikes, changed, times v: whole numbers, but currents."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.change = change
        self.lif = neuron.IFNode()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.lif(x * 2).split((6, 6, 5), -1)  # (B, N, …)
        return self.change(q @ k.mT) @ v


N = 8
CURRENTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "as it is": lambda a: a,
    "scaled": lambda a: a * 0.125,
    "scaled in place": lambda a: a.mul_(0.125),
    "divided": lambda a: a / 4,
    "negated": lambda a: -a,
    "added": lambda a: a + a.mT,
    "with a bias": lambda a: a + torch.ones(N),
    "with spikes": lambda a: a + (torch.arange(N) % 2),
    "relu": F.relu,
    "relu in place": lambda a: F.relu(a, inplace=True),
    "clamped": lambda a: a.clamp(0, 1),
    "average pool": lambda a: F.avg_pool1d(a, 3, 1, 1),
    "max pool": lambda a: F.max_pool1d(a, 3, 1, 1),
    "mean": lambda a: a.mean(0, keepdim=True).expand(B, N, N),
    "sum": lambda a: a.sum(1, keepdim=True).expand(B, N, N),
    "views": lambda a: a.reshape(-1, N).view(B, N, N).contiguous().mT.flip(1),
    "masked": lambda a: a.masked_fill(torch.ones(N, N).triu(1).bool(), 0),
    "where": lambda a: torch.where(torch.ones(N, N).tril().bool(), a, 0.0),
    "padded": lambda a: F.pad(a, (1, 0))[..., :N],
    "joined": lambda a: torch.cat((a[:, :3], torch.zeros(B, N - 3, N)), 1),
    "stacked": lambda a: torch.stack((a, torch.zeros(B, N, N)))[0],
    "written": lambda a: torch.zeros(B, N, N).copy_(a),
    "written in parts": lambda a: collected(a),
    "out": lambda a: torch.add(a, 1, out=torch.empty(B, N, N)),
    "half and back": lambda a: a.half().float(),
    "dropout at inference": lambda a: F.dropout(a, 0.5, False),
    "maximum": lambda a: torch.maximum(a, torch.ones(1)),
    "times spikes": lambda a: a * (torch.arange(N) % 2),
}


def collected(a: torch.Tensor) -> torch.Tensor:
    held = torch.zeros(B, N, N)
    for b in range(B):
        held[b] = a[b]
    return held


@pytest.mark.parametrize("change", CURRENTS)
def test_what_a_product_makes_is_a_current(change: str) -> None:
    net, x = Attention(CURRENTS[change]), spikes(B, N, 17)
    first, second = [r for r in counted(net, x).rows if r.op == "matmul"]
    q, k, v = x.split((6, 6, 5), -1)
    assert first.ac == int((q.sum(1) * k.sum(1)).sum()) and first.right_kind == "binary"
    assert (second.input_kind, second.right_kind) == ("real", "binary")
    assert (second.ac, second.mac) == (int(v.sum()) * N, 0)


AGAIN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "round": lambda a: torch.round(a / 3).clamp(0, 2),
    "floor": lambda a: (a / 2).floor(),
    "comparison": lambda a: (a > 1).float(),
    "sign": torch.sign,
    "heaviside": lambda a: torch.heaviside(a - 2, torch.ones(1)),
    "cast": lambda a: a.long().float(),
    "bool": lambda a: a.bool().float(),
    "where by comparison": lambda a: torch.where(a > 1, 2.0, 0.0),
    "logical": lambda a: torch.logical_and(a, a.mT).float(),
    "one hot": lambda a: F.one_hot(a.argmax(-1), N).float(),
    "neuron": neuron.IFNode(v_threshold=2.0),
}


@pytest.mark.parametrize("change", AGAIN)
def test_rounding_comparing_and_firing_make_events_of_a_current(change: str) -> None:
    net, x = Attention(AGAIN[change]), spikes(B, N, 17)
    _, second = [r for r in counted(net, x).rows if r.op == "matmul"]
    q, k, v = x.split((6, 6, 5), -1)
    functional.reset_net(net)
    a = net.change((q @ k.mT).clone())
    functional.reset_net(net)
    values = sorted({p for p in a.flatten().tolist() if p})
    unit = values[0] if len(values) == 1 else 1.0  # one value is its own unit
    assert a.any() and second.input_kind in ("binary", "scaled", "integer")
    assert (second.ac, second.mac) == (int(((a / unit).sum(1) * v.sum(2)).sum()), 0)


def test_currents_of_layers_are_real_whatever_their_values() -> None:
    """Whole weights make whole numbers of spikes: they are sums that no event carries."""
    net = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, OUT, bias=False))
    net[0].weight.data = spikes(5, 6)
    first, second = counted(net, spikes(B, 6, seed=3)).rows
    assert (first.mac, second.ac, second.mac) == (0, 0, B * 5 * OUT)


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(v)
        return (v >= 0.5).to(v)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        return v

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


class View(Same):
    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        return v.view_as(v)


class Levels(Same):
    @staticmethod
    def forward(ctx: Any, v: torch.Tensor, top: int) -> torch.Tensor:
        return torch.clamp(v * 3, 0, top).round()


class InPlace(Same):
    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        ctx.mark_dirty(v)
        return v.mul_(0.5)


class Pair(Same):
    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (v > 0.5).float(), v * 0.3


FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "step": Step.apply,
    "same": Same.apply,
    "view": View.apply,
    "levels": lambda z: Levels.apply(z, 4),
    "in place": lambda z: InPlace.apply(z.clone()),
    "pair": lambda z: Pair.apply(z)[0],
    "second of a pair": lambda z: Pair.apply(z)[1],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_autograd_functions_are_looked_into(name: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(9, 6), nn.Linear(6, OUT, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(FUNCTIONS[name](self.one(x)))

    torch.manual_seed(0)
    net, x = Net(), image(B, 9) * 2
    (z,) = entering(net, "two", lambda: net(x))
    row = row_of(counted(net, x, strict=True), "two")
    events = name in ("step", "levels", "pair")
    assert (row.ac, row.mac) == ((int(z.sum()) * OUT, 0) if events else (0, elements([z]) * OUT))


def scripted(x: torch.Tensor) -> torch.Tensor:
    return x * 0.5 + 0.1


SCRIPTED = torch.jit.script(scripted)
TRACED = torch.jit.trace(scripted, torch.ones(2, 3))
HIDDEN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "scripted": SCRIPTED,
    "traced": TRACED,
    "numpy": lambda x: torch.from_numpy(np.tanh(x.numpy())),
    "numpy, torch.tensor": lambda x: torch.tensor(np.sqrt(abs(np.asarray(x)))),
    "numpy, as_tensor": lambda x: torch.as_tensor(x.detach().cpu().numpy() + 1),
    "numpy of numbers": lambda x: torch.tensor((x.numpy() > 0.3).tolist()).float(),
    "tolist": lambda x: torch.tensor(x.tolist()),
    "tolist and back by hand": lambda x: torch.tensor([[2 * v for v in row] for row in x.tolist()]),
    "Tensor": lambda x: torch.Tensor(x.tolist()),
    "FloatTensor": lambda x: torch.FloatTensor(x.tolist()),
    "item": lambda x: torch.full(x.shape, x.mean().item()),
    "item, changed": lambda x: torch.full(x.shape, 2 * x.mean().item() + 1),
    "item, whole": lambda x: torch.full(x.shape, float((x > -9).sum())),
    "items": lambda x: torch.tensor([[v.item() for v in row] for row in x]),
    "floats": lambda x: torch.stack([torch.tensor([float(v) for v in row]) for row in x]),
    "integers": lambda x: torch.tensor([[int(40 * v) for v in row] for row in x]).float(),
    "dlpack": lambda x: torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x)),
    "from_dlpack": lambda x: torch.from_dlpack(x),
    "frombuffer": lambda x: torch.frombuffer(bytearray(x.numpy().tobytes()), dtype=torch.float32).view(
        x.shape
    ),
    "bytes": lambda x: (
        torch.frombuffer(bytearray(bytes(x.untyped_storage())), dtype=torch.float32).clone().view(x.shape)
    ),
    "new_tensor": lambda x: x.new_tensor(x.tolist()),
    "sparse": lambda x: x.to_sparse().to_dense(),
    "operator": lambda x: torch.ops.aten.sigmoid(x),
    "vmap": lambda x: torch.vmap(lambda r: r.cumsum(0))(x),
    "numpy in place": lambda x: in_numpy(x),
    "numpy in place, same bytes": lambda x: reversed_in_numpy(x),
    "fill from item": lambda x: torch.zeros(x.shape).fill_(x.mean().item()),
    "setitem from item": lambda x: set_by_items(x),
}


def in_numpy(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    np.multiply(y.numpy(), 0.5, out=y.numpy())
    return y


def reversed_in_numpy(x: torch.Tensor) -> torch.Tensor:
    y = (x > 0.5).float()
    y.view(-1)[: y.numel() // 2] = 0.0
    y.view(-1)[y.numel() // 2 :] = 1.0
    held = y.numpy()
    held[:] = 1 - held  # as many zeros as before
    return y


def set_by_items(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros(x.shape)
    for i, row in enumerate(x.tolist()):
        for j, value in enumerate(row):
            y[i, j] = value
    return y


class Hides(nn.Module):
    """`hide` takes the tensor at the start, in the middle or at the end of a network out of sight."""

    def __init__(self, hide: Callable[[torch.Tensor], torch.Tensor], where: str) -> None:
        super().__init__()
        self.hide, self.where = hide, where
        self.one, self.two = nn.Linear(2 * 9, 6), nn.Linear(6, OUT, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.where == "start":
            x = self.hide(x)
        z = torch.relu(self.one(x))
        if self.where == "middle":
            z = self.hide(z)
        y = self.two(z)
        return self.hide(y) if self.where == "end" else y


@pytest.mark.parametrize("where", ["start", "middle", "end"])
@pytest.mark.parametrize("name", HIDDEN)
def test_what_happens_out_of_sight_is_listed_and_strict_refuses(name: str, where: str) -> None:
    x = image(B, 18)
    measured = profile(Hides(HIDDEN[name], where), [x])
    for layer in ("one", "two"):
        row = row_of(measured, layer)
        assert row.mac == row.valid_macs or row.input_kind != "real"
    free = name in ("operator",)  # a rule covers it, whatever its spelling
    assert free or told(lambda: Hides(HIDDEN[name], where), x)


@pytest.mark.parametrize("whole", [False, True])
def test_a_scripted_part_or_the_whole_network_is_listed(whole: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch.jit.script(nn.Sequential(nn.Linear(9, 6), nn.ReLU()))
        net = (
            torch.jit.script(nn.Sequential(nn.Linear(9, 6), nn.ReLU()))
            if whole
            else nn.Sequential(part, nn.Linear(6, 4))
        )
    assert told(lambda: net, image(B, 9))


def test_a_compiled_network_is_listed_or_counted() -> None:
    net = nn.Sequential(nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 4, bias=False))
    compiled = torch.compile(net, backend="eager")
    x = image(B, 9)
    try:
        compiled(x)
    except Exception as error:  # no compiler for this Python or on this machine
        pytest.skip(f"torch.compile: {type(error).__name__}")
    measured = profile(compiled, [x])
    counts = sum(row.mac for row in measured.rows) == B * (9 * 6 + 6 * 4)
    assert counts or told(lambda: compiled, x)


OUTPUTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "tuple": lambda y: (y, None),
    "list": lambda y: [y, y * 2],
    "dict": lambda y: {"out": y, "aux": None, "name": "x"},
    "nested": lambda y: {"all": [y, (y, {"deep": y})]},
    "named": lambda y: torch.return_types.max((y, y)),
}


@pytest.mark.parametrize("form", OUTPUTS)
@pytest.mark.parametrize("hidden", [False, True])
def test_outputs_of_any_form_are_looked_at(form: str, hidden: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(9, OUT)

        def forward(self, x: torch.Tensor) -> Any:
            y = self.one(x)
            return OUTPUTS[form](SCRIPTED(y) if hidden else y)

    x = image(B, 9)
    if hidden:
        assert told(Net, x)
    else:
        assert total(counted(Net(), x, strict=True), "one", "mac") == B * 9 * OUT


@pytest.mark.parametrize("output", [None, 3.5, "label", [1, 2]])
def test_a_network_that_returns_no_tensor_is_counted_or_refused_by_name(output: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(9, OUT)

        def forward(self, x: torch.Tensor) -> Any:
            self.one(x)
            return output

    x = image(B, 9)
    try:
        measured = profile(Net(), [x])
    except SnnEnergyError:
        return
    assert total(measured, "one", "mac") == B * 9 * OUT


def test_decisions_of_python_are_no_operations() -> None:
    """`if`, `assert` and loops look at values; no tensor comes of that."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(9, 6), nn.Linear(6, OUT)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z, shift = self.one(x), torch.tensor(0.5).view(1)
            assert (z == z).all()
            if z.max() > 100 or not bool(x.any()) or x.mean().item() < 0 or int(z.argmax()) < 0:
                return x
            while z.abs().amax() > 1e9:
                z = z / 2
            return self.two(z + torch.zeros(6) + shift)

    measured = counted(Net(), image(B, 9), strict=True)
    assert total(measured, "two", "mac") == B * 6 * OUT
