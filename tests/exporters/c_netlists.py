"""Netlists drawn at random for the C program: odd shapes, saturating sums, clashing names, delays."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from netlists import even

from snn_energy.exporters.c.build import SPIKES, compile_folder, frames_of, run_program
from snn_energy.exporters.c.write import Program, program
from snn_energy.exporters.netlist.record import (
    Conv,
    Dense,
    Edge,
    GradedMaxPool,
    Identity,
    Input,
    Netlist,
    Node,
    Population,
    Readout,
    Relay,
    Sparse,
    SpikeAttention,
    align,
)
from snn_energy.exporters.netlist.simulate import simulate

QUICK = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror")
NAMES = (
    "x",
    "x.1",
    "x_1",
    "int",
    "memset",
    "2 far",
    "network_step",
    "a*/b",
    "größe",
    "main",
    "%d",
    "in",
    "out",
)
DECAYS = ({}, {"voltage_decay": 0}, {"voltage_decay": 4095}, {"voltage_decay": 1111}, {"current_decay": 900},
          {"current_decay": 4095, "voltage_decay": 3072})  # fmt: skip


class Drawn:
    """A netlist that grows node by node; `sources` are what may feed a projection."""

    def __init__(self, seed: int, steps: int) -> None:
        self.rng, self.steps = np.random.default_rng(seed), steps
        self.names = itertools.chain(NAMES, (f"node.{i}" for i in itertools.count()))
        self.nodes: dict[str, Node] = {}
        self.edges: list[Edge] = []

    def add(self, node: Node, *sources: str, ports: str = "") -> str:
        name = next(self.names)
        self.nodes[name] = node
        for i, source in enumerate(sources):
            self.edges.append(Edge(source, name, ports[i] if ports else "in"))
        return name

    def below(self, *limits: int) -> list[int]:
        return [int(self.rng.integers(1, limit + 1)) for limit in limits]

    def weight(self, *shape: int) -> np.ndarray:
        """Of both signs, of one sign, mostly zero, or all zero."""
        match self.rng.integers(5):
            case 0:
                return self.rng.integers(0, 256, shape)
            case 1:
                return -self.rng.integers(0, 90, shape)
            case 2:
                return even(self.rng, *shape) * (self.rng.random(shape) < 0.2)
            case _:
                return even(self.rng, *shape, low=-70)

    def conv(self, source: str, small: bool = False) -> str:
        (c, h, w), rng = self.nodes[source].shape, self.rng
        groups = int(rng.choice([g for g in range(1, c + 1) if c % g == 0]))
        kernel = [int(rng.integers(1, min(n, 4) + 1)) for n in (h, w)]
        dilation = [int(rng.integers(1, 3)) if k > 1 and 2 * (k - 1) < n else 1
                    for k, n in zip(kernel, (h, w), strict=True)]  # fmt: skip
        weight = self.weight(groups * int(rng.integers(1, 4)), c // groups, *kernel)
        if small:
            weight = np.sign(weight) * 2
        padding = tuple(int(p) for p in rng.integers(0, 3, 2))
        node = Conv((c, h, w), weight, tuple(self.below(3, 2)), padding, tuple(dilation), groups,
                    0 if small else int(rng.integers(0, 3)))  # fmt: skip
        return self.add(node, source)

    def dense(self, source: str, outputs: int) -> str:
        inputs = int(np.prod(self.nodes[source].shape))
        return self.add(Dense((inputs, 1, 1), self.weight(outputs, inputs)), source)

    def sparse(self, source: str) -> str:
        shape, to = self.nodes[source].shape, tuple(self.below(4, 3, 2))
        count = int(self.rng.integers(1, 30))
        sources, targets = (self.rng.integers(0, np.prod(s), count) for s in (shape, to))
        return self.add(
            Sparse(shape, to, sources, targets, self.weight(count), int(self.rng.integers(3))), source
        )

    def identity(self, source: str) -> str:
        return self.add(Identity(self.nodes[source].shape, int(self.rng.integers(-255, 256)), 1), source)

    def pool(self, source: str) -> str:
        shape = self.nodes[source].shape
        kernel = tuple(int(self.rng.integers(1, min(n, 3) + 1)) for n in shape[1:])
        padding = tuple(k // 2 for k in kernel)
        return self.add(GradedMaxPool(shape, kernel, tuple(self.below(2, 3)), padding), source)

    def fire(self, *sources: str) -> str:
        shape, rng = self.nodes[sources[0]].shape, self.rng
        bias = rng.integers(-60, 60, [(1, 1, 1), (shape[0], 1, 1), shape][rng.integers(3)])
        spread = int(rng.choice([1, 20, 200]))
        return self.add(Population(shape, spread, bias_mantissa=bias, bias_exponent=int(rng.integers(3, 8)),
                                   **DECAYS[rng.integers(len(DECAYS))]), *sources)  # fmt: skip

    def attention(self, source: str, chunk: int) -> str:
        c = self.nodes[source].shape[0]
        ports = [self.fire(self.identity(source)) for _ in "qkv"]
        heads = int(self.rng.choice([g for g in range(1, c + 1) if c % g == 0]))
        node = SpikeAttention(
            self.nodes[source].shape, heads, chunk, int(self.rng.choice([1, 8, 4096, 2**18]))
        )
        return self.add(node, *ports, ports="qkv")

    def netlist(self, *, readout: bool = True) -> Netlist:
        if readout:
            last = [n for n, node in self.nodes.items() if isinstance(node, Population)][-1]
            head = self.dense(last, 5)
            self.add(
                Readout((5, 1, 1), self.rng.normal(size=5), float(self.rng.choice([0.01, -0.3, 7.0]))), head
            )
        return align(Netlist(self.nodes, tuple(self.edges), self.steps))


def drawn(seed: int) -> tuple[Netlist, np.ndarray]:
    """A netlist with every kind of process but STAA, and messages for it."""
    steps = 4
    d = Drawn(seed, steps)
    bits = int(d.rng.choice([0, 2, 6]))
    c, h, w = (int(n) + 1 for n in d.rng.integers((0, 1, 2), (3, 5, 7)))
    x = d.add(Input((c, h, w), bits), *())
    first = d.conv(x)
    pooled = d.pool(first)
    lif = d.fire(pooled)
    shortcut = d.fire(d.identity(lif), d.add(Identity(d.nodes[lif].shape, 3), lif))
    seen = d.attention(shortcut, int(d.rng.choice([1, 2, 4])))
    joined, other = d.fire(seen), d.fire(pooled, d.identity(lif))
    relay = d.add(Relay(d.nodes[joined].shape), d.identity(joined), d.identity(other))
    d.fire(d.conv(relay, small=True))
    d.fire(d.sparse(d.fire(d.conv(joined))))
    d.fire(d.attention(d.fire(d.dense(joined, 6)), 2))
    shape = (3, *([] if d.rng.integers(2) else [steps]), c, h, w)
    top = 1 if bits == 0 else (1 << (bits - 1)) - 1
    messages = d.rng.integers(-top - 1 if bits else 0, top + 1, shape)
    return d.netlist(), messages * (d.rng.random(shape) < 0.6)


def written(netlist: Netlist, folder: Path, rate: float | None = None) -> Program:
    """The program of a netlist in `folder`: event-driven, or dense for a `rate` of 1."""
    made = program(netlist, None if rate is None else dict.fromkeys(netlist.nodes, rate))
    for name, text in made.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return made


def assert_equal(
    netlist: Netlist, x: np.ndarray, folder: Path, rate: float | None = None, *flags: str
) -> None:
    """Every spike and every logit of the built program is the simulator's."""
    made = written(netlist, folder, rate)
    frames = f"-DFRAMES={frames_of(made, x)}"
    binary = compile_folder(folder, folder / "network", flags=(*QUICK, *flags, *SPIKES, frames))
    wanted, got = simulate(netlist, x), run_program(binary, made, x)
    for name, spikes in got.outputs.items():
        np.testing.assert_array_equal(spikes, wanted.outputs[name], err_msg=name)
    for name, logits in got.logits.items():
        np.testing.assert_array_equal(logits, wanted.logits[name], err_msg=name)
