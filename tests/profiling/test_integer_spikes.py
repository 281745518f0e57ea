"""An event of value k·a, |k| ≤ 15, is |k| unit events, whether a network divides its spikes by D or not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import brute
import pytest
import torch
from observed import counted, row_of
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn
from torch.nn import functional as F

from snn_energy.profiling import Profile, profile

T, B, OUT = 3, 4, 5
GRADES = [2, 3, 4, 8, 15]


def graded(*shape: int, top: int = 4, seed: int = 0, signed: bool = False) -> torch.Tensor:
    """Whole numbers 0…top, half of them zero, every one of them among the first."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, top + 1, shape, generator=draw) * (torch.rand(shape, generator=draw) < 0.5)
    x.view(-1)[: top + 1] = torch.arange(top + 1)
    if signed:
        x = x * torch.randint(0, 2, shape, generator=draw).mul(2).sub(1)
        x.view(-1)[1:3] = torch.tensor([-1, top])
    return x.float()


def reached(x: torch.Tensor, synapses) -> int:
    """Σ |x| over synapses, one by one."""
    return sum(abs(round(x[source].item())) for source, _ in synapses)


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv2d": (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 5, 4)),
    "conv2d-groups": (nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), (4, 3, 5)),
    "conv1d": (nn.Conv1d(2, 3, 3, padding=2, dilation=2), (2, 7)),
    "conv_transpose2d": (nn.ConvTranspose2d(2, 4, (2, 3), stride=2, padding=1, groups=2), (2, 3, 4)),
    "linear": (nn.Linear(6, OUT), (6,)),
}


def walk(name: str, layer: nn.Module, shape: tuple[int, ...], outputs: tuple[int, ...]):
    if name == "linear":
        return list(itertools.product(((i,) for i in range(shape[0])), range(OUT)))
    step = brute.transposed_synapses if "transpose" in name else brute.conv_synapses
    return list(
        step(shape, layer.weight.shape, layer.stride, layer.padding, layer.dilation, layer.groups, outputs)
    )


@pytest.mark.parametrize("scale", ["whole", "divided", "times 0.3"])
@pytest.mark.parametrize("top", [2, 4, 15])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_weights(name: str, top: int, scale: str) -> None:
    layer, shape = LAYERS[name]
    levels = graded(T, B, *shape, top=top)
    x = {"whole": levels, "divided": levels / top, "times 0.3": levels * 0.3}[scale]

    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.flatten(0, 1))

    row = row_of(counted(Folded(), x, batch_dim=1), "layer", (name.split("-")[0],))
    synapses = walk(name, layer, shape, tuple(layer(x[0]).shape[2:]))
    units = [[reached(levels[t, b], synapses) for b in range(B)] for t in range(T)]
    events = [[brute.count(levels[t, b], synapses)[0] for b in range(B)] for t in range(T)]
    assert (row.input_kind, row.mac) == ("integer", 0)
    assert row.ac == sum(map(sum, units)) and row.ac_by_step == tuple(map(sum, units))
    assert row.ac_square_sum == brute.squares(map(sum, zip(*units, strict=True)))
    assert row.ac_events == sum(map(sum, events))
    assert row.input_nonzero == int((levels != 0).sum()) and row.input_units == int(levels.sum())


@pytest.mark.parametrize("top", [16, 17, 40])
@pytest.mark.parametrize("divided", [False, True])
def test_beyond_fifteen_an_operand_is_real(top: int, divided: bool) -> None:
    x = graded(B, 19, top=15)
    x[0, 0] = top
    row = row_of(counted(nn.Sequential(nn.Linear(19, OUT)), x / top if divided else x), "0")
    assert (row.input_kind, row.ac, row.mac) == ("real", 0, B * 19 * OUT)


