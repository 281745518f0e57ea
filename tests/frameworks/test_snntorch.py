"""snnTorch's neurons: what a step of each costs, where its spikes are, how it comes to rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from needed import needed
from spikingjelly.activation_based import neuron as sj
from torch import Tensor, nn

from snn_energy.profiling import neurons, profile, record_spikes

needed("snntorch")

import snntorch as snn  # noqa: E402
from snntorch import utils  # noqa: E402

T, B, IN, N, OUT = 4, 3, 5, 7, 2

# class and arguments -> operations per element and step, variables per element, what resets the membrane
EQUATIONS = [
    (snn.Leaky, {"beta": 0.9}, ("lif", 1, 1, 1), 1, "subtract"),
    (snn.Leaky, {"beta": 0.9, "reset_mechanism": "none"}, ("lif", 1, 1, 1), 1, "none"),
    (snn.Synaptic, {"alpha": 0.9, "beta": 0.8}, ("cubalif", 2, 2, 1), 2, "subtract"),
    (snn.Lapicque, {"beta": 0.9}, ("lapicque", 2, 1, 1), 1, "subtract"),
    (snn.Alpha, {"alpha": 0.9, "beta": 0.8}, ("alpha", 3, 3, 1), 3, "zero"),
    (snn.RLeaky, {"beta": 0.9, "linear_features": N}, ("recurrent_lif", 1, 2, 1), 1, "subtract"),
    (snn.RLeaky, {"beta": 0.9, "all_to_all": False}, ("recurrent_lif", 1, 2, 1), 1, "subtract"),
    (
        snn.RSynaptic,
        {"alpha": 0.9, "beta": 0.8, "linear_features": N},
        ("recurrent_cubalif", 2, 3, 1),
        2,
        "subtract",
    ),
    (snn.SLSTM, {"input_size": N, "hidden_size": N, "threshold": 0.1}, ("slstm", 0, 0, 1), 2, "none"),
]


@pytest.mark.parametrize(("cls", "given", "costs", "states", "reset"), EQUATIONS)
@pytest.mark.parametrize("form", ["returned", "hidden", "hidden, put out"])
def test_a_neuron_in_a_loop(
    cls: Any, given: dict[str, Any], costs: Any, states: int, reset: str, form: str
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(IN, N), nn.Linear(N, OUT)
            self.cell = cls(**given, init_hidden=form != "returned", output=form == "hidden, put out")

        def forward(self, x: Tensor) -> Tensor:  # (T, B, IN)
            state: tuple[Any, ...] = ()
            out = torch.zeros(x.shape[1], OUT)
            for now in x:
                spikes = self.cell(self.fc1(now), *state)
                if isinstance(spikes, tuple):
                    spikes, state = spikes[0], spikes[1:] if form == "returned" else ()
                    if "recurrent" in costs[0] and form == "returned":
                        state = (spikes, *state)
                out = out + self.fc2(spikes)
            return out

    torch.manual_seed(3)
    net, x = Net(), 20 * torch.rand(T, B, IN)
    facts = neurons.facts_of(net.cell)
    assert facts is not None and facts.time_axis is None
    update = facts.update_for(T)
    assert (update.op, update.multiplies, update.adds, update.compares) == costs
    assert (facts.states, facts.reset) == (states, reset)
    inside = "recurrent" in costs[0] or costs[0] == "slstm"
    assert (facts.synapses == "in layers") == inside

    expected = spikes_by_hand(net, x)
    assert 0 < expected.sum() < expected.numel()
    utils.reset(net)
    found = profile(net, [x], batch_dim=1)
    (row,) = [row for row in found.rows if row.name == "cell"]
    assert (found.samples, found.time_steps) == (B, T)
    assert row.output_nonzero == int(expected.sum())
    assert (row.neuron_mul, row.neuron_add) == (costs[1] * T * B * N, costs[2] * T * B * N)
    assert row.neuron_reset == (0 if reset == "none" else int(expected.sum()))
    assert row.state_elements == states * N
    fc2 = next(row for row in found.rows if row.name == "fc2")
    assert (fc2.ac, fc2.mac) == (OUT * int(expected.sum()), 0)
    assert torch.equal(record_spikes(net, x, batch_dim=1)["cell"], expected)
    if "linear_features" in given:  # spikes of the step before
        inner = next(row for row in found.rows if row.name == "cell.recurrent")
        assert (inner.ac, inner.mac, inner.dense_macs) == (N * int(expected[:-1].sum()), 0, T * B * N * N)
        assert inner.ac_by_step == (0, *(N * int(step.sum()) for step in expected[:-1]))
    if costs[0] == "slstm":  # four gates, of the input and of the state
        inner = [row.dense_macs for row in found.rows if row.op == "linear" and "lstm" in row.name]
        assert inner == [4 * T * B * N * N] * 2


def spikes_by_hand(net: nn.Module, x: Tensor) -> Tensor:
    """What the network's neuron hands out in a plain call, step by step."""
    seen: list[Tensor] = []
    hook = net.cell.register_forward_hook(
        lambda module, args, out: seen.append((out[0] if isinstance(out, tuple) else out) != 0)
    )
    with torch.no_grad():
        net(x)
    hook.remove()
    return torch.stack(seen)


