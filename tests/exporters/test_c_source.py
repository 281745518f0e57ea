"""The C program of a netlist against the simulator: kinds of processes, names, refusals, the engine."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from c_netlists import assert_equal, drawn, written
from netlists import T, chain, even, everything, messages
from staa_nets import alone, currents, made

from snn_energy.errors import ConfigError, DataError, MissingTool, VerificationError
from snn_energy.exporters.c import build
from snn_energy.exporters.c.engine import Engine, simulator
from snn_energy.exporters.c.layout import channels_last
from snn_energy.exporters.c.names import Names
from snn_energy.exporters.c.plan import plan, rates_of
from snn_energy.exporters.c.write import program
from snn_energy.exporters.netlist.record import (
    Dense,
    Edge,
    GradedMaxPool,
    Identity,
    Input,
    Netlist,
    Population,
    Readout,
    Relay,
    SpikeAttention,
    align,
)
from snn_energy.exporters.netlist.simulate import simulate

SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(autouse=True)
def a_compiler(request: pytest.FixtureRequest) -> None:
    if "no_compiler" not in request.keywords and not any(map(shutil.which, ("gcc", "cc", "clang"))):
        pytest.skip("no C compiler: apt-get install gcc")


@pytest.mark.parametrize("seed", [9, 17, 32])
def test_any_netlist_equals_the_simulator(seed: int, tmp_path: Path) -> None:
    netlist, x = drawn(seed)
    for rate, flags in ((None, SANITIZED), (1.0, ())):
        place = tmp_path / str(rate)
        place.mkdir()
        assert_equal(netlist, x, place, rate, *flags)


@pytest.mark.parametrize("chunk", [1, 4])
def test_every_kind_of_node_equals_the_simulator(chunk: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    netlist = everything(rng, chunk)
    assert_equal(netlist, messages(netlist, rng, 3), tmp_path)


def test_decaying_currents_and_plif_registers(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    netlist = chain(rng, voltage_decay=1111, current_decay=900)
    x = messages(netlist, rng, 4)
    assert_equal(netlist, x, tmp_path)
    assert 0.02 < simulate(netlist, x).outputs["lif3"].mean() < 0.98


@pytest.mark.parametrize(
    "fields",
    [{}, {"pe_at": "aggregate", "adaptive": True, "sa": False}, {"gc": False, "pe_at": "state", "tau": 3.0}],
)
def test_staa_neurons_equal_the_simulator(fields: dict, tmp_path: Path) -> None:
    _, node = made((5, 3, 2), 3, 7, 300.0, **fields)
    x = np.clip(currents(node, 6, 3, seed=7, spread=2.0), -(2**17) + 2, 2**17 - 2) // 2
    x[0] = 0
    x[1] = np.sign(x[1]) * (2**16 - 1)  # membranes saturate
    netlist = alone(node, 3)
    assert_equal(netlist, x, tmp_path, None, *SANITIZED)
    assert 0 < simulate(netlist, x).outputs["lif"].mean() < 1


def wide(weight: int, *, delayed: bool = False) -> Netlist:
    """Sums that would leave 32 bits, of both signs, into two neurons; a relay passes on 23 of them."""
    nodes = {
        "x": Input((3, 1, 2), 24),
        "w": Dense((3, 1, 2), np.array([[weight] * 6, [weight, -weight] * 3]), 7),
        "relay": Relay((2, 1, 1)),
        "out": Identity((2, 1, 1), 1),
        "lif": Population((2, 1, 1), 5),
    }
    edges = [Edge(a, b) for a, b in itertools.pairwise(nodes)]
    return align(Netlist(nodes, tuple(edges), 2))


def test_sums_of_64_bits_are_exact_or_refused(tmp_path: Path) -> None:
    netlist = wide(254)
    assert plan(netlist).values["w"].type == "i64"
    x = np.array([[[[4_000_000, 4_000_000]], [[-4_000_000, -3_999_998]], [[0, 0]]]])  # sums: 2 and -2
    made = written(netlist, tmp_path)
    binary = build.compile_folder(
        tmp_path, tmp_path / "run", flags=("-O1", *SANITIZED, *build.SPIKES, "-DFRAMES=1")
    )
    wanted = simulate(netlist, x).outputs["lif"]
    np.testing.assert_array_equal(build.run_program(binary, made, x).outputs["lif"], wanted)
    assert wanted.reshape(2, 2).tolist() == [[1, 0], [1, 0]]
    with pytest.raises(VerificationError) as refused:
        simulate(netlist, x + 400_000)
    with pytest.raises(VerificationError, match="relay: a value does not fit its register"):
        build.run_program(binary, made, x + 400_000)
    with Engine(netlist) as fast, pytest.raises(VerificationError, match=re.escape(str(refused.value))):
        fast.run(x + 400_000)


def test_the_engine_gives_spikes_logits_and_counts_of_the_simulator() -> None:
    rng = np.random.default_rng(4)
    netlist = everything(rng)
    for x in (messages(netlist, rng, 5), messages(netlist, rng, 2, still=True)):
        wanted = simulate(netlist, x, probes=tuple(netlist.nodes))
        with simulator(netlist, "c") as run:
            got = run(x, probes=tuple(netlist.nodes))
        assert got.counts == wanted.counts and got.samples == wanted.samples
        assert list(got.outputs) == list(wanted.outputs)
        for name, values in wanted.outputs.items():
            np.testing.assert_array_equal(got.outputs[name], values, err_msg=name)
            assert got.outputs[name].dtype == values.dtype
        np.testing.assert_array_equal(got.logits["logits"], wanted.logits["logits"])
    with simulator(netlist, "c") as run, pytest.raises(DataError, match="takes messages from -32 to 31"):
        run(x + 100)


STREAM = r"""
#include <stdio.h>
#include "network.h"
static network_input frame[NETWORK_INPUTS];
int main(void)
{
    int32_t done = 0;
    while (fread(frame, sizeof frame[0], NETWORK_INPUTS, stdin) == NETWORK_INPUTS) {
        done = network_step(frame);
        printf("%d %d\n", (int)done, done == 1 ? (int)network_class() : -1);
    }
    for (int32_t i = 0; i < NETWORK_LAG; i++) {
        done = network_step(NULL);
        printf("%d %d\n", (int)done, done == 1 ? (int)network_class() : -1);
    }
    return 0;
}
"""


def deep(rng: np.random.Generator) -> Netlist:
    """Three attentions over all four steps, one behind the other: a lag of nine steps, beyond a sample."""
    shape = (4, 1, 3)
    nodes: dict = {"x": Input(shape), "w": Identity(shape, 2), "lif": Population(shape, 1)}
    edges, last = [Edge("x", "w"), Edge("w", "lif")], "lif"
    for i in range(3):
        nodes |= {f"attn{i}": SpikeAttention(shape, 2, 4), f"w{i}": Identity(shape, 30),
                  f"lif{i}": Population(shape, 40, voltage_decay=1024)}  # fmt: skip
        edges += [Edge(last, f"attn{i}", port) for port in "qkv"]
        edges += [Edge("lif", f"w{i}"), Edge(f"w{i}", f"lif{i}"), Edge(f"attn{i}", f"lif{i}")]
        last = f"lif{i}"
    nodes |= {"head": Dense(shape, even(rng, 3, 12)), "logits": Readout((3, 1, 1), np.zeros(3), 0.5)}
    edges += [Edge(last, "head"), Edge("head", "logits")]
    return align(Netlist(nodes, tuple(edges), 4))


def test_a_stream_of_samples_needs_no_reset(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    netlist = deep(rng)
    assert plan(netlist).lag == 9
    x = messages(netlist, rng, 7)
    assert_equal(netlist, x, tmp_path, None, *SANITIZED)
    made = written(netlist, tmp_path)
    (tmp_path / "main.c").write_text(STREAM)
    binary = build.compile_folder(tmp_path, tmp_path / "stream", flags=("-O1", *SANITIZED))
    printed = build.call([str(binary)], "the stream", given=build.as_file(made, x)).decode().split()
    rows = np.array(printed, int).reshape(-1, 2)
    assert np.flatnonzero(rows[:, 0]).tolist() == [9 + 3 + 4 * sample for sample in range(7)]
    assert rows[rows[:, 0] == 1, 1].tolist() == simulate(netlist, x).predictions().tolist()


def test_engines_follow_measured_rates() -> None:
    rng = np.random.default_rng(5)
    netlist = everything(rng)
    rates = rates_of(netlist, simulate(netlist, messages(netlist, rng, 2)))
    chosen = plan(netlist, rates).engines
    assert chosen["stem"] == "dense" and rates["x"] > 0.95  # an image
    assert chosen["proj"] == "events" and 0 < rates["attn_lif"] < 0.4
    assert set(plan(netlist).engines.values()) == {
        "events",
        "dense",
    }  # what acts on one channel only is dense


def test_names_are_module_paths_and_never_clash() -> None:
    names = Names(frozenset({"memcpy"}))
    found = [
        names("a.b"),
        names("a_b"),
        names("a b"),
        names("2"),
        names("int"),
        names("memcpy"),
        names("é", "_w"),
    ]
    assert found == ["a_b", "a_b_2", "a_b_3", "n2", "int_2", "memcpy_2", "node_w"]
    assert [names(n) for n in ("INT32_MAX", "uint8_t", "scratch_u8")] == [
        "nINT32_MAX",
        "nuint8_t",
        "nscratch_u8",
    ]
    text = program(everything(np.random.default_rng(0))).files["network.c"]
    assert "/* or_lif: spikes 6x3x5, threshold 1 of current" in text
    assert "q: messages" not in text and "uint8_t *const or_lif = " in text


def test_indices_with_channels_last() -> None:
    shape = (3, 2, 4)
    flat = np.arange(24).reshape(shape)
    np.testing.assert_array_equal(flat.transpose(1, 2, 0).ravel()[channels_last(shape)], flat.ravel())


def graded_attention() -> Netlist:
    nodes = {"x": Input((2, 1, 3), 4), "attn": SpikeAttention((2, 1, 3), 1), "lif": Population((2, 1, 3), 3)}
    edges = [Edge("x", "attn", port) for port in "qkv"]
    return Netlist(nodes, (*edges, Edge("attn", "lif")), T)


def blind_pool() -> Netlist:
    nodes = {
        "x": Input((1, 3, 2)), "w": Identity((1, 3, 2), 2),
        "pool": GradedMaxPool((1, 3, 2), (1, 1), (1, 1), (1, 0)),
        "lif": Population((1, 5, 2), 3),
    }  # fmt: skip
    return Netlist(nodes, tuple(Edge(a, b) for a, b in itertools.pairwise(nodes)), T)


def huge() -> Netlist:
    nodes = {"x": Input((2, 40_000, 40_000)), "w": Identity((2, 40_000, 40_000), 2),
             "lif": Population((2, 40_000, 40_000), 3)}  # fmt: skip
    return Netlist(nodes, tuple(Edge(a, b) for a, b in itertools.pairwise(nodes)), T)


@pytest.mark.parametrize(
    ("netlist", "words"),
    [
        (graded_attention, "attn: q is x, 4-bit messages; attention takes spikes"),
        (blind_pool, "pool: a window lies in its padding (1, 0) alone and has no maximum"),
        (huge, "x: 12,800,000,000 elements; 32-bit indices reach 2,147,483,647"),
    ],
)
def test_what_c_cannot_hold_is_refused_in_one_line(netlist, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        program(netlist())
    assert str(refused.value) == words


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    netlist = chain(np.random.default_rng(0))
    x = messages(netlist, np.random.default_rng(0), 1)
    with pytest.raises(
        MissingTool, match=r"building C needs a C compiler, gcc or clang: apt-get install gcc"
    ):
        Engine(netlist)
    with simulator(netlist, "auto", 10_000) as run:
        assert run(x).samples == 1
    with pytest.raises(ConfigError, match="engine 'fortran': must be one of auto, c, numpy"):  # noqa: SIM117
        with simulator(netlist, "fortran"):
            pass


def test_a_source_that_does_not_compile_is_one_line(tmp_path: Path) -> None:
    for name in build.SOURCES:
        (tmp_path / name).write_text("int main(void) { return twice; }\n")
    with pytest.raises(
        DataError, match=r"the C compiler .* failed with code 1: .*main\.c:1.*error: .twice. undeclared"
    ):
        build.compile_folder(tmp_path, tmp_path / "a", cc="gcc" if shutil.which("gcc") else None)


def test_even_weights_of_both_signs_take_one_byte() -> None:
    netlist = chain(np.random.default_rng(0))
    made = program(netlist)
    kinds = {c.name: c.type for c in made.constants}
    assert kinds["conv1_weight"] == kinds["dense_weight"] == "i8"
    nodes = {
        "x": Input((1, 1, 2)),
        "w": Dense((1, 1, 2), np.array([[255, 3]])),
        "lif": Population((1, 1, 1), 9),
    }
    odd = Netlist(nodes, (Edge("x", "w"), Edge("w", "lif")), 1)
    assert {c.name: c.type for c in program(odd).constants}["w_weight"] == "u8"
    assert even(np.random.default_rng(0), 2).dtype == np.int64


def big() -> Netlist:
    """Membranes of 5 MB."""
    nodes = {"x": Input((5, 512, 512)), "w": Identity((5, 512, 512), 2), "lif": Population((5, 512, 512), 3)}
    return Netlist(nodes, tuple(Edge(a, b) for a, b in itertools.pairwise(nodes)), 1)
