"""Graded events and pruned weights under each convention, on rows whose counts all differ."""

from __future__ import annotations

import dataclasses

import pytest

from snn_energy.energy import conventions, estimate
from snn_energy.energy.analysis import break_even, silenced
from snn_energy.energy.conventions import convention_from, load_convention
from snn_energy.profiling.profile import OpRow, Profile

GRADED = OpRow(
    "conv", "conv2d", input_kind="integer", input_values=(1.0, 2.0, 3.0), dense_macs=400, valid_macs=380,
    input_elements=40, input_nonzero=10, input_units=23, ac=207, ac_executed=207, ac_events=90,
    ac_unpruned=180, ac_events_unpruned=77, ac_coincident=90, ac_one_sided=90,
)  # fmt: skip
SCALED = dataclasses.replace(
    GRADED, input_kind="scaled", input_values=(0.5,), two_valued_input=True, input_units=10, ac=90,
    ac_executed=90, ac_unpruned=77,
)  # fmt: skip
STATIC = dataclasses.replace(
    GRADED, static_repeats=3, role="encoder", ac=69, dense_macs=1200, valid_macs=1140, input_elements=120,
    input_nonzero=30, input_units=69, ac_executed=207,
)  # fmt: skip
REAL = OpRow(
    "fc", "linear", input_kind="real", dense_macs=600, valid_macs=600, input_elements=60, input_nonzero=54,
    input_units=54, mac=600, mac_executed=600, mac_nonzero=540, mac_unpruned=200, mac_nonzero_unpruned=180,
)  # fmt: skip
# integer spikes times binary ones: (2, 5) × (5, 3), 4 samples and steps in all
MIXED = OpRow(
    "m", "matmul", input_kind="integer", input_values=(1.0, 2.0), right_kind="binary", right_values=(1.0,),
    input_shape=(2, 5), output_shape=(2, 3), dense_macs=120, valid_macs=120, input_elements=40,
    input_nonzero=8, input_units=11, right_elements=60, right_nonzero=15, right_units=15, ac=9,
    ac_executed=9, ac_events=7, ac_unpruned=9, ac_events_unpruned=7, ac_coincident=7, ac_one_sided=24,
)  # fmt: skip


def charged(row: OpRow, convention: str | dict) -> tuple[float, float]:
    if isinstance(convention, dict):
        convention = convention_from({"name": "mine", "base": "exact", **convention}, "here")  # type: ignore[assignment]
    energy = estimate(Profile((row,), samples=1, time_steps=1), convention)
    return energy.ac, energy.mac


@pytest.mark.parametrize(
    ("row", "convention", "ac", "mac"),
    [
        (GRADED, "exact", 207, 0),
        (GRADED, {"graded": "once"}, 90, 0),
        (GRADED, {"weights": "nonzero"}, 180, 0),
        (GRADED, {"weights": "nonzero", "graded": "once"}, 77, 0),
        (GRADED, {"counting": "rate"}, 23 / 40 * 400, 0),
        (GRADED, {"counting": "rate", "graded": "once"}, 10 / 40 * 400, 0),
        (GRADED, "ilif", 23 / 40 * 400, 0),
        (GRADED, "sdt", 10 / 40 * 400, 0),
        (GRADED, "spikformer", 10 / 40 * 400, 0),
        (GRADED, "neurobench", 0, 77),
        (GRADED, "spikingjelly", 0, 400),
        (GRADED, "syops", 0, 400),
        (SCALED, "exact", 90, 0),
        (SCALED, "syops", 0.5 * 10 / 40 * 400, 0),  # the mean of the tensor
        (SCALED, "spikingformer", 0.5 * 10 / 40 * 400, 0),
        (SCALED, "neurobench", 0, 77),
        (SCALED, "spikingjelly", 0, 400),
        (STATIC, "exact", 69, 0),
        (STATIC, {"graded": "once"}, 30, 0),
        (STATIC, {"weights": "nonzero"}, 60, 0),
        (STATIC, "ilif", 0, 1200),
        (REAL, "exact", 0, 600),
        (REAL, "neurobench", 0, 180),
        (REAL, {"weights": "nonzero"}, 0, 200),
        (REAL, {"reals": "mac-nonzero"}, 0, 540),
        (MIXED, "exact", 9, 0),
        (MIXED, "spikingjelly", 15 * 2, 0),  # the binary side, each of its spikes once per row of the other
        (MIXED, {"events_are": ["integer"], "graded": "once"}, 8 * 3, 0),
        (MIXED, {"events_are": ["integer"]}, 11 * 3, 0),
        (MIXED, {"events_are": ["ternary"]}, 0, 120),
    ],
)
def test_what_a_convention_makes_of_a_row(row: OpRow, convention: str | dict, ac: float, mac: float) -> None:
    assert charged(row, convention) == (pytest.approx(ac), pytest.approx(mac))


