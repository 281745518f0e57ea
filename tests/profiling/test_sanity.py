"""Nonsense is refused by name: values that are not finite, time steps, empty batches, raw pixels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import pytest
import torch
from spiking_nets import gated, images
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from snn_energy.energy import estimate
from snn_energy.errors import ConfigError, DataError
from snn_energy.models.zoo import create_model
from snn_energy.profiling import Profile, profile
from snn_energy.profiling.batches import Batch
from snn_energy.profiling.layout import Layout
from snn_energy.profiling.sanity import Guard, swallowed
from snn_energy.reports import report

NAN, INF = float("nan"), float("inf")
Function = Callable[[torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """(T, B, 2, 5, 3) -> (B, 6); `function` acts on the current (T, B, 4, 5, 3) before the neuron."""

    def __init__(self, function: Function | None = None, node: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1, step_mode="m"))
        self.bn = layer.BatchNorm2d(4, step_mode="m")
        self.sn = node or neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.head = layer.Linear(60, 6, step_mode="m")
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.stem(x))
        if self.function is not None:
            x = self.function(x)
        return self.head(self.sn(x).flatten(2)).mean(0)


class OwnLif(nn.Module):
    """Keeps its membrane in a plain attribute from call to call; `rest` forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.mem: torch.Tensor | None = None

    def rest(self) -> None:
        self.mem = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mem = x if self.mem is None else 0.5 * self.mem + x
        spikes = (self.mem > 0.4).float()
        self.mem = self.mem - spikes
        return spikes


class Stepped(nn.Module):
    """Loops over T = 5 itself: (B, 7) -> (B, 4); the current of step `bad` is damaged by `function`."""

    T = 5

    def __init__(self, node: nn.Module, bad: int, function: Function) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.fc, self.sn, self.out = nn.Linear(7, 9), node, nn.Linear(9, 4)
        self.bad, self.function = bad, function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(x), 4)
        for t in range(self.T):
            current = self.fc(x)
            if t == self.bad:
                current = self.function(current)
            total = total + self.out(self.sn(current))
        return total


