"""Norse's neurons: state is handed round, cells are one step, the others take (T, B, …)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from needed import needed
from torch import Tensor, nn

from snn_energy.errors import ConfigError
from snn_energy.profiling import neurons, profile, record_spikes

needed("norse")

import norse.torch as norse  # noqa: E402

T, B, IN, N, OUT = 6, 3, 5, 7, 2

# module -> operations per element and step, axis of time, variables per element
EQUATIONS = {
    "LIFBoxCell": (norse.LIFBoxCell, (), ("lif", 1, 1, 1), None, 1),
    "LIFCell": (norse.LIFCell, (), ("cubalif", 2, 2, 1), None, 2),
    "LIF": (norse.LIF, (), ("cubalif", 2, 2, 1), 0, 2),
    "IAFCell": (norse.IAFCell, (), ("if", 0, 1, 1), None, 1),
    "IAF": (norse.IAF, (), ("if", 0, 1, 1), 0, 1),
    "LIFAdEx": (norse.LIFAdEx, (), ("adex", 6, 6, 1), 0, 3),
    "LSNNCell": (norse.LSNNCell, (), ("alif", 3, 3, 1), None, 3),
    "LIFRefracCell": (norse.LIFRefracCell, (), ("lif_refrac", 2, 3, 3), None, 3),
    "Izhikevich": (norse.Izhikevich, (norse.tonic_spiking,), ("izhikevich", 6, 6, 1), 0, 2),
    "LI": (norse.LI, (), ("cuba_integrator", 2, 2, 0), 0, 2),
    "LIBoxCell": (norse.LIBoxCell, (), ("leaky_integrator", 1, 1, 0), None, 1),
    "LIFRecurrent": (norse.LIFRecurrent, (N, N), ("recurrent_cubalif", 2, 3, 1), 0, 2),
    "LIFRecurrentCell": (norse.LIFRecurrentCell, (N, N), ("recurrent_cubalif", 2, 3, 1), None, 2),
    "LSNNRecurrent": (norse.LSNNRecurrent, (N, N), ("recurrent_alif", 3, 4, 1), 0, 3),
}


class Net(nn.Module):
    def __init__(self, cell: nn.Module, once: bool) -> None:
        super().__init__()
        self.fc1, self.cell, self.fc2, self.once = nn.Linear(IN, N), cell, nn.Linear(N, OUT), once

    def forward(self, x: Tensor) -> Tensor:  # (T, B, IN)
        if self.once:
            return self.fc2(self.cell(self.fc1(x))[0])
        state, out = None, []
        for now in x:
            spikes, state = self.cell(self.fc1(now), state)
            out.append(self.fc2(spikes))
        return torch.stack(out)


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_neuron(name: str) -> None:
    cls, args, costs, axis, states = EQUATIONS[name]
    torch.manual_seed(2)
    net, x = Net(cls(*args), axis == 0), 40 * torch.rand(T, B, IN)
    facts = neurons.facts_of(net.cell)
    assert facts is not None and facts.time_axis == axis
    update = facts.update_for(T)
    assert (update.op, update.multiplies, update.adds, update.compares) == costs
    assert facts.states == states and facts.reset == ("none" if costs[3] == 0 else "zero")
    assert (facts.synapses == "in forward") == ("Recurrent" in name)

    expected = by_hand(net, x)
    found = profile(net, [x], batch_dim=1)
    (row,) = [row for row in found.rows if row.name == "cell" and row.op == costs[0]]
    assert (found.samples, found.time_steps) == (B, T)
    assert row.output_nonzero == int(expected.sum())
    assert expected.any() or name == "Izhikevich"  # which is too slow for so few steps
    assert (row.neuron_mul, row.neuron_add) == (costs[1] * T * B * N, costs[2] * T * B * N)
    assert row.neuron_reset == (int(expected.sum()) if costs[3] else 0)
    assert row.state_elements == states * N
    fc2 = next(row for row in found.rows if row.name == "fc2")
    assert (fc2.ac if costs[3] else fc2.mac) == OUT * (int(expected.sum()) if costs[3] else T * B * N)
    assert torch.equal(record_spikes(net, x, batch_dim=1)["cell"], expected)
    inner = [row for row in found.rows if row.name == "cell" and row.op == "linear"]
    assert len(inner) == (2 if "Recurrent" in name else 0)
    for row in inner:
        if row.mac:  # of the currents that enter
            assert (row.ac, row.mac) == (0, T * B * N * N)
        else:  # of the spikes of the step before
            assert row.ac == N * int(expected[:-1].sum())


def by_hand(net: Net, x: Tensor) -> Tensor:
    """(T, B, N): what the neuron hands out in a plain call."""
    seen: list[Tensor] = []
    hook = net.cell.register_forward_hook(lambda module, args, out: seen.append(out[0] != 0))
    with torch.no_grad():
        net(x)
    hook.remove()
    return seen[0] if net.once else torch.stack(seen)


def test_a_membrane_at_rest_that_is_not_zero_is_one_more_addition() -> None:
    at_rest: Any = norse.LIFBoxCell(norse.LIFBoxParameters(v_leak=torch.tensor(0.25)))
    facts = neurons.facts_of(at_rest)
    assert facts is not None and facts.update_for(1).adds == 2


@pytest.mark.parametrize(
    "module",
    [norse.SequentialState(norse.LIF()), norse.Lift(norse.LIFCell()), norse.ConstantCurrentLIFEncoder(3)],
)
def test_containers_are_no_neurons(module: nn.Module) -> None:
    assert neurons.facts_of(module) is None


def test_state_is_handed_on_where_a_call_is_one_step() -> None:
    torch.manual_seed(0)
    step = norse.SequentialState(
        nn.Linear(IN, N), norse.LIFBoxCell(), nn.Linear(N, OUT), norse.LIFBoxCell(), nn.Linear(OUT, 3)
    )
    x, state, seen = 60 * torch.rand(T, B, IN), None, []
    hook = step[1].register_forward_hook(lambda module, args, out: seen.append(out[0] != 0))
    with torch.no_grad():
        for now in x:
            _, state = step(now, state)
        restarted = [step(now) for now in x]
    hook.remove()
    expected, from_rest = torch.stack(seen[:T]), torch.stack(seen[T:])
    assert len(restarted) == T and not torch.equal(expected, from_rest)
    found = profile(step, [x], layout="TB", strict=True)
    rows = {row.name: row for row in found.rows}
    assert (found.samples, found.time_steps) == (B, T)
    assert rows["1"].output_nonzero == int(expected.sum())
    assert rows["2"].ac == OUT * int(expected.sum())
    assert torch.equal(record_spikes(step, x, layout="TB")["1"], expected)


def test_state_that_ends_with_a_call_is_said() -> None:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.cell = nn.Linear(IN, N), norse.LIFCell()

        def forward(self, x: Tensor) -> Tensor:  # (B, IN)
            return self.cell(self.fc(x))[0]

    with pytest.raises(ConfigError, match=r"one step per call, and the state of 'cell' ends .*state=None"):
        profile(Step(), [torch.rand(T, B, IN)], layout="TB")
