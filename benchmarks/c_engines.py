"""Event-driven or dense: what a projection takes at which share of messages, here and on a Cortex-M4.

    python benchmarks/c_engines.py

Three projections (a 3×3 convolution of 32 maps of 8×8 to 48, a 1×1 convolution of the same, a dense layer of
512 to 64) are fed binary messages at rates from 5 to 95 percent.  Printed are, by rate, the time of the dense
loops on this machine (-O2, one thread) and the instructions under QEMU as multiples of the event-driven ones:
above 1, events pay.  `BREAK_EVEN` in snn_energy/exporters/c/plan.py is read off here.
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from snn_energy.exporters.c.build import call, compiler
from snn_energy.exporters.c.write import Program, program
from snn_energy.exporters.mcu.boards import run_board
from snn_energy.exporters.netlist.record import Conv, Dense, Edge, Input, Netlist, Population, Synapses
from snn_energy.exporters.netlist.simulate import simulate

RATES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)


def netlist(synapses: Synapses) -> Netlist:
    """Messages, the projection, and neurons that need it."""
    nodes = {"x": Input(synapses.in_shape), "w": synapses, "lif": Population(synapses.shape, 2000)}
    return Netlist(nodes, (Edge("x", "w"), Edge("w", "lif")), 4)


def projections(rng: np.random.Generator) -> dict[str, Synapses]:
    def even(*shape: int) -> np.ndarray:
        return rng.integers(-120, 121, shape) * 2

    return {
        "3x3 convolution": Conv((32, 8, 8), even(48, 32, 3, 3), padding=(1, 1)),
        "1x1 convolution": Conv((32, 8, 8), even(48, 32, 1, 1)),
        "dense": Dense((32, 4, 4), even(64, 512)),
    }


def written(made: Program, folder: Path) -> Path:
    for name, text in made.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def milliseconds(folders: dict[str, Path], x: np.ndarray) -> dict[str, float]:
    """Least time of a sample by engine, the two taking turns."""
    runs: dict[str, Any] = {}
    for engine, folder in folders.items():
        library = folder / "network.so"
        sources = [str(folder / name) for name in ("network.c", "weights.c")]
        call([compiler(), "-std=c11", "-O2", "-shared", "-fPIC", *sources, "-o", str(library)], "cc")
        runs[engine] = ctypes.CDLL(str(library)).network_infer
        runs[engine].argtypes = (ctypes.c_void_p, ctypes.c_int32)
    best = dict.fromkeys(runs, float("inf"))
    given = np.ascontiguousarray(x, np.uint8)
    for _ in range(200):
        for engine, run in runs.items():
            start = time.thread_time()
            run(given.ctypes.data, 4)
            best[engine] = min(best[engine], (time.thread_time() - start) * 1e3)
    return best


def main() -> None:
    rng = np.random.default_rng(0)
    emulated = shutil.which("qemu-system-arm") is not None
    print("| projection | rate | dense / events, here | dense / events, Cortex-M4 |\n|---|---|---|---|")
    for name, synapses in projections(rng).items():
        net = netlist(synapses)
        for rate in RATES:
            x = (rng.random((1, 4, *synapses.in_shape)) < rate).astype(np.int32)
            with tempfile.TemporaryDirectory() as scratch:
                made = {e: program(net, {"x": r}) for e, r in (("dense", 1.0), ("events", 0.0))}
                folders = {engine: written(p, Path(scratch, engine)) for engine, p in made.items()}
                here = milliseconds(folders, x[0])
                board = {e: run_board("cortex-m4", folders[e], made[e], x, simulate(net, x))[0].instructions
                         for e in made} if emulated else {"dense": float("nan"), "events": 1.0}  # fmt: skip
            ratios = [f"{took['dense'] / took['events']:.2f}" for took in (here, board)]
            print(f"| {name} | {rate:.0%} | {' | '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
