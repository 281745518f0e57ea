"""No ratio is formed where either side has operations without a price; a bound is called one."""

from __future__ import annotations

import dataclasses
import math

import pytest
from energy_builders import neuron, profile

from snn_energy.energy import CostTable, estimate
from snn_energy.energy.analysis import break_even, compare_with_twin, missing_prices
from snn_energy.energy.costs import cost_tables, load_costs
from snn_energy.profiling.profile import OpRow, Profile

CHIPS = [name for name, table in cost_tables().items() if table.mac is None]


def spiking(special: int = 0) -> Profile:
    """An event-driven layer and its neurons, T = 5; no MAC is charged on the spiking side."""
    fc = OpRow(
        "fc", "linear", input_kind="binary", dense_macs=5 * 60, valid_macs=5 * 60, input_elements=50,
        input_nonzero=20, ac=120, ac_executed=120, output_elements=30, output_shape=(6,), feeds=("lif",),
    )  # fmt: skip
    lif = OpRow("lif", "lif", output_shape=(6,), **neuron(30, 4))
    return Profile((fc, lif, OpRow("s", "special", special_evals=special)), samples=1, time_steps=5)


@pytest.mark.parametrize("costs", CHIPS)
def test_no_ratio_and_no_break_even_where_the_twins_macs_have_no_price(costs: str) -> None:
    assert len(CHIPS) == 8
    compared = compare_with_twin(spiking(), costs=costs)
    assert (compared.ratio, compared.missing) == (None, ("mac",))
    assert compared.words == f"no ratio to the dense ANN: {costs} has no price for MAC"
    for found in break_even(spiking(), costs=costs):
        assert (found.ratio, found.break_even, found.missing) == (None, None, ("mac",))


def test_no_ratio_where_the_spiking_side_lacks_a_price() -> None:
    """A convention that charges leaks as multiplications, and a table without that price."""
    costs = CostTable("ours", ac=1.0, mac=4.0)
    free = compare_with_twin(spiking(), "exact", costs)
    assert free.ratio == pytest.approx(4 * 60 / 120) and free.missing == ()
    full = dataclasses.replace(estimate(spiking()).convention, name="full", neuron="full")
    charged = compare_with_twin(spiking(), full, costs)
    assert (charged.ratio, charged.missing) == (None, ("mul", "cmp"))
    assert charged.words.endswith("ours has no price for MUL and CMP")
    layer, model = break_even(spiking(), full, costs)
    assert layer.missing == model.missing == ("mul", "cmp")


def test_one_layer_may_be_priced_where_the_model_is_not() -> None:
    """Neurons that drive nothing and nobody drives are in no layer's break-even, but in the model's."""
    extra = OpRow("odd", "lif", output_shape=(6,), **neuron(30, 0))
    measured = spiking()
    rows = (dataclasses.replace(measured.rows[0], feeds=()), extra)
    full = dataclasses.replace(estimate(measured).convention, name="full", neuron="full")
    layer, model = break_even(Profile(rows, 1, 5), full, CostTable("ours", ac=1.0, mac=4.0))
    assert layer.missing == () and layer.break_even == pytest.approx(60 * 4 / 300)
    assert model.break_even is None


def test_a_softmax_of_the_twin_makes_the_ratio_a_lower_bound() -> None:
    compared = compare_with_twin(spiking())
    dense = dataclasses.replace(compared.dense, unpriced={"special": 9.0})
    bound = dataclasses.replace(compared, dense=dense)
    assert bound.ratio == compared.ratio and bound.at_least and not compared.at_least
    assert bound.words.startswith("at least ") and "softmax" in bound.words


def test_special_functions_of_the_spiking_side_alone_leave_no_ratio() -> None:
    compared = compare_with_twin(spiking(special=9))
    assert (compared.ratio, compared.missing) == (None, ("special",))
    assert "45nm-fp32 has no price for special functions" in compared.words


def test_priced_sides_have_the_quotient_of_hand_counted_energies() -> None:
    compared = compare_with_twin(spiking(), costs="45nm-int8")
    assert compared.ratio == pytest.approx(0.23 * 60 / (0.03 * 120))
    assert compared.words == f"{compared.ratio:.2f} × less than the dense ANN"
    layer, model = break_even(spiking())
    assert layer.break_even == model.break_even == pytest.approx(4.6 / 0.9 / 5)
    assert layer.ratio == pytest.approx(4.6 * 60 / (0.9 * 120))


def test_a_silent_network_takes_infinitely_less() -> None:
    measured = profile()
    quiet = tuple(dataclasses.replace(r, ac=0, ac_executed=0, mac=0, norm_macs=0) for r in measured.rows)
    assert compare_with_twin(dataclasses.replace(measured, rows=quiet)).ratio == math.inf


def test_missing_prices_in_words() -> None:
    words = missing_prices(("mac", "special"), load_costs("loihi"))
    assert words == "loihi has no price for MAC and special functions"


def test_a_ratio_below_one_is_said_the_other_way_round() -> None:
    from snn_energy.energy.analysis import times

    assert times(4.516) == "4.52 × less than" and times(4.516, at_least=True) == "at least 4.52 × less than"
    assert times(0.25) == "4.00 × more than" and times(0.25, at_least=True) == "at most 4.00 × more than"
