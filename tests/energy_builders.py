"""A Profile small enough to check with a pencil: every count differs from every other.

Two samples, three time steps.  Totals are over both samples.
"""

from __future__ import annotations

from typing import Any

from snn_energy.profiling.profile import OpRow, Profile

SAMPLES, STEPS = 2, 3


def rows() -> dict[str, OpRow]:
    """The rows by name; the comments give what the tests use."""
    qkv: dict[str, Any] = {
        "op": "conv2d",
        "role": "attention",
        "block": "block.0",
        "input_kind": "binary",
        "two_valued_input": True,
        "dense_macs": 1300,
        "valid_macs": 1300,
        "input_elements": 130,
        "input_nonzero": 26,  # rate .2
        "ac": 260,
        "ac_executed": 260,
        "ac_square_sum": 130**2 * 2,
        "input_shape": (5, 2, 3),
        "output_shape": (7, 2, 3),
    }
    listed = [
        OpRow(
            "enc",
            "conv2d",
            role="encoder",
            dense_macs=6600,
            valid_macs=6000,
            mac=2000,  # once instead of three times
            mac_executed=6000,
            mac_nonzero=5400,
            mac_square_sum=1000**2 * 2,
            input_elements=660,
            input_nonzero=594,  # rate .9
            static_repeats=3,
        ),
        OpRow("bn_enc", "norm", norm_elements=50, norm_folded=True),
        OpRow("lif", "lif", **neuron(120, 24)),
        OpRow(
            "hid",
            "conv2d",
            block="block.0",
            input_kind="binary",
            two_valued_input=True,
            sources=("lif",),
            dense_macs=9000,
            valid_macs=8000,
            input_elements=500,
            input_nonzero=110,  # rate .22
            ac=1700,
            ac_executed=1700,
            ac_square_sum=800**2 + 900**2,
            bias_adds=30,
        ),
        OpRow("q", **qkv, feeds=("q_lif",), sources=("lif",)),
        OpRow("k", **qkv, feeds=("k_lif",), sources=("lif",)),
        OpRow("v", **qkv, feeds=("v_lif",), sources=("lif",)),
        OpRow("q_lif", "lif", block="block.0", **neuron(70, 35)),  # rate .5
        OpRow("k_lif", "lif", block="block.0", **neuron(70, 21)),  # .3
        OpRow("v_lif", "lif", block="block.0", **neuron(70, 14)),  # .2
        OpRow(
            "attn",
            "matmul",
            0,
            role="attention",
            block="block.0",
            input_kind="binary",
            two_valued_input=True,
            right_kind="binary",
            sources=("k_lif", "v_lif"),
            dense_macs=770,
            valid_macs=770,
            input_elements=70,
            input_nonzero=21,
            right_elements=70,
            right_nonzero=14,
            ac=40,
            ac_executed=40,
            ac_coincident=40,
            ac_one_sided=231,
        ),
        OpRow(
            "attn",
            "matmul",
            1,
            role="attention",
            block="block.0",
            input_kind="binary",
            two_valued_input=True,
            right_kind="real",
            sources=("q_lif",),
            dense_macs=770,
            valid_macs=770,
            input_elements=70,
            input_nonzero=35,
            right_elements=110,
            right_nonzero=108,
            ac=385,
            ac_executed=385,
            ac_coincident=300,
            ac_one_sided=385,
        ),
        OpRow("bn", "norm", block="block.0", norm_elements=90, norm_macs=90),
        OpRow("res", "add", block="block.0", ac=44, ac_executed=44, output_elements=44),
        OpRow(
            "graded",
            "conv2d",
            block="block.1",
            input_kind="integer",  # 0, 1, 2
            dense_macs=400,
            valid_macs=380,
            input_elements=40,
            input_nonzero=10,  # rate .25
            ac=90,
            ac_executed=90,
        ),
        OpRow(
            "pool",
            "max_pool",
            block="block.1",
            input_kind="binary",
            two_valued_input=True,
            input_elements=60,
            input_nonzero=12,
            pool_cmp=99,
        ),
        OpRow("scaled", "scale", block="block.1", scale_muls=17, output_elements=17),
        OpRow(
            "head",
            "linear",
            role="head",
            block="head",
            input_kind="binary",
            two_valued_input=True,
            dense_macs=50,
            valid_macs=50,
            input_elements=10,
            input_nonzero=3,  # rate .3
            ac=15,
            ac_executed=15,
            bias_adds=5,
        ),
    ]
    return {f"{row.name}.{row.site}" if row.site else row.name: row for row in listed}


def neuron(elements: int, spikes: int) -> dict[str, Any]:
    """The fields of a leaky neuron's row."""
    return {
        "output_elements": elements,
        "output_nonzero": spikes,
        "neuron_mul": elements,
        "neuron_add": elements,
        "neuron_cmp": elements,
        "neuron_reset": spikes,
    }


def profile() -> Profile:
    """All rows."""
    return Profile(tuple(rows().values()), samples=SAMPLES, time_steps=STEPS, model="pencil")
