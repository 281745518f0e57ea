"""What the forward pass writes to is an activation, by whatever way; what it only reads is none."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from observed import counted, elements, entering, nonzeros, row_of, told, total
from spikingjelly.activation_based import functional, neuron
from torch import nn
from torch.nn import functional as F

from snn_energy.profiling import profile

B, IN, WIDE, OUT = 3, 7, 10, 4


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) + 0.1


class Held(nn.Module):
    """A layer's result goes into a tensor of the model by `write`; another layer reads it there."""

    def __init__(self, write: Callable[[Held, torch.Tensor], Any], where: str = "buffer") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(IN, WIDE), nn.Linear(WIDE, OUT, bias=False)
        held = torch.zeros(B, WIDE)
        if where == "buffer":
            self.register_buffer("held", held)
        elif where == "parameter":
            self.held = nn.Parameter(held, requires_grad=False)
        else:
            self.held = held
        self.view = held.numpy()
        self.write = write

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.write(self, self.one(x))
        return self.two(self.held)


@torch.jit.script
def scripted_copy(target: torch.Tensor, value: torch.Tensor) -> None:
    target.copy_(value)


def swapped(net: Held, z: torch.Tensor) -> None:
    if isinstance(net.held, nn.Parameter):
        z = nn.Parameter(z, requires_grad=False)
    torch.utils.swap_tensors(net.held, z)


def row_by_row(net: Held, z: torch.Tensor) -> None:
    for row, value in zip(net.held, z, strict=True):
        row.copy_(value)


def old_view(net: Held, z: torch.Tensor) -> None:
    view = net.held.view(-1)[WIDE : 2 * WIDE]
    net.held.add_(1)
    view.copy_(z[0])


SEEN: dict[str, Callable[[Held, torch.Tensor], Any]] = {
    "copy_": lambda net, z: net.held.copy_(z),
    "out=": lambda net, z: torch.mul(z, 2.0, out=net.held),
    "out= of a comparison": lambda net, z: torch.maximum(z, torch.zeros(1), out=net.held),
    "slice": lambda net, z: net.held.__setitem__(slice(None), z),
    "one column": lambda net, z: net.held.__setitem__((slice(None), 2), z[:, 3]),
    "mask": lambda net, z: net.held.__setitem__(z > 0, z[z > 0]),
    "row by row": row_by_row,
    "a view from before": old_view,
    "add_": lambda net, z: net.held.mul_(0.5).add_(z),
    "+=": lambda net, z: net.held.__iadd__(z),
    "data.copy_": lambda net, z: net.held.data.copy_(z),
    "data slice": lambda net, z: net.held.data[1].copy_(z[1]),
    "data +=": lambda net, z: net.held.data.__iadd__(z),
    "data =": lambda net, z: setattr(net.held, "data", z * 2),
    "data = of a view": lambda net, z: setattr(net.held, "data", z.view(B, WIDE)),
    "detach().copy_": lambda net, z: net.held.detach().copy_(z),
    "index_put_": lambda net, z: net.held.index_put_((torch.tensor([0, 2]),), z[:2]),
    "scatter_": lambda net, z: net.held.scatter_(1, torch.zeros(B, 1, dtype=torch.long), z[:, :1]),
    "masked_scatter_": lambda net, z: net.held.masked_scatter_(torch.ones(B, WIDE).bool(), z),
    "select().copy_": lambda net, z: net.held.select(0, 1).copy_(z[2]),
    "transposed": lambda net, z: net.held.t().copy_(z.t()),
}
ASSIGNED: dict[str, Callable[[Held, torch.Tensor], Any]] = {
    "attribute": lambda net, z: setattr(net, "held", z),
    "__dict__": lambda net, z: net._buffers.__setitem__("held", z) if "held" in net._buffers else None,
    "register_buffer": lambda net, z: net.register_buffer("held", z),
}
OTHERS: dict[str, Callable[[Held, torch.Tensor], Any]] = {
    "index_copy_": lambda net, z: net.held.index_copy_(0, torch.tensor([0, 2]), z[:2]),
    "index_add_": lambda net, z: net.held.index_add_(0, torch.tensor([0, 2]), z[:2]),
    "lerp_": lambda net, z: net.held.lerp_(z, 0.5),
    "addcmul_": lambda net, z: net.held.addcmul_(z, z),
    "_foreach_add_": lambda net, z: torch._foreach_add_([net.held], [z]),
    "put_": lambda net, z: net.held.put_(torch.tensor([3, 5]), z[0, :2]),
    "set_": lambda net, z: net.held.set_(z * 2),
    "set_ of a storage": lambda net, z: net.held.set_((z * 2).untyped_storage(), 0, (B, WIDE), (WIDE, 1)),
    "map_": lambda net, z: net.held.map_(z, lambda _, b: b),
    "swap_tensors": swapped,
    "scripted": lambda net, z: scripted_copy(net.held, z),
    "numpy from before": lambda net, z: net.view.__setitem__(slice(None), z.numpy()),
    "numpy": lambda net, z: np.copyto(net.held.numpy(), z.numpy()),
    "numpy of data": lambda net, z: net.held.data.numpy().__setitem__(slice(None), z.tolist()),
    "storage": lambda net, z: net.held.untyped_storage().copy_((z * 2).untyped_storage()),
    "from_numpy": lambda net, z: torch.from_numpy(net.view).copy_(z),
    "dlpack": lambda net, z: torch.from_dlpack(net.held.detach()).copy_(z),
}


