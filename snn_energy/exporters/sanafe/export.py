"""`--target sanafe`: lower a model and run its netlist in SANA-FE: the same spikes, energy and latency."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.exporters.lava.export import export_netlist
from snn_energy.exporters.netlist.compare import compare_activities
from snn_energy.exporters.netlist.files import load
from snn_energy.exporters.netlist.record import Netlist
from snn_energy.exporters.netlist.simulate import Activity, encode, simulate
from snn_energy.exporters.sanafe.run import SanafeResult, require_sanafe, run_sanafe
from snn_energy.exporters.sanafe.wires import obstacle
from snn_energy.exporters.verify import Verification

SAMPLES = 2  # SANA-FE takes seconds for each
VERIFICATION_FILE = "verification.json"


def export_sanafe(
    model: nn.Module,
    out: Path,
    x: Any,
    y: Any = None,
    *,
    bits: int = 8,
    sanafe_samples: int = SAMPLES,
    calibration: Any = None,
) -> Verification:
    """Write the netlist into `out`, verify it in the simulator on all of `x`, and run the first
    `sanafe_samples` in SANA-FE: spikes against the simulator, energy and latency into the record.

    Raises `UnsupportedOp` for a netlist with own processes, `MissingDependency` without the package,
    `VerificationError` where a spike differs.
    """
    if sanafe_samples < 1:
        raise ConfigError(f"sanafe_samples = {sanafe_samples}: must be at least 1")
    require_sanafe()  # before the work
    verdict = export_netlist(model, out, x, y, _refuse, bits=bits, calibration=calibration)
    ran = verify_dir(out, np.asarray(x)[:sanafe_samples])
    details = verdict.details | {"sanafe": ran.details["sanafe"] | {"summary": ran.summary()}}
    verdict = dataclasses.replace(verdict, target="sanafe", details=details)
    verdict.save(out / VERIFICATION_FILE)
    ran.require()
    return verdict


def verify_dir(folder: str | Path, x: Any, y: Any = None) -> Verification:
    """Run the netlist in `folder` on `x` in SANA-FE and hold every spike against the integer simulator."""
    netlist = load(Path(folder))
    _refuse(netlist)
    messages = encode(netlist, np.asarray(x, np.float32))
    wanted, result = simulate(netlist, messages), run_sanafe(netlist, messages)
    return _verification(netlist, messages, wanted, result)


def _refuse(netlist: Netlist) -> None:
    """Raise `UnsupportedOp` at the first node that SANA-FE's Loihi has no form for."""
    if (refusal := obstacle(netlist)) is not None:
        raise refusal


def _verification(
    netlist: Netlist, messages: np.ndarray, wanted: Activity, result: SanafeResult
) -> Verification:
    got = Activity(dict(result.spikes), dict(wanted.logits), {}, wanted.samples)
    compared = compare_activities(netlist, wanted, got, messages)
    return Verification(
        target="sanafe",
        form="SANA-FE",
        samples=wanted.samples,
        logits_difference=0.0,  # the host sums the logits from the spikes that are compared
        predictions_differ=0,
        neurons=compared.checks,
        differences=compared.differences,
        versions={"sanafe": result.version},
        details={
            "reference": "integer simulator",
            "sanafe": {
                "samples": wanted.samples,
                "architecture": "SANA-FE's Loihi",
                "joules_per_inference": result.energy,
                "joules_by_part": dict(result.energy_parts),
                "seconds_per_inference": result.latency,
                "neurons": result.neurons,
                "synapses": result.synapses,
            },
        },
    )
