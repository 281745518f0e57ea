"""Data movement: by hand, and beside SpikingJelly's implementation of the same paper."""

from __future__ import annotations

import pytest
import torch
from energy_builders import SAMPLES, profile

from snn_energy.energy import estimate, load_costs
from snn_energy.energy.memory import Sram
from snn_energy.profiling.profile import OpRow, Profile


def sram() -> Sram:
    model = load_costs("45nm-memory").memory
    assert isinstance(model, Sram)
    return model


@pytest.mark.parametrize(
    ("size", "pj"),
    [(0, 0), (4096, 5), (8192, 10), (20480, 15), (32768, 20), (540672, 60), (1 << 20, 100), (1 << 30, 100)],
)
def test_the_curve_through_the_published_points(size: int, pj: float) -> None:
    assert sram().access_pj(size) == pytest.approx(pj)


def test_events_of_a_convolution_by_hand() -> None:
    """7 events reach 50 synapses; 96 weights (384 bytes) and 4 biases; potentials of 5·4·3 words."""
    row = OpRow(
        "c", "conv2d", input_kind="binary", input_nonzero=7, ac=50, weight_elements=96, bias_elements=4,
        bias_adds=60, output_shape=(5, 4, 3), output_elements=60,
    )  # fmt: skip
    word = {n: 4 * n * 10 / 8192 for n in (1000, 100, 60)}
    assert sram().charge(row) == {
        "activations": pytest.approx(7 * word[1000]),
        "weights": pytest.approx((50 + 60) * word[100]),
        "potentials": pytest.approx(2 * 50 * word[60]),
        "addressing": pytest.approx(50 * 0.1 + 2 * 7 * 3.2),
    }


def test_a_real_convolution_by_hand() -> None:
    """Two passes of a 3 → 5 channel 2×3 kernel, fed once per presentation."""
    row = OpRow(
        "c", "conv2d", input_shape=(3, 6, 7), output_shape=(5, 4, 4), input_elements=252, output_elements=160,
        mac=900, weight_elements=90, details={"kernel": (2, 3)},
    )  # fmt: skip
    word = {n: 4 * n * 10 / 8192 for n in (126, 90, 80)}
    expected = {
        "activations": pytest.approx(900 * word[126]),
        "weights": pytest.approx(900 * word[90]),
        "potentials": pytest.approx(160 * word[80]),
        "addressing": pytest.approx((252 + 160 + 2 * 5 * 6) * 0.1),
    }
    assert sram().charge(row) == expected


def test_step_charges_a_word_for_each_operation() -> None:
    energy = estimate(profile(), "exact", "step-fp32")
    synaptic = 1700 + 780 + 40 + 385 + 90 + 15 + 2000
    assert energy.memory_pj == pytest.approx(synaptic * 4 * 24.96 / SAMPLES)
    assert 0.95 < energy.memory_pj / energy.total_pj < 1
    assert "add" in energy.unmoved and "conv2d" not in energy.unmoved


def theirs_and_ours(model: torch.nn.Module, x: torch.Tensor) -> tuple[dict[str, float], dict[str, float]]:
    """pJ by component: SpikingJelly's, and ours from our own profile of the same network."""
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based.op_counter import LemaireEnergyProfiler

    from snn_energy.profiling import profile as measure

    profiler = LemaireEnergyProfiler()
    profiler.bind_model(model)
    with profiler, torch.no_grad():
        model(x)
    functional.reset_net(model)
    ours: dict[str, float] = {}
    energy = estimate(measure(model, [x]), "exact", "45nm-memory")
    for charge in energy.rows:
        for name, pj in charge.memory.items():
            ours[name] = ours.get(name, 0.0) + pj * energy.samples
    return profiler.get_report().breakdown_pj, ours


@pytest.mark.parametrize("kind", ["real", "spikes"])
def test_convolutions_as_spikingjelly(kind: str) -> None:
    """Without padding a real map costs the same; with a kernel of 1 every event reaches every channel."""
    from spikingjelly.activation_based import functional, layer, neuron

    torch.manual_seed(5)
    kernel = (3, 2) if kind == "real" else 1
    parts: list[torch.nn.Module] = [layer.Conv2d(3, 5, kernel, bias=False)]
    if kind == "spikes":
        parts.append(neuron.LIFNode(v_threshold=0.05))
    net = torch.nn.Sequential(*parts).eval()
    if kind == "spikes":
        functional.set_step_mode(net, "m")
    # one sample: they size the buffer of a map by the whole batch
    x = torch.rand(1, 3, 7, 6) if kind == "real" else (torch.rand(4, 1, 3, 7, 6) < 0.3).float()
    theirs, ours = theirs_and_ours(net, x)
    assert ours["weights"] == pytest.approx(theirs["params_pj"])
    assert ours["addressing"] == pytest.approx(theirs["addressing_pj"])
    assert ours["activations"] + ours["potentials"] == pytest.approx(
        theirs["inout_pj"] + theirs["potential_pj"]
    )


