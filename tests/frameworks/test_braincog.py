"""BrainCog's nodes, from its `node.py` alone: the package around it wants tonic, pygame and more."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from needed import needed
from torch import Tensor, nn

from snn_energy.profiling import neurons, profile, record_spikes

needed("braincog", "einops")

T, B, IN, N, OUT = 4, 3, 5, 7, 2


@pytest.fixture
def node(braincog_node: Any) -> Any:
    """`braincog.base.node.node`."""
    return braincog_node


class Net(nn.Module):
    """T steps of a still image, as BrainCog's networks take it: a loop, or all steps as samples."""

    def __init__(self, cell: nn.Module, together: bool) -> None:
        super().__init__()
        self.fc1, self.cell, self.fc2, self.together = nn.Linear(IN, N), cell, nn.Linear(N, OUT), together

    def forward(self, x: Tensor) -> Tensor:  # (B, IN)
        if self.together:
            return self.fc2(self.cell(self.fc1(x.repeat(T, 1)))).view(T, -1, OUT).mean(0)
        return torch.stack([self.fc2(self.cell(self.fc1(x))) for _ in range(T)]).mean(0)


COSTS = {
    "IFNode": ("if", 0, 1, 1),
    "LIFNode": ("lif", 1, 1, 1),
    "PLIFNode": ("plif", 1, 1, 1),
    "BiasLIFNode": ("bias_lif", 1, 2, 1),
    "BurstLIFNode": ("burst_lif", 2, 1, 2),
    "NoiseLIFNode": ("noise_lif", 1, 2, 1),
    "IzhNode": ("izhikevich", 6, 6, 1),
}


@pytest.mark.parametrize("name", COSTS)
def test_what_a_step_costs(node: Any, name: str) -> None:
    facts = neurons.facts_of(getattr(node, name)())
    assert facts is not None and facts.time_axis is None
    update = facts.update_for(1)
    assert (update.op, update.multiplies, update.adds, update.compares) == COSTS[name]
    assert facts.states == (2 if name == "IzhNode" else 1)


def test_a_rectifier_is_no_neuron(node: Any) -> None:
    assert neurons.facts_of(node.ReLUNode()) is None


@pytest.mark.parametrize("together", [False, True])
def test_a_network(node: Any, together: bool) -> None:
    torch.manual_seed(0)
    net = Net(node.LIFNode(step=T, layer_by_layer=together), together)
    x = 6 * torch.rand(B, IN)
    v, expected = torch.zeros(B, N), []
    with torch.no_grad():
        for _ in range(T):
            v = v + (net.fc1(x) - v) / 2
            expected.append(v >= 0.5)
            v = v * ~expected[-1]
    spikes = torch.stack(expected)
    for _ in range(2):  # the second from rest as the first
        found = profile(net, [x], time_steps=T)
        rows = {row.name: row for row in found.rows if row.name}
        assert (found.samples, found.time_steps) == (B, T)
        assert rows["cell"].output_nonzero == int(spikes.sum()) > 0
        assert rows["fc2"].ac == OUT * int(spikes.sum())
        assert rows["fc2"].ac_by_step == tuple(OUT * int(step.sum()) for step in spikes)
    assert net.cell.mem == 0.0


@pytest.mark.parametrize("together", [False, True])
def test_spikes_are_recorded_by_step(node: Any, together: bool) -> None:
    torch.manual_seed(0)
    net = Net(node.LIFNode(step=T, layer_by_layer=together), together)
    recorded = record_spikes(net, 6 * torch.rand(B, IN), time_steps=T)["cell"]
    assert recorded.shape == (T, B, N)