@pytest.mark.parametrize("top", GRADES)
def test_neurons_of_integers_before_and_after_a_division(top: int) -> None:
    class Net(nn.Module):
        T = T

        def __init__(self, divide: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.divide, self.seen = divide, SimpleNamespace()
            self.one = nn.Linear(6, 48)
            levels = surrogate.MultiLevelSpikeCount(max_spike_count=top)
            self.lif, self.two = (
                neuron.ILIFNode(surrogate_function=levels, step_mode="m"),
                nn.Linear(48, OUT, bias=False),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            functional.reset_net(self)
            levels = self.lif((self.one(x) * 2 * top).unsqueeze(0).repeat(T, 1, 1))
            self.seen.levels = levels
            return self.two(levels / top if self.divide else levels).mean(0)

    x = torch.rand(B, 6, generator=torch.Generator().manual_seed(1)) * 2
    rows = []
    for divide in (False, True):
        net = Net(divide)
        row = row_of(counted(net, x), "two")
        rows.append((row.ac, row.ac_by_step, row.ac_square_sum, row.ac_events, row.mac))
        assert row.ac == int(net.seen.levels.sum()) * OUT
    assert rows[0] == rows[1] and net.seen.levels.max() == top and (net.seen.levels == 1).any()


class Product(nn.Module):
    """(B, M, K) times (B, N, K)ᵀ, both cut from the input."""

    def __init__(self, form: str, left: float = 1.0, right: float = 1.0) -> None:
        super().__init__()
        self.form, self.left, self.right = form, left, right

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x[:, :3] * self.left, x[:, 3:] * self.right
        if self.form == "matmul":
            return a @ b.mT
        if self.form == "einsum":
            return torch.einsum("bmk,bnk->bmn", a, b)
        if self.form == "bmm":
            return torch.bmm(a, b.transpose(1, 2))
        return (b @ a.transpose(1, 2)).mT


@pytest.mark.parametrize("form", ["matmul", "einsum", "bmm", "reversed"])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.25, 1.0), (1.0, 0.125), (0.5, 0.2)])
@pytest.mark.parametrize("sides", ["both", "left", "right", "left, right real", "left real"])
def test_products_of_activations(form: str, scales: tuple[float, float], sides: str) -> None:
    m, n, k = 3, 5, 7
    x = graded(B, m + n, k)
    noise = torch.rand(B, m + n, k, generator=torch.Generator().manual_seed(5)) + 0.1
    if sides == "left":
        x[:, m:] = (x[:, m:] > 0).float()
    elif sides == "right":
        x[:, :m] = (x[:, :m] > 0).float()
    elif sides == "left, right real":
        x[:, m:] = noise[:, m:]
    elif sides == "left real":
        x[:, :m] = noise[:, :m]
    (row,) = [r for r in counted(Product(form, *scales), x).rows if r.op == "matmul"]
    both, left, right = [0] * B, [0] * B, [0] * B
    for s, i, j, c in itertools.product(range(B), range(m), range(n), range(k)):
        a, b = x[s, i, c].item(), x[s, m + j, c].item()
        both[s] += round(a * b) if "real" not in sides else 0
        left[s] += round(a)
        right[s] += round(b)
    expected = {"left, right real": left, "left real": right}.get(sides, both)
    assert (row.ac, row.mac) == (sum(expected), 0)
    assert row.ac_square_sum == brute.squares(expected)