class Hidden(nn.Module):
    """Nothing in it resets anything."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(IN, N), snn.Leaky(beta=0.9, init_hidden=True)
        self.fc2, self.lif2 = nn.Linear(N, OUT), snn.Synaptic(0.9, 0.8, init_hidden=True)

    def forward(self, x: Tensor) -> Tensor:  # (T, B, IN)
        return torch.stack([self.lif2(self.fc2(self.lif1(self.fc1(now)))) for now in x])


def held(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.named_buffers() if "mem" in name or "syn" in name}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_state_left_by_others_does_not_count_and_is_put_back() -> None:
    torch.manual_seed(0)
    net, x = Hidden(), 2 * torch.rand(T, B, IN)
    fresh = profile(net, [x], batch_dim=1)
    with torch.no_grad():
        net(3 * torch.rand(T, B, IN))
    before = held(net)
    assert any(bool(tensor.any()) for tensor in before.values())
    again = profile(net, [x, x[:, :2]], batch_dim=1)
    assert same(held(net), before)
    fc2 = [next(row for row in p.rows if row.name == "fc2") for p in (fresh, again)]
    cut = profile(net, [x[:, :2]], batch_dim=1)
    assert fc2[1].ac == fc2[0].ac + next(row for row in cut.rows if row.name == "fc2").ac


def test_other_networks_in_the_process_keep_their_state() -> None:
    """snnTorch keeps lists of all neurons ever made, and `utils.reset` clears them all."""
    torch.manual_seed(0)
    net, other, x = Hidden(), Hidden(), 2 * torch.rand(T, B, IN)
    with torch.no_grad():
        other(x)
    before = held(other)
    profile(net, [x], batch_dim=1)
    assert same(held(other), before)
    assert snn.SpikingNeuron.instances  # the trap stands
    utils.reset(net)
    assert not same(held(other), before)


@pytest.mark.parametrize("framework", ["snntorch", "spikingjelly"])
def test_a_membrane_that_the_network_reads_is_a_current(framework: str) -> None:
    """What a neuron holds was made in it, and not out of sight."""
    hidden = framework == "snntorch"

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(IN, N), nn.Linear(N, OUT)
            self.lif = snn.Leaky(beta=0.9, init_hidden=True) if hidden else sj.LIFNode()

        def forward(self, x: Tensor) -> Tensor:  # (T, B, IN)
            for now in x:
                self.lif(self.fc1(now))
            return self.fc2(self.lif.mem if hidden else self.lif.v)

    torch.manual_seed(0)
    found = profile(Net(), [2 * torch.rand(T, B, IN)], layout="TB", strict=True)
    assert [(row.name, row.mac) for row in found.rows if row.op == "linear"] == [
        ("fc1", T * B * IN * N),
        ("fc2", B * N * OUT),
    ]


def test_scaled_spikes_are_graded() -> None:
    net = nn.Sequential(nn.Linear(IN, N), snn.Leaky(beta=0.9, graded_spikes_factor=2.5, init_hidden=True))
    facts = neurons.facts_of(net[1])
    assert facts is not None
    update = facts.update_for(1)
    assert update.graded and update.multiplies == 2


def test_all_steps_at_once() -> None:
    """StateLeaky takes (T, B, C) and returns spikes and membranes."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.cell = nn.Linear(IN, N), snn.StateLeaky(beta=0.7, channels=N)
            self.fc2 = nn.Linear(N, OUT)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(self.cell(self.fc1(x))[0])

    torch.manual_seed(1)
    net, x = Net(), 3 * torch.rand(T, B, IN)
    expected = spikes_by_hand(net, x)[0]
    found = profile(net, [x], batch_dim=1)
    rows = {row.name: row for row in found.rows}
    assert found.time_steps == T and 0 < expected.sum() < expected.numel()
    assert rows["cell"].output_nonzero_by_step == tuple(int(step.sum()) for step in expected)
    assert rows["fc2"].ac == OUT * int(expected.sum())
    assert torch.equal(record_spikes(net, x, batch_dim=1)["cell"], expected)


@pytest.mark.parametrize("time_steps", [3, T])
def test_a_still_image_as_in_the_tutorials(time_steps: int) -> None:
    """The script calls the network T times on the same image and adds up; the first layer is charged once."""
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.MaxPool2d(2),
        snn.Leaky(0.9, init_hidden=True),
        nn.Flatten(),
        nn.Linear(3 * 2 * 3, OUT),
        snn.Leaky(0.9, init_hidden=True, output=True),
    )
    torch.manual_seed(0)
    x, seen = 4 * torch.rand(B, 2, 6, 8), []
    hook = net[2].register_forward_hook(lambda module, args, out: seen.append(out != 0))
    with torch.no_grad():
        for _ in range(time_steps):
            net(x)
    hook.remove()
    found = profile(net, [(x, torch.arange(B) % OUT)], time_steps=time_steps, strict=True)
    rows = {row.name: row for row in found.rows}
    assert (found.samples, found.time_steps) == (B, time_steps) and found.accuracy is not None
    macs = B * 3 * 4 * 6 * 2 * 9
    assert (rows["0"].mac, rows["0"].mac_executed) == (macs, time_steps * macs)
    expected = torch.stack(seen)
    assert rows["2"].output_nonzero_by_step == tuple(int(step.sum()) for step in expected)
    assert rows["4"].ac == OUT * int(expected.sum()) > 0
