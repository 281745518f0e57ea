"""The integer simulator against Lava's own CPU runtime: about 100,000 neurons, the same spikes.

    .venv/bin/python benchmarks/simulator.py            (needs a Lava environment: scripts/lava_env)

Network: input 2×32×32 → conv 3×3 to 64 maps → conv 3×3 to 32 → dense to 10, as the one in the README.  Lava's
time per step is the difference of two runs of different length, so that its start does not count; the
simulator streams the same samples one at a time.
"""

from __future__ import annotations

import json
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from snn_energy.exporters.lava import run_lava, write_package
from snn_energy.exporters.netlist import Conv, Dense, Edge, Input, Netlist, Population, neurons
from snn_energy.exporters.simulate import Simulator

STEPS = 10
RATE = 0.15


def network(rng: np.random.Generator, first: int = 64, second: int = 32, side: int = 32) -> Netlist:
    """A chain of two convolutions and a dense layer; thresholds leave firing rates near ten percent."""
    weight = lambda *shape: rng.integers(-60, 64, shape) * 2  # noqa: E731
    nodes = {
        "x": Input((2, side, side)),
        "conv1": Conv((2, side, side), weight(first, 2, 3, 3), padding=(1, 1)),
        "lif1": Population((first, side, side), 150),
        "conv2": Conv((first, side, side), weight(second, first, 3, 3), padding=(1, 1)),
        "lif2": Population((second, side, side), 700),
        "dense": Dense((second, side, side), weight(10, second * side * side) // 16 * 2),
        "lif3": Population((10, 1, 1), 2000),
    }
    return Netlist(nodes, tuple(Edge(a, b) for a, b in pairwise(nodes)), STEPS)


def main() -> None:
    rng = np.random.default_rng(0)
    netlist = network(rng)
    x = (rng.random((3, STEPS, 2, 32, 32)) < RATE).astype(np.int32)
    simulator = Simulator(netlist)
    simulator.run(x[:1])
    times = []
    for _ in range(5):
        started = time.perf_counter()
        ours = simulator.run(x, batch=1)
        times.append((time.perf_counter() - started) / (len(x) * STEPS))
    with tempfile.TemporaryDirectory() as scratch:
        package = write_package(netlist, Path(scratch, "package"))
        started = time.perf_counter()
        run_lava(package, x[:1])
        short = time.perf_counter() - started
        started = time.perf_counter()
        lava = run_lava(package, x)
        per_step = (time.perf_counter() - started - short) / ((len(x) - 1) * STEPS)
    different = {n: int((ours.outputs[n] != lava.outputs[n]).sum()) for n in netlist.populations()}
    rates = {n: round(float(ours.outputs[n].mean()), 3) for n in netlist.populations()}
    result = {
        "neurons": neurons(netlist),
        "rates": rates,
        "simulator_ms_per_step": {"min": 1e3 * min(times), "median": 1e3 * float(np.median(times))},
        "lava_ms_per_step": 1e3 * per_step,
        "speedup_of_median": per_step / float(np.median(times)),
        "spikes_that_differ": different,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
