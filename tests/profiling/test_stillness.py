"""Charged once: only where a layer was seen to get the same input, by the same weights, at every step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from observed import counted, elements, entering, nonzeros, row_of, total
from spikingjelly.activation_based import functional, layer, neuron, rnn
from torch import nn
from torch.nn import functional as F

from snn_energy.profiling import profile

T, B, IN, HIDDEN, OUT = 5, 3, 7, 11, 4


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class Cell(nn.Module):
    """A hand-written neuron between two layers; `style` says where and how it keeps its membrane."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style = style
        self.membrane = None
        self.memory: dict[str, torch.Tensor] = {}
        self.register_buffer("v", torch.zeros(B, HIDDEN))
        self.register_buffer("threshold", torch.full((HIDDEN,), 0.6))

    def rest(self) -> None:
        self.membrane, self.memory = None, {}
        self.v = torch.zeros(B, HIDDEN)

    def forward(self, current: torch.Tensor) -> torch.Tensor:
        return getattr(self, self.style)(current)

    def attribute(self, current: torch.Tensor) -> torch.Tensor:
        old = torch.zeros_like(current) if self.membrane is None else self.membrane
        self.membrane = 0.5 * old + 0.5 * current
        spikes = (self.membrane >= self.threshold).to(current.dtype)
        self.membrane = torch.where(spikes > 0, torch.zeros_like(current), self.membrane)
        return spikes

    def entry(self, current: torch.Tensor) -> torch.Tensor:
        self.memory["v"] = self.memory.get("v", 0.0) + current
        spikes = self.memory["v"].gt(self.threshold).float()
        self.memory["v"] = self.memory["v"].sub(spikes * self.threshold)
        return spikes

    def buffer(self, current: torch.Tensor) -> torch.Tensor:
        self.v = self.v * 0.75 + current
        spikes = torch.heaviside(self.v - self.threshold, torch.zeros(1))
        self.v = self.v.masked_fill(spikes.bool(), 0.0)
        return spikes

    def in_place(self, current: torch.Tensor) -> torch.Tensor:
        self.v.mul_(0.5).add_(current)
        spikes = torch.zeros_like(self.v)
        spikes[self.v > self.threshold] = 1.0
        self.v[spikes > 0] = 0.0
        return spikes

    def through_data(self, current: torch.Tensor) -> torch.Tensor:
        self.v.data = self.v.data * 0.5 + current
        spikes = (self.v > self.threshold).float()
        self.v.data *= 1 - spikes
        return spikes

    def into_out(self, current: torch.Tensor) -> torch.Tensor:
        torch.mul(self.v, 0.5, out=self.v)
        torch.add(self.v, current, out=self.v)
        spikes = (self.v > self.threshold).float()
        torch.mul(self.v, 1 - spikes, out=self.v)
        return spikes

    def adaptive(self, current: torch.Tensor) -> torch.Tensor:
        """An ALIF: the threshold grows with every spike, and decays."""
        v, a = self.memory.get("va", (0.0, 0.0))
        v = 0.9 * v + current
        spikes = (v - (self.threshold + 0.4 * a) > 0).float()
        self.memory["va"] = v - spikes * self.threshold, 0.8 * a + spikes
        return spikes

    def delay(self, current: torch.Tensor) -> torch.Tensor:
        """Fires if the mean of the last three currents is large: a state without arithmetic of its own."""
        last = self.memory.get("d", torch.zeros(3, *current.shape))
        self.memory["d"] = torch.cat((last[1:], current[None]))
        return (self.memory["d"].mean(0) > 0.55).float()


STYLES = ["attribute", "entry", "buffer", "in_place", "through_data", "into_out", "adaptive", "delay"]


