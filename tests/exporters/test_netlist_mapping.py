"""The mapping report: numbers by hand, limits that bind, limits of one's own."""

import dataclasses
import json
from itertools import product

import numpy as np
import pytest
from netlists import chain, everything

from snn_energy.errors import ConfigError, DoesNotFit
from snn_energy.exporters.chip.answer import page, require_fit, table
from snn_energy.exporters.chip.chips import load_chip
from snn_energy.exporters.chip.demand import projections
from snn_energy.exporters.chip.mapping import map_netlist
from snn_energy.exporters.netlist.record import Conv, Dense, Edge, Input, Netlist, Population
from snn_energy.exporters.netlist.synapses import listed

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


def boxes(report, name):
    return [(s.channels, s.rows, s.columns) for s in report.slices if s.population == name]


def counted(netlist, name, box, chip):
    """(weight bits, input axons) of a box of population `name`, synapse by synapse."""
    shape = netlist.nodes[name].shape
    held = {np.ravel_multi_index(at, shape) for at in product(*(range(*span) for span in box))}
    bits, axons = 0, set()
    for node, source in projections(netlist, name):
        sources, targets, _ = listed(node)
        mine = [(s, t) for s, t in zip(sources.tolist(), targets.tolist(), strict=True) if t in held]
        axons |= {(source, s) for s, _ in mine}
        shared = isinstance(node, Conv) and chip["shared_convolutions"]
        bits += 8 * (np.count_nonzero(node.weight[slice(*box[0])]) if shared else len(mine))
    return bits, len(axons)


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
@pytest.mark.parametrize(
    "limits",
    [
        {"neurons_per_core": 17, "cores_per_chip": 2},
        {"in_axons_per_core": 40, "neurons_per_core": 50},
        {"synapse_bits_per_core": 1500, "groups_per_core": 2},
    ],
)
def test_every_neuron_lies_on_one_core_and_boxes_ask_what_their_synapses_are(name, limits):
    netlist, chip = chain(RNG), limited(name, **limits)
    report = map_netlist(netlist, chip)
    for population in report.demands:
        shape = netlist.nodes[population.population].shape
        seen = np.zeros(shape, int)
        for box in boxes(report, population.population):
            seen[tuple(slice(*span) for span in box)] += 1
        assert seen.all() and seen.max() == 1, population.population
    split = {line.split(":")[0] for line in report.splits}
    for piece in report.slices:
        if piece.population.split(".columns")[0] in split:
            continue
        box = (piece.channels, piece.rows, piece.columns)
        assert (piece.weight_bits, piece.in_axons) == counted(netlist, piece.population, box, chip)
    if report.fits:
        for core in report.cores:
            assert core.neurons <= chip["neurons_per_core"] and core.in_axons <= chip["in_axons_per_core"]
            assert core.weight_bits <= chip["synapse_bits_per_core"]
            assert len(core.populations) <= chip["groups_per_core"]
    assert report.chips == 1 + max(core.chip for core in report.cores)


def test_weight_memory_splits_a_dense_layer_by_rows():
    report = map_netlist(dense(300, 7), limited(synapse_bits_per_core=300 * 8 * 3))
    assert [s.channels for s in report.slices] == [(0, 3), (3, 6), (6, 7)]