def test_spikes_near_a_border_reach_less_than_spikingjelly_says() -> None:
    """A 3×2 kernel without padding over 7×6: each event at its own fan-out, there kernel × channels."""
    from spikingjelly.activation_based import functional, layer, neuron

    torch.manual_seed(6)
    net = torch.nn.Sequential(
        layer.Conv2d(3, 5, (3, 2), bias=False), neuron.LIFNode(v_threshold=0.05)
    ).eval()  # fmt: skip
    functional.set_step_mode(net, "m")
    x = (torch.rand(4, 1, 3, 7, 6) < 0.3).float()
    theirs, ours = theirs_and_ours(net, x)
    reach = torch.nn.functional.conv_transpose2d(torch.ones(1, 5, 5, 5), torch.ones(5, 3, 3, 2))[0]
    existing, all_alike = float((x * reach).sum()), float(x.sum()) * 3 * 2 * 5
    assert existing < all_alike
    assert ours["weights"] / theirs["params_pj"] == pytest.approx(existing / all_alike)


def test_graded_events_read_their_words_once_per_unit() -> None:
    """7 events of 19 units in all, as in the convolution above with 50 synapses reached by units."""
    row = OpRow(
        "c", "conv2d", input_kind="integer", input_nonzero=7, input_units=19, ac=50, weight_elements=96,
        output_shape=(5, 4, 3), output_elements=60,
    )  # fmt: skip
    found = sram().charge(row)
    assert found["activations"] == pytest.approx(19 * 4 * 1000 * 10 / 8192)
    assert found["addressing"] == pytest.approx(50 * 0.1 + 2 * 19 * 3.2)


def test_the_same_figures_as_spikingjelly() -> None:
    """Linear → LIF → Linear → LIF on spikes: accesses and addressing, read independently."""
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.op_counter import LemaireEnergyProfiler

    torch.manual_seed(3)
    steps, samples, sizes = 5, 1, (13, 11, 7)
    net = torch.nn.Sequential(
        layer.Linear(sizes[0], sizes[1], bias=True), neuron.LIFNode(v_threshold=0.1),
        layer.Linear(sizes[1], sizes[2], bias=False), neuron.LIFNode(v_threshold=0.02),
    ).eval()  # fmt: skip
    functional.set_step_mode(net, "m")
    x = (torch.rand(steps, samples, sizes[0]) < 0.4).float()
    profiler = LemaireEnergyProfiler()
    profiler.bind_model(net)
    with profiler, torch.no_grad():
        net(x)
    theirs = profiler.get_report().breakdown_pj
    functional.reset_net(net)
    with torch.no_grad():
        hidden = net[1](net[0](x))
        out = net[3](net[2](hidden))
    spikes = [int(t.count_nonzero()) for t in (x, hidden, out)]
    assert all(spikes)
    rows = []
    for i in (0, 1):
        fan_in, fan_out = sizes[i], sizes[i + 1]
        bias = 0 if net[2 * i].bias is None else fan_out
        rows.append(OpRow(
            f"{2 * i}", "linear", input_kind="binary", input_nonzero=spikes[i], ac=spikes[i] * fan_out,
            output_shape=(fan_out,), output_elements=fan_out * steps, bias_adds=bias * steps,
            weight_elements=fan_in * fan_out, bias_elements=bias, feeds=(f"{2 * i + 1}",),
        ))  # fmt: skip
        rows.append(OpRow(
            f"{2 * i + 1}", "lif", output_shape=(fan_out,), output_elements=fan_out * steps,
            output_nonzero=spikes[i + 1], neuron_cmp=fan_out * steps, state_elements=fan_out,
        ))  # fmt: skip
    ours: dict[str, float] = {}
    for charge in estimate(Profile(tuple(rows), 1, steps), "exact", "45nm-memory").rows:
        for name, pj in charge.memory.items():
            ours[name] = ours.get(name, 0.0) + pj
    assert ours["activations"] == pytest.approx(theirs["inout_pj"])
    assert ours["weights"] == pytest.approx(theirs["params_pj"])
    assert ours["potentials"] == pytest.approx(theirs["potential_pj"])
    assert ours["addressing"] == pytest.approx(theirs["addressing_pj"])
