"""`--target lava`: the netlist as a package that runs by itself in Lava, proven there on demand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.exporters.chip import export as chip
from snn_energy.exporters.chip.parts import RuntimePart
from snn_energy.exporters.lava.package import read_package, run_lava, seal, write_package
from snn_energy.exporters.netlist.simulate import simulate
from snn_energy.exporters.network import take
from snn_energy.exporters.verification import Verification


def export_lava(
    model: nn.Module,
    out: Path,
    x: Any,
    y: Any = None,
    *,
    bits: int = 8,
    python: str | Path | None = None,
    lava_samples: int = 0,
    stock_processes: bool | None = None,
    calibration: Any = None,
    layout: str | None = None,
    output: int | str | None = None,
    engine: str = "auto",
) -> Verification:
    """Write the Lava package `out` and verify it: simulator against de-quantized PyTorch on all of `x`, and
    Lava against the simulator on the first `lava_samples` (0: leave that to `snn-energy verify`).

    Samples and calibration are those of `chip.export.build`.  Raises `UnsupportedOp`; `VerificationError`
    where Lava differs from the simulator.
    """
    options = {"bits": bits, "stock_processes": stock_processes, "calibration": calibration, "engine": engine}
    built = chip.build(model, x, y, **options, layout=layout, output=output)
    write_package(built.netlist, out, built.samples)
    verdict = chip.write_beside(built, out)
    seal(out, built.netlist)
    if lava_samples:
        some = take(np.asarray(x), slice(lava_samples), built.lowering.graph.batch_axis)
        ran = verify_dir(out, some, runtime="lava", python=python).require()
        verdict = verdict.with_parts(RuntimePart(ran.verdict, ran.summary(), ran.samples, ran.reference))
    return _named(verdict)


def verify_dir(
    folder: str | Path,
    x: Any = None,
    y: Any = None,
    *,
    runtime: str = "simulator",
    python: str | Path | None = None,
    timeout: float = 3600,
    engine: str = "auto",
) -> Verification:
    """Verify an exported package again: `simulator` holds the integer simulator against the de-quantized
    graph in PyTorch, `lava` holds the real Lava runtime against the simulator, population by population.

    `x`: real samples (default: those in the package).  Raises `DataError` for a package that was changed.
    """
    folder = Path(folder)
    netlist, _ = read_package(folder)
    if runtime == "simulator":
        return _named(chip.verify_dir(folder, x, y, engine=engine))
    if runtime != "lava":
        raise ConfigError(f"runtime {runtime!r}: must be lava or simulator")
    x, y = chip.own_samples(folder, x, y)
    messages = chip.messages_of(folder, netlist, x)
    wanted = simulate(netlist, messages)
    got = run_lava(folder, messages, python=python, timeout=timeout)
    return chip.again(
        netlist, wanted, got, messages, y, target="lava", form="lava", held_against="integer simulator"
    )


def _named(verdict: Verification) -> Verification:
    return dataclasses.replace(verdict, target="lava")
