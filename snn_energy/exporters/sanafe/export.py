"""`--target sanafe`: lower a model and run its netlist in SANA-FE: the same spikes, energy and latency."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.exporters.chip import export as chip
from snn_energy.exporters.netlist.files import load
from snn_energy.exporters.netlist.record import Netlist
from snn_energy.exporters.netlist.simulate import Activity, simulate
from snn_energy.exporters.network import take
from snn_energy.exporters.sanafe.run import SanafeResult, require_sanafe, run_sanafe
from snn_energy.exporters.sanafe.wires import obstacle
from snn_energy.exporters.verification import Part, Verification

SAMPLES = 2  # SANA-FE takes seconds for each
ERROR = "its authors state 12 % for energy and 25 % for latency against Loihi (Boyle et al., IEEE TCAD 2025)"


@dataclass(frozen=True)
class SanafePart(Part):
    """What SANA-FE found per inference (J, s), on how many neurons and synapses, those of inputs and delays
    included; `error`: how far its authors found its Loihi from the chip."""

    key: ClassVar[str] = "sanafe"
    summary: str
    samples: int
    joules_per_inference: float
    joules_by_part: Mapping[str, float]
    seconds_per_inference: float
    neurons: int
    synapses: int
    architecture: str = "SANA-FE's Loihi"
    error: str = ERROR


def export_sanafe(
    model: nn.Module,
    out: Path,
    x: Any,
    y: Any = None,
    *,
    bits: int = 8,
    sanafe_samples: int = SAMPLES,
    calibration: Any = None,
    layout: str | None = None,
    output: int | str | None = None,
) -> Verification:
    """Write the netlist into `out`, verify it in the simulator on all of `x`, and run the first
    `sanafe_samples` in SANA-FE: spikes against the simulator, energy and latency into the record.

    Raises `UnsupportedOp` for a netlist with own processes, `MissingDependency` without the package,
    `VerificationError` where a spike differs.
    """
    if sanafe_samples < 1:
        raise ConfigError(f"sanafe_samples = {sanafe_samples}: must be at least 1")
    require_sanafe()  # before the work
    options = {"bits": bits, "calibration": calibration, "layout": layout, "output": output}
    built = chip.build(model, x, y, **options, refuse=_refuse)
    verdict = chip.write_netlist(built, out)
    some = take(np.asarray(x), slice(sanafe_samples), built.lowering.graph.batch_axis)
    ran = verify_dir(out, some).require()
    return dataclasses.replace(verdict.with_parts(*ran.parts), target="sanafe")


def verify_dir(folder: str | Path, x: Any, y: Any = None) -> Verification:
    """Run the netlist in `folder` on `x` in SANA-FE and hold every spike against the integer simulator."""
    netlist = load(Path(folder))
    _refuse(netlist)
    messages = chip.messages_of(Path(folder), netlist, x)
    wanted, result = simulate(netlist, messages), run_sanafe(netlist, messages)
    return _verification(netlist, messages, wanted, result, y)


def _refuse(netlist: Netlist) -> None:
    """Raise `UnsupportedOp` at the first node that SANA-FE's Loihi has no form for."""
    if (refusal := obstacle(netlist)) is not None:
        raise refusal


def _verification(
    netlist: Netlist, messages: np.ndarray, wanted: Activity, result: SanafeResult, y: Any = None
) -> Verification:
    """The host sums the logits from the spikes that are compared, so they are the simulator's."""
    got = Activity(dict(result.spikes), dict(wanted.logits), {}, wanted.samples)
    verdict = chip.again(
        netlist, wanted, got, messages, y, target="sanafe", form="SANA-FE", held_against="integer simulator"
    )
    verdict = dataclasses.replace(verdict, versions=verdict.versions | {"sanafe": result.version})
    part = SanafePart(
        summary=verdict.summary(),
        samples=wanted.samples,
        joules_per_inference=result.energy,
        joules_by_part=dict(result.energy_parts),
        seconds_per_inference=result.latency,
        neurons=result.neurons,
        synapses=result.synapses,
    )
    return verdict.with_parts(part)
