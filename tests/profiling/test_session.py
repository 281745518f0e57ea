"""What `profile` does around the counting: layouts, restoration, honesty about gaps, limits, errors."""

from __future__ import annotations

import pytest
import torch
from exact import exact
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from snn_energy.errors import DataError, UncountedError
from snn_energy.profiling import Profile, profile, record_spikes


class Net(nn.Module):
    """(T, B, 2, 5, 4) -> (B, 3)."""

    def __init__(self, function=None, threshold: float = 0.4) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = layer.Conv2d(2, 4, 3, padding=1, step_mode="m")
        self.lif = neuron.LIFNode(v_threshold=threshold, step_mode="m")
        self.dropout = nn.Dropout(0.5)
        self.head = layer.Linear(80, 3, step_mode="m")
        exact(self).train()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.lif(self.conv(x)))
        if self.function is not None:
            x = self.function(x)
        return self.head(x.flatten(2)).mean(0)


def events(*lead: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(*lead, 2, 5, 4, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def row(measured: Profile, name: str, op: str | None = None):
    return next(r for r in measured.rows if r.name == name and (op is None or r.op == op))


def test_mode_hooks_and_neuron_state_are_left_as_found() -> None:
    model = Net().train()
    model.head.eval()
    model(events(4, 3))
    state = model.lif.v.clone()
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    profile(model, [events(4, 2)])
    record_spikes(model, events(4, 2))
    assert torch.equal(model.lif.v, state)
    assert model.training and model.dropout.training and not model.head.training
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("where", ["function", "neuron", "layer"])
def test_everything_is_restored_after_an_exception(where: str) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("on purpose")

    model = Net(function=fail if where == "function" else None).train()
    if where == "neuron":
        model.lif.forward = fail
    if where == "layer":
        model.conv.forward = fail
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    with pytest.raises(RuntimeError, match="on purpose"):
        profile(model, [events(4, 3)])
    assert model.training and torch.is_grad_enabled()
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Mode():
        torch.ones(2).add(1)
    assert len(seen) == 2  # torch functions reach modes again: the neuron's guard is gone


def test_an_operation_without_a_rule_is_a_row_and_strict_refuses_it() -> None:
    model = Net(function=lambda x: torch.cumsum(x, dim=0))
    measured = profile(model, [events(4, 3)])
    (gap,) = measured.uncounted
    assert (gap.name, gap.note, gap.calls, gap.output_elements) == ("", "cumsum", 3, 4 * 3 * 4 * 5 * 4)
    with pytest.raises(UncountedError, match=r"\(model\): cumsum"):
        profile(model, [events(4, 3)], strict=True)


class Custom(torch.autograd.Function):
    """Arithmetic inside a custom function: its body is Python and is seen."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return x * 2 + 1


def test_custom_functions_are_looked_into() -> None:
    measured = profile(Net(function=Custom.apply), [events(4, 3)])
    assert measured.uncounted == ()
    assert row(measured, "", "scale").scale_muls == row(measured, "", "add").output_elements == 4 * 3 * 80
    assert row(measured, "", "add").ac == row(measured, "lif").output_nonzero


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_work_done_out_of_sight_is_reported() -> None:
    scripted = torch.jit.script(doubled)
    measured = profile(Net(function=scripted), [events(4, 3)])
    (gap,) = measured.uncounted
    assert "out of sight" in gap.note and gap.output_elements == 4 * 3 * 80


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2 + 1


@pytest.mark.parametrize("labels", [True, False])
def test_time_is_found_in_a_sequence_of_vectors(labels: bool) -> None:
    """(T, B, features) looks like (B, channels, length) until the first neuron speaks."""
    model = nn.Sequential(layer.Linear(7, 5, step_mode="m"), neuron.LIFNode(v_threshold=0.2, step_mode="m"))
    x = torch.rand(4, 3, 7, generator=torch.Generator().manual_seed(2))
    measured = profile(model, [(x, torch.zeros(3, dtype=torch.long)) if labels else x])
    assert (measured.samples, measured.time_steps) == (3, 4)
    assert len(row(measured, "0").mac_by_step) == 4
    assert row(measured, "0").mac_square_sum == 3 * (4 * 7 * 5) ** 2


def test_static_image_is_charged_once_and_only_where_it_repeats() -> None:
    model = Net()
    image = torch.randn(3, 2, 5, 4)
    frames = image.expand(4, *image.shape)
    repeated = row(profile(model, [frames], batch_dim=1), "conv")
    once = row(profile(model, [frames[:1]], batch_dim=1), "conv")
    assert repeated.static_repeats == 4 and repeated.mac_executed == 4 * repeated.mac == 4 * once.mac
    changed = frames.clone()
    changed[2, 1, 0, 3, 2] += 1e-6
    varied = row(profile(model, [changed], batch_dim=1), "conv")
    assert varied.static_repeats == 1 and varied.mac == varied.mac_executed == repeated.mac_executed
    mixed = row(profile(model, [frames, changed], batch_dim=1), "conv")
    assert mixed.static_repeats == 1 and mixed.mac == 2 * repeated.mac_executed
    both = Profile.merge([profile(model, [frames], batch_dim=1), profile(model, [changed], batch_dim=1)])
    assert row(both, "conv") == mixed


def test_a_layer_that_runs_before_the_image_is_repeated_ran_once() -> None:
    class Early(Net):
        T = 4

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = nn.functional.conv2d(x, self.conv.weight, padding=1)
            x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
            return self.head(self.lif(x).flatten(2)).mean(0)

    early = row(profile(Early(), [torch.randn(3, 2, 5, 4)]), "", "conv2d")
    assert early.static_repeats == 1 and early.mac == early.mac_executed == early.valid_macs


def test_layers_behind_a_static_layer_are_static_until_the_first_neuron() -> None:
    class Deep(Net):
        T = 4

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.expand(4, *x.shape)
            x = torch.relu(self.conv(x))[:, :, :2]
            x = self.lif(self.conv(x))
            return self.head(x.flatten(2)).mean(0)

    class Once(Deep):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for step in x.expand(4, *x.shape):
                out = self.conv(step.unsqueeze(0))
            return out.flatten(1)

    image = torch.randn(3, 2, 5, 4)
    conv = row(profile(Deep(), [image]), "conv")
    assert conv.static_repeats == 1  # one row, two calls, eight steps: charged as executed
    assert row(profile(Once(), [image]), "conv").static_repeats == 4


def test_kinds_of_the_input_join_over_batches() -> None:
    model = Net()
    binary, real = events(4, 2), events(4, 2, seed=1) * 0.37
    real[0, 0, 0] = torch.randn(5, 4)
    first = row(profile(model, [binary], batch_dim=1), "conv")
    joined = row(profile(model, [binary, real], batch_dim=1), "conv")
    assert (first.input_kind, joined.input_kind) == ("binary", "real")
    assert first.ac > 0 == joined.ac and joined.mac == joined.valid_macs
    scaled = row(profile(model, [events(4, 2) * 0.5, torch.zeros(4, 2, 2, 5, 4)], batch_dim=1), "conv")
    assert scaled.input_kind == "scaled" and scaled.input_values == (0.5,) and scaled.ac == first.ac


def test_labels_give_the_accuracy_and_batch_sizes_may_differ() -> None:
    model = Net().eval()
    x = events(4, 5)
    functional.reset_net(model)
    with torch.no_grad():
        right = model(x).argmax(-1)
    functional.reset_net(model)
    wrong = right.clone()
    wrong[0] = (wrong[0] + 1) % 3
    measured = profile(model, [(x[:, :2], wrong[:2]), (x[:, 2:], wrong[2:])])
    assert (measured.samples, measured.correct, measured.accuracy) == (5, 4, 0.8)
    assert profile(model, [x], batch_dim=1).accuracy is None


def test_max_samples_cuts_inside_a_batch() -> None:
    model, x, done = Net(), events(4, 5), []
    cut = profile(model, [x, x], max_samples=7, progress=done.append, batch_dim=1)
    whole = profile(model, [torch.cat([x, x[:, :2]], 1)], batch_dim=1)
    assert done == [5, 7] and cut.samples == 7
    assert cut.rows == whole.rows


def test_dead_and_saturated_neurons_are_named() -> None:
    assert profile(Net(threshold=1e6), [events(4, 2)], batch_dim=1).dead == ("lif",)
    assert profile(Net(threshold=-1e6), [events(4, 2)], batch_dim=1).saturated == ("lif",)


def test_repeated_calls_at_different_places_are_different_sites() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = x @ x.mT
            second = x @ x.mT
            for _ in range(3):
                first = first + second
            return first

    rows = profile(Twice(), [events(2)[:, 0]]).rows
    assert [(r.op, r.site, r.calls) for r in rows] == [("matmul", 0, 2), ("matmul", 1, 2), ("add", 0, 6)]


def test_in_place_additions_are_read_before_they_happen() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = x[:, 0].clone(), x[:, 1]
            a += b
            return nn.functional.linear(a, torch.ones(3, 4))

    x = events(5)
    measured = profile(InPlace(), [x])
    assert row(measured, "", "add").ac == int((x[:, 0] * x[:, 1]).sum())
    linear = row(measured, "", "linear")
    assert linear.input_kind == "integer"
    assert linear.ac == 3 * int((x[:, 0] + x[:, 1]).sum())  # a sum of two spikes is two unit events
    assert linear.ac_events == 3 * int(((x[:, 0] + x[:, 1]) != 0).sum())


def test_what_is_known_of_a_tensor_is_not_taken_for_its_parts() -> None:
    """A slice begins at the same address; a reshaping changes what a channel is."""

    class Parts(nn.Module):
        T = 4

        def __init__(self) -> None:
            super().__init__()
            self.lif = neuron.IFNode(v_threshold=0.5, step_mode="m")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            s = self.lif(x)  # (4, 2, 4, 5, 6): as many channels as steps
            first = s[0].sum()
            one = nn.functional.conv2d(s[0], torch.ones(3, 4, 3, 3))
            other = nn.functional.conv2d(s.reshape(8, 2, 10, 6), torch.ones(3, 2, 3, 3))
            return first + one.sum() + other.sum()

    x = torch.rand(4, 2, 4, 5, 6, generator=torch.Generator().manual_seed(4))
    measured = profile(Parts(), [x], batch_dim=1)
    s = record_spikes(Parts(), x, batch_dim=1)["lif"].float()
    sums = [r for r in measured.rows if r.op == "sum"]
    assert sums[0].ac == int(s[0].sum())
    ones = [
        nn.functional.conv_transpose2d(torch.ones(1, 1, *o), torch.ones(1, 1, 3, 3)) for o in ((3, 4), (8, 4))
    ]
    convs = [r for r in measured.rows if r.op == "conv2d"]
    assert convs[0].ac == int((s[0] * ones[0] * 3).sum())
    assert convs[1].ac == int((s.reshape(8, 2, 10, 6) * ones[1] * 3).sum())


def test_tuple_outputs_of_neurons_and_modules_are_followed() -> None:
    class Pair(neuron.IFNode):
        def forward(self, x: torch.Tensor):
            return super().forward(x), self.v

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.fc = Pair(v_threshold=0.5, step_mode="m"), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spikes, _ = self.pair(x)
            return self.fc(spikes)

    measured = profile(Model(), [torch.rand(3, 2, 6, 4)], batch_dim=1)
    assert measured.uncounted == () and row(measured, "fc").sources == ("pair",)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "no samples"),
        ([[[1.0]]], "expected a tensor"),
        ([(events(4, 3), torch.zeros(2))], "2 labels for 3 samples"),
    ],
)
def test_bad_batches_give_one_clear_line(batches: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        profile(Net(), batches, batch_dim=1)


def test_record_spikes_of_single_and_multi_step_networks() -> None:
    model, x = Net().eval(), events(4, 3)
    spikes = record_spikes(model, x, batch_dim=1)
    assert set(spikes) == {"lif"} and spikes["lif"].dtype == torch.bool
    assert spikes["lif"].shape == (4, 3, 4, 5, 4)
    functional.reset_net(model)
    with torch.no_grad():
        assert torch.equal(spikes["lif"], model.lif(model.conv(x)) != 0)
    functional.reset_net(model)
    functional.set_step_mode(model, "s")

    class Loop(nn.Module):
        T = 4

        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return sum(self.net.head(self.net.lif(self.net.conv(step)).flatten(1)) for step in x)

    assert torch.equal(record_spikes(Loop(), x, batch_dim=1)["net.lif"], spikes["lif"])