def test_a_profile_without_counts_over_nonzero_weights_is_charged_all_of_them() -> None:
    plain = dataclasses.replace(GRADED, ac_unpruned=0, ac_events_unpruned=0)
    assert charged(plain, "neurobench") == (0, 90)
    pruned = dataclasses.replace(REAL, mac_unpruned=0, mac_nonzero_unpruned=0)  # every weight is zero
    energy = estimate(Profile((GRADED, pruned), 1, 1), "neurobench")
    assert [row.mac for row in energy.rows] == [77, 0]


@pytest.mark.parametrize(
    ("details", "one", "two"),
    [
        ({"function": "batch_norm"}, 24, 48),
        ({"function": "batch_norm", "affine": False}, 0, 24),
        ({"function": "instance_norm", "affine": True}, 24, 48),
        ({"function": "group_norm"}, 0, 48),
        ({"function": "layer_norm"}, 0, 0),
        ({"function": "rms_norm"}, 0, 0),
    ],
)
@pytest.mark.parametrize("folded", [True, False])
def test_which_norms_tools_charge(details: dict, one: int, two: int, folded: bool) -> None:
    row = OpRow(
        "n", "norm", norm_elements=24, norm_folded=folded, norm_macs=0 if folded else 24, details=details
    )
    assert (charged(row, "spikingjelly")[1], charged(row, "syops")[1]) == (one, two)
    assert charged(row, "exact")[1] == row.norm_macs


def test_bias_once_per_call_of_a_linear_layer() -> None:
    """Seven tokens in each of three calls; 5 outputs."""
    row = OpRow(
        "fc", "linear", calls=3, input_kind="binary", two_valued_input=True, dense_macs=420, valid_macs=420,
        input_elements=84, input_nonzero=21, ac=105, ac_executed=105, bias_adds=105, bias_elements=5,
    )  # fmt: skip
    assert charged(row, "syops")[0] == pytest.approx((420 + 15) / 4)
    assert charged(row, "spikingformer")[0] == pytest.approx((420 + 105) / 4)
    conv = dataclasses.replace(row, op="conv1d")
    assert charged(conv, "syops")[0] == pytest.approx((420 + 105) / 4)


def test_spikingformer_charges_hidden_biases_at_the_rate_of_their_layer() -> None:
    row = OpRow(
        "proj", "conv1d", input_kind="binary", two_valued_input=True, dense_macs=512, valid_macs=512,
        input_elements=64, input_nonzero=16, ac=128, ac_executed=128, bias_adds=24,
    )  # fmt: skip
    assert charged(row, "spikingformer") == (0.25 * (512 + 24), 0)
    real = dataclasses.replace(row, two_valued_input=False, input_kind="real", ac=0, ac_executed=0, mac=512)
    assert charged(real, "spikingformer") == (0, 512 + 24)


def test_ilif_is_sdt_for_binary_spikes_but_for_q_k_v_and_the_encoder() -> None:
    ilif, sdt = load_convention("ilif"), load_convention("sdt")
    differ = {k for k, v in vars(ilif).items() if v != getattr(sdt, k)} - {"name", "differs", "source"}
    assert differ == {"graded", "encoder", "qkv_rate"}
    assert {c.graded for c in conventions().values()} == {"units", "once", "value"}


def test_graded_rows_at_another_rate_keep_their_mean_value() -> None:
    exact = load_convention("exact")
    (full,) = silenced(Profile((GRADED,), 1, 1), exact, 1.0).rows
    assert (full.input_units, full.ac, full.ac_events) == (92, round(2.3 * 380), 380)
    assert full.ac_events_unpruned == round(77 / 90 * 380)
    (silent,) = silenced(Profile((GRADED,), 1, 1), exact).rows
    assert not any((silent.ac, silent.ac_events, silent.ac_unpruned, silent.input_units))


def test_break_even_of_graded_events_counts_their_units() -> None:
    """2.3 unit events per event: the rate of events at which it costs as much is 2.3 times less."""
    even = break_even(Profile((GRADED,), 1, 1))[0].break_even
    assert even == pytest.approx(4.6 / 0.9 / 2.3, rel=1e-3)
