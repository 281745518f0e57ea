"""A user's own counting rules: what they count, and what becomes of slips in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

from snn_energy.energy import analysis, conventions, cost_tables, estimate
from snn_energy.energy.twin import dense_twin
from snn_energy.errors import ConfigError, UncountedError
from snn_energy.profiling import Call, OpRow, Profile, Rule, profile
from snn_energy.reports import report, tables

T, B, IN, N = 3, 4, 5, 7


class Net(nn.Module):
    """Linear, neuron, then `work` on its spikes (T, B, N)."""

    T = T

    def __init__(self, work: Callable[..., torch.Tensor], spiking: bool = True) -> None:
        super().__init__()
        self.fc, self.lif, self.work, self.spiking = (
            nn.Linear(IN, N),
            neuron.IFNode(step_mode="m"),
            work,
            spiking,
        )
        self.register_buffer("weight", torch.randint(-3, 4, (6, N)).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        drive = self.fc(x).expand(self.T, len(x), N)
        return self.work(self.lif(drive) if self.spiking else drive, self.weight)


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(0)
    return 5 * torch.rand(B, IN)


def spikes_of(net: Net, x: torch.Tensor) -> torch.Tensor:
    functional.reset_net(net)
    with torch.no_grad():
        return net.lif(net.fc(x).expand(T, len(x), N))


def rows(measured: Profile, op: str) -> list[OpRow]:
    return [row for row in measured.rows if row.op == op]


def running_sum(call: Call) -> Any:
    """One AC per event, or per element of a real operand."""
    x = call["input"]
    row = call.row("running_sum", decided_as="reduction")
    values = call.left(row, x)
    row.read("valid", call.evenly(x))
    row.read("events", call.nonzeros(x, values))
    row.add(input_elements=x.numel(), output_elements=x.numel())
    call.describe(row, x, call.run())
    return call.known(row=row)


def outright(call: Call) -> None:
    """Counts of its own: as many ACs as ones, two MACs per element."""
    x = call["input"]
    row = call.row("outright", decided_as="as counted")
    row.read("ac", call.summed(x))
    row.read("mac", call.evenly(x, each=2))
    row.add(input_elements=x.numel(), output_elements=x.numel())
    call.describe(row, x, call.run())


SPELLINGS: dict[str, Callable[..., torch.Tensor]] = {
    "method": lambda s, w: s.cumsum(-1),
    "keyword": lambda s, w: s.cumsum(dim=1),
    "function": lambda s, w: torch.cumsum(s, 2),
    "named": lambda s, w: torch.cumsum(dim=0, input=s),
    "in place": lambda s, w: (s * 1).cumsum_(-1),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_rule_counts_every_spelling(x: torch.Tensor, spelling: str) -> None:
    net = Net(SPELLINGS[spelling])
    seen = []

    def rule(call: Call) -> Any:
        seen.append(call["dim"])
        return running_sum(call)

    measured = profile(net, [x], rules={"cumsum": rule}, strict=True)
    (row,) = rows(measured, "running_sum")
    spikes = spikes_of(net, x)
    assert row.ac == int(spikes.sum()) > 0 and row.mac == 0
    assert row.ac_by_step == tuple(int(s.sum()) for s in spikes)
    assert row.input_kind == "binary" and row.input_shape == (N,) and len(seen) == 1


def test_the_operands_of_all_batches_decide(x: torch.Tensor) -> None:
    def work(s: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (s * float(net.scale)).cumsum(-1) if net.scale == 1 else (s + net.drive).cumsum(-1)

    class Mixed(Net):
        scale = 1

    net: Any = Mixed(work)
    net.drive = torch.rand(N)
    kwargs: Any = {"rules": {"cumsum": running_sum}}
    events = profile(net, [x], **kwargs)
    net.scale = 2
    real = profile(net, [x[:2]], **kwargs)
    assert rows(events, "running_sum")[0].ac < T * B * N
    assert rows(real, "running_sum")[0].ac == T * 2 * N
    for parts in ((events, real), (real, events)):
        (row,) = rows(Profile.merge(parts), "running_sum")
        assert (row.ac, row.input_kind) == (T * (B + 2) * N, "real")


def test_counts_of_ones_own_arrive_everywhere(x: torch.Tensor, tmp_path: Path) -> None:
    net = Net(lambda s, w: F.linear(s.cumsum(-1), w))
    kwargs: Any = {"rules": {"cumsum": outright}, "strict": True}
    whole = profile(net, [x], **kwargs)
    parts = Profile.merge([profile(net, [x[:2]], **kwargs), profile(net, [x[2:]], **kwargs)])
    spikes = spikes_of(net, x)
    for measured in (whole, parts):
        (row,) = rows(measured, "outright")
        assert (row.ac, row.mac) == (int(spikes.sum()), 2 * T * B * N)
        assert row.ac_by_step == tuple(int(s.sum()) for s in spikes)
        assert row.ac_square_sum == sum(int(s.sum()) ** 2 for s in spikes.transpose(0, 1))
    whole.save(tmp_path / "profile.json")
    loaded = Profile.load(tmp_path / "profile.json")
    assert loaded == whole
    for name, convention in conventions().items():
        for costs in cost_tables():
            priced = estimate(loaded, convention=name, costs=costs)
            (charge,) = [charge for charge in priced.rows if charge.op == "outright"]
            charged = convention.elementwise == "counted"
            assert (charge.ac, charge.mac) == ((row.ac / B, row.mac / B) if charged else (0, 0))
    (twin,) = rows(dense_twin(whole), "outright")
    assert (twin.ac, twin.mac) == (round(row.ac / (B * T)), 2 * N)
    energy = whole.energy()
    assert "outright" in tables.render(tables.layer_table(whole, [energy]))
    steps = tables.step_table(whole, [energy]).rows
    assert steps[1]["ac"] * B == sum(row.ac_by_step[1] for row in whole.rows if row.ac_by_step)
    assert "outright" in report(whole, tmp_path / "report.html").read_text(encoding="utf-8")
    assert analysis.precision(whole).standard_error_mj is not None


def test_a_rule_that_asks_for_values_itself_is_asked_at_every_step(x: torch.Tensor) -> None:
    def loud(call: Call) -> None:
        if bool((call["input"] > 0.5).any()):  # says nothing of silent steps
            call.row("loud", decided_as="as counted").read("ac", call.summed(call["input"] > 0.5))

    net = Net(
        lambda s, w: torch.stack(
            [(now * level).cumsum(-1) for now, level in zip(s, (0.0, 0.0, 1.0), strict=True)]
        )
    )
    measured = profile(net, [x, x], rules={"cumsum": loud}, strict=True)
    assert rows(measured, "loud")[0].ac == 2 * int(spikes_of(net, x)[2].sum()) > 0


def test_a_rule_replaces_ours_and_may_count_in_our_rows(x: torch.Tensor) -> None:
    def free(call: Call) -> None:
        row = call.row("scale")
        row.add(scale_muls=11)

    net = Net(lambda s, w: s * 0.5)
    measured = profile(net, [x], rules={"mul": free}, strict=True)
    (row,) = rows(measured, "scale")
    assert row.scale_muls == 11 and not rows(measured, "mul")


def my_roll(x: torch.Tensor, by: int = 2) -> torch.Tensor:
    if has_torch_function((x,)):
        return handle_torch_function(my_roll, (x,), x, by=by)
    return x.roll(by, -1)


def linear(x: torch.Tensor, by: int = 2) -> torch.Tensor:
    """No relation to torch's."""
    if has_torch_function((x,)):
        return handle_torch_function(linear, (x,), x, by=by)
    return x.roll(by, -1)


