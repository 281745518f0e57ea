"""Every shipped convention on a Profile whose answer is worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from energy_builders import SAMPLES, profile, rows

from snn_energy.energy import Convention, conventions, estimate, load_convention
from snn_energy.energy.conventions import CHOICES, convention_from
from snn_energy.energy.yaml_records import to_mapping
from snn_energy.errors import ConfigError

QKV_AC = 3 * 260
QKV_DENSE = 3 * 1300
EXPECTED = {
    # (AC, MAC), totals over both samples
    "exact": (1700 + QKV_AC + 40 + 385 + 44 + 90 + 15, 2000 + 90),
    "spikformer": (
        0.22 * 9000 + 0.2 * QKV_DENSE + 0.3 * 770 + 0.5 * 770 + 0.25 * 400 + 0.3 * 50,
        6600,
    ),
    "sdt": (
        0.22 * 9000
        + (0.5 + 0.3 + 0.2) / 3 * QKV_DENSE
        + (0.3 + 0.2) * 770
        + 0.5 * 770
        + 0.25 * 400
        + 0.3 * 50,
        0.9 * 6600,
    ),
    "ilif": (
        0.22 * 9000 + 0.2 * QKV_DENSE + (0.3 + 0.2) * 770 + 0.5 * 770 + 0.25 * 400 + 0.3 * 50,
        6600,
    ),
    "spikingformer": (0.22 * (9000 + 30) + 0.2 * QKV_DENSE + 0.2 * 770 + 0.5 * 770, 6600 + 400 + 50 + 5),
    "syops": (
        0.22 * (9000 + 30) + 0.2 * QKV_DENSE + 0.3 * (50 + 5) + (120 + 3 * 70) + 12,
        6600 + 400 + 2 * (50 + 90),
    ),
    "neurobench": (1700 + QKV_AC + 15, 5400 + 90),
    "spikingjelly": (1700 + QKV_AC + 40 + 385 + 15, 6600 + 400 + 50 + 90),
}
EXPECTED["qkformer"], EXPECTED["staa"] = EXPECTED["spikformer"], EXPECTED["syops"]


@pytest.mark.parametrize("name", conventions())
def test_charges_by_hand(name: str) -> None:
    energy = estimate(profile(), name)
    ac, mac = EXPECTED[name]
    assert energy.ac == pytest.approx(ac / SAMPLES, rel=1e-12)
    assert energy.mac == pytest.approx(mac / SAMPLES, rel=1e-12)
    assert energy.total_pj == pytest.approx((ac * 0.9 + mac * 4.6) / SAMPLES, rel=1e-12)


def test_every_convention_says_what_differs_and_where_it_comes_from() -> None:
    for convention in conventions().values():
        assert convention.differs and convention.source
    assert len({c.differs for c in conventions().values()}) == len(conventions())


def test_exact_is_the_measured_counts() -> None:
    measured = profile()
    expected = sum(r.ac * 0.9 + (r.mac + r.norm_macs) * 4.6 for r in measured.rows) / SAMPLES
    assert estimate(measured).total_pj == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("choice", "ac", "mac", "mul", "cmp"),
    [
        ({"neuron": "one-ac"}, 330, 0, 0, 0),
        ({"neuron": "one-mac"}, 330, 330, 0, 0),
        ({"neuron": "full"}, 330 + 24 + 35 + 21 + 14, 0, 330, 330),
        ({"bias": "ac"}, 30, 0, 0, 0),
        ({"head_bias": "ac"}, 5, 0, 0, 0),
        ({"bias": "with-row"}, 0.22 * 30, 0, 0, 0),
        ({"scale": "mul"}, 0, 0, 17, 0),
        ({"pool": "compare"}, 0, 0, 0, 99),
        ({"pool": "per-input"}, 12, 0, 0, 0),
        ({"norm": "none"}, 0, -90, 0, 0),
        ({"norm": "two-macs"}, 0, 2 * 140 - 90, 0, 0),
        ({"norm": "batch-scaling"}, 0, 140 - 90, 0, 0),
        ({"norm": "batch-group"}, 0, 2 * 140 - 90, 0, 0),
        ({"norm": "one-mac"}, 0, 140 - 90, 0, 0),
        ({"bias": "per-call"}, 0.22 * 30, 0, 0, 0),
        ({"graded": "once"}, 0, 0, 0, 0),
        ({"graded": "value"}, 0, 0, 0, 0),
        ({"weights": "nonzero"}, 0, 0, 0, 0),
        ({"elementwise": "none"}, -44, 0, 0, 0),
        ({"encoder": "mac-dense"}, 0, 6600 - 2000, 0, 0),
        ({"encoder": "mac-once"}, 0, 6600 / 3 - 2000, 0, 0),
        ({"encoder": "mac-rate"}, 0, 0.9 * 6600 - 2000, 0, 0),
        ({"encoder": "ac-rate"}, 0.9 * 6600, -2000, 0, 0),
        ({"encoder": "none"}, 0, -2000, 0, 0),
        ({"head": "mac-dense"}, -15, 50, 0, 0),
        ({"head": "ac-rate"}, 0, 0, 0, 0),
        ({"head": "none"}, -15, 0, 0, 0),
        ({"counting": "executed"}, 0, 4000, 0, 0),
        ({"products": "none"}, -425, 0, 0, 0),
        ({"products": "one-sided"}, 231 - 40, 0, 0, 0),
        ({"products": "min-of-rates"}, 154 - 40, 0, 0, 0),
        ({"products": "sum-of-rates"}, 385 - 40, 0, 0, 0),
        ({"events_are": ["binary"]}, -90, 380, 0, 0),
        ({"events_are": "two-valued", "reals": "mac-dense"}, -90, 6600 - 2000 + 400, 0, 0),
        ({"events_are": ["binary"], "reals": "mac-nonzero"}, -90, 5400 - 2000 + 90, 0, 0),
        ({"reals": "none"}, 0, -2000, 0, 0),
    ],
)
def test_one_choice_changed_from_exact(choice: dict, ac: float, mac: float, mul: float, cmp: float) -> None:
    exact = estimate(profile())
    changed = estimate(profile(), convention_from({"name": "mine", "base": "exact", **choice}, "here"))
    delta = {k: sum(getattr(r, k) for r in changed.rows) - sum(getattr(r, k) for r in exact.rows)
             for k in ("ac", "mac", "mul", "cmp")}  # fmt: skip
    expected = {"ac": ac, "mac": mac, "mul": mul, "cmp": cmp}
    assert delta == {k: pytest.approx(v / SAMPLES, rel=1e-9, abs=1e-9) for k, v in expected.items()}


def test_every_choice_is_tried_above_or_is_the_default() -> None:
    tried = {(k, v) for mark in test_one_choice_changed_from_exact.pytestmark for c in mark.args[1]
             for k, v in c[0].items() if k in CHOICES}  # fmt: skip
    default = {(k, getattr(Convention("x"), k)) for k in CHOICES}
    shipped = {(k, getattr(c, k)) for c in conventions().values() for k in CHOICES}
    missing = {(k, v) for k, values in CHOICES.items() for v in values} - tried - default - shipped
    assert missing == set()


def test_qkv_at_output_rates_touches_only_what_drives_the_products() -> None:
    changed = convention_from({"name": "x", "base": "spikformer", "qkv_rate": "output"}, "here")
    before, after = (estimate(profile(), c) for c in ("spikformer", changed))
    moved = {a.name for a, b in zip(before.rows, after.rows, strict=True) if a.pj != b.pj}
    assert moved == {"q", "k", "v"}


def test_sdt_masks_are_free_and_the_sum_over_tokens_is_charged() -> None:
    from snn_energy.profiling.profile import OpRow, Profile

    kept = [r for r in rows().values() if r.op != "matmul"]
    attention = {"role": "attention", "block": "block.0", "input_kind": "binary"}
    masks = [
        OpRow("attn", "mul", 0, **attention, sources=("k_lif", "v_lif"), input_elements=70),
        OpRow("attn", "sum", 0, **attention, sources=("k_lif", "v_lif"), input_elements=70, ac=5),
        OpRow("attn", "mul", 1, **attention, sources=("q_lif",), input_elements=70),
    ]
    charged = estimate(Profile((*kept, *masks), SAMPLES, 3), "sdt").rows[-3:]
    assert [c.ac for c in charged] == [0, pytest.approx(70 * (0.3 + 0.2) / SAMPLES), 0]


def test_yaml_round_trip(tmp_path: Path) -> None:
    for name, convention in conventions().items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(to_mapping(convention)), encoding="utf-8")
        assert load_convention(path) == convention
        assert load_convention(str(path)) == convention


def test_a_few_lines_declare_a_convention(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text("name: ours\nbase: exact\nneuron: full\ndiffers: neurons too\n", encoding="utf-8")
    ours = load_convention(path)
    assert (ours.name, ours.neuron, ours.counting) == ("ours", "full", "exact")
    assert estimate(profile(), path).total_pj > estimate(profile()).total_pj


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\nneuron: ful\n", ["neuron", "'ful'", "did you mean 'full'"]),
        ("name: x\nneurons: full\n", ["unknown key 'neurons'", "did you mean 'neuron'"]),
        ("base: exact\n", ["needs 'name'"]),
        ("name: x\nbase: exakt\n", ["base", "'exakt'", "did you mean 'exact'"]),
        ("name: x\nevents_are: [binary, spikes]\n", ["events_are", "'spikes'"]),
        ("- a\n- b\n", ["is a mapping", "not list"]),
        ("name: [unclosed\n", ["not YAML"]),
        ("name: x\nneuron: [full]\n", ["neuron", "['full']"]),
        ("name: sdt\nbase: exact\n", ["name = 'sdt'", "give yours its own"]),
    ],
)
def test_errors_are_one_line_and_name_the_fault(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_convention(path)
    message = str(caught.value)
    assert "\n" not in message and "bad.yaml" in message
    assert all(word in message for word in words), message


def test_unknown_name_and_missing_file() -> None:
    with pytest.raises(ConfigError, match="did you mean 'spikformer'"):
        load_convention("spikeformer")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_convention("nowhere.yaml")


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, snn_energy.energy, snn_energy.energy.analysis, snn_energy.energy.reproduce as r;"
        "import snn_energy.reports.tables as t; t.render(t.reproduction_table(r.reproduce()), 'json');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_spikingformer_charges_the_cheaper_order_whichever_comes_first() -> None:
    """heads·N·d²·T·(min(r_K, r_V) + r_Q), from Q Kᵀ first and from Kᵀ V first, also where N = d."""
    from snn_energy.profiling.profile import OpRow, Profile

    heads, steps = 3, 2

    def product(site: int, left: tuple, right: tuple, kinds: tuple, rates: tuple) -> OpRow:
        inputs, others = (steps * heads * s[0] * s[1] for s in (left, right))
        return OpRow(
            "attn", "matmul", site, role="attention", input_kind=kinds[0], right_kind=kinds[1],
            two_valued_input=kinds[0] == "binary",
            input_shape=(heads, *left), output_shape=(heads, left[0], right[1]),
            input_elements=inputs, input_nonzero=round(rates[0] * inputs),
            right_elements=others, right_nonzero=round(rates[1] * others),
            dense_macs=steps * heads * left[0] * left[1] * right[1],
        )  # fmt: skip

    q, k, v = 0.5, 0.3, 0.2
    for n, d in ((50, 20), (20, 50), (40, 40)):
        spikes, mixed, first = ("binary", "binary"), ("binary", "real"), ("real", "binary")
        scores = (product(0, (n, d), (d, n), spikes, (q, k)), product(1, (n, n), (n, d), first, (0.9, v)))
        state = (product(0, (d, n), (n, d), spikes, (k, v)), product(1, (n, d), (d, d), mixed, (q, 0.9)))
        expected = heads * n * d * d * steps * (min(k, v) + q)
        for pair in (scores, state):
            assert estimate(Profile(pair, 1, steps), "spikingformer").ac == pytest.approx(expected)
