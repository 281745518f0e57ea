"""lava-dl and old SpikingJelly cannot be installed beside us: stand-ins of their names and manners.

lava-dl's SLAYER is not on PyPI, SpikingJelly 0.0.0.0.12 is another version of what we need.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_energy import frameworks
from snn_energy.profiling import neurons, profile, record_spikes

T, B, IN, N, OUT = 6, 3, 5, 7, 2


def spikes_of(current: Tensor, decay_u: float, decay_v: float) -> Tensor:
    """u = (1 - α_u) u + x, v = (1 - α_v) v + u, spikes where v ≥ 1, over the first axis."""
    u, v, out = torch.zeros_like(current[0]), torch.zeros_like(current[0]), []
    for now in current:
        u = (1 - decay_u) * u + now
        v = (1 - decay_v) * v + u
        out.append((v >= 1).float())
        v = v * (1 - out[-1])
    return torch.stack(out)


class Neuron(nn.Module):
    """As `slayer.neuron.cuba.Neuron`: time last, state of the last call in buffers if it persists."""

    def __init__(self, persistent_state: bool = False) -> None:
        super().__init__()
        self.threshold, self.persistent_state, self.norm = 1.0, persistent_state, None
        self.register_buffer("current_state", torch.zeros(1), persistent=False)
        self.register_buffer("voltage_state", torch.zeros(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, …, T)
        drive = x.movedim(-1, 0).clone()
        drive[0] += self.current_state
        if self.persistent_state:
            self.current_state = x[..., -1].clone()
        return spikes_of(drive, 0.5, 0.25).movedim(0, -1)


@pytest.fixture
def slayer() -> Iterator[type[nn.Module]]:
    """The class above where lava-dl has its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "lava",
            "lava.lib",
            "lava.lib.dl",
            "lava.lib.dl.slayer",
            "lava.lib.dl.slayer.neuron.cuba",
        ):
            patch.setitem(sys.modules, name, ModuleType(name))
        patch.setattr(Neuron, "__module__", "lava.lib.dl.slayer.neuron.cuba")
        yield Neuron


class TimeLast(nn.Module):
    """A linear layer as SLAYER's blocks have it: a convolution over (C, 1, 1, T)."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.fc1, self.cell, self.fc2 = nn.Conv3d(IN, N, 1), cell, nn.Conv3d(N, OUT, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, 1, 1, T)
        return self.fc2(self.cell(self.fc1(x)))


@pytest.mark.parametrize("persistent", [False, True])
def test_time_last(slayer: Any, persistent: bool) -> None:
    torch.manual_seed(1)
    net, x = TimeLast(slayer(persistent)), (torch.rand(B, IN, 1, 1, T) < 0.5).float()
    facts = neurons.facts_of(net.cell)
    assert facts is not None and facts.time_axis == -1 and facts.states == 2
    assert facts.update_for(T).op == "cubalif" and facts.update_for(T).multiplies == 2
    assert neurons.whose(net.cell) == ("known", "slayer.neuron.cuba")
    with torch.no_grad():
        expected = spikes_of(net.fc1(x).movedim(-1, 0), 0.5, 0.25)
    for _ in range(2):  # from rest each time
        found = profile(net, [x, x], time_steps=T)
        rows = {row.name: row for row in found.rows}
        assert (found.samples, found.time_steps) == (2 * B, T)
        assert rows["fc1"].ac == 2 * N * int(x.sum())
        assert rows["cell"].output_nonzero == 2 * int(expected.sum()) > 0
        assert rows["fc2"].ac == 2 * OUT * int(expected.sum())
    assert net.cell.current_state.shape == (1,)


def test_time_last_is_recorded_time_first(slayer: Any) -> None:
    torch.manual_seed(1)
    net, x = TimeLast(slayer()), (torch.rand(B, IN, 1, 1, T) < 0.5).float()
    with torch.no_grad():
        expected = spikes_of(net.fc1(x).movedim(-1, 0), 0.5, 0.25)
    assert torch.equal(record_spikes(net, x, time_steps=T)["cell"], expected.bool())


@pytest.fixture
def old() -> Iterator[Any]:
    """`spikingjelly.clock_driven.neuron`, as far as it matters here: memories, no `step_mode`."""

    class LIFNode(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._memories: dict[str, Any] = {"v": 0.0, "v_threshold": 1.0, "v_reset": None}

        def __getattr__(self, name: str) -> Any:
            memories = self.__dict__.get("_memories", {})
            return memories[name] if name in memories else super().__getattr__(name)

        def reset(self) -> None:
            self._memories["v"] = 0.0

        def step(self, x: Tensor) -> Tensor:
            v = self._memories["v"] + (x - self._memories["v"]) / 2
            spikes = (v >= 1).to(x)
            self._memories["v"] = v - spikes
            return spikes

        def forward(self, x: Tensor) -> Tensor:
            return self.step(x)

    class MultiStepLIFNode(LIFNode):
        def __init__(self) -> None:
            super().__init__()
            self._memories["v_seq"] = None

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.step(now) for now in x])

    with pytest.MonkeyPatch.context() as patch:
        for cls in (LIFNode, MultiStepLIFNode):
            patch.setattr(cls, "__module__", "spikingjelly.clock_driven.neuron")
        yield SimpleNamespace(LIFNode=LIFNode, MultiStepLIFNode=MultiStepLIFNode)


@pytest.mark.parametrize("together", [False, True])
def test_old_spikingjelly(old: Any, together: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            cell = old.MultiStepLIFNode() if together else old.LIFNode()
            self.fc1, self.cell, self.fc2 = nn.Linear(IN, N), cell, nn.Linear(N, OUT)

        def forward(self, x: Tensor) -> Tensor:  # (T, B, IN)
            if together:
                return self.fc2(self.cell(self.fc1(x)))
            return torch.stack([self.fc2(self.cell(self.fc1(now))) for now in x])

    torch.manual_seed(4)
    net, x = Net(), 4 * torch.rand(T, B, IN)
    facts = neurons.facts_of(net.cell)
    assert facts is not None and facts.time_axis == (0 if together else None)
    assert (facts.update_for(T).op, facts.states, facts.reset) == ("lif", 1, "subtract")
    v, spikes = torch.zeros(B, N), []
    with torch.no_grad():
        for now in x:
            v = v + (net.fc1(now) - v) / 2
            spikes.append(v >= 1)
            v = v - spikes[-1].float()
    expected = torch.stack(spikes)
    for _ in range(2):
        found = profile(net, [x], batch_dim=1)
        rows = {row.name: row for row in found.rows}
        assert (found.samples, found.time_steps) == (B, T)
        assert rows["fc2"].ac == OUT * int(expected.sum()) > 0
        assert rows["cell"].output_nonzero_by_step == tuple(int(step.sum()) for step in expected)
    assert torch.equal(record_spikes(net, x, batch_dim=1)["cell"], expected)


def test_an_adapter_is_imported_only_where_its_framework_is() -> None:
    packages = {framework.package for framework in frameworks.imported()}
    assert packages <= set(sys.modules) and "spikingjelly" in packages