def test_keys_times_values_and_queries() -> None:
    """KᵀV of integer spikes: products of units; Q of what that makes is one-sided."""

    class Linear(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = x.split((4, 4, 5), -1)
            return q @ (k.mT @ v * 0.125)

    x = graded(B, 6, 13, top=3)
    kv, qkv = [r for r in counted(Linear(), x).rows if r.op == "matmul"]
    q, k, v = x.split((4, 4, 5), -1)
    assert kv.ac == int((k.sum(2) * v.sum(2)).sum())
    assert kv.ac_events == int(((k != 0).sum(2) * (v != 0).sum(2)).sum())
    assert (qkv.ac, qkv.right_kind) == (int(q.sum()) * 5, "real")


@pytest.mark.parametrize("side", ["left", "right"])
def test_products_with_a_weight(side: str) -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(6, OUT) if side == "left" else torch.randn(OUT, 6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / 4 @ self.w if side == "left" else self.w @ (x / 4).mT

    x = graded(B, 3, 6)
    (row,) = [r for r in counted(Weighted(), x).rows if r.op == "matmul"]
    assert (row.ac, row.mac, row.ac_events) == (int(x.sum()) * OUT, 0, int((x != 0).sum()) * OUT)
    assert row.ac_square_sum == brute.squares(int(s.sum()) * OUT for s in x)


class Residual(nn.Module):
    """Sums of spikes, as in SEW-ResNets: 0…3 before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, OUT, (2, 3), bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = x.chunk(3, 1)
        y = a + b
        y += c
        return self.conv(y)


def test_sums_of_spikes() -> None:
    x = (torch.rand(B, 6, 5, 4, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    row = row_of(counted(Residual(), x), "conv")
    levels = sum(x.chunk(3, 1))
    synapses = list(brute.conv_synapses((2, 5, 4), (OUT, 2, 2, 3), (1, 1), (0, 0), (1, 1), 1, (4, 2)))
    assert (row.ac, row.input_kind) == (sum(reached(s, synapses) for s in levels), "integer")


@pytest.mark.parametrize("window", [(2, 2), (3, 2), (1, 3), (3, 5)])
def test_average_pools_of_spikes_hold_multiples(window: tuple[int, int]) -> None:
    x = (torch.rand(B, 2, 6, 10, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    x[0, 0] = 1.0
    x[1, 0] = 0.0
    x[1, 0, 0, 0] = 1.0
    pool = nn.AvgPool2d(window)
    net = nn.Sequential(pool, nn.Flatten(1), nn.LazyLinear(OUT, bias=False))
    net(x)
    row = row_of(counted(net, x), "2")
    units = (pool(x) * math.prod(window)).round()
    assert (row.ac, row.mac) == (int(units.sum()) * OUT, 0)


def test_an_average_pool_of_more_than_fifteen_is_real() -> None:
    x = (torch.rand(B, 1, 4, 8, generator=torch.Generator().manual_seed(4)) < 0.5).float()
    row = row_of(counted(nn.Sequential(nn.AvgPool2d(4), nn.Flatten(1), nn.Linear(2, OUT)), x), "2")
    assert (row.ac, row.mac) == (0, B * 2 * OUT)


FRAMES: dict[str, Callable[[], torch.Tensor]] = {
    "small": lambda: graded(T, B, 2, 4, 5, top=9),
    "large": lambda: graded(T, B, 2, 4, 5, top=3) * 29 + graded(T, B, 2, 4, 5, top=2, seed=8),
    "signed": lambda: graded(T, B, 2, 4, 5, top=40, signed=True),
    "ternary": lambda: graded(T, B, 2, 4, 5, top=1, signed=True),
    "binary": lambda: graded(T, B, 2, 4, 5, top=1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8])
@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("before", ["nothing", "max pool", "view", "sum of polarities", "merged frames"])
def test_declared_event_counts(frames: str, dtype: torch.dtype, before: str) -> None:
    """Counts of any size are unit events, in whatever type they come, behind what keeps them counts."""
    x = FRAMES[frames]()
    if dtype == torch.uint8:
        x = x.abs()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1 if before == "sum of polarities" else 2, 3, (2, 3), bias=False)
            self.seen = SimpleNamespace()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.float()
            x = x.sum(0) if before == "merged frames" else x.flatten(0, 1)
            if before == "max pool":
                x = F.max_pool2d(x, (1, 2), 1)
            elif before == "view":
                x = x.flip(-1).contiguous()
            elif before == "sum of polarities":
                x = (x[:, 0] + x[:, 1]).unsqueeze(1)
            self.seen.x = x
            return self.conv(x)

    net = Net()
    row = row_of(counted(net, x.to(dtype), batch_dim=1, input_kind="events"), "conv")
    seen = net.seen.x
    inputs, outputs = tuple(seen.shape[1:]), (seen.shape[2] - 1, seen.shape[3] - 2)
    synapses = list(brute.conv_synapses(inputs, net.conv.weight.shape, (1, 1), (0, 0), (1, 1), 1, outputs))
    assert (row.ac, row.mac) == (sum(reached(s, synapses) for s in seen), 0)
    assert row.ac_events == sum(brute.count(s, synapses)[0] for s in seen)


# -- units that differ from batch to batch ------------------------------------------------------------------

BATCHES: dict[str, list[tuple[float, ...]]] = {
    "one, then halves": [(1.0,), (0.5, 1.0)],
    "no unit of its own, then a quarter": [(0.5, 0.75), (0.25,)],
    "thirds and sixths": [(1 / 3, 2 / 3), (1 / 6,), (0.5,)],
    "silence between": [(2.0,), (), (1.0, 3.0)],
    "whole": [(4.0,), (6.0,), (10.0, 14.0)],
    "signs": [(-1.0, 1.0), (2.0,), (-3.0,)],
    "many": [(1.0,), (0.2,), (0.6, 0.8), (0.4,)],
}


def batch_of(values: tuple[float, ...], seed: int, *shape: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    choices = torch.tensor((0.0, *values))
    x = choices[torch.randint(0, len(choices), shape, generator=draw)]
    x.view(-1)[: len(choices)] = choices
    return x


class Both(nn.Module):
    """A layer and a product behind the same events."""

    T = T

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.linear, self.conv = nn.Linear(7, OUT, bias=False), nn.Conv1d(6, 2, 3, padding=1, bias=False)
        self.linear.weight.data[:, ::2] = 0.0
        self.conv.weight.data[:, 1] = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x.flatten(0, 1)).sum() + self.linear(x).sum()
        return (x[:, :, :2] @ x[:, :, 2:].mT).mean((0, 3)) + y


def unit_of(batches: list[tuple[float, ...]]) -> float:
    values = {abs(v) for batch in batches for v in batch}
    for parts in range(1, 16):
        unit = min(values) / parts
        if all(abs(v / unit - round(v / unit)) < 1e-4 for v in values):
            return unit
    raise AssertionError(values)


def numbers(measured: Profile) -> dict[str, tuple]:
    fields = (
        "ac", "ac_by_step", "ac_square_sum", "ac_events", "mac", "ac_unpruned", "ac_events_unpruned",
        "ac_coincident", "ac_one_sided", "input_units", "right_units", "input_nonzero", "input_kind",
        "right_kind",
    )  # fmt: skip
    return {
        f"{r.name}.{r.op}": tuple(getattr(r, f) for f in fields)
        for r in measured.rows
        if r.op in ("linear", "conv1d", "matmul")
    }


@pytest.mark.parametrize("name", BATCHES)
def test_units_that_differ_from_batch_to_batch(name: str, tmp_path: Path) -> None:
    """Order of batches, division into shards, and files in between change no integer."""
    batches = [batch_of(values, seed, T, B, 6, 7) for seed, values in enumerate(BATCHES[name])]
    unit = unit_of(BATCHES[name])
    net = Both()
    whole = numbers(counted(net, *batches, batch_dim=1))
    linear = whole["linear.linear"]
    per_sample = [round(float(x[:, b].double().abs().sum()) / unit) * OUT for x in batches for b in range(B)]
    per_step = [round(sum(float(x[t].double().abs().sum()) for x in batches) / unit) * OUT for t in range(T)]
    assert (linear[0], linear[1], linear[2], linear[4]) == (
        sum(per_sample),
        tuple(per_step),
        brute.squares(per_sample),
        0,
    )
    pairs = 0
    for x in batches:
        k = x.double().abs() / unit
        pairs += round(float((k[:, :, :2].sum(2) * k[:, :, 2:].sum(2)).sum()))
    assert whole[".matmul"][0] == pairs
    kept = sum(round(float(x[..., 1::2].double().abs().sum() / unit)) for x in batches) * OUT
    assert linear[5] == kept

    for order in itertools.permutations(batches):
        assert numbers(counted(net, *order, batch_dim=1)) == whole
        shards = [counted(net, x, batch_dim=1) for x in order]
        assert numbers(Profile.merge(shards)) == whole
        files = []
        for i, shard in enumerate(shards):
            shard.save(tmp_path / f"{i}.json")
            files.append(Profile.load(tmp_path / f"{i}.json"))
        assert numbers(Profile.merge(files)) == whole
        if len(files) > 2:
            assert numbers(Profile.merge([Profile.merge(files[:2]), *files[2:]])) == whole
            assert numbers(Profile.merge([files[0], Profile.merge(files[1:])])) == whole
        if len(batches) > 3:
            break


class Added(nn.Module):
    """Additions, sums and pools, whose operands are looked at only while they may be events."""

    T = T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x[:, :, :2] + x[:, :, 2:4]
        pooled = F.avg_pool1d(x[:, :, 4:].flatten(0, 1), 2).unflatten(0, (T, -1))
        return (y[..., :3] - pooled).sum(3).mean((0, 2))


@pytest.mark.parametrize("name", BATCHES)
def test_additions_and_sums_of_units_that_differ(name: str) -> None:
    batches = [batch_of(values, seed, T, B, 6, 7) for seed, values in enumerate(BATCHES[name])]
    fields = ("ac", "ac_by_step", "ac_square_sum", "input_kind", "right_kind", "input_nonzero", "counts")

    def of(measured: Profile) -> list[tuple]:
        return [tuple(getattr(r, f) for f in fields) for r in measured.rows]

    whole = of(counted(Added(), *batches, batch_dim=1))
    both = sum(int(((x[:, :, :2] != 0) & (x[:, :, 2:4] != 0)).sum()) for x in batches)
    assert whole[0][0] == both
    for order in itertools.islice(itertools.permutations(batches), 6):
        assert of(counted(Added(), *order, batch_dim=1)) == whole
        assert of(Profile.merge([counted(Added(), x, batch_dim=1) for x in order])) == whole


@pytest.mark.parametrize("last", [(0.37,), (16.0,), (1 / 31, 1.0)])
def test_a_unit_once_lost_is_lost_in_any_order(last: tuple[float, ...]) -> None:
    batches = [batch_of(values, seed, T, B, 6, 7) for seed, values in enumerate([(1.0,), (1.0, 2.0), last])]
    net = Both()
    found = [numbers(counted(net, *order, batch_dim=1)) for order in itertools.permutations(batches)]
    found += [
        numbers(Profile.merge([counted(net, x, batch_dim=1) for x in order]))
        for order in itertools.permutations(batches)
    ]
    assert all(f == found[0] for f in found)
    assert found[0]["linear.linear"][4] == 3 * T * B * 6 * 7 * OUT


def test_events_of_several_steps_in_a_loop_have_one_unit() -> None:
    """A row meets {1} at one step and {0.25, 0.5} at the next."""

    class Loop(nn.Module):
        T = 2

        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(1, 2, (2, 1), bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.one(x[:, 0]) + self.one(x[:, 1])

    x = torch.stack((graded(B, 1, 3, 4, top=1), graded(B, 1, 3, 4, top=2) / 4), 1)
    row = row_of(profile(Loop(), [x], batch_dim=0), "one")
    synapses = list(brute.conv_synapses((1, 3, 4), (2, 1, 2, 1), (1, 1), (0, 0), (1, 1), 1, (2, 4)))
    units = [[reached(s * 4, synapses) for s in x[:, t]] for t in range(2)]
    assert (row.ac, row.ac_by_step) == (sum(map(sum, units)), tuple(map(sum, units)))
    assert row.ac_square_sum == brute.squares(map(sum, zip(*units, strict=True)))
