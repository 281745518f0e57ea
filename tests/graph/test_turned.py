"""Time in front: networks that keep samples first compute the same, and their layers see (T, B, …)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from snn_energy.graph import nodes as n
from snn_energy.graph.capture import capture
from snn_energy.graph.interpret import run

T, B, C, H, W = 4, 3, 2, 5, 6
ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda y: y,
    "mean over time": lambda y: y.mean(1),
    "mean over samples and time": lambda y: y.mean((0, 1)),
    "a mean inside": lambda y: y.unflatten(2, (2, 2)).mean(3),
    "the last step": lambda y: y[:, -1],
    "turned": lambda y: y.transpose(0, 1),
    "twice": lambda y: y + y.mean(1, keepdim=True),
}


class SamplesFirst(nn.Module):
    """(B, T, …) all along, turned before and after every neuron."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.fc, self.end = nn.Conv2d(C, 3, 3), nn.Linear(3 * (H - 2) * (W - 2), 4), end
        self.lif, self.lif2 = neuron.LIFNode(step_mode="m"), neuron.LIFNode(step_mode="m")
        self.shift = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        y = self.lif(3 * y.transpose(0, 1)).transpose(0, 1)
        y = self.fc(y.flatten(2)) * 2 + self.shift
        return self.end(self.lif2(y.transpose(0, 1)).transpose(0, 1))


@pytest.mark.parametrize("name", ENDS)
def test_the_same_is_computed_on_time_first(name: str) -> None:
    torch.manual_seed(0)
    model = SamplesFirst(ENDS[name]).eval()
    x = 2 * torch.rand(B, T, C, H, W)
    graph = capture(model, x)
    held = run(graph, x, dtype=torch.float64)
    with torch.no_grad():
        wanted = model.double()(x.double())
    torch.testing.assert_close(held[graph.outputs[0]], wanted, rtol=1e-9, atol=1e-9)
    (linear,) = graph.of_type(n.Linear)
    assert linear.shape[:2] == ("T", "B") and 0 < held["lif2"].mean() < 1
    for node in graph:
        assert tuple(held[node.name].shape[:1]) == (
            {"T": T, "B": B}.get(str(node.shape[0]), held[node.name].shape[0]),
        )