def frames(steps: int = 4, batch: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(steps, batch, 2, 5, 3, generator=torch.Generator().manual_seed(seed))


def counts(measured: Profile) -> list[tuple[object, ...]]:
    return [(*row.key, row.calls, row.ac, row.mac, row.output_nonzero) for row in measured.rows]


def set_value(name: str, value: float) -> Callable[[nn.Module], None]:
    def damage(net: nn.Module) -> None:
        with torch.no_grad():
            net.get_parameter(name).view(-1)[3] = value

    return damage


def negative_variance(net: nn.Module) -> None:
    net.get_buffer("bn.running_var")[1] = -2.0


def nan_variance(net: nn.Module) -> None:
    net.get_buffer("bn.running_var")[1] = NAN


def nan_threshold(net: nn.Module) -> None:
    net.sn.v_threshold = NAN


DAMAGES = {
    "a weight that is NaN": (
        set_value("stem.0.weight", NAN),
        r"'weight' of module 'stem.0' holds nan in 1 of 72",
    ),
    "a weight that is infinite": (
        set_value("head.bias", INF),
        r"'bias' of module 'head' holds inf in 1 of 6",
    ),
    "minus infinity": (set_value("head.weight", -INF), r"'weight' of module 'head' holds -inf in 1 of 360"),
    "a norm's variance that is NaN": (nan_variance, r"'running_var' of module 'bn' holds nan in 1 of 4"),
    "a threshold that is NaN": (nan_threshold, r"'v_threshold' of the neuron 'sn' is nan"),
    "a negative variance": (
        negative_variance,
        r"nan\) first leave module 'bn' .* at step 1 of batch 1 .*'v' of 'sn'",
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_weights_that_are_not_finite_are_refused_by_name_or_noted(what: str) -> None:
    damage, message = DAMAGES[what]
    net = Net()
    damage(net)
    with pytest.raises(DataError, match=message + r".*--allow-nonfinite") as caught:
        profile(net, [frames()])
    assert "\n" not in str(caught.value)
    measured = profile(net, [frames()], allow_nonfinite=True)
    assert measured.samples == 3
    assert any("counted as it ran" in note for note in measured.notes)


def test_weights_of_half_precision_whose_sum_overflows_are_fine() -> None:
    net = nn.Sequential(nn.Linear(300, 7), neuron.IFNode(), nn.Linear(7, 2)).half()
    nn.init.constant_(net[0].weight, 400.0)
    assert math.isinf(float(net[0].weight.detach().sum()))
    assert profile(net, [torch.rand(2, 300).half() / 9], batch_dim=0).notes == ()


def with_nan_at(*index: int) -> Function:
    def function(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[index] = NAN
        return x

    return function


MADE_ON_THE_WAY = {
    "written at one place": (with_nan_at(2, 1, 3, 0, 2), "'(model)'", 3),
    "the root of a negative number": (
        lambda x: torch.sqrt(x - 50 * (torch.arange(4) == 1).view(4, 1, 1, 1, 1)),
        "'(model)'",
        1,
    ),
    "zero over zero": (lambda x: x * 0 / 0, "'(model)'", 1),
}


@pytest.mark.parametrize("what", MADE_ON_THE_WAY)
@pytest.mark.parametrize("node", [neuron.LIFNode, neuron.IFNode, neuron.ParametricLIFNode, neuron.KLIFNode])
def test_nan_that_a_neuron_swallows_is_traced_to_where_it_was_made(what: str, node: type[nn.Module]) -> None:
    """The output is finite: the neuron compared NaN with its threshold, and did not fire."""
    function, module, step = MADE_ON_THE_WAY[what]
    net = Net(function, node(step_mode="m")).eval()
    with torch.no_grad():
        assert bool(net(frames()).isfinite().all())
    functional.reset_net(net)
    if what == "the root of a negative number":
        with torch.no_grad():  # of a current that is not negative itself, but for the step in question
            net.bn.bias.fill_(9.0)
        step = 2
    with pytest.raises(
        DataError, match=rf"nan\) first leave module {module.replace('(', '.').replace(')', '.')}"
    ) as caught:
        profile(net, [frames()])
    assert f"at step {step} of batch 1" in str(caught.value)
    assert "reach the state 'v' of 'sn'" in str(caught.value)


def test_a_neuron_without_state_is_asked_what_it_takes_in() -> None:
    node = neuron.PSN(4)
    nn.init.constant_(node.weight, 0.3)
    with pytest.raises(DataError, match=r"reach the input of 'sn'"):
        profile(Net(with_nan_at(1, 0, 2, 4, 1), node), [frames()])


def test_a_neuron_whose_membrane_is_arithmetic_is_asked_what_its_threshold_takes_in() -> None:
    """STAA: its membrane lives in no attribute, only its `fire` is a neuron."""
    model = gated()
    model.bn.running_var[5] = -1.0
    with pytest.raises(
        DataError, match=r"first leave module 'bn' .*at step 1 of batch 1 and reach the input of 'lif.fire'"
    ):
        profile(model, [images(batch=2)])


def overflow(x: torch.Tensor) -> torch.Tensor:
    return (x.half() * 60_000 * 60_000).float()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("bad", [0, 3])
def test_the_step_of_a_network_that_loops_itself(own: bool, bad: int) -> None:
    node = OwnLif() if own else neuron.LIFNode()
    net = Stepped(node, bad, lambda x: torch.log(-1 - x.abs()))
    place = "'mem' of 'sn'" if own else "the state 'v' of 'sn'"
    with pytest.raises(DataError, match=rf"\(in log\) at step {bad + 1} of batch 1 and reach {place}"):
        profile(net, [torch.rand(2, 7)])


def test_an_overflow_in_half_precision_is_named_as_the_cause() -> None:
    net = Stepped(neuron.LIFNode(), 2, overflow)
    message = (
        r"nan.* leave module 'sn' .* at step 3 of batch 1, after .*inf.* left module .*in mul\) at step 3"
    )
    with pytest.raises(DataError, match=message):
        profile(net, [torch.rand(2, 7)])
    soft = Stepped(neuron.IFNode(v_reset=None), 2, lambda x: overflow(x.abs()))
    with pytest.raises(
        DataError, match=r"\(inf\) first leave module '\(model\)' \(in mul\) at step 3 of batch 1"
    ):
        profile(soft, [torch.rand(2, 7)])


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_only_the_second_batch_is_bad(value: float) -> None:
    x = frames(seed=1)
    x[1, 2, 0, 4, 1] = value
    done: list[int] = []
    with pytest.raises(
        DataError,
        match=r"the input of batch 2 is not finite: -?(nan|inf) in 1 of 360 values.*\(1, 2, 0, 4, 1\)",
    ):
        profile(Net(), [frames(), x, frames(seed=2)], progress=done.append)
    assert done == [3]
    measured = profile(Net(), [frames(), x, frames(seed=2)], allow_nonfinite=True)
    assert measured.samples == 9 and "batch 2" in measured.notes[0]


def test_a_sample_without_any_number_is_pointed_out() -> None:
    x = torch.full((4, 1, 6, 5), 3.0)
    x[:3] = torch.rand(3, 1, 6, 5)
    x = (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), neuron.IFNode(), nn.Flatten(), nn.Linear(24, 3))
    with pytest.raises(DataError, match="sample 3 holds nothing else: a constant image"):
        profile(net, [x], batch_dim=0)


def test_values_go_bad_inside_the_second_batch_alone() -> None:
    """The batch that is bad runs once more, and the counts of the others are what they were."""
    net = Net(lambda x: torch.sqrt(x + 20))
    batches = [frames(), frames(seed=1) * 3e3, frames(seed=2)]
    with pytest.raises(DataError, match=r"\(in sqrt\) at step 1 of batch 2"):
        profile(net, batches)
    measured = profile(net, batches, allow_nonfinite=True)
    assert "(1 of 3 batches)" in measured.notes[0]
    parts = [profile(net, [x], allow_nonfinite=True) for x in batches]
    assert counts(measured) == counts(Profile.merge(parts))
    assert [len(part.notes) for part in parts] == [0, 1, 0]


def test_random_networks_are_traced_on_the_numbers_that_they_drew() -> None:
    def rare(x: torch.Tensor) -> torch.Tensor:
        return x / (torch.rand(4, 1, 1, 1, 1) < 0.7)

    torch.manual_seed(11)
    drawn = torch.rand(4) < 0.7
    step = int((~drawn).nonzero()[0]) + 1
    assert step > 1
    net = Net(rare)
    torch.manual_seed(11)
    with pytest.raises(DataError, match=rf"first leave module 'sn' .*at step {step} of batch 1"):
        profile(net, [frames()])


def test_the_second_run_changes_neither_counts_nor_random_numbers_nor_attributes() -> None:
    net = Stepped(OwnLif(), 1, lambda x: x * NAN)
    torch.manual_seed(4)
    profile(net, [torch.ones(2, 7)], allow_nonfinite=True)
    drawn = torch.rand(3)
    assert net.sn.mem is None
    torch.manual_seed(4)
    with torch.no_grad():
        net(torch.ones(2, 7))
    assert torch.equal(torch.rand(3), drawn)


def test_masks_of_minus_infinity_are_no_nonsense() -> None:
    class Attention(nn.Module):
        """Causal attention over 15 places with a mask in a buffer and one in an attribute."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.full((15, 15), -INF).triu(1))
            self.further = torch.full((15, 15), -INF).triu(9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q = x.flatten(3).transpose(2, 3)
            scores = q @ q.transpose(2, 3) + self.mask + self.further
            scores = scores.masked_fill(torch.arange(15) > 13, -INF)
            return (torch.softmax(scores, -1) @ q).transpose(2, 3).unflatten(3, (5, 3))

    net = Net()
    net.function = Attention()
    assert profile(net, [frames()]).notes == ()
    net.function.mask[2, 0] = NAN
    with pytest.raises(
        DataError, match=r"first leave module 'function' .* reach .*'mask' of 'function'|'v' of 'sn'"
    ):
        profile(net, [frames()])


def test_an_infinite_output_is_refused() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
            return {"scores": [self.net(x) * 1e38 * 1e9]}

    with pytest.raises(DataError, match=r"inf.*first leave module '\(model\)' \(in mul\).* reach the output"):
        profile(Last(), [frames()])


def test_a_swallowed_value_is_nan_and_not_infinity() -> None:
    x = torch.rand(3, 4)
    assert not swallowed(x) and not swallowed(x * INF) and not swallowed(torch.full((2,), 3e38))
    x[1, 2] = NAN
    assert swallowed(x) and swallowed(x.half()) and swallowed(x.T[1:])
    assert not swallowed(torch.arange(3)) and not swallowed(torch.tensor([INF, -INF]))


# -- time steps ----------------------------------------------------------------------------------------------

SMALL = {
    "embed_dims": 16,
    "num_heads": 2,
    "depths": 1,
    "chunk_size": 1,
    "num_classes": 3,
    "pooling_stat": "0011",
}


def statten(steps: int, **fields: object) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"in_channels": 2, "img_size_h": 16, "img_size_w": 16, **SMALL, **fields}
    return create_model("statten", T=steps, **sizes).eval()


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_time_steps_that_contradict_the_network_are_refused(steps: int) -> None:
    with pytest.raises(ConfigError, match=rf"time_steps = {steps} contradicts the network.* T = 2"):
        profile(statten(2), [torch.rand(5, 2, 16, 16)], time_steps=steps)
    assert profile(statten(2), [torch.rand(5, 2, 16, 16)], time_steps=2).notes == ()


@pytest.mark.parametrize("steps", [0, -2, 2.0, True, "4"])
def test_time_steps_that_are_no_number_of_steps_are_refused(steps: object) -> None:
    with pytest.raises(ConfigError, match=r"time_steps = .* at least 1"):
        profile(Net(), [frames()], time_steps=steps)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [None, 3])
def test_frames_have_the_last_word_on_t(given: int | None) -> None:
    x = torch.poisson(torch.full((4, 3, 2, 16, 16), 1.5), generator=torch.Generator().manual_seed(1))
    measured = profile(statten(6, dvs_mode=True), [x, x[:1]], time_steps=given)
    assert measured.time_steps == 3 and measured.samples == 5
    assert measured.notes == ("T = 3 is that of the data; the network declares T = 6.",)
    first = next(row for row in measured.rows if row.op == "conv2d")
    assert first.input_nonzero_by_step == tuple((x[:, t] != 0).sum() + (x[0, t] != 0).sum() for t in range(3))
    with pytest.raises(
        ConfigError, match=r"time_steps = 6 contradicts the input \(4, 3, 2, 16, 16\), which has 3 steps"
    ):
        profile(statten(6, dvs_mode=True), [x], time_steps=6)
    with pytest.raises(DataError, match="batches of 3 and of 2 time steps"):
        profile(statten(6, dvs_mode=True), [x, x[:, :2]])


def test_a_time_axis_in_front_has_the_last_word_on_t() -> None:
    net = Net()
    net.T = 9
    measured = profile(net, [frames(4)])
    assert measured.time_steps == 4
    assert measured.notes == ("T = 4 is that of the data; the network declares T = 9.",)
    del net.T
    assert profile(net, [frames(4)], time_steps=4).notes == ()
    with pytest.raises(
        ConfigError, match=r"time_steps = 5 contradicts the input \(4, 3, 2, 5, 3\), which has 4"
    ):
        profile(net, [frames(4)], time_steps=5)


def test_a_network_that_repeats_its_input_itself_is_believed() -> None:
    class Repeats(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.expand(4, *x.shape))

    assert profile(Repeats(), [frames()[0]], time_steps=4, batch_dim=0).notes == ()
    with pytest.raises(ConfigError, match=r"time_steps = 8 contradicts the network: .*'sn' ran 4 steps"):
        profile(Repeats(), [frames()[0]], time_steps=8, batch_dim=0)


# -- batches -------------------------------------------------------------------------------------------------


def test_empty_batches_are_skipped() -> None:
    x, y = frames(), torch.tensor([1, 0, 4])
    full = profile(Net(), [(x, y)])
    spread = profile(Net(), [(x[:, :0], y[:0]), (x, y), x[:0], (x[:, :0], None)])
    assert (spread.samples, spread.correct) == (full.samples, full.correct)
    assert counts(spread) == counts(full)
    with pytest.raises(DataError, match="no samples to profile: the batches are empty"):
        profile(Net(), [x[:, :0], (x[:0], y[:0])])


@pytest.mark.parametrize("batch", [(), [], None, torch.tensor(3.0), {"x": 3}])
def test_what_is_no_batch_is_refused(batch: object) -> None:
    with pytest.raises(DataError, match=f"a batch holds {type(batch).__name__}; expected a tensor"):
        profile(Net(), [batch])


PIXELS = {
    "bytes as floats": (torch.arange(120).reshape(4, 1, 2, 5, 3).float() * 2, True),
    "one bright place": (torch.zeros(4, 1, 2, 5, 3).index_fill(3, torch.tensor([2]), 16.0), True),
    "counts up to 15": (torch.arange(120).reshape(4, 1, 2, 5, 3).float() % 16, False),
    "binary": (torch.arange(120).reshape(4, 1, 2, 5, 3).float() % 2, False),
    "a single fraction": (
        torch.arange(120).reshape(4, 1, 2, 5, 3).float() + torch.eye(120)[7].reshape(4, 1, 2, 5, 3) / 2,
        False,
    ),
    "negative": (torch.arange(120).reshape(4, 1, 2, 5, 3).float() - 1, False),
    "beyond a byte": (torch.arange(120).reshape(4, 1, 2, 5, 3).float() * 3, False),
}


@pytest.mark.parametrize("what", PIXELS)
def test_raw_pixels_are_remarked_upon(what: str) -> None:
    x, remarked = PIXELS[what]
    notes = profile(Net(), [x]).notes
    assert [note for note in notes if "raw pixels 0…255" in note] == list(notes)
    assert len(notes) == remarked


def test_pixels_are_judged_over_all_batches() -> None:
    dark, bright, real = frames().round(), (frames() * 99).round(), frames()
    assert len(profile(Net(), [dark, bright]).notes) == 1
    assert profile(Net(), [bright, real]).notes == profile(Net(), [real, bright]).notes == ()


def test_bytes_and_token_numbers() -> None:
    """A network that casts bytes itself gets the remark; indices into an embedding do not."""

    class Casts(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.float())

    pixels = (frames() * 255).round().to(torch.uint8)
    assert len(profile(Casts(), [pixels]).notes) == 1
    words = nn.Sequential(nn.Embedding(200, 6), neuron.IFNode(), nn.Linear(6, 3))
    assert profile(words, [torch.arange(60, 120).reshape(4, 15)], batch_dim=0).notes == ()


def test_notes_are_merged_without_duplicates_saved_and_shown(tmp_path: object) -> None:
    pixels = (frames() * 99).round()
    x = frames()
    x[0, 0, 0, 0, 0] = NAN
    parts = [profile(Net(), [batch], allow_nonfinite=True) for batch in (pixels, x, pixels)]
    both = Profile.merge(parts)
    assert both.notes == tuple(dict.fromkeys(note for part in parts for note in part.notes))
    assert len(both.notes) == len(parts[0].notes) + len(parts[1].notes)
    both.save(f"{tmp_path}/p.json")
    assert Profile.load(f"{tmp_path}/p.json").notes == both.notes
    page = report(both, f"{tmp_path}/r.html", energies=(estimate(both),)).read_text("utf-8")
    assert all(page.count(note.split("'")[0]) >= 1 for note in both.notes)


def test_what_an_operation_saw_vanish_is_traced_too() -> None:
    """NaN that a comparison outside any neuron hides: the engine says so, the second run says where from."""

    class Hides(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (torch.log(x - 0.5) > 0.2).float()

    model = nn.Sequential(nn.Linear(4, 3), Hides(), nn.Linear(3, 2)).eval()
    x, layout = torch.rand(5, 4) - 2, Layout(5, 1, False, False)
    for suspected in (False, True):
        guard = Guard(model, None, allow_nonfinite=False)
        refusal = pytest.raises(
            DataError, match=r"module '1' \(in log\) at step 1 of batch 7 and reach a comparison"
        )
        with torch.no_grad(), refusal if suspected else contextlib.nullcontext():  # noqa: SIM117
            with guard.watching(lambda batch: model(batch.inputs)):
                guard.before(Batch(x, number=7), layout)
                assert guard.after(model(x), suspected=suspected) is suspected
