"""Do frameworks read NIR as NIR is defined?  `scripts/nir_conformance` makes docs/nir-conformance.md of this.

One small graph per primitive, 40 steps of random spikes, in each framework's own importer; its output is held
against NIR's equations (`snn_energy.models.nir`, forward Euler), spike for spike where the primitive spikes.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn_energy.exporters.nir.readers import ALL_AT_ONCE, RUNTIMES, importer, in_steps
from snn_energy.exporters.nir.write import DT, nir_package
from snn_energy.files import write_text
from snn_energy.models.nir import NirNetwork

STEPS, SAMPLES, INPUTS, WIDTH = 40, 3, 5, 3
NEAR = 1e-4  # outputs that are no spikes are equal within this


HEAD = f"""# How frameworks read NIR

Made by `scripts/nir_conformance`, which installs what it runs; not written by hand.

Each primitive stands behind a linear layer (maps: alone) and runs {STEPS} steps of {SAMPLES} samples of
random spikes in the framework's own importer, dt = {DT:g} s. What it puts out is held against NIR's equations
(`snn_energy.load`, forward Euler): *equal* means every spike, and other values within {NEAR:g}.
*Refused* is the importer's own message; a shape is that of one step's output.
"""


def graphs() -> dict[str, Any]:
    """What is tried: a linear layer of three neurons in front of each primitive, maps for those of maps."""
    nir, rng = nir_package(), np.random.default_rng(0)
    weight, bias = rng.normal(size=(WIDTH, INPUTS)).astype(np.float32), np.full(WIDTH, 0.1, np.float32)

    def full(value: float) -> Any:
        return np.full(WIDTH, value, np.float32)

    def chain(*nodes: Any) -> Any:
        given = nir.Input({"input": np.array([INPUTS])})
        last = nir.Output({"output": np.array([WIDTH])})
        named = {"input": given, "fc": nir.Affine(weight, bias)}
        named |= {f"node{i}": node for i, node in enumerate(nodes)} | {"output": last}
        return nir.NIRGraph(named, list(zip(list(named), list(named)[1:], strict=False)))

    def on_maps(*nodes: Any, shape: tuple[int, ...], size: int) -> Any:
        named = {"input": nir.Input({"input": np.array(shape)})}
        named |= {f"node{i}": node for i, node in enumerate(nodes)}
        named["output"] = nir.Output({"output": np.array([size])})
        return nir.NIRGraph(named, list(zip(list(named), list(named)[1:], strict=False)))

    tau, half = full(20 * DT), full(0.3)
    kernel = rng.normal(size=(2, 1, 3, 3)).astype(np.float32)
    line = rng.normal(size=(2, 1, 3)).astype(np.float32)
    two = np.array([2, 2])
    pools = {
        name: on_maps(kind(two, two, np.array([0, 0])), nir.Flatten({"input": np.array([1, 2, 3])}, 0, -1),
                      shape=(1, 4, 6), size=6)
        for name, kind in (("SumPool2d", nir.SumPool2d), ("AvgPool2d", nir.AvgPool2d))
    }  # fmt: skip
    made = {
        "Affine": chain(),
        "Linear": chain(nir.Linear(rng.normal(size=(WIDTH, WIDTH)).astype(np.float32))),
        "Scale": chain(nir.Scale(full(0.5))),
        "Threshold": chain(nir.Threshold(full(0.25))),
        "IF, r = 1": chain(nir.IF(full(1), full(DT), full(0))),
        "IF, r = 1/dt": chain(nir.IF(full(1 / DT), full(1), full(0))),
        "LIF": chain(nir.LIF(tau, full(1), full(0), half, full(0))),
        "LIF, r = 2": chain(nir.LIF(tau, full(2), full(0), half, full(0))),
        "LIF, r = τ/dt": chain(nir.LIF(tau, full(20), full(0), full(1), full(0))),
        "LIF, reset to -0.2": chain(nir.LIF(tau, full(1), full(0), half, full(-0.2))),
        "LI": chain(nir.LI(tau, full(1), full(0))),
        "CubaLIF": chain(nir.CubaLIF(full(10 * DT), tau, full(1), full(0), half, full(0), full(1))),
        "Conv1d": on_maps(
            nir.Conv1d(6, line, 1, 1, 1, 1, np.zeros(2, np.float32)),
            nir.Flatten({"input": np.array([2, 6])}, 0, -1), shape=(1, 6), size=12,
        ),
        "Conv2d": on_maps(
            nir.Conv2d((4, 6), kernel, 1, 1, 1, 1, np.zeros(2, np.float32)),
            nir.Flatten({"input": np.array([2, 4, 6])}, 0, -1), shape=(1, 4, 6), size=48,
        ),
    }  # fmt: skip
    return made | pools


def verdict(name: str, graph: Any, read: Callable[[Any], Any]) -> str:
    """`equal`, `n of m spikes differ`, or what the importer says."""
    shape = tuple(int(n) for n in graph.nodes["input"].input_type["input"])
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand((STEPS, SAMPLES, *shape), generator=generator) < 0.4).float()
    wanted = NirNetwork(graph.to_dict(), dt=DT)(x).detach()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            got = in_steps(read(graph), x)
    except Exception as error:  # whatever an importer raises is its answer
        said = " ".join(str(error).split()) or type(error).__name__
        return f"refused: {said[:60]}"
    if got.shape != wanted.shape:
        return f"**shape {tuple(got.shape[1:])}, right {tuple(wanted.shape[1:])}**"
    differ = int(((got - wanted).abs() > NEAR).sum())
    if not differ:
        return "equal"
    spiking = any(kind in name for kind in ("IF", "Threshold"))
    what = "spikes differ" if spiking else f"values differ, by up to {float((got - wanted).abs().max()):.2g}"
    return f"**{differ} of {wanted.numel()} {what}**"


def page() -> str:
    """The table of primitives and runtimes, with the versions that were run."""
    readers, versions = {}, [f"nir {metadata.version('nir')}"]
    for runtime in (*RUNTIMES, *ALL_AT_ONCE):
        with contextlib.suppress(ImportError):
            readers[runtime] = importer(runtime)
            versions.append(f"{runtime} {metadata.version(runtime)}")
    missing = sorted({*RUNTIMES, *ALL_AT_ONCE} - set(readers))
    rows = [f"| primitive | {' | '.join(readers)} |", f"|---|{'---|' * len(readers)}"]
    for name, graph in graphs().items():
        found = (verdict(name, graph, read).replace("|", "/") for read in readers.values())
        rows.append(f"| {name} | {' | '.join(found)} |")
    absent = f" Not installed, so not run: {', '.join(missing)}." if missing else ""
    pinned = "sinabs and Rockpool ask for nir ≤ 1.0.4, and are run with this one."
    ran = f"{', '.join(versions)}.{absent} {pinned}"
    return "\n".join((HEAD, ran, "", *rows, ""))


def main(arguments: list[str]) -> None:
    """Write the page to the path given, or print it."""
    logging.disable(logging.WARNING)
    text = page()
    if arguments:
        write_text(Path(arguments[0]), text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