@pytest.mark.parametrize("where", ["buffer", "parameter", "attribute"])
@pytest.mark.parametrize("way", SEEN)
def test_a_written_constant_is_an_activation(way: str, where: str) -> None:
    net = Held(SEEN[way], where)
    row = row_of(counted(net, image(B, IN), strict=True), "two")
    assert (row.ac, row.mac) == (0, B * WIDE * OUT)


@pytest.mark.parametrize("way", ASSIGNED)
def test_an_assigned_buffer_is_an_activation(way: str) -> None:
    row = row_of(counted(Held(ASSIGNED[way]), image(B, IN), strict=True), "two")
    assert (row.ac, row.mac) == (0, B * WIDE * OUT)


@pytest.mark.parametrize("where", ["buffer", "parameter", "attribute"])
@pytest.mark.parametrize("way", OTHERS)
def test_a_constant_written_to_by_other_ways_is_counted_or_told(way: str, where: str) -> None:
    net, x = Held(OTHERS[way], where), image(B, IN)
    measured = profile(net, [x])
    counts = total(measured, "two", "mac") == B * WIDE * OUT
    assert counts or measured.uncounted
    if not counts:
        assert told(lambda: Held(OTHERS[way], where), x)


@pytest.mark.parametrize("way", ["copy_", "slice", "data.copy_", "data =", "add_", "out="])
def test_it_stays_one_in_later_batches(way: str) -> None:
    """A membrane that lasts from batch to batch is an activation at each."""
    net = Held(SEEN[way])
    batches = [image(B, IN, seed=s) for s in range(3)]
    row = row_of(counted(net, *batches, strict=True), "two")
    assert (row.mac, row.calls) == (3 * B * WIDE * OUT, 3 * B)


@pytest.mark.parametrize("way", ["add_", "data +=", "slice", "data ="])
def test_read_before_it_is_written_it_is_the_state_of_the_batch_before(way: str) -> None:
    class Late(Held):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.two(self.held)
            self.write(self, self.one(x))
            return y + self.two(self.held)

    batches = [image(B, IN, seed=s) for s in range(3)]
    measured = counted(Late(SEEN[way]), *batches)
    # before the first write it is a constant zero, or is counted as what it will be: both can be defended
    assert total(measured, "two", "mac_executed") in (5 * B * WIDE * OUT, 6 * B * WIDE * OUT)


