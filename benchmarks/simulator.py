"""The integer simulator against Lava's own CPU runtime: about 100,000 neurons, the same spikes.

    .venv/bin/python benchmarks/simulator.py [wide]     (needs a Lava environment: scripts/lava_env)

Network: input 2×90×90 → conv 3×3 to 8 maps → conv 3×3 to 4 → dense to 10: few pairs of maps, where Lava's
convolution, one scipy call per pair, is at its best.  `wide`: 32×32, 64 and 32 maps.  Lava's time per step is
the difference of two runs of different length, so that its start does not count; the simulator streams the
same samples one at a time, in one thread (set OMP_NUM_THREADS=1).  Processor seconds stand beside wall time:
they are what a busy machine does not change much; Lava spreads its own over several processes.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from snn_energy.exporters.lava.package import run_lava, write_package
from snn_energy.exporters.netlist.record import Conv, Dense, Edge, Input, Netlist, Population, neurons
from snn_energy.exporters.netlist.simulate import Activity, Simulator

STEPS = 10
RATE = 0.15


def network(rng: np.random.Generator, first: int, second: int, side: int) -> Netlist:
    """A chain of two convolutions and a dense layer; thresholds leave firing rates near ten percent."""
    weight = lambda *shape: rng.integers(-60, 64, shape) * 2  # noqa: E731
    nodes = {
        "x": Input((2, side, side)),
        "conv1": Conv((2, side, side), weight(first, 2, 3, 3), padding=(1, 1)),
        "lif1": Population((first, side, side), 150),
        "conv2": Conv((first, side, side), weight(second, first, 3, 3), padding=(1, 1)),
        "lif2": Population((second, side, side), 100 * first // 8),
        "dense": Dense((second, side, side), weight(10, second * side * side) // 32 * 2),
        "lif3": Population((10, 1, 1), 2000),
    }
    return Netlist(nodes, tuple(Edge(a, b) for a, b in pairwise(nodes)), STEPS)


def main() -> None:
    rng = np.random.default_rng(0)
    netlist = network(rng, *((64, 32, 32) if "wide" in sys.argv[1:] else (8, 4, 90)))
    x = (rng.random((3, STEPS, *netlist.nodes["x"].shape)) < RATE).astype(np.int32)
    simulator = Simulator(netlist)
    simulator.run(x[:1])
    runs = []
    for _ in range(7):
        wall, cpu = time.perf_counter(), time.process_time()
        ours = simulator.run(x, batch=1)
        runs.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = (1e3 * float(np.median(column)) / (len(x) * STEPS) for column in zip(*runs, strict=True))
    with tempfile.TemporaryDirectory() as scratch:
        package = write_package(netlist, Path(scratch, "package"))
        short = measured(lambda: run_lava(package, x[:1]))
        long = measured(lambda: run_lava(package, x))
    lava_wall, lava_cpu = (
        1e3 * (b - a) / ((len(x) - 1) * STEPS) for a, b in zip(short[1:], long[1:], strict=True)
    )
    lava = long[0]
    result = {
        "neurons": neurons(netlist),
        "rates": {n: round(float(ours.outputs[n].mean()), 3) for n in netlist.populations()},
        "simulator_ms_per_step": {"wall": wall, "cpu": cpu},
        "lava_ms_per_step": {"wall": lava_wall, "cpu": lava_cpu},
        "speedup": {"wall": lava_wall / wall, "cpu": lava_cpu / cpu},
        "spikes_that_differ": {
            n: int((ours.outputs[n] != lava.outputs[n]).sum()) for n in netlist.populations()
        },
    }
    print(json.dumps(result, indent=1))


def measured(call: Callable[[], Activity]) -> tuple[Activity, float, float]:
    """(result, wall seconds, processor seconds of the programs it started)."""
    wall, cpu = time.perf_counter(), _children()
    result = call()
    return result, time.perf_counter() - wall, _children() - cpu


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