def test_a_wide_linear_layer_needs_two_cores():
    """784 -> 2048 at 8 bits: 12.8 Mbit, a core of Loihi 2 has 7.5."""
    report = map_netlist(dense(784, 2048), "loihi2")
    assert report.fits and len(report.cores) == 2 and not report.splits
    assert boxes(report, "lif")[0][0] == (0, 7500000 // (784 * 8))


def conv(channels: int, maps: int, height: int, width: int, **fields) -> Netlist:
    node = Conv((channels, height, width), np.full((maps, channels // fields.get("groups", 1), 3, 3), 2),
                padding=(1, 1), **fields)  # fmt: skip
    nodes = {"x": Input(node.in_shape), "c": node, "lif": Population(node.shape, 1)}
    return Netlist(nodes, (Edge("x", "c"), Edge("c", "lif")), 1)


def test_a_wide_convolution_splits_by_output_maps():
    """256 -> 512 on 4x4: 256 maps are 4,096 neurons, and their kernels alone lie on a core."""
    report = map_netlist(conv(256, 512, 4, 4), "loihi2")
    assert report.fits and [s.channels for s in report.slices] == [(0, 256), (256, 512)]
    assert {s.weight_bits for s in report.slices} == {256 * 256 * 9 * 8}


def test_groups_bring_only_their_own_inputs():
    report = map_netlist(conv(12, 12, 5, 6, groups=4), limited("loihi2", neurons_per_core=90))
    assert [s.channels for s in report.slices] == [(0, 3), (3, 6), (6, 9), (9, 12)]
    assert {s.in_axons for s in report.slices} == {3 * 30}


def test_a_map_that_hears_too_much_is_cut_into_tiles():
    """64 maps of 20x24 are 30,720 source neurons: a core of Loihi 1 hears 4,096."""
    netlist = conv(64, 9, 20, 24)
    report = map_netlist(netlist, "loihi1")
    assert report.fits and max(s.in_axons for s in report.slices) <= 4096
    assert sum(s.neurons for s in report.slices) == 9 * 20 * 24
    assert any(s.rows != (0, 20) or s.columns != (0, 24) for s in report.slices)


def test_a_dense_layer_of_too_many_inputs_is_cut_by_columns_where_sums_can_be_relayed():
    report = map_netlist(dense(40_000, 6), "loihi2")
    assert report.fits and len(report.splits) == 1
    assert "lif: cut by columns into 3 parts" in report.splits[0]
    parts = [s for s in report.slices if s.population.startswith("lif.columns")]
    assert sum(s.weight_bits for s in parts) == 40_000 * 6 * 8 and max(s.in_axons for s in parts) <= 16_000
    (whole,) = (s for s in report.slices if s.population == "lif")
    assert whole.in_axons == 3 * 6
    one = map_netlist(dense(40_000, 6), "loihi1")
    assert not one.fits and "40000 source neurons into one neuron" in one.problems[0]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"in_axons_per_core": 299}, "lif: 300 source neurons into one neuron, a core has 299 input axons"),
        ({"synapse_bits_per_core": 2399}, "lif: 2400 bits of weights that cannot be split, a core has 2399"),
    ],
)
def test_what_exceeds_a_limit_is_named_with_a_way_out(limits, problem):
    report = map_netlist(dense(300, 7), limited(**limits))
    (obstacle,) = report.obstacles
    assert str(obstacle).startswith(f"{problem}; ") and obstacle.way_out and not report.fits
    assert not report.answer().fits and report.answer().words == "does not fit"


def test_processes_without_a_form_on_the_chip_and_graded_spikes_are_named():
    report = map_netlist(everything(RNG), "loihi1")
    assert {o.node for o in report.obstacles if "embedded core" in o.what} == {"pool", "attn"}
    assert "pooling_stat=0010" in next(o.way_out for o in report.obstacles if o.node == "pool")
    assert "attention_mode=SDT" in next(o.way_out for o in report.obstacles if o.node == "attn")
    assert any("relay: graded spikes, which Loihi (2018) does not have" in p for p in report.problems)
    assert len(map_netlist(everything(RNG), "loihi2").problems) == 2


def test_the_terminal_says_fits_or_does_not_in_80_columns():
    answers = [map_netlist(everything(RNG), name).answer() for name in ("loihi1", "loihi2")]
    answers.append(map_netlist(dense(300, 7), "loihi2").answer())
    lines = table(answers).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split("  ")[1].strip() for line in lines if line.startswith("loihi")] == [
        "does not fit", "does not fit", "fits",
    ]  # fmt: skip
    assert sum("way out:" in line for line in lines) == sum(len(a.obstacles) for a in answers)
    require_fit(answers[2:], "loihi2")
    with pytest.raises(
        DoesNotFit, match=r"does not fit Loihi 2 \(2021\): pool: GradedMaxPool.*and 1 more"
    ) as no:
        require_fit(answers[:2], "loihi2")
    assert no.value.exit_code == 1
    with pytest.raises(ConfigError, match="chip 'loihi3' was not asked; did you mean 'loihi"):
        require_fit(answers, "loihi3")


def test_report_as_json_prints_its_sources(tmp_path):
    map_netlist(everything(RNG)).save(tmp_path / "map.json")
    record = json.loads((tmp_path / "map.json").read_text())
    assert record["chip"]["sources"]["graded_spikes"].startswith("Intel")
    assert set(record["utilisation"]) == {"neurons", "weight_bits", "in_axons", "out_axons"}
    assert record["fits"] is False


def test_page_for_a_phone_says_all_of_it():
    text = page([map_netlist(dense(300, 7), limited(in_axons_per_core=299)), map_netlist(everything(RNG))])
    assert 'name="viewport"' in text and "<table" not in text and "http" not in text
    assert "300 source neurons into one neuron" in text and "Way out: " in text
    assert "128 KiB of synaptic memory" in text and text.count('<section class="mapping">') == 2
    assert 'class="no">does not fit' in text and 'class="yes"' not in text
    assert 'class="yes">fits' in page([map_netlist(dense(300, 7), "loihi1")])


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
