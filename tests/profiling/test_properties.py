"""What must hold for every input."""

from __future__ import annotations

import pytest
import torch
from exact import PIXEL, exact, on_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron
from torch import nn

from snn_energy.profiling import Profile, profile
from snn_energy.profiling.fanout import geometry
from snn_energy.profiling.kinds import BINARY, EMPTY, KINDS, REAL, TERNARY, ValueSet
from snn_energy.profiling.measure import read_spikes, values_of
from snn_energy.profiling.resolve import Count

SETTINGS = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31)


class Attention(nn.Module):
    """Convolution, LIF, both attention products, a mask, a residual and a head: (T, B, 2, 4, 6) -> (B, 3)."""

    T = 3

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(2, 6, (3, 2), padding=1, stride=(1, 2))
        self.lif = neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.conv2 = nn.Conv2d(6, 6, 1, groups=3)
        self.qkv = neuron.IFNode(v_threshold=0.2, step_mode="m")
        self.head = nn.Linear(2, 3)
        exact(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lead = x.shape[:2]
        s = self.lif(self.conv(x.flatten(0, 1)).unflatten(0, lead))
        q, k, v = self.qkv(self.conv2(s.flatten(0, 1)).unflatten(0, lead)).flatten(3).chunk(3, 2)
        out = q.mT @ (k @ v.mT * 0.5) + (q * k).sum(2, keepdim=True).mT
        return self.head(out.mean(2)).mean(0)


def counts(measured: Profile) -> dict[tuple[str, str, int], object]:
    return {row.key: (row.ac, row.mac, row.counts, row.input_kind, row.right_kind) for row in measured.rows}


def spikes(seed: int, batch: int, rate: float = 0.3) -> torch.Tensor:
    return (torch.rand(3, batch, 2, 4, 6, generator=torch.Generator().manual_seed(seed)) < rate).float()


@SETTINGS
@given(seed=seeds, order=st.permutations(range(5)), cut=st.integers(1, 4), real=st.booleans())
def test_samples_may_be_permuted_split_and_sharded(seed: int, order: list[int], cut: int, real: bool) -> None:
    model, x = Attention(), spikes(seed, 5)
    if real:
        factors = torch.randn(3, 3, 2, 4, 6, generator=torch.Generator().manual_seed(seed))
        x[:, 2:] *= on_grid(factors, PIXEL)  # some samples of another kind than the others
    whole = profile(model, [x])
    permuted = profile(model, [x[:, order]])
    split = profile(model, [x[:, :cut], x[:, cut:]])
    shards = [profile(model, [part]) for part in (x[:, :cut], x[:, cut:])]
    assert counts(permuted) == counts(split) == counts(Profile.merge(shards)) == counts(whole)
    assert split.samples == Profile.merge(shards).samples == 5


class Residual(nn.Module):
    """Additions and reductions whose operands are of other kinds in other samples, (B, 3, 4, 5) in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = x.split(1, 1)
        y = (a + b + c.mean((-2, -1), keepdim=True)).sum(2)
        return y - nn.functional.avg_pool2d(c, (2, 1)).mean(2)


@SETTINGS
@given(
    seed=seeds, order=st.permutations(range(6)), real=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 2)))
)
def test_additions_of_mixed_kinds_count_alike_in_any_order(seed: int, order: list[int], real: set) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(6, 3, 4, 5, generator=generator) < 0.4).float()
    for sample, operand in real:
        x[sample, operand] *= torch.randn(4, 5, generator=generator)
    model = Residual()
    whole = profile(model, [x])
    single = profile(model, x[order].split(1))
    shards = Profile.merge(profile(model, [part]) for part in x[order].split((1, 2, 3)))
    for other in (single, shards):
        for row, expected in zip(other.rows, whole.rows, strict=True):
            assert (row.counts, row.ac, row.ac_coincident, row.input_nonzero) == (
                expected.counts, expected.ac, expected.ac_coincident, expected.input_nonzero,
            )  # fmt: skip


@SETTINGS
@given(seed=seeds, rate=st.floats(0, 1))
def test_more_spikes_never_cost_less(seed: int, rate: float) -> None:
    layers = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(3 * 2 * 3, 4))
    few = spikes(seed, 2, rate)[0]
    many = torch.maximum(few, spikes(seed + 1, 2, 0.5)[0])
    first = [next(r for r in profile(layers, [x]).rows if r.op == "conv2d") for x in (few, many)]
    assert first[0].ac <= first[1].ac and first[0].input_kind == "binary"

    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0] @ x[:, 1].mT

    products = [profile(Product(), [x]).rows[0] for x in (few, many)]
    for name in ("ac", "ac_coincident", "ac_one_sided"):
        assert getattr(products[0], name) <= getattr(products[1], name)
    assert products[1].ac_coincident <= products[1].ac_one_sided


def test_silence_costs_nothing() -> None:
    model = Attention()
    nn.init.zeros_(model.conv.bias)
    nn.init.zeros_(model.conv2.bias)
    nn.init.zeros_(model.head.bias)
    measured = profile(model, [torch.zeros(3, 2, 2, 4, 6)])
    assert all(row.ac == row.mac == 0 for row in measured.rows if row.input_kind == "binary")
    head = next(
        row for row in measured.rows if row.name == "head"
    )  # reads a current: real, whatever its values
    assert (head.input_kind, head.input_nonzero) == ("real", 0) and head.mac == head.valid_macs > 0
    assert set(measured.dead) == {"lif", "qkv"} and measured.saturated == ()


VALUES = st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 0.25, 3.0]), min_size=1, max_size=6)


def by_definition(values: list[float]) -> str:
    """The kind as docs/counting.md words it."""
    distinct = set(values) - {0.0}
    if distinct <= {1.0}:
        return "binary"
    if len(distinct) == 1:
        return "scaled"
    if distinct <= {-1.0, 1.0}:
        return "ternary"
    smallest = min(map(abs, distinct))
    multiples = [abs(v) / smallest for v in distinct]
    largest = max(multiples) if all(k == int(k) for k in multiples) else max(map(abs, distinct))
    whole = all(k == int(k) for k in multiples) or all(v == int(v) for v in distinct)
    return "integer" if whole and largest <= 15 else "real"


@given(VALUES)
def test_kinds_follow_their_definition(values: list[float]) -> None:
    assert values_of(torch.tensor(values)).kind == by_definition(values)
    spread = torch.tensor(values * 40).reshape(len(values), 40)
    for shape in (spread, spread.reshape(1, len(values), 8, 5)):
        found, _, rows = read_spikes(shape, 1, graded=False)
        assert found.kind == by_definition(values)
        assert rows.sum() == torch.count_nonzero(spread)


@given(VALUES, VALUES, VALUES)
def test_joining_kinds_only_moves_towards_real(a: list[float], b: list[float], c: list[float]) -> None:
    sets = [values_of(torch.tensor(v)) for v in (a, b, c)]
    both = sets[0].join(sets[1])
    assert both == sets[1].join(sets[0])
    assert both.join(sets[2]) == sets[0].join(sets[1].join(sets[2]))
    assert both.kind == by_definition(a + b)
    assert KINDS.index(both.kind) >= max(KINDS.index(s.kind) for s in sets[:2])


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (torch.zeros(3), EMPTY),
        (torch.tensor([True, False]), BINARY),
        (torch.tensor([0, 3, 1], dtype=torch.uint8), ValueSet((1.0, 3.0))),
        (torch.tensor([0, 16, 1], dtype=torch.uint8), REAL),
        (torch.tensor([-0.5, 0.25, 0.0]), ValueSet((-0.5, 0.25))),
        (torch.tensor([0.37, 0.0, 1.0]), REAL),
        (torch.tensor([0, 1, -1], dtype=torch.int32), TERNARY),
        (torch.tensor([0.0, 1.0, 1.0 + 2**-23]), REAL),
        (torch.tensor([0.0, 1.0, 1.0 - 2**-24]), REAL),
        (torch.tensor([0.0, torch.inf]), REAL),
        (torch.tensor([1.0, torch.nan]), REAL),
        (torch.tensor([0.0, 0.1]), ValueSet((float(torch.tensor(0.1)),))),
        (torch.tensor([0.0, 1.0], dtype=torch.bfloat16), BINARY),
    ],
)
def test_values_at_the_edge(x: torch.Tensor, expected: ValueSet) -> None:
    assert values_of(x) == expected


@pytest.mark.slow
def test_counts_beyond_what_float32_can_hold() -> None:
    """2^24 + 1 is the first integer that float32 skips."""
    from snn_energy.profiling.measure import position_counts, row_counts

    n = 2**24 + 3
    assert row_counts(torch.ones(1, n), 1).item() == n
    assert position_counts(torch.ones(1, 2, n // 2), 1).double().sum().item() == n - 1
    values, _, rows = read_spikes(torch.ones(1, n), 1, graded=False)
    assert values == BINARY and rows.item() == n


axis = st.tuples(
    st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3)
)


@settings(max_examples=60, deadline=None)
@given(st.tuples(axis, axis), st.booleans())
def test_fan_out_is_the_gradient_of_a_convolution_of_ones(axes: tuple, transposed: bool) -> None:
    """Σ of all outputs grows by the fan-out of a position when its input grows by one."""
    sizes, kernel, stride, padding, dilation = (tuple(column) for column in zip(*axes, strict=True))
    x = torch.zeros(1, 1, *sizes, requires_grad=True)
    weight = torch.ones(1, 1, *kernel)
    function = nn.functional.conv_transpose2d if transposed else nn.functional.conv2d
    try:
        out = function(x, weight, stride=stride, padding=padding, dilation=dilation)
    except RuntimeError:
        return  # the kernel does not fit
    out.sum().backward()
    shape = geometry(sizes, tuple(out.shape[2:]), (1, 1, *kernel), stride, padding, dilation, 1, transposed)
    assert shape.fan.flat == x.grad.flatten().tolist()
    assert shape.fan.total == x.grad.sum()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=3))
def test_counts_add_up_in_any_order(pairs: list[tuple[int, int]]) -> None:
    a, b, c = (Count(x + y, (x, y), x * x) for x, y in pairs)
    assert a + b == b + a and (a + b) + c == a + (b + c)
    assert Count() + a == a