def test_a_function_of_ones_own_goes_by_its_name(x: torch.Tensor) -> None:
    seen = {}

    def rule(call: Call) -> None:
        seen[call.name] = (call["x"].shape, call["by"])

    net = Net(lambda s, w: my_roll(linear(s), by=1) @ w.t())
    rules: dict[str, Rule] = {"my_roll": rule, f"{__name__}.linear": rule}
    measured = profile(net, [x], rules=rules, strict=True)
    assert seen == {"my_roll": ((T, B, N), 1)} | {f"{__name__}.linear": seen[f"{__name__}.linear"]}
    (product,) = rows(measured, "matmul")
    assert product.ac == 6 * int(spikes_of(net, x).sum())


def test_a_name_of_torchs_is_not_enough_to_be_counted_as_torchs(x: torch.Tensor) -> None:
    measured = profile(Net(lambda s, w: linear(s)), [x], rules={"linear": lambda call: None})
    assert [row.note for row in measured.uncounted] == [f"{__name__}.linear"]


@torch.library.custom_op("snn_energy_tests::packed_conv", mutates_args=())
def packed_conv(x: torch.Tensor, packed: torch.Tensor, scale: float) -> torch.Tensor:
    return F.conv2d(x, packed.transpose(0, 1) * scale, padding=1)


