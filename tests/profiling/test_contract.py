"""How a network is run, told or found out: axes, T, who loops, reset; counts beside plain loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from snn_energy import record_spikes, register_neuron
from snn_energy.errors import ConfigError, DataError
from snn_energy.profiling import neurons, profile
from tests.profiling.observed import total

T, B, IN, WIDE, OUT = 5, 3, 11, 7, 4


@pytest.fixture(autouse=True)
def forget() -> Any:
    """Nothing that a test registers outlives it."""
    yield
    neurons._REGISTERED.clear()
    neurons._NEAREST.clear()


def spikes(*shape: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


class Own(nn.Module):
    """v <- v/2 + x, s = 1 where v > 1, v <- v(1 - s); the membrane stays until `rest`."""

    def __init__(self) -> None:
        super().__init__()
        self.v: torch.Tensor | float = 0.0

    def rest(self) -> None:
        self.v = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.v = 0.5 * self.v + x
        s = (self.v > 1).float()
        self.v = self.v * (1 - s)
        return s


class Frames(nn.Module):
    """Layers around a neuron; `loop` says what the network does with time."""

    def __init__(self, cell: nn.Module, loop: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.cell, self.head = nn.Linear(IN, WIDE), cell, nn.Linear(WIDE, OUT, bias=False)
        self.fc.weight.data *= 4
        self.loop = loop

    def step(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(self.fc(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.loop == "caller":
            return self.step(x)
        if self.loop == "image":
            return torch.stack([self.step(x) for _ in range(T)]).mean(0)
        axis = {"first": 0, "second": 1, "last": -1}[self.loop]
        return torch.stack([self.step(frame) for frame in x.unbind(axis)]).mean(0)


def alone(net: Frames, frames: list[torch.Tensor]) -> list[torch.Tensor]:
    """The spikes of each step, by the equation."""
    v, fired = torch.zeros(()), []
    with torch.no_grad():
        for x in frames:
            v = 0.5 * v + net.fc(x)
            fired.append((v > 1).float())
            v = v * (1 - fired[-1])
    return fired


FRAMES = spikes(T, B, IN)
WAYS: dict[str, tuple[str, torch.Tensor, dict[str, Any], str]] = {
    "loops over the first axis, told": ("first", FRAMES, {"layout": "TB"}, "its own loop"),
    "loops over the first axis, batch axis told": ("first", FRAMES, {"batch_dim": 1}, "its own loop"),
    "loops over the first axis, found out": ("first", FRAMES, {}, "its own loop"),
    "loops over the second axis, told": ("second", FRAMES.transpose(0, 1), {"layout": "BT"}, "its own loop"),
    "loops over the second axis, found out": ("second", FRAMES.transpose(0, 1), {}, "its own loop"),
    "loops over the last axis": ("last", FRAMES.permute(1, 2, 0), {"layout": "BT-last"}, "its own loop"),
    "is called for each step": ("caller", FRAMES, {"layout": "TB"}, "one call per step"),
    "is called for each step of the second axis": (
        "caller", FRAMES.transpose(0, 1), {"layout": "BT"}, "one call per step",
    ),
    "is called for each step of the last axis": (
        "caller", FRAMES.permute(1, 2, 0), {"layout": "BT-last"}, "one call per step",
    ),
    "is called on the same image": ("caller", FRAMES[0], {"time_steps": T}, "one call per step"),
    "repeats its image": ("image", FRAMES[0], {}, "its own loop"),
    "repeats its image, T told": ("image", FRAMES[0], {"time_steps": T}, "its own loop"),
}  # fmt: skip
CELLS: dict[str, Callable[[], nn.Module]] = {
    "registered": Own,
    "of SpikingJelly": lambda: neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=1.0 + 1e-6),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_running_counts_the_same_steps(way: str, cell: str) -> None:
    register_neuron(Own, op="lif", time_axis=None)
    loop, x, told, words = WAYS[way]
    net = Frames(CELLS[cell](), loop)
    still = x.dim() == 2
    fired = alone(net, [x] * T if still else list(FRAMES))
    measured = profile(net, [x], strict=True, **told)
    assert (measured.samples, measured.time_steps) == (B, T)
    (row,) = [r for r in measured.rows if r.name == "cell"]
    assert row.output_nonzero_by_step == tuple(int(s.sum()) for s in fired)
    assert total(measured, "head", "ac") == sum(int(s.sum()) for s in fired) * OUT > 0
    assert total(measured, "fc", "ac") == (int(x.sum()) if still else int(FRAMES.sum())) * WIDE
    assert words in measured.contract and f"T = {T}" in measured.contract
    recorded = record_spikes(net, x, **told)["cell"]
    assert torch.equal(recorded, torch.stack(fired) != 0)


def test_what_was_settled_is_said_with_its_source() -> None:
    register_neuron(Own, op="lif", time_axis=None)
    line = profile(Frames(Own(), "first"), [FRAMES], layout="TB").contract
    assert line == (
        "1 neuron (declared: Own) · T = 5 (known: the data's) · its own loop (observed) · "
        "batch axis 1 (declared: layout TB) · reset by putting back what modules held (assumed)"
    )
    line = profile(Frames(neuron.LIFNode(), "image"), [FRAMES[0]]).contract
    assert line == (
        "1 neuron (known: spikingjelly.LIFNode) · T = 5 (observed: calls per forward) · "
        "its own loop (observed) · batch axis 0 (assumed) · "
        "reset by spikingjelly's functional.reset_net (known)"
    )
    assert "no neuron found (observed)" in profile(nn.Linear(IN, OUT), [FRAMES[0]]).contract


def test_batches_start_from_rest_and_leave_no_trace() -> None:
    net = Frames(Own(), "caller")
    once = profile(net, [FRAMES[0]], time_steps=T)
    thrice = profile(net, [FRAMES[0]] * 3, time_steps=T)
    assert total(thrice, "head", "ac") == 3 * total(once, "head", "ac") > 0
    assert net.cell.v == 0.0
    net.step(FRAMES[1])
    before = net.cell.v.clone()
    measured = profile(net, [FRAMES[0]], time_steps=T)
    assert torch.equal(net.cell.v, before)
    assert any("'cell.v' held values when profiling began" in note for note in measured.notes)
    register_neuron(Own, op="lif", time_axis=None, reset="rest")
    measured = profile(net, [FRAMES[0]], time_steps=T)
    assert total(measured, "head", "ac") == total(once, "head", "ac")
    assert torch.equal(net.cell.v, before) and measured.notes == ()


def test_state_out_of_reach_is_found_by_a_second_look() -> None:
    state: dict[str, Any] = {"v": 0.0}

    class Outside(Own):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.v = state["v"]
            s = super().forward(x)
            state["v"] = self.v
            return s

    def weak() -> Frames:
        net = Frames(Outside(), "image")
        net.fc.weight.data /= 4  # a spike takes several steps: where the membrane starts makes a difference
        return net

    with pytest.raises(ConfigError, match="state survives the reset: 'cell' puts out"):
        profile(weak(), [FRAMES[0]])
    state["v"] = 0.0
    profile(weak(), [FRAMES[0]], check=False)


def test_chance_is_no_state_and_goes_on_as_if_nothing_had_been() -> None:
    class Poisson(Frames):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward((torch.rand(x.shape) < 0.4).float())

    torch.manual_seed(3)
    profile(Poisson(neuron.LIFNode(), "image"), [FRAMES[0]])
    torch.manual_seed(3)
    with torch.no_grad():
        net = Poisson(neuron.LIFNode(), "image").eval()
    torch.manual_seed(3)
    measured = profile(net, [FRAMES[0]])
    after = torch.rand(4)
    torch.manual_seed(3)
    drawn = (torch.rand(FRAMES[0].shape) < 0.4).float()
    assert total(measured, "fc", "ac") == T * int(drawn.sum()) * WIDE  # drawn, so not taken for still
    assert torch.equal(torch.rand(4), after)


def test_a_neuron_that_nobody_knows_is_hinted_at_with_the_line_to_write() -> None:
    measured = profile(Frames(Own(), "image"), [FRAMES[0]])
    (note,) = [note for note in measured.notes if "behaves like a neuron" in note]
    assert "'cell' behaves like a neuron" in note and 'register_neuron(Own, op="lif")' in note
    assert not measured.neurons and "no neuron found" in measured.contract
    told = profile(Frames(Own(), "image"), [FRAMES[0]], neurons={"Own": "lif"})
    assert [row.name for row in told.neurons] == ["cell"]
    assert not profile(Frames(Own(), "image"), [FRAMES[0]]).neurons  # for the time of that profile only


def test_a_network_may_write_into_its_input() -> None:
    class Writes(Frames):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.mul_(0)
            return super().forward(x)

    x = FRAMES[0].clone()
    measured = profile(Writes(neuron.LIFNode(), "image"), [x])
    assert total(measured, "fc", "ac") == 0
    fed = FRAMES[0].clone()
    seen: list[torch.Tensor] = []

    class Keeps(Frames):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.clone())
            x.zero_()
            return super().forward(x)

    profile(Keeps(neuron.LIFNode(), "image"), [fed])
    assert all(x.any() for x in seen)  # each look had the data as they came


CONTRADICTIONS: dict[str, tuple[str, torch.Tensor, dict[str, Any], str]] = {
    "another T than the loop's": (
        "image", FRAMES[0], {"time_steps": 4},
        r"time_steps = 4 contradicts the network: 'fc' is called 5 times per forward",
    ),
    "another T than the data's": (
        "first", FRAMES, {"layout": "TB", "time_steps": 4},
        r"time_steps = 4 contradicts the input \(5, 3, 11\), which has 5 steps along axis 0",
    ),
    "a layout that there is not": ("first", FRAMES, {"layout": "TBC"}, "layout = 'TBC': must be one of B"),
    "a layout and another axis": (
        "first", FRAMES, {"layout": "TB", "batch_dim": 0}, "layout = 'TB' has its samples along axis 1",
    ),
    "a layout without room": (
        "first", FRAMES[0, 0], {"layout": "BT"}, r"layout = 'BT' needs more dimensions than .* \(11,\)",
    ),
    "a neuron that is none": (
        "first", FRAMES, {"neurons": {"Lif": "lif"}}, "neuron 'Lif': the network has no module of this class",
    ),
    "an update that is none": (
        "first", FRAMES, {"neurons": {"LIFNode": "fli"}}, "unknown neuron 'fli'",
    ),
    "an axis that may be time": (
        "caller", FRAMES.transpose(0, 1), {"time_steps": T, "batch_dim": 0},
        r"axis 1 of the input \(3, 5, 11\) is as long as T = 5: give layout='BT'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_a_contradiction_names_both(what: str) -> None:
    loop, x, told, message = CONTRADICTIONS[what]
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        profile(Frames(neuron.LIFNode(), loop), [x], **told)
    assert "\n" not in str(caught.value)


def test_steps_as_many_as_samples_are_told_apart_by_halves() -> None:
    x = spikes(4, 4, IN)
    measured = profile(Frames(neuron.LIFNode(), "first"), [x])
    assert (measured.samples, measured.time_steps) == (4, 4)
    assert "batch axis 1 (observed" in measured.contract
    turned = profile(Frames(neuron.LIFNode(), "second"), [x.transpose(0, 1)])
    assert "batch axis 0 (observed" in turned.contract
    assert total(turned, "head", "ac") == total(measured, "head", "ac") > 0


def test_layers_that_run_often_without_a_neuron_ask_for_t() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 5), nn.Linear(5, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.shared(self.two(self.one(self.shared(x))))

    measured = profile(Twice(), [torch.rand(B, 6)])
    assert measured.time_steps == 1
    assert any("'shared' runs 2 times per forward" in note for note in measured.notes)
    assert profile(Twice(), [torch.rand(B, 6)], time_steps=1).notes == ()


# -- what a network records ----------------------------------------------------------------------------------


class Records(Frames):
    """Shows its spikes in attributes, as networks do whose authors look at them."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__(cell, "first")
        self.maps: list[torch.Tensor] = []
        self.last: torch.Tensor | None = None

    def step(self, x: torch.Tensor) -> torch.Tensor:
        self.last = self.shown = self.cell(self.fc(x))
        self.maps.append(self.last)
        return self.head(self.last)


def test_what_a_network_records_can_be_read_afterwards() -> None:
    net = Records(neuron.IFNode())
    profile(net, [FRAMES])
    fired = record_spikes(net, FRAMES)["cell"]
    assert torch.equal(net.shown != 0, fired[-1]) and net.last is net.shown
    assert torch.equal(torch.stack(net.maps) != 0, fired)


class Lazy(Own):
    """Its membrane comes into being with the first step: `None`, or no attribute at all, before."""

    def __init__(self, attribute: bool) -> None:
        super().__init__()
        del self.v
        if attribute:
            self.v = None  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.past = x
        if getattr(self, "v", None) is None:
            self.v = torch.zeros_like(x)
        return super().forward(x)


@pytest.mark.parametrize("attribute", [True, False])
def test_state_is_put_back_beside_records(attribute: bool) -> None:
    net = Records(Lazy(attribute))
    once = profile(net, [FRAMES])
    twice = profile(net, [FRAMES, FRAMES])
    assert total(twice, "head", "ac") == 2 * total(once, "head", "ac") > 0
    assert getattr(net.cell, "v", None) is None and hasattr(net.cell, "v") is attribute
    assert net.last is net.shown and net.cell.past.shape == (B, WIDE)