class Own(nn.Module):
    """Two layers and a hand-written neuron, in a loop over time on a still image."""

    T = T

    def __init__(self, style: str, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.gain = gain
        self.one, self.cell = nn.Linear(IN, HIDDEN), Cell(style)
        self.two = nn.Linear(HIDDEN, OUT, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cell.rest()
        return sum(self.two(self.cell(self.one(x) * self.gain + 0.3)) for _ in range(T)) / T


@pytest.mark.parametrize("style", STYLES)
def test_layers_behind_a_hand_written_neuron_are_charged_at_every_step(style: str) -> None:
    net, x = Own(style), image(B, IN)
    spikes = entering(net, "two", lambda: net(x))
    assert len(spikes) == T and any(not torch.equal(spikes[0], s) for s in spikes)
    measured = counted(net, x)
    behind, first = row_of(measured, "two"), row_of(measured, "one")
    assert (behind.ac, behind.mac, behind.static_repeats) == (nonzeros(spikes) * OUT, 0, 1)
    assert behind.ac_by_step == tuple(nonzeros([s]) * OUT for s in spikes)
    assert (first.mac, first.mac_executed) == (B * IN * HIDDEN, T * B * IN * HIDDEN)


@pytest.mark.parametrize("style", [s for s in STYLES if s not in ("delay", "adaptive")])
def test_a_saturated_hand_written_neuron_holds_state_all_the_same(style: str) -> None:
    net, x = Own(style, gain=0.0), image(B, IN)
    net.one.bias.data.fill_(0.0)
    net.cell.threshold.fill_(0.1)  # 0.3 arrives at every step: it fires at each
    spikes = entering(net, "two", lambda: net(x))
    assert all(torch.equal(spikes[0], s) for s in spikes) and nonzeros(spikes)
    behind = row_of(counted(net, x), "two")
    assert (behind.ac, behind.static_repeats) == (nonzeros(spikes) * OUT, 1)


@pytest.mark.parametrize("style", ["attribute", "buffer", "in_place", "through_data", "into_out"])
def test_state_ends_stillness_in_every_batch(style: str) -> None:
    net, batches = Own(style), [image(B, IN, seed=s) for s in range(3)]
    spikes = entering(net, "two", lambda: [net(x) for x in batches])
    measured = counted(net, *batches)
    assert total(measured, "two", "ac") == nonzeros(spikes) * OUT
    assert total(measured, "one", "mac") == 3 * B * IN * HIDDEN


class OverDimension1(nn.Module):
    """Frames (B, T, IN), looped over dimension 1, the membrane a local variable."""

    T = T

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.one, self.two = nn.Linear(IN, HIDDEN), nn.Linear(HIDDEN, OUT, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v, out = 0, 0
        for t in range(x.shape[1]):
            v = v / 2 + self.one(x[:, t])
            s = (v > 0.2).float()
            v = v - 0.2 * s
            out = out + self.two(s)
        return out


@pytest.mark.parametrize("frames", ["still", "moving", "one element at the last step"])
def test_frames_in_a_loop_over_dimension_1(frames: str) -> None:
    net, x = OverDimension1(), image(B, 1, IN).repeat(1, T, 1)
    if frames == "moving":
        x = image(B, T, IN)
    elif frames != "still":
        x[1, -1, 3] += 1e-6
    spikes = entering(net, "two", lambda: net(x))
    measured = counted(net, x, batch_dim=0)
    assert total(measured, "two", "ac") == nonzeros(spikes) * OUT
    assert total(measured, "one", "mac") == (1 if frames == "still" else T) * B * IN * HIDDEN


class Steps(nn.Module):
    """`between` makes what the second layer gets at step t from what the first makes of a still image."""

    T = T

    def __init__(self, between: Callable[[Steps, torch.Tensor, int], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.between = between
        self.one, self.two = nn.Linear(IN, HIDDEN), nn.Linear(HIDDEN, OUT)
        self.per_step = nn.Parameter(torch.randn(T, HIDDEN))
        self.tiny = nn.Parameter(torch.randn(T, HIDDEN) * 1e-7)
        self.embed = nn.Embedding(T, HIDDEN)
        self.gates = nn.ParameterList(torch.randn(HIDDEN) for _ in range(T))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(self.two(self.between(self, self.one(x), t)) for t in range(T))


CHANGING = {
    "parameter": lambda net, z, t: z + net.per_step[t],
    "gate": lambda net, z, t: torch.relu(z) * net.gates[t],
    "embedding": lambda net, z, t: z + net.embed(torch.tensor(t)),
    "factor": lambda net, z, t: z * (0.5**t),
    "division": lambda net, z, t: torch.tanh(z / (t + 1)),
    "shift": lambda net, z, t: z.roll(t, -1),
    "mask": lambda net, z, t: z * (torch.arange(HIDDEN) != t),
    "clamp": lambda net, z, t: z.clamp(max=0.05 * t),
    "tiny": lambda net, z, t: z + net.tiny[t],
    "noise": lambda net, z, t: z + 0.1 * torch.randn_like(z),
    "noise of a size": lambda net, z, t: z + 0.1 * torch.randn(B, HIDDEN),
    "dropout": lambda net, z, t: F.dropout(z, 0.3, training=True),
    "bernoulli": lambda net, z, t: torch.bernoulli(torch.sigmoid(z)),
    "uniform": lambda net, z, t: z * torch.empty(HIDDEN).uniform_(),
}


@pytest.mark.parametrize("between", CHANGING)
def test_what_depends_on_the_step_or_on_chance_is_charged_at_every_step(between: str) -> None:
    net, x = Steps(CHANGING[between]), image(B, IN)
    measured = counted(net, x)
    behind = row_of(measured, "two")
    torch.manual_seed(4)
    inputs = entering(net, "two", lambda: net(x))
    assert any(not torch.equal(inputs[0], z) for z in inputs)
    assert behind.static_repeats == 1
    if behind.input_kind == "real":
        assert behind.mac == elements(inputs) * OUT
    assert row_of(measured, "one").static_repeats == T


@pytest.mark.parametrize(
    "between",
    [
        lambda net, z, t: torch.relu(z),
        lambda net, z, t: z.sigmoid().mul(0.3) + net.per_step[2],
        lambda net, z, t: torch.relu_(z.clone()),
    ],
)
def test_what_is_the_same_at_every_step_is_charged_once(between) -> None:
    net, x = Steps(between), image(B, IN)
    row = row_of(counted(net, x), "two")
    assert (row.mac, row.mac_executed, row.static_repeats) == (B * HIDDEN * OUT, T * B * HIDDEN * OUT, T)


class WeightPerStep(nn.Module):
    """The image stands still, but each step has weights of its own."""

    T = T

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.weights = nn.Parameter(torch.randn(T, OUT, IN))
        self.kernels = nn.Parameter(torch.randn(T, OUT, 2, 3, 2))
        self.mask = torch.rand(T, OUT, IN)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.form == "linear":
            return sum(F.linear(x, w) for w in self.weights)
        if self.form == "generated":
            return sum(F.linear(x, self.weights[0] * self.mask[t]) for t in range(T))
        if self.form == "same":
            return sum(F.linear(x, self.weights[1] * 2) for t in range(T))
        return sum(F.conv2d(x, self.kernels[t]) for t in range(T))


@pytest.mark.parametrize("form", ["linear", "generated", "conv2d", "same"])
def test_other_weights_at_each_step_are_other_work(form: str) -> None:
    net, x = WeightPerStep(form), image(B, 2, 6, 5) if form == "conv2d" else image(B, IN)
    each = B * OUT * (4 * 4 * 12 if form == "conv2d" else IN)
    (row,) = [r for r in counted(net, x).rows if r.op in ("linear", "conv2d")]
    assert row.mac == (1 if form == "same" else T) * each
    assert row.mac_executed == T * each


class Stateful(nn.Module):
    """A stateful module of SpikingJelly between a still current and a layer."""

    T = T

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.kind, self.one = kind, nn.Linear(IN, HIDDEN)
        self.state = {
            "filter": lambda: layer.SynapseFilter(tau=3.0),
            "learnable filter": lambda: layer.SynapseFilter(tau=3.0, learnable=True),
            "recurrent": lambda: layer.ElementWiseRecurrentContainer(
                neuron.IFNode(v_threshold=0.7), lambda x, y: x + y
            ),
            "linear recurrent": lambda: layer.LinearRecurrentContainer(
                neuron.LIFNode(v_threshold=0.5), HIDDEN, HIDDEN
            ),
            "neuron": lambda: neuron.LIFNode(v_threshold=0.5),
        }[kind]()
        self.two = nn.Linear(HIDDEN, OUT, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        return sum(self.two(self.state(torch.relu(self.one(x)))) for _ in range(T))


@pytest.mark.parametrize("kind", ["filter", "learnable filter", "recurrent", "linear recurrent", "neuron"])
def test_layers_behind_stateful_modules_are_charged_at_every_step(kind: str) -> None:
    net, x = Stateful(kind).eval(), image(B, IN)
    inputs = entering(net, "two", lambda: net(x))
    measured = profile(net, [x])
    row = row_of(measured, "two")
    assert row.static_repeats == 1
    events = row.input_kind != "real"
    assert (row.ac, row.mac) == ((nonzeros(inputs) * OUT, 0) if events else (0, elements(inputs) * OUT))
    assert row_of(measured, "one").static_repeats == T


class ConvLSTM(nn.Module):
    """A convolutional LSTM cell written out, on a still image."""

    T = T

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.x2h, self.h2h = nn.Conv2d(2, 4 * 3, 3, padding=1), nn.Conv2d(3, 4 * 3, 3, padding=1, bias=False)
        self.read = nn.Conv2d(3, OUT, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(len(x), 3, *x.shape[2:])
        out = 0
        for _ in range(T):
            i, f, g, o = (self.x2h(x) + self.h2h(h)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            out = out + self.read(h)
        return out


def test_a_convolutional_lstm_holds_state() -> None:
    net, x = ConvLSTM(), image(B, 2, 5, 6)
    measured = counted(net, x)
    pixels = 5 * 6
    reach = int(F.conv2d(torch.ones(1, 1, 5, 6), torch.ones(1, 1, 3, 3), padding=1).sum())
    assert total(measured, "read", "mac") == T * B * pixels * 3 * OUT
    assert total(measured, "x2h", "mac") == B * reach * 2 * 12
    assert total(measured, "h2h", "mac_executed") in (T * B * reach * 3 * 12, (T - 1) * B * reach * 3 * 12)
    assert row_of(measured, "h2h").static_repeats == 1


class FrontEnd(nn.Module):
    """conv - norm - relu - conv before any neuron, on a stack of frames or step by step."""

    T = T

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.form = form
        self.one, self.norm = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.two = nn.Conv2d(6, 3, (3, 1), bias=False)
        mode = "s" if form == "loop" else "m"
        self.lif, self.head = neuron.LIFNode(step_mode=mode, v_threshold=0.2), nn.Linear(3, OUT, bias=False)
        self.norm.running_mean.uniform_(-0.2, 0.2), self.norm.running_var.uniform_(0.5, 2)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(F.relu(self.norm(self.one(x)), inplace=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        if self.form == "loop":
            return sum(self.head(self.lif(self.features(x)).mean((2, 3))) for _ in range(T)) / T
        if self.form == "expand":
            x = x.unsqueeze(0).expand(T, *x.shape).flatten(0, 1)
        elif self.form == "repeat":
            x = x.repeat(T, 1, 1, 1)
        elif self.form == "stack":
            x = torch.stack([x] * T).flatten(0, 1)
        elif self.form == "cat":
            x = torch.cat([x for _ in range(T)])
        z = self.features(x).unflatten(0, (T, -1))
        return self.head(self.lif(z).mean((3, 4))).mean(0)


@pytest.mark.parametrize("form", ["loop", "expand", "repeat", "stack", "cat"])
@pytest.mark.parametrize("batch", [B, 1])
def test_a_front_end_on_a_still_image_is_charged_once(form: str, batch: int) -> None:
    net, x = FrontEnd(form).eval(), image(batch, 2, 7, 6)
    measured = counted(net, x)
    reach = int(F.conv2d(torch.ones(1, 1, 7, 6), torch.ones(1, 1, 3, 3), padding=1).sum())
    one, two = row_of(measured, "one"), row_of(measured, "two")
    assert (one.mac, one.mac_executed) == (batch * reach * 12, T * batch * reach * 12)
    assert (two.mac, two.static_repeats) == (batch * 5 * 6 * 3 * 18, T)
    assert row_of(measured, "head").static_repeats == 1


@pytest.mark.parametrize("change", [0.5, 1e-6, 6e-8])
@pytest.mark.parametrize("step", [0, T - 1])
def test_frames_that_differ_in_one_element_are_charged_at_every_step(change: float, step: int) -> None:
    """Behind the first layer, too, however small the difference."""
    net, x = FrontEnd("given").eval(), image(B, 2, 7, 6).repeat(T, 1, 1, 1)
    x = x.unflatten(0, (T, B)) * 0.5 + 0.25
    x[step, 1, 1, 3, 2] += change
    net.forward = lambda frames: FrontEnd.forward(net, frames.flatten(0, 1))
    measured = counted(net, x, batch_dim=1)
    for name in ("one", "two"):
        assert row_of(measured, name).static_repeats == 1, name


def test_rounding_alone_does_not_end_stillness() -> None:
    """Behind a layer equal frames may differ in the last bits: products are summed in another order."""

    class Rounded(nn.Module):
        T = T

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(IN, HIDDEN), nn.Linear(HIDDEN, OUT)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.one(x.repeat(T, 1)).unflatten(0, (T, -1))
            order = torch.arange(HIDDEN).roll(3)
            z = torch.stack([z[0], *(z[t][:, order][:, order.argsort()] * 3 / 3 for t in range(1, T))])
            return self.two(z.flatten(0, 1)).unflatten(0, (T, -1)).mean(0)

    net, x = Rounded(), image(B, IN)
    seen = entering(net, "two", lambda: net(x))[0].unflatten(0, (T, B))
    assert not torch.equal(seen[0], seen[1]) and torch.allclose(seen[0], seen[1])
    assert row_of(counted(net, x), "two").static_repeats == T


def test_only_where_all_batches_are_still_is_a_layer_charged_once() -> None:
    net = FrontEnd("given").eval()
    net.forward = lambda frames: FrontEnd.forward(net, frames.flatten(0, 1))
    still, moving = image(1, B, 2, 7, 6).repeat(T, 1, 1, 1, 1), image(T, B, 2, 7, 6)
    for batches in ([still, moving], [moving, still], [still, moving, still]):
        row = row_of(counted(net, *batches, batch_dim=1), "one")
        assert (row.static_repeats, row.mac) == (1, row.mac_executed)
    assert row_of(counted(net, still, still.roll(1, 1), batch_dim=1), "one").static_repeats == T


class BatchMajor(nn.Module):
    """(B, T, …) folded sample by sample."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.T = steps
        self.one, self.two = nn.Linear(IN, HIDDEN), nn.Linear(HIDDEN, OUT, bias=False)
        self.lif = neuron.LIFNode(step_mode="m", v_threshold=0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = len(x)
        z = self.one(x.reshape(-1, IN)).reshape(batch, self.T, HIDDEN)
        s = self.lif(z.permute(1, 0, 2)).permute(1, 0, 2)
        return self.two(s.reshape(-1, HIDDEN)).reshape(batch, self.T, OUT).mean(1)


@pytest.mark.parametrize(("batch", "steps"), [(3, 5), (4, 4), (1, 4), (3, 1), (1, 1), (6, 2), (2, 6)])
@pytest.mark.parametrize("frames", ["still", "samples alike", "moving"])
def test_batch_major_folding(batch: int, steps: int, frames: str) -> None:
    """Frames of one sample that are alike are still; samples that are alike are not."""
    net = BatchMajor(steps)
    x = {
        "still": lambda: image(batch, 1, IN).repeat(1, steps, 1),
        "samples alike": lambda: image(1, steps, IN).repeat(batch, 1, 1),
        "moving": lambda: image(batch, steps, IN),
    }[frames]()
    spikes = entering(net, "two", lambda: net(x))
    functional.reset_net(net)
    measured = counted(net, x, batch_dim=0)
    once = batch * IN * HIDDEN
    row = row_of(measured, "one")
    assert row.mac_executed == steps * once
    assert row.mac == (once if frames == "still" else steps * once)
    assert total(measured, "two", "ac") == nonzeros(spikes) * OUT


class OneStep(nn.Module):
    """Knows nothing of time: `profile` runs it T times."""

    def __init__(self, drift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(9)
        self.drift = drift
        self.one, self.lif = nn.Conv2d(1, 2, 3), neuron.LIFNode(v_threshold=0.2)
        self.two = nn.Linear(2 * 4 * 5, OUT, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.one(x)
        if self.drift:
            x += self.drift  # in the caller's tensor
        return self.two(self.lif(torch.relu(z)).flatten(1))


@pytest.mark.parametrize("steps", [1, 4])
def test_a_one_step_network_that_profile_runs_t_times(steps: int) -> None:
    net, x = OneStep(), image(B, 1, 6, 7)
    spikes = entering(net, "two", lambda: [net(x.clone()) for _ in range(steps)])
    functional.reset_net(net)
    measured = counted(net, x.clone(), time_steps=steps)
    assert total(measured, "one", "mac") == B * 20 * 9 * 2
    assert total(measured, "one", "mac_executed") == steps * B * 20 * 9 * 2
    assert total(measured, "two", "ac") == nonzeros(spikes) * OUT


def test_an_input_changed_in_place_between_steps_is_not_still() -> None:
    measured = counted(OneStep(drift=0.125), image(B, 1, 6, 7), time_steps=4)
    assert row_of(measured, "one").static_repeats == 1


class Drifts(nn.Module):
    """The image is changed between steps in the way of `form`."""

    T = T

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.one = form, nn.Linear(IN, OUT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, out = x.clone(), 0
        held = x.numpy()
        for _ in range(T):
            out = out + self.one(x)
            if self.form == "in place":
                x.mul_(0.5)
            elif self.form == "data":
                x.data.mul_(0.5)
            elif self.form == "item":
                x[0, 0] = 0.0 if x[0, 0] else 1.0
            elif self.form == "out":
                torch.mul(x, 0.5, out=x)
            elif self.form == "alias":
                x.view(-1)[3:9].zero_() if bool((x.view(-1)[3:9] != 0).any()) else x.fill_(1.0)
            elif self.form == "numpy":
                held *= 0.5
        return out


@pytest.mark.parametrize("form", ["in place", "data", "item", "out", "alias"])
def test_an_image_written_to_between_steps_is_not_still(form: str) -> None:
    assert row_of(profile(Drifts(form), [image(B, IN)]), "one").static_repeats == 1


def test_an_image_written_to_through_numpy_is_not_still_and_says_so() -> None:
    measured = profile(Drifts("numpy"), [image(B, IN)])
    assert row_of(measured, "one").static_repeats == 1
    assert measured.uncounted


def test_spiking_lstm_in_single_steps() -> None:
    class Recurrent(nn.Module):
        T = T

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(13)
            self.one, self.cell, self.two = (
                nn.Linear(IN, 6),
                rnn.SpikingGRUCell(6, 9),
                nn.Linear(9, OUT, bias=False),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h, out = torch.zeros(len(x), 9), 0
            for _ in range(T):
                h = self.cell(self.one(x), h)
                out = out + self.two(h)
            return out

    net, x = Recurrent(), image(B, IN) * 3
    inputs = entering(net, "two", lambda: net(x))
    measured = profile(net, [x])
    row = row_of(measured, "two")
    assert row.static_repeats == 1
    assert row.ac + row.mac == (nonzeros(inputs) if row.ac else elements(inputs)) * OUT
    assert total(measured, "cell.linear_ih", "static_repeats") == T


class Heads(nn.Module):
    """As many heads as steps, one line of code: not a repetition over time."""

    T = T

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.Parameter(torch.randn(T, HIDDEN, IN))
        self.lif, self.out = neuron.IFNode(step_mode="m"), nn.Linear(HIDDEN, OUT, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        s = self.lif(torch.stack([F.linear(x, w) for w in self.heads]))
        return self.out(s).mean(0)


def test_as_many_heads_as_steps_are_not_a_repetition() -> None:
    row = row_of(counted(Heads(), image(B, IN)), "")
    assert (row.mac, row.mac_executed) == (T * B * IN * HIDDEN, T * B * IN * HIDDEN)