@pytest.mark.parametrize("overload", [False, True])
def test_an_operator_of_ones_own_counts_like_ours(x: torch.Tensor, overload: bool) -> None:
    class Maps(Net):
        def __init__(self, work: Any) -> None:
            super().__init__(work)
            self.kernel = nn.Parameter(torch.randn(1, 4, 3, 2))

    def plain(s: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.conv2d(s.reshape(T * B, 1, 1, N), net.kernel.transpose(0, 1) * 2.0, padding=1)

    def own(s: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        op = torch.ops.snn_energy_tests.packed_conv
        return (op.default if overload else op)(s.reshape(T * B, 1, 1, N), net.kernel, 2.0)

    def rule(call: Call) -> Any:
        weight = call.constant(call["packed"].transpose(0, 1) * call["scale"])
        return call.like("conv2d", input=call["x"], weight=weight, padding=1)

    net: Any = Maps(plain)
    name = "snn_energy_tests::packed_conv"
    (expected,) = rows(profile(net, [x], strict=True), "conv2d")
    net.work = own
    with pytest.raises(UncountedError, match=name):
        profile(net, [x], strict=True)
    (actual,) = rows(profile(net, [x], rules={name: rule}, strict=True), "conv2d")
    assert actual == expected and actual.ac > 0


def test_like_knows_views_of_an_activation(x: torch.Tensor) -> None:
    def rule(call: Call) -> Any:
        return call.like("linear", input=call["x"].unflatten(0, (T, B))[..., 2:], weight=call["w"][:, 2:])

    @torch.library.custom_op("snn_energy_tests::narrow", mutates_args=())
    def narrow(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (x[..., 2:] @ w[:, 2:].t()).unflatten(0, (T, B))

    net = Net(lambda s, w: narrow(s.flatten(0, 1), w))
    measured = profile(net, [x], rules={"snn_energy_tests::narrow": rule}, strict=True)
    _, row = rows(measured, "linear")
    assert row.ac == 6 * int(spikes_of(net, x)[..., 2:].sum()) > 0
    assert (row.input_kind, row.sources, row.weight_elements) == ("binary", ("lif",), 6 * (N - 2))


def test_an_exception_in_a_rule_is_an_uncounted_row_that_quotes_it(x: torch.Tensor) -> None:
    def rule(call: Call) -> None:
        call.row("half", decided_as="as counted").read("ac", call.evenly(call["input"]))
        raise ValueError("only along\nthe last axis")

    net = Net(lambda s, w: s.cumsum(0))
    with torch.no_grad():
        expected = net(x)
    got: list[torch.Tensor] = []
    net.register_forward_hook(lambda module, args, out: got.append(out))
    measured = profile(net, [x], rules={"cumsum": rule})
    (row,) = measured.uncounted
    assert "cumsum" in row.note and "ValueError: only along" in row.note
    assert torch.equal(got[-1], expected)
    with pytest.raises(UncountedError, match="ValueError: only along"):
        profile(net, [x], rules={"cumsum": rule}, strict=True)


def test_an_exception_of_the_function_itself_is_the_users(x: torch.Tensor) -> None:
    with pytest.raises(IndexError):
        profile(Net(lambda s, w: s.cumsum(9)), [x], rules={"cumsum": running_sum})


def slip(act: Callable[[Call, torch.Tensor], Any]) -> Rule:
    return lambda call: act(call, call["input"])


def _reduction(call: Call, x: torch.Tensor, *reads: str, look: bool = True) -> None:
    row = call.row("mine", decided_as="reduction")
    if look:
        call.left(row, x)
    for name in reads:
        row.read(name, call.evenly(x))


SLIPS: dict[str, tuple[Callable[[Call, torch.Tensor], Any], str]] = {
    "no way to decide": (lambda c, x: c.row("mine"), "row 'mine': decided_as = ''; .*known: addition"),
    "another way": (lambda c, x: c.row("mine", decided_as="reductoin"), "did you mean 'reduction'"),
    "our row decided anew": (
        lambda c, x: c.row("sum", decided_as="as counted"),
        "'sum' is ours, decided as 'red",
    ),
    "a layer by hand": (lambda c, x: c.row("linear"), r"use call.like\('linear'"),
    "uncounted": (lambda c, x: c.row("uncounted"), "raise an exception"),
    "returns a number": (lambda c, x: 3, "returned int, must return what call.known"),
    "total that is not": (
        lambda c, x: c.row("mine", decided_as="as counted").add(scale_mul=3),
        r"add\(scale_mul=…\): no such total; did you mean 'scale_muls'",
    ),
    "total no int": (
        lambda c, x: c.row("mine", decided_as="as counted").add(scale_muls=1.5),
        "must be an int",
    ),
    "count never read": (
        lambda c, x: c.row("mine", decided_as="as counted").read("events", c.evenly(x)),
        r"read\('events'\): no count of a row decided as 'as counted'",
    ),
    "a bare number": (
        lambda c, x: c.row("mine", decided_as="as counted").read("ac", 5),  # type: ignore[arg-type]
        "must be given what call.evenly, call.nonzeros or call.summed give",
    ),
    "fractions": (lambda c, x: c.summed(x + 0.5), "whole numbers"),
    "operand not looked at": (
        lambda c, x: _reduction(c, x, "valid", look=False),
        r"call.left\(row, x\) was not",
    ),
    "events forgotten": (lambda c, x: _reduction(c, x, "valid"), r"read\('events', …\) is missing"),
    "valid forgotten": (lambda c, x: _reduction(c, x, "events"), r"read\('valid', …\) is missing"),
    "like what": (lambda c, x: c.like("lineer", input=x), r"did you mean 'linear'"),
    "like with": (lambda c, x: c.like("linear", inptu=x), "unknown argument 'inptu'; did you mean 'input'"),
    "like of a stranger": (
        lambda c, x: c.like("linear", input=x, weight=torch.ones(2, N)),
        "give call.constant",
    ),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_one_line_that_names_rule_and_row(x: torch.Tensor, name: str) -> None:
    act, message = SLIPS[name]
    with pytest.raises(ConfigError, match=message) as caught:
        profile(Net(lambda s, w: s.cumsum(-1)), [x], rules={"cumsum": slip(act)})
    assert "\n" not in str(caught.value) and "rule 'cumsum'" in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"cumsum_": outright}, "without underscores"),
        ({"shape of": outright}, "must be a function's name"),
        ({7: outright}, "must be a function's name"),
        ({"numel": outright}, "never counted"),
        ({"tolist": outright}, "never counted"),
        ({"cumsum": 3}, "no function of a Call"),
        ([outright], "must be a mapping"),
    ],
)
def test_rules_that_cannot_be_are_refused(x: torch.Tensor, rules: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        profile(Net(lambda s, w: s), [x], rules=rules)
