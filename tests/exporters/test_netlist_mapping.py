"""The mapping report: numbers by hand, limits that bind, limits of one's own."""

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
from netlists import chain, everything

from snn_energy.errors import ConfigError
from snn_energy.exporters.chip.mapping import load_chip, map_netlist
from snn_energy.exporters.netlist.record import Conv, Dense, Edge, Input, Netlist, Population

RNG = np.random.default_rng(2)


def limited(name="loihi1", **limits):
    chip = load_chip(name)
    return dataclasses.replace(chip, limits=dict(chip.limits) | limits)


def dense(inputs: int, outputs: int) -> Netlist:
    nodes = {"x": Input((1, 1, inputs)), "w": Dense((1, 1, inputs), np.full((outputs, inputs), 2)),
             "lif": Population((outputs, 1, 1), 9)}  # fmt: skip
    return Netlist(nodes, (Edge("x", "w"), Edge("w", "lif")), 2)


def test_demands_by_hand():
    report = map_netlist(dense(300, 7), "loihi1")
    (need,) = report.demands
    assert (need.neurons, need.synapses, need.fan_in, need.weight_bits) == (7, 2100, 300, 16800)
    (core,) = report.cores
    assert (core.neurons, core.weight_bits, core.in_axons, core.out_axons) == (7, 16800, 300, 0)
    assert report.fits and report.chips == 1


def test_shared_convolutions_store_a_kernel_once():
    conv = Conv((2, 5, 6), np.full((3, 2, 3, 3), 2), padding=(1, 1))
    netlist = Netlist({"x": Input((2, 5, 6)), "c": conv, "lif": Population(conv.shape, 1)},
                      (Edge("x", "c"), Edge("c", "lif")), 1)  # fmt: skip
    unshared, shared = (map_netlist(netlist, c).demands[0].weight_bits for c in ("loihi1", "loihi2"))
    taps = sum((5 - abs(i)) * (6 - abs(j)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    assert unshared == 8 * 2 * 3 * taps and shared == 8 * 54


def test_cores_fill_up_in_order_and_every_neuron_is_placed_once():
    report = map_netlist(chain(RNG), limited(neurons_per_core=100, cores_per_chip=2, in_axons_per_core=10**6))
    sizes = {d.population: d.neurons for d in report.demands}
    for name, size in sizes.items():
        pieces = [(s.start, s.stop) for s in report.slices if s.population == name]
        assert pieces[0][0] == 0 and pieces[-1][1] == size
        assert all(a[1] == b[0] for a, b in pairwise(pieces))
    assert max(c.neurons for c in report.cores) == 100 and sum(c.neurons for c in report.cores) == sum(
        sizes.values()
    )
    assert len(report.cores) == -(-sum(sizes.values()) // 100) and report.chips == -(-len(report.cores) // 2)


def test_weight_memory_splits_a_population():
    report = map_netlist(dense(300, 7), limited(synapse_bits_per_core=300 * 8 * 3))
    assert [s.stop - s.start for s in report.slices] == [3, 3, 1]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"in_axons_per_core": 299}, "lif: 300 source neurons, a core has 299 input axons"),
        ({"synapse_bits_per_core": 2399}, "lif: 2400 bits of weights that cannot be split, a core has 2399"),
    ],
)
def test_what_exceeds_a_limit_is_named(limits, problem):
    report = map_netlist(dense(300, 7), limited(**limits))
    assert report.problems == (problem,) and not report.fits
    assert f"does not fit: {problem}" in report.summary()


def test_processes_without_a_form_on_the_chip_and_graded_spikes_are_named():
    report = map_netlist(everything(RNG), "loihi1")
    assert set(report.off_chip) == {"pool", "attn"}
    assert any("relay: graded spikes, which Loihi (2018) does not have" in p for p in report.problems)
    assert not map_netlist(everything(RNG), "loihi2").problems


def test_report_as_json_prints_its_sources(tmp_path):
    map_netlist(everything(RNG)).save(tmp_path / "map.json")
    record = json.loads((tmp_path / "map.json").read_text())
    assert record["chip"]["sources"]["graded_spikes"].startswith("Intel")
    assert set(record["utilisation"]) == {"neurons", "weight_bits", "in_axons", "out_axons"}
    assert record["fits"] is False


def test_report_as_html_marks_what_exceeds_and_prints_sources():
    text = map_netlist(dense(300, 7), limited(in_axons_per_core=299)).to_html()
    assert "does not fit: lif: 300 source neurons" in text and "#c0392b" in text and "100%" in text
    assert "128 KiB of synaptic memory" in text and text.count("<svg") == 4
    assert "#c0392b" not in map_netlist(dense(300, 7), "loihi1").to_html()


def test_own_chips(tmp_path):
    path = tmp_path / "chips.yaml"
    path.write_text("mine:\n  title: Mine\n  neurons_per_core: {value: 5, source: me}\n")
    report = map_netlist(dense(30, 7), f"{path}:mine")
    assert len(report.cores) == 2 and report.chip.sources["neurons_per_core"] == "me"
    with pytest.raises(ConfigError, match="unknown chip 'loihi3'; did you mean"):
        load_chip("loihi3")
    path.write_text("mine:\n  title: Mine\n  neuron_per_core: {value: 5, source: me}\n")
    with pytest.raises(ConfigError, match="no limit 'neuron_per_core'; did you mean 'neurons_per_core'"):
        load_chip(f"{path}:mine")
    path.write_text("mine:\n  title: Mine\n  neurons_per_core: 5\n")
    with pytest.raises(ConfigError, match="every limit needs a value and a source"):
        load_chip(f"{path}:mine")