class Spiking(nn.Module):
    """Spikes are collected in a tensor of the model."""

    T = 4

    def __init__(self, collect: Callable[[Spiking, int, torch.Tensor], Any]) -> None:
        super().__init__()
        self.collect = collect
        self.lif, self.out = neuron.IFNode(), nn.Linear(IN, OUT, bias=False)
        self.register_buffer("kept", torch.zeros(self.T, B, IN))
        self.register_buffer("at", torch.zeros((), dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        self.at.zero_()
        for t in range(self.T):
            self.collect(self, t, self.lif(x))
            self.at += 1
        return self.out(self.kept).mean(0)


COLLECT = {
    "setitem": lambda net, t, s: net.kept.__setitem__(t, s),
    "unbound": lambda net, t, s: net.kept.unbind(0)[t].copy_(s),
    "data": lambda net, t, s: net.kept.data[t].copy_(s),
    "rolled": lambda net, t, s: setattr(net, "kept", torch.cat((net.kept[1:], s[None]))),
    "index_put": lambda net, t, s: setattr(net, "kept", net.kept.index_put((torch.tensor([t]),), s[None])),
    "maximum": lambda net, t, s: torch.maximum(net.kept[t], s, out=net.kept[t]),
    "by a counter": lambda net, t, s: net.kept.__setitem__(net.at, s),
}


@pytest.mark.parametrize("collect", COLLECT)
def test_spikes_collected_in_a_buffer_are_spikes(collect: str) -> None:
    batches, seen = [image(B, IN, seed=s) * 0.6 for s in (1, 2)], []
    for x in batches:  # each from an empty tensor
        net = Spiking(COLLECT[collect])
        seen += entering(net, "out", lambda net=net, x=x: net(x))  # type: ignore[misc]
    row = row_of(counted(Spiking(COLLECT[collect]), *batches, strict=True), "out")
    assert (row.input_kind, row.ac, row.mac) == ("binary", nonzeros(seen) * OUT, 0)


class Scratch(nn.Module):
    """A buffer for currents that later holds spikes, which cost accumulates."""

    def __init__(self, fill: Callable[[torch.Tensor, torch.Tensor], Any], whose: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.fill, self.whose = fill, whose
        self.one, self.two = nn.Linear(IN, WIDE), nn.Linear(WIDE, OUT, bias=False)
        self.three = nn.Linear(WIDE, OUT, bias=False)
        self.register_buffer("space", torch.zeros(B, WIDE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        space = self.space if self.whose == "model" else torch.empty(B, WIDE)
        space.copy_(self.one(x))
        y = self.two(space)
        spikes = (space > 0.2).float()
        self.fill(space, spikes)
        return y + self.three(space)


FILLS = {
    "copy_": lambda space, s: space.copy_(s),
    "slice": lambda space, s: space.__setitem__(slice(None), s),
    "ellipsis": lambda space, s: space.__setitem__(..., s),
    "out=": lambda space, s: torch.add(s, s.roll(1, 0), out=space),
    "out= by mul": lambda space, s: torch.mul(s, s.roll(1, 0), out=space),
    "zero and set": lambda space, s: space.zero_().__setitem__(s > 0, 1.0),
    "data": lambda space, s: setattr(space, "data", s),
}


@pytest.mark.parametrize("whose", ["model", "own"])
@pytest.mark.parametrize("fill", FILLS)
def test_what_lay_in_a_buffer_before_does_not_colour_what_lies_there_now(fill: str, whose: str) -> None:
    net, x = Scratch(FILLS[fill], whose), image(B, IN)
    (held,) = entering(net, "three", lambda: net(x))
    measured = counted(net, x)
    first, second = row_of(measured, "two"), row_of(measured, "three")
    assert (first.ac, first.mac) == (0, B * WIDE * OUT)
    events = int(held.sum())
    assert events > 0
    assert (second.ac, second.mac) == (events * OUT, 0)


def test_what_a_buffer_holds_in_part_is_still_a_current() -> None:
    net = Scratch(lambda space, s: space.__setitem__(0, s[0]), "own")
    assert total(counted(net, image(B, IN)), "three", "mac") == B * WIDE * OUT


IN_THIS_FILE = torch.full((WIDE,), 0.5)


class Table(nn.Module):
    """Constants of many makes enter an addition or a weight: none of them is work."""

    class_wide = torch.full((WIDE,), 0.25)

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.one, self.two = nn.Linear(IN, WIDE), nn.Linear(WIDE, OUT, bias=False)
        self.cache: torch.Tensor | None = None
        self.listed = [torch.full((WIDE,), 0.5), torch.full((WIDE,), 0.75)]
        self.named = {"scale": torch.full((WIDE,), 0.5)}
        self.nested = ({"deep": [torch.full((WIDE,), 0.5)]},)

    def constant(self) -> torch.Tensor:
        if self.form == "position":
            place = torch.arange(WIDE, dtype=torch.float32)
            return torch.sin(place / 10.0 ** (place / WIDE))
        if self.form == "cached":
            if self.cache is None:
                self.cache = torch.linspace(0, 1, WIDE).exp()
            return self.cache
        if self.form == "module's":
            return self.class_wide
        if self.form == "file's":
            return IN_THIS_FILE * 2
        if self.form == "list":
            return self.listed[0] * self.listed[1]
        if self.form == "dict":
            return self.named["scale"]
        if self.form == "nested":
            return self.nested[0]["deep"][0]
        if self.form == "number":
            return torch.tensor(0.5)
        if self.form == "list of numbers":
            return torch.tensor([0.5] * WIDE)
        return torch.as_tensor(np.full(WIDE, 0.5, dtype=np.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x) + self.constant())


@pytest.mark.parametrize(
    "form",
    [
        "position",
        "cached",
        "module's",
        "file's",
        "list",
        "dict",
        "nested",
        "number",
        "list of numbers",
        "numpy",
    ],
)
def test_constants_are_no_work_and_no_gap(form: str) -> None:
    measured = counted(Table(form), image(B, IN), image(B, IN, seed=1), strict=True)
    assert {(r.name, r.op): r.mac + r.ac for r in measured.rows} == {
        ("one", "linear"): 2 * B * IN * WIDE,
        ("", "add"): 2 * B * WIDE,
        ("two", "linear"): 2 * B * WIDE * OUT,
    }


class Standardised(nn.Conv2d):
    """Weight standardisation: arithmetic on parameters alone, which an inference does not need."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weight
        w = w - w.mean((1, 2, 3), keepdim=True)
        w = w / (w.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5)
        return self._conv_forward(x, w, self.bias)


@pytest.mark.parametrize("wrap", [lambda m: m, nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_preparing_weights_is_not_counted(wrap: Callable[[nn.Module], nn.Module]) -> None:
    net = nn.Sequential(
        wrap(Standardised(2, 5, (3, 2), bias=False)), nn.Flatten(1), wrap(nn.Linear(5 * 12, OUT))
    )
    measured = counted(net, image(B, 2, 6, 4), strict=True)
    macs = {row.op: row.mac for row in measured.rows}
    assert macs == {"conv2d": B * 12 * 5 * 12, "linear": B * 60 * OUT}


class OutOfPlace(nn.Module):
    """A weight is read by functions whose namesakes write."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.one = name, nn.Linear(IN, WIDE, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w, z = self.one.weight, self.one(x)
        at = torch.zeros(1, IN, dtype=torch.long)
        changed = {
            "scatter": lambda: torch.scatter(w, 0, at, z[:1, :IN]),
            "index_put": lambda: torch.index_put(w, (torch.tensor(1),), z[0, :IN]),
            "masked_scatter": lambda: w.masked_scatter(torch.ones_like(w).bool(), z.repeat(9, 1)),
        }[self.name]()
        return self.one(x) + changed.sum()


@pytest.mark.parametrize("name", ["scatter", "index_put", "masked_scatter"])
def test_functions_that_do_not_write_leave_a_parameter_constant(name: str) -> None:
    measured = profile(OutOfPlace(name), [image(B, IN)])
    rows = [row for row in measured.rows if row.name == "one"]
    assert [(r.op, r.mac, r.weight_elements) for r in rows] == [("linear", 2 * B * IN * WIDE, IN * WIDE)]


def test_a_norm_of_batch_statistics_is_no_gap() -> None:
    """A norm that trains writes to its running statistics, which nobody reads."""

    class Adapting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm = nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.norm.train()
            return self.norm(self.one(x))

    measured = counted(Adapting(), image(B, 2, 6, 5), image(B, 2, 6, 5, seed=1), strict=True)
    assert [r.norm_macs for r in measured.rows if r.op == "norm"] == [2 * B * 5 * 12]


def test_lazy_layers_are_layers() -> None:
    net = nn.Sequential(nn.LazyLinear(WIDE), nn.ReLU(), nn.LazyLinear(OUT, bias=False))
    measured = counted(net, image(B, IN), strict=True)
    weights = [(r.op, r.mac, r.weight_elements) for r in measured.rows if r.op in ("linear", "matmul")]
    assert weights == [("linear", B * IN * WIDE, IN * WIDE), ("linear", B * WIDE * OUT, WIDE * OUT)]


class Random(nn.Module):
    """What is drawn anew in every pass is no constant, though nothing of the input is in it."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.one, self.back = (
            form,
            nn.Linear(IN, OUT, bias=False),
            nn.Linear(WIDE, OUT, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        background = {
            "rand": lambda: torch.rand(len(x), WIDE),
            "randn": lambda: torch.randn((len(x), WIDE)),
            "randint": lambda: torch.randint(0, 255, (len(x), WIDE)).float() + 0.5,
            "normal": lambda: torch.normal(0.0, 1.0, (len(x), WIDE)),
            "spikes": lambda: (torch.rand(len(x), WIDE) < 0.4).float(),
            "bernoulli": lambda: torch.bernoulli(torch.full((len(x), WIDE), 0.4)),
            "poisson": lambda: torch.poisson(torch.full((len(x), WIDE), 0.4)),
        }[self.form]()
        return self.one(x) + self.back(background)


@pytest.mark.parametrize("form", ["rand", "randn", "randint", "normal", "spikes", "bernoulli", "poisson"])
def test_a_random_background_is_an_activation(form: str) -> None:
    torch.manual_seed(0)
    net, x = Random(form), image(B, IN)
    state = torch.get_rng_state()
    (drawn,) = entering(net, "back", lambda: net(x))
    torch.set_rng_state(state)
    row = row_of(counted(net, x), "back")
    if form in ("spikes", "bernoulli", "poisson"):
        assert (row.ac, row.mac) == (int(drawn.sum()) * OUT, 0)
    else:
        assert (row.ac, row.mac) == (0, elements([drawn]) * OUT)


class Recycled(nn.Module):
    """Memory is freed and handed out again, so that addresses and identities come back with other content."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.one, self.two = nn.Linear(IN, WIDE), nn.Linear(WIDE, OUT, bias=False)
        self.three = nn.Linear(WIDE, OUT, bias=False)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, self.seen = 0, []
        for step in range(60):
            constant = torch.full((B, WIDE), 0.5)  # dies at once, its place is taken by an activation
            del constant
            z = torch.relu(self.one(x) + 0.01 * step)
            s = (z > 0.4).float() if step % 2 else z * 0.3
            self.seen.append(s.clone())
            out = out + (self.two(s) if step % 2 else self.three(s))
            del z, s
        return out


def test_memory_handed_out_again_carries_nothing_over() -> None:
    net, batches = Recycled(), [image(B, IN, seed=s) for s in range(3)]
    spikes = 0
    with torch.no_grad():
        for x in batches:
            net(x)
            spikes += nonzeros(net.seen[1::2])
    measured = counted(net, *batches)
    assert (total(measured, "two", "ac"), total(measured, "two", "mac")) == (spikes * OUT, 0)
    assert total(measured, "three", "mac") == 3 * 30 * B * WIDE * OUT


@pytest.mark.parametrize("way", ["copy_", "add_", "data =", "slice"])
def test_a_profiled_model_can_be_copied_and_saved(way: str) -> None:
    """Nothing that a profile hangs on the tensors of a model stands in the way of its user."""
    net = Held(SEEN[way])
    net.write = None  # a lambda cannot be saved, whoever made it
    wrapped = Held(SEEN[way])
    profile(wrapped, [image(B, IN)])
    net.held = wrapped.held
    net.one, net.two = wrapped.one, wrapped.two
    twin = copy.deepcopy(net)
    file = io.BytesIO()
    torch.save(net, file)
    again = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    assert torch.equal(twin.held, net.held) and torch.equal(again.held, net.held)
    assert b"snn_energy" not in file.getvalue()


def test_functional_weights_are_weights() -> None:
    """`torch.func.functional_call` with other parameters: constants that nobody declared."""

    class Fast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(IN, OUT, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(self.one, {"weight": self.one.weight * 2}, (x,))

    row = row_of(counted(Fast(), image(B, IN), strict=True), "one")
    assert (row.op, row.mac) == ("linear", B * IN * OUT)


def test_a_weight_that_follows_the_input_is_an_operand() -> None:
    """Fast weights and dynamic convolutions: activations on both sides."""

    class Fast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.make, self.one = nn.Linear(IN, IN * OUT), nn.Linear(IN, OUT, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            w = self.make(x.mean(0)).view(OUT, IN)
            self.one.weight.data.mul_(0.5).add_(w)
            return self.one(x) + F.linear(x, w)

    measured = counted(Fast(), image(B, IN))
    rows = [r for r in measured.rows if r.op == "matmul"]
    assert sum(r.mac for r in rows) == 2 * B * IN * OUT
    assert all(r.weight_elements == 0 for r in rows)


def test_a_layer_that_sees_constants_alone_is_noted() -> None:
    """Learned queries are projected once; a reader of the rows hears of it."""

    class Queries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries = nn.Parameter(torch.randn(5, IN))
            self.project, self.one = nn.Linear(IN, WIDE), nn.Linear(WIDE, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.project(self.queries) @ x.mT, -1)

    measured = counted(Queries(), image(B, 9, WIDE), strict=True)
    assert total(measured, "project", "mac") == 0
    assert any("project" in note for note in measured.notes)
    assert counted(Table("cached"), image(B, IN)).notes == ()
