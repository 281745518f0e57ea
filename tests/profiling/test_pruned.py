"""Operations over nonzero weights, synapse by synapse."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import brute
import pytest
import torch
import torch.nn.utils.prune
from observed import counted, row_of
from spikingjelly.activation_based import neuron
from torch import nn
from torch.nn import functional as F

from snn_energy.profiling import Profile, profile

B, OUT = 3, 5


def prune(weight: torch.Tensor, share: float = 0.6, seed: int = 0) -> torch.Tensor:
    """Zeros in a weight, in place, at no regular places."""
    gone = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < share
    weight.data[gone] = 0.0
    return weight


def operand(kind: str, *shape: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(7)
    x = (torch.rand(shape, generator=draw) < 0.5).float()
    if kind == "graded":
        x = x * torch.randint(1, 4, shape, generator=draw) / 4
        x.view(-1)[:3] = torch.tensor([0.25, 0.5, 0.75])
    elif kind == "real":
        x = x * (torch.rand(shape, generator=draw) + 0.1)
    return x


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, OUT), (6,)),
    "linear, rows": (lambda: nn.Linear(6, OUT, bias=False), (2, 6)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3, stride=2, padding=1), (2, 7)),
    "conv2d": (lambda: nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 1)), (2, 6, 5)),
    "conv2d, groups": (lambda: nn.Conv2d(4, 6, (2, 3), padding=1, groups=2), (4, 3, 5)),
    "conv2d, depthwise": (lambda: nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False), (3, 4, 5)),
    "conv2d, same": (lambda: nn.Conv2d(2, 3, (5, 3), dilation=(1, 2), padding="same"), (2, 4, 7)),
    "conv3d": (lambda: nn.Conv3d(2, 3, (2, 1, 2), padding=(1, 0, 0)), (2, 3, 4, 2)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1, output_padding=1), (2, 5)),
    "conv_transpose2d": (
        lambda: nn.ConvTranspose2d(4, 6, (3, 2), stride=2, padding=(1, 0), groups=2),
        (4, 3, 2),
    ),
}


def synapses_of(layer: nn.Module, shape: tuple[int, ...], outputs: tuple[int, ...]) -> list[tuple]:
    """(input index, is the weight nonzero) of every synapse: the unit response of each input, tap by tap."""
    found = []
    kept = (layer.weight != 0).double()
    bias = None
    for index in itertools.product(*map(range, shape)):
        x = torch.zeros(1, *shape, dtype=torch.float64)
        x[(0, *index)] = 1.0
        reach = []
        for weight in (torch.ones_like(kept), kept):
            if isinstance(layer, nn.Linear):
                y = F.linear(x, weight, bias)
            elif "Transpose" in type(layer).__name__:
                function = getattr(F, f"conv_transpose{len(shape) - 1}d")
                y = function(
                    x,
                    weight,
                    bias,
                    layer.stride,
                    layer.padding,
                    layer.output_padding,
                    layer.groups,
                    layer.dilation,
                )
            else:
                function = getattr(F, f"conv{len(shape) - 1}d")
                y = function(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
            reach.append(round(float(y.sum())))
        found.append((index, *reach))
    return found


@pytest.mark.parametrize("kind", ["binary", "graded", "real"])
@pytest.mark.parametrize("share", [0.6, 1.0, 0.0])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_pruned_weights(name: str, share: float, kind: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    prune(layer.weight, share)
    x = operand(kind, B, *shape)
    row = row_of(counted(nn.Sequential(layer), x), "0", (name.split(",")[0],))
    fans = synapses_of(layer, shape, tuple(layer(x).shape[1:]))
    events = every = units = valid = kept_units = kept = kept_valid = 0
    for s in x:
        for index, fan, kept_fan in fans:
            value = s[index].item()
            units += round(abs(value) * 4) * fan
            kept_units += round(abs(value) * 4) * kept_fan
            events += (value != 0) * fan
            kept += (value != 0) * kept_fan
            valid += fan
            kept_valid += kept_fan
            every += 1
    if kind == "real":
        assert (row.ac, row.mac, row.mac_nonzero) == (0, valid, events)
        assert (row.ac_unpruned, row.ac_events_unpruned) == (0, 0)
        assert (row.mac_unpruned, row.mac_nonzero_unpruned) == (kept_valid, kept)
    else:
        graded = kind == "graded"
        assert (row.ac, row.ac_events, row.mac) == (units if graded else events, events, 0)
        assert (row.ac_unpruned, row.ac_events_unpruned) == (kept_units if graded else kept, kept)
        assert (row.mac_unpruned, row.mac_nonzero_unpruned) == (0, 0)
    if share == 1.0:
        assert row.ac_unpruned == row.mac_unpruned == row.mac_nonzero_unpruned == row.ac_events_unpruned == 0
    if share == 0.0:
        assert (row.ac_unpruned, row.ac_events_unpruned) == (row.ac_executed, row.ac_events)
        assert (row.mac_unpruned, row.mac_nonzero_unpruned) == (row.mac_executed, row.mac_nonzero)
    assert every == x.numel()


class Weighted(nn.Module):
    """A matrix product with a weight on one side."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.w = nn.Parameter(torch.randn(4, 6) if form in ("left", "einsum") else torch.randn(6, 4))
        prune(self.w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (B, 2, 6)."""
        return {
            "right": lambda: x @ self.w,
            "left": lambda: self.w @ x.mT,
            "einsum": lambda: torch.einsum("btk,nk->btn", x, self.w),
            "mm": lambda: torch.mm(x.flatten(0, 1), self.w),
            "addmm": lambda: torch.addmm(torch.zeros(4), x.flatten(0, 1), self.w),
            "bmm": lambda: torch.bmm(x, self.w.expand(len(x), 6, 4)),
            "tensor": lambda: F.linear(x, self.w.t()),
        }[self.form]()


@pytest.mark.parametrize("kind", ["binary", "graded", "real"])
@pytest.mark.parametrize("form", ["right", "left", "einsum", "mm", "addmm", "bmm", "tensor"])
def test_products_with_a_pruned_weight(form: str, kind: str) -> None:
    net, x = Weighted(form), operand(kind, B, 2, 6)
    w = net.w if form in ("left", "einsum") else net.w.T  # (4, 6)
    (row,) = [r for r in counted(net, x).rows if r.op in ("matmul", "linear")]
    units = events = kept_units = kept = valid = kept_valid = 0
    for b, t, k, n in itertools.product(range(B), range(2), range(6), range(4)):
        value, there = x[b, t, k].item(), w[n, k].item() != 0
        units += round(value * 4)
        events += value != 0
        kept_units += round(value * 4) * there
        kept += (value != 0) * there
        valid += 1
        kept_valid += there
    if kind == "real":
        assert (row.mac, row.mac_unpruned, row.mac_nonzero_unpruned) == (valid, kept_valid, kept)
        assert row.ac_unpruned == 0
    else:
        assert (row.ac, row.ac_events) == ((units if kind == "graded" else events), events)
        assert row.ac_unpruned == (kept_units if kind == "graded" else kept)
        assert row.ac_events_unpruned == kept


@pytest.mark.parametrize("kind", ["binary", "graded", "real"])
def test_no_zeros_no_difference(kind: str) -> None:
    """Every row of a network without a zero weight has its columns twice."""

    class Net(nn.Module):
        T = 2

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lif = nn.Conv2d(2, 3, 3, padding=1), neuron.IFNode(step_mode="m")
            self.head, self.w = nn.Linear(3 * 4 * 5, 6), nn.Parameter(torch.rand(6, OUT) + 0.1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x.repeat(2, 1, 1, 1)).unflatten(0, (2, -1))
            s = self.lif(y * 3).flatten(2)
            return (torch.softmax(self.head(s), -1) @ self.w).mean(0)

    for row in counted(Net(), operand(kind, B, 2, 4, 5)).rows:
        assert row.ac_unpruned == row.ac_executed, row.op
        assert row.ac_events_unpruned == row.ac_events, row.op
        assert row.mac_unpruned == row.mac_executed, row.op
        assert row.mac_nonzero_unpruned == row.mac_nonzero, row.op


WAYS: dict[str, Callable[[nn.Linear], None]] = {
    "data item": lambda m: m.weight.data.__setitem__((slice(None), 1), 0.0),
    "data.mul_": lambda m: m.weight.data.mul_((torch.arange(6) > 2).float()),
    "data =": lambda m: setattr(m.weight, "data", m.weight.data * (torch.arange(6) > 2)),
    "new parameter": lambda m: setattr(m, "weight", nn.Parameter(m.weight * (torch.arange(6) > 2))),
    "numpy": lambda m: m.weight.detach().numpy().__setitem__((0, slice(None)), 0.0),
    "copy_": lambda m: m.weight.detach().copy_(m.weight * (torch.arange(6) > 2)),
    "load_state_dict": lambda m: m.load_state_dict({"weight": m.weight * (torch.arange(6) > 3)}),
    "prune": lambda m: nn.utils.prune.l1_unstructured(m, "weight", 0.5) and None,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("back", [False, True])
def test_weights_changed_between_two_profiles(way: str, back: bool) -> None:
    layer = nn.Linear(6, OUT, bias=False)
    net, x = nn.Sequential(layer), operand("binary", B, 6)
    whole = layer.weight.detach().clone()
    before = row_of(counted(net, x), "0")
    assert before.ac_unpruned == before.ac
    WAYS[way](layer)
    after = row_of(counted(net, x), "0")
    kept = (layer.weight != 0).double()
    assert after.ac == before.ac
    assert after.ac_unpruned == int(F.linear(x.double(), kept).sum()) < after.ac
    if back and way != "prune":
        layer.weight.data = whole
        assert row_of(counted(net, x), "0").ac_unpruned == before.ac


class Loop(nn.Module):
    """One line of code, several weights, of which only some have zeros."""

    T = 1

    def __init__(self, order: tuple[int, ...], conv: bool) -> None:
        super().__init__()
        shape = (4, 2, 2, 3) if conv else (OUT, 6)
        self.conv, self.order = conv, order
        self.w = nn.ParameterList(torch.rand(shape) + 0.1 for _ in range(3))
        prune(self.w[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        call = F.conv2d if self.conv else F.linear
        out = 0
        for i in self.order:
            out = out + call(x, self.w[i])
        return out


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("kind", ["binary", "graded", "real"])
def test_one_site_with_dense_and_pruned_weights(order: tuple[int, ...], conv: bool, kind: str) -> None:
    net = Loop(order, conv)
    x = operand(kind, B, *((2, 4, 5) if conv else (6,)))
    measured = counted(net, x, x.roll(1, -1))
    (row,) = [r for r in measured.rows if r.op in ("linear", "conv2d")]
    call = F.conv2d if conv else F.linear
    units = (x * 4).round() if kind == "graded" else (x != 0).float()
    kept = [(w != 0).double() for w in net.w]
    batches = [units, units.roll(1, -1)]
    nonzero = sum(int(call((u != 0).double(), w).sum()) for u in batches for w in kept)
    if kind == "real":
        valid = sum(int(call(torch.ones_like(u).double(), w).sum()) for u in batches for w in kept)
        assert (row.mac_unpruned, row.mac_nonzero_unpruned) == (valid, nonzero)
    else:
        assert row.ac_unpruned == sum(int(call(u.double(), w).sum()) for u in batches for w in kept)
        assert row.ac_events_unpruned == nonzero


@pytest.mark.parametrize("kind", ["binary", "graded", "real"])
def test_batches_shards_and_files_give_the_same_integers(kind: str, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.Flatten(1), nn.Linear(28, OUT))
    prune(net[0].weight)
    prune(net[2].weight, 0.8)
    x = operand(kind, 6, 2, 7)
    fields = ("ac", "mac", "ac_unpruned", "ac_events_unpruned", "mac_unpruned", "mac_nonzero_unpruned")
    whole = [[getattr(r, f) for f in fields] for r in counted(net, x).rows]
    parts = [counted(net, part) for part in x.split((1, 3, 2))]
    for i, part in enumerate(parts):
        part.save(tmp_path / f"{i}.json")
    files = [Profile.load(tmp_path / f"{i}.json") for i in range(3)]
    for measured in (counted(net, *x.split((2, 1, 3))), Profile.merge(parts), Profile.merge(files[::-1])):
        assert [[getattr(r, f) for f in fields] for r in measured.rows] == whole


def test_a_dense_shard_and_a_pruned_one_add_up() -> None:
    """Weights pruned while samples go by: each part is counted with the weights that it met."""
    net, x = nn.Sequential(nn.Linear(6, OUT, bias=False)), operand("binary", B, 6)
    dense = counted(net, x)
    prune(net[0].weight)
    sparse = counted(net, x)
    kept = row_of(dense, "0").ac + row_of(sparse, "0").ac_unpruned
    for parts in ([dense, sparse], [sparse, dense]):
        assert row_of(Profile.merge(parts), "0").ac_unpruned == kept


@pytest.mark.parametrize("shape", [(6,), (1, 6), (2, 3, 6)])
def test_linear_layers_on_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(6, OUT, bias=False)
            prune(self.one.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.one(s) for s in x])

    net, x = Net(), operand("binary", B, *shape)
    row = row_of(counted(net, x), "one")
    assert row.ac_unpruned == int(F.linear(x.double(), (net.one.weight != 0).double()).sum())


def test_neurobench_charges_nonzero_inputs_times_nonzero_weights() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, (2, 3)), nn.ReLU(), nn.Flatten(1), nn.Linear(4 * 3 * 3, OUT))
    for index in (0, 3):
        prune(net[index].weight, 0.7, seed=index)
    x = operand("binary", B, 2, 4, 5)
    first = F.conv2d(x.double(), (net[0].weight != 0).double()).sum()
    hidden = net[:3](x).detach()
    second = F.linear((hidden != 0).double(), (net[3].weight != 0).double()).sum()
    rows = profile(net, [x]).energy(convention="neurobench").rows
    charged = {r.name: (r.ac + r.mac) * B for r in rows if r.name in ("0", "3")}
    assert charged == pytest.approx({"0": float(first), "3": float(second)})


def test_the_brute_force_of_this_file_meets_the_plain_walk() -> None:
    """`synapses_of` against the walk over every synapse."""
    layer, shape = LAYERS["conv2d, groups"][0](), LAYERS["conv2d, groups"][1]
    walk = brute.conv_synapses(
        shape, layer.weight.shape, layer.stride, layer.padding, layer.dilation, 2, (4, 5)
    )
    fans: dict[tuple[int, ...], int] = {}
    for source, _ in walk:
        fans[source] = fans.get(source, 0) + 1
    assert {index: fan for index, fan, _ in synapses_of(layer, shape, (6, 4, 5))} == fans
