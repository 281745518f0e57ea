"""sinabs' layers: (B, T, …) or folded, several spikes in a step, state in buffers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from needed import needed
from torch import Tensor, nn

from snn_energy.errors import DataError
from snn_energy.profiling import neurons, profile

needed("sinabs")

from sinabs import activation  # noqa: E402
from sinabs import layers as sl  # noqa: E402

T, B, IN, N, OUT = 4, 3, 5, 7, 2
ONE: dict[str, Any] = {"spike_fn": activation.SingleSpike}

# layer -> operations per element and step, variables per element, may it fire more than 1
EQUATIONS = [
    (lambda: sl.IAF(), ("if", 0, 1, 1), 1, True),
    (lambda: sl.IAF(**ONE), ("if", 0, 1, 1), 1, False),
    (lambda: sl.LIF(5.0, norm_input=False, **ONE), ("lif", 1, 1, 1), 1, False),
    (lambda: sl.LIF(5.0), ("lif", 2, 1, 1), 1, True),
    (lambda: sl.LIF(5.0, min_v_mem=-1.0), ("lif", 2, 1, 2), 1, True),
    (lambda: sl.LIF(5.0, tau_syn=2.0, norm_input=False), ("cubalif", 2, 2, 1), 2, True),
    (lambda: sl.ALIF(5.0, 5.0, norm_input=False), ("alif", 3, 2, 1), 3, False),
    (lambda: sl.ExpLeak(5.0), ("leaky_integrator", 1, 1, 0), 1, True),
    (lambda: sl.LIFRecurrent(5.0, nn.Linear(N, N), norm_input=False), ("recurrent_lif", 1, 2, 1), 1, True),
    (lambda: sl.IAFRecurrent(nn.Linear(N, N)), ("recurrent_if", 0, 2, 1), 1, True),
]


class Net(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.fc1, self.cell, self.fc2 = nn.Linear(IN, N), cell, nn.Linear(N, OUT)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, IN)
        return self.fc2(self.cell(self.fc1(x)))


def by_hand(net: Net, x: Tensor) -> Tensor:
    """What the layer hands out in a plain call of a copy at rest."""
    seen: list[Tensor] = []
    hook = net.cell.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        net(x)
    hook.remove()
    net.cell.reset_states()  # type: ignore[operator]
    return seen[0]


@pytest.mark.parametrize("case", range(len(EQUATIONS)))
def test_a_layer(case: int) -> None:
    make, costs, states, graded = EQUATIONS[case]
    torch.manual_seed(2)
    net, x = Net(make()), 12 * torch.rand(B, T, IN)
    facts = neurons.facts_of(net.cell)
    assert facts is not None and (facts.time_axis, facts.folded) == (1, False)
    update = facts.update_for(T)
    assert (update.op, update.multiplies, update.adds, update.compares) == costs
    assert (facts.states, update.graded) == (states, graded)
    assert (facts.synapses == "in layers") == ("recurrent" in update.op)
    assert facts.counts == (graded and update.compares > 0)

    out = by_hand(net, x)
    found = profile(net, [x], batch_dim=0, time_steps=T)
    rows = {row.name: row for row in found.rows if row.op == "linear" or row.name == "cell"}
    assert (found.samples, found.time_steps) == (B, T)
    assert rows["cell"].output_nonzero == int((out != 0).sum()) > 0
    assert rows["cell"].state_elements == states * N
    if costs[3]:  # spikes: n of them in a step are n events
        assert (rows["fc2"].ac, rows["fc2"].mac) == (OUT * int(out.sum()), 0)
        assert rows["fc2"].ac_by_step == tuple(OUT * int(out[:, t].sum()) for t in range(T))
        if facts.synapses:  # n spikes are n events there, too
            inner = next(row for row in found.rows if row.name == "cell.rec_connect")
            assert (inner.ac, inner.mac) == (N * int(out.sum()), 0)
    else:  # a membrane
        assert (rows["fc2"].ac, rows["fc2"].mac) == (0, OUT * B * T * N)


@pytest.mark.parametrize("drive", [6, 60])
def test_a_threshold_is_passed_several_times_in_a_step(drive: int) -> None:
    """Numbers of spikes have no bound: 50 in a step are 50 events, as 5 are 5."""
    torch.manual_seed(0)
    net, x = Net(sl.IAF()), drive * torch.rand(B, T, IN)
    with torch.no_grad():
        net.fc1.weight.abs_()
    out = by_hand(net, x)
    assert out.max() > (1 if drive == 6 else 30)
    fc2 = next(row for row in profile(net, [x], batch_dim=0, time_steps=T).rows if row.name == "fc2")
    assert fc2.ac == OUT * int(out.sum()) > fc2.ac_events == OUT * int((out != 0).sum())


@pytest.mark.parametrize("given", [{"num_timesteps": T}, {"batch_size": B}])
def test_a_squeezed_layer_says_how_steps_and_samples_lie(given: dict[str, int]) -> None:
    facts = neurons.facts_of(sl.IAFSqueeze(**given))
    assert facts is not None and facts.folded and facts.time_axis == 1
    assert (facts.steps, facts.samples) == (given.get("num_timesteps"), given.get("batch_size"))
    spikes = torch.arange(B * T * N).reshape(B * T, N)
    assert torch.equal(facts.by_step(spikes), spikes.view(B, T, N).transpose(0, 1))


def test_state_of_other_batches_is_not_drawn_from() -> None:
    """With another number of samples sinabs would draw states of the last ones at random."""
    torch.manual_seed(0)
    net, x = Net(sl.LIF(5.0)), 4 * torch.rand(B, T, IN)
    fresh = profile(net, [x], batch_dim=0, time_steps=T)
    with torch.no_grad():
        net(4 * torch.rand(B + 4, T, IN))
    before, random = net.cell.v_mem.clone(), torch.get_rng_state()  # type: ignore[operator]
    again = profile(net, [x, x], batch_dim=0, time_steps=T)
    assert torch.equal(net.cell.v_mem, before) and torch.equal(torch.get_rng_state(), random)  # type: ignore[arg-type]
    fc2 = [next(row for row in p.rows if row.name == "fc2") for p in (fresh, again)]
    assert fc2[1].ac == 2 * fc2[0].ac > 0


@pytest.mark.parametrize("given", [{"num_timesteps": T}, {"batch_size": B}])
def test_a_folded_input_has_labels_and_ends(given: dict[str, int]) -> None:
    """(B·T, N) in, (B·T, K) out: T entries are one sample, and one label."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(IN, N), sl.IAFSqueeze(**given), nn.Linear(N, OUT))
    x = 12 * torch.rand(B * T, IN)
    with torch.no_grad():
        labels = net(x).view(B, T, OUT).mean(1).argmax(1)
    labels[0] = 1 - labels[0]
    found = profile(net, [(x, labels)])
    assert (found.samples, found.time_steps) == (B, T)
    assert found.accuracy == pytest.approx((B - 1) / B)
    if "num_timesteps" in given:
        assert profile(net, [(x, labels)], max_samples=1).accuracy == 0
        with pytest.raises(
            DataError, match=rf"batch 2 has shape \({B * T - 1}, {IN}\).* multiple of T = {T}"
        ):
            profile(net, [x, x[1:]])
