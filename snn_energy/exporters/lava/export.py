"""`--target lava`: lower a model, write the package, and prove it.

Three runs on the same samples are compared: the model with de-quantized weights in PyTorch (float64), the
netlist in the integer simulator, and, where a Lava environment is at hand, the netlist in Lava.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from snn_energy.energy.costs import load_costs
from snn_energy.errors import ConfigError, DataError
from snn_energy.exporters.lava import staa
from snn_energy.exporters.lava.package import (
    PACKAGE_FILE,
    SAMPLES_FILE,
    read_package,
    run_lava,
    write_package,
)
from snn_energy.exporters.lowering.lower import Lowering, lower
from snn_energy.exporters.lowering.quantize import Calibration
from snn_energy.exporters.netlist.compare import NeuronDifference, compare_activities
from snn_energy.exporters.netlist.energy import netlist_energy
from snn_energy.exporters.netlist.files import load, save
from snn_energy.exporters.netlist.listing import listing
from snn_energy.exporters.netlist.mapping import map_netlist
from snn_energy.exporters.netlist.record import OWN_PROCESSES, Netlist, neurons
from snn_energy.exporters.netlist.simulate import Activity, encode, simulate
from snn_energy.exporters.targets import CALIBRATION_SAMPLES
from snn_energy.exporters.verify import Verification
from snn_energy.files import atomic_write, write_text
from snn_energy.graph import nodes as gn
from snn_energy.graph.capture import capture
from snn_energy.graph.graph import Graph
from snn_energy.graph.interpret import run
from snn_energy.graph.simplify import fold_norms
from snn_energy.models.neurons import LIF
from snn_energy.models.staa_neuron import STAALIF

BATCH = 32
LOWERING_FILE, VERIFICATION_FILE = "lowering.json", "verification.json"
CHIPS = ("loihi1", "loihi2")


def calibrate(graph: Graph, x: np.ndarray) -> Calibration:
    """Largest input and largest current of every neuron over samples `x`, in the real-valued network."""
    folded = fold_norms(graph)
    currents: dict[str, float] = {}
    membranes: dict[str, float] = {}
    for start in range(0, len(x), BATCH):
        held = run(folded, x[start : start + BATCH])
        for node in folded.neurons:
            peak = float(held[node.inputs[0]].abs().max())
            currents[node.name] = max(currents.get(node.name, 0.0), peak)
            if isinstance(node, gn.Neuron):
                inside = staa.membrane_peak(node, held[node.inputs[0]])
                membranes[node.name] = max(membranes.get(node.name, 0.0), inside)
    x = np.asarray(x)
    whole = bool(np.all(x == np.rint(x)) and x.min() >= 0)
    return Calibration(float(np.abs(x).max()), whole, currents, membranes)


def lower_model(model: nn.Module, x: np.ndarray, *, bits: int = 8, **options: Any) -> Lowering:
    """Capture, calibrate on the first 256 of `x`, lower.  Raises `UnsupportedOp` by node and operation."""
    graph = capture(model, np.asarray(x[:1], np.float32))
    calibration = calibrate(graph, x[:CALIBRATION_SAMPLES])
    return lower(graph, calibration, bits=bits, staa=staa.parameters_of(model, graph), **options)


def dequantized_model(model: nn.Module, lowering: Lowering) -> nn.Module:
    """A copy of `model` in float64 whose weights, thresholds and time constants are those of the registers.

    Norms are folded into the layers before them, so they become identities.  Its inputs must be rounded as
    the chip's (see `rounded`).  Raises `ConfigError` where a layer of the graph is no module of its own.
    """
    twin = copy.deepcopy(model).double().eval()
    modules = dict(twin.named_modules())

    def put(path: str, module: nn.Module) -> None:
        parent, _, child = path.rpartition(".")
        setattr(modules[parent], child, module)

    for node in lowering.dequantized:
        if isinstance(node, gn.Conv | gn.Linear) and node.name in lowering.registers.weights:
            module = modules.get(node.module)
            if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                raise ConfigError(
                    f"{node.name}: its weights are not those of a module; compare with the graph"
                )
            module.weight = nn.Parameter(torch.as_tensor(node.weight, dtype=torch.float64))
            if node.bias is not None:
                module.bias = nn.Parameter(torch.as_tensor(node.bias, dtype=torch.float64))
        elif isinstance(node, gn.Neuron) and node.name in lowering.registers.staa:
            put(node.module, staa.IntegerStaa(lowering.registers.staa[node.name]))
        elif isinstance(node, gn.Lif) and isinstance(modules[node.module], STAALIF):
            put(node.module, LIF(node.v_threshold, node.tau))
        elif isinstance(node, gn.Lif | gn.If):
            neuron: Any = modules[node.module]
            neuron.v_threshold = node.v_threshold
            if isinstance(node, gn.Lif) and hasattr(neuron, "w"):
                neuron.w = nn.Parameter(torch.tensor(-np.log(node.tau - 1.0), dtype=torch.float64))
            elif isinstance(node, gn.Lif):
                neuron.tau = node.tau
    for name, module in modules.items():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            put(name, nn.Identity())
    return twin


def rounded(netlist: Netlist, x: np.ndarray) -> np.ndarray:
    """Samples as the chip's input sees them: messages divided by their scale, float64."""
    (name,) = (n for n, node in netlist.nodes.items() if type(node).__name__ == "Input")
    return encode(netlist, x) / netlist.nodes[name].scale  # type: ignore[union-attr]


def reference(graph: Graph, netlist: Netlist, x: np.ndarray) -> Activity:
    """The de-quantized graph in PyTorch, float64, reported as by the simulator: spikes (B, T, C, H, W).

    STAA neurons are their integer selves there, too: what this compares is all that lies between them.
    """
    outputs: dict[str, list[np.ndarray]] = {}
    logits: list[np.ndarray] = []
    populations = [n.name for n in graph.neurons if n.name in netlist.nodes]
    functions = staa.functions(netlist)
    for start in range(0, len(x), BATCH):
        messages = rounded(netlist, x[start : start + BATCH])
        held = run(graph, messages, dtype=torch.float64, functions=functions)
        for name in populations:
            spikes = held[name].transpose(0, 1).numpy()
            shape = (*spikes.shape[:2], *netlist.nodes[name].shape)
            outputs.setdefault(name, []).append(spikes.reshape(shape).astype(np.int8))
        result = held[graph.outputs[0]]
        logits.append((result.mean(0) if graph[graph.outputs[0]].shape[0] == "T" else result).numpy())
    (readout,) = (n for n, node in netlist.nodes.items() if type(node).__name__ == "Readout")
    recorded = {name: np.concatenate(parts) for name, parts in outputs.items()}
    return Activity(recorded, {readout: np.concatenate(logits)}, {}, len(x))


def accuracies(
    model: nn.Module,
    twin: nn.Module,
    lowering: Lowering,
    x: np.ndarray,
    y: np.ndarray | None,
    activity: Activity,
) -> tuple[dict[str, float], int]:
    """Accuracy of model, de-quantized twin and netlist; in how many predictions twin and netlist differ."""
    floats, doubles = [], []
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            part = np.asarray(x[start : start + BATCH])
            floats.append(_logits(model, torch.as_tensor(part, dtype=torch.float32)))
            doubles.append(_logits(twin, torch.as_tensor(rounded(lowering.netlist, part))))
    predicted = {"model": np.concatenate(floats).argmax(1), "dequantized": np.concatenate(doubles).argmax(1)}
    predicted["netlist"] = activity.predictions()
    differ = int((predicted["dequantized"] != predicted["netlist"]).sum())
    if y is None:
        return {}, differ
    return {name: float((p == np.asarray(y)).mean()) for name, p in predicted.items()}, differ


def _logits(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    from snn_energy.models.neurons import reset

    reset(model)
    logits = model(x)
    reset(model)
    return np.asarray((logits.mean(0) if logits.dim() == 3 else logits).double())


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
) -> Verification:
    """Write the Lava package `out` and verify it: simulator against de-quantized PyTorch on all of `x`, and
    Lava against the simulator on the first `lava_samples` (0: leave that to `snn-energy verify`).

    `x` (N, C, H, W) or (N, T, C, H, W), `y` (N,); `calibration`: the samples whose currents set the scales,
    best from the training data (default: the first of `x`).  Raises `UnsupportedOp`, and `VerificationError`
    where a spike differs although nothing is truncated (`Lowering.exact`); else the record counts them.
    """
    verdict, exact = _export(model, out, x, y, calibration, write_package, bits, stock_processes)
    if lava_samples:
        in_lava = verify_dir(out, np.asarray(x)[:lava_samples], runtime="lava", python=python)
        verdict = dataclasses.replace(verdict, details=verdict.details | {"lava": in_lava.to_json()})
        verdict.save(out / VERIFICATION_FILE)
    return verdict.require() if exact else verdict


def export_netlist(
    model: nn.Module,
    out: Path,
    x: Any,
    y: Any = None,
    refuse: Callable[[Netlist], None] = lambda netlist: None,
    *,
    bits: int = 8,
    stock_processes: bool | None = None,
    calibration: Any = None,
) -> Verification:
    """`export_lava` without Lava: the netlist, its listing and its mapping, verified in the simulator.

    `refuse` may raise at the netlist before anything is written.
    """

    def write(netlist: Netlist, folder: Path, samples: Mapping[str, np.ndarray]) -> None:
        refuse(netlist)
        write_netlist(netlist, folder, samples)

    verdict, exact = _export(model, out, x, y, calibration, write, bits, stock_processes)
    details = {key: value for key, value in verdict.details.items() if key != "package"}
    verdict = dataclasses.replace(verdict, target="netlist", details=details)
    verdict.save(out / VERIFICATION_FILE)
    return verdict.require() if exact else verdict


def write_netlist(netlist: Netlist, out: Path, samples: Mapping[str, np.ndarray]) -> None:
    """netlist.json and netlist.h5, the listing in netlist.txt, samples.npz."""
    save(netlist, out)
    write_text(out / "netlist.txt", listing(netlist) + "\n")
    with atomic_write(out / SAMPLES_FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **dict(samples))  # type: ignore[arg-type]


def _export(
    model: nn.Module,
    out: Path,
    x: Any,
    y: Any,
    calibration: Any,
    write: Callable[[Netlist, Path, Mapping[str, np.ndarray]], Any],
    bits: int,
    stock_processes: bool | None,
) -> tuple[Verification, bool]:
    """Lower, write, verify in the simulator; whether every spike had to be equal."""
    x, y = np.asarray(x, np.float32), None if y is None else np.asarray(y)
    seen = np.asarray(x if calibration is None else calibration, np.float32)[:CALIBRATION_SAMPLES]
    was_training = model.training
    model.eval()
    try:
        lowering = lower_model(model, seen, bits=bits, stock_processes=stock_processes)
        netlist, messages = lowering.netlist, encode(lowering.netlist, x)
        activity = simulate(netlist, messages)
        wanted = reference(lowering.dequantized, netlist, x)
        accuracy, differ = accuracies(model, dequantized_model(model, lowering), lowering, x, y, activity)
    finally:
        model.train(was_training)
    write(netlist, out, {"x": messages, "real": x} | ({} if y is None else {"y": y}))
    compared = compare_activities(netlist, wanted, activity, messages)
    verdict = _verification(netlist, compared, accuracy, differ, wanted, activity)
    details = {
        "notes": list(lowering.notes),
        "calibration": f"{len(seen)} samples, {'of those verified' if calibration is None else 'others'}",
        "reference": "PyTorch float64, de-quantized weights",
        "mapping": write_mappings(netlist, out),
        "chip_energy": chip_energy(netlist, activity),
        **staa.report(lowering.dequantized, netlist, rounded(netlist, x[:BATCH])),
    }
    lowering.dequantized.save(out / "dequantized.json")
    write_text(
        out / LOWERING_FILE, json.dumps({"accuracy": accuracy, "notes": lowering.notes}, indent=1) + "\n"
    )
    verdict = dataclasses.replace(verdict, details=verdict.details | details)
    verdict.save(out / VERIFICATION_FILE)
    return verdict, lowering.exact


def write_mappings(netlist: Netlist, out: Path) -> dict[str, str]:
    """mapping-CHIP.json and .html in `out` for every shipped chip; returns their summaries by chip."""
    summaries = {}
    for chip in CHIPS:
        mapping = map_netlist(netlist, chip)
        mapping.save(out / f"mapping-{chip}.json")
        write_text(out / f"mapping-{chip}.html", mapping.to_html())
        summaries[chip] = mapping.summary()
    return summaries


def chip_energy(netlist: Netlist, activity: Activity) -> dict[str, Any]:
    """What the simulated netlist would take per inference at Loihi's published figures, by population."""
    found = netlist_energy(netlist, activity, load_costs("loihi"))
    events, spikes = sum(found.synaptic_events.values()), sum(found.spikes.values())
    return {
        "total_mj": found.millijoules,
        "label": found.label,
        "synaptic_events": events,
        "spikes": spikes,
        "pj_by_population": dict(found.picojoules),
    }


def verify_dir(
    folder: str | Path,
    x: Any = None,
    y: Any = None,
    *,
    runtime: str = "simulator",
    python: str | Path | None = None,
    timeout: float = 3600,
) -> Verification:
    """Verify an exported package again: `simulator` holds the integer simulator against the de-quantized
    graph in PyTorch, `lava` holds the real Lava runtime against the simulator, population by population.

    `x`: real samples (default: those in the package).  Raises `DataError` for a package that was changed.
    """
    folder = Path(folder)
    packed = (folder / PACKAGE_FILE).exists() or runtime == "lava"
    netlist, samples = read_package(folder) if packed else _read_netlist(folder)
    x = samples.get("real") if x is None else np.asarray(x, np.float32)
    if x is None:
        raise DataError(f"{folder} has no samples of its own: name some with --input")
    messages = encode(netlist, x)
    activity = simulate(netlist, messages)
    if runtime == "lava":
        wanted, got, tested = activity, run_lava(folder, messages, python=python, timeout=timeout), "lava"
    elif runtime == "simulator":
        wanted, got, tested = (
            reference(Graph.load(folder / "dequantized.json"), netlist, x),
            activity,
            "simulator",
        )
    else:
        raise ConfigError(f"runtime {runtime!r}: must be lava or simulator")
    differ = int((wanted.predictions() != got.predictions()).sum())
    accuracy = {}
    if y is not None and len(y) == len(x):
        accuracy = {tested: float((got.predictions() == np.asarray(y)).mean())}
    verdict = _verification(
        netlist, compare_activities(netlist, wanted, got, messages), accuracy, differ, wanted, got
    )
    against = "integer simulator" if runtime == "lava" else "PyTorch float64, de-quantized weights"
    target = "lava" if packed else "netlist"
    details = verdict.details | {"reference": against}
    return dataclasses.replace(verdict, target=target, form=tested, details=details)


def _read_netlist(folder: Path) -> tuple[Netlist, dict[str, np.ndarray]]:
    netlist = load(folder)
    if not (folder / SAMPLES_FILE).exists():
        return netlist, {}
    with np.load(folder / SAMPLES_FILE, allow_pickle=False) as file:
        return netlist, dict(file)


def _verification(
    netlist: Netlist,
    compared: NeuronDifference,
    accuracy: dict[str, float],
    predictions_differ: int,
    wanted: Activity,
    got: Activity,
) -> Verification:
    worst = max(
        float(np.abs(wanted.logits[n] - got.logits[n])[compared.clean].max(initial=0)) for n in got.logits
    )
    own = sorted({type(n).__name__ for n in netlist.nodes.values() if isinstance(n, OWN_PROCESSES)})
    return Verification(
        target="lava",
        form="simulator",
        samples=got.samples,
        logits_difference=worst,
        predictions_differ=predictions_differ,
        neurons=compared.checks,
        differences=compared.differences,
        accuracy=accuracy,
        versions={name: metadata.version(name) for name in ("torch", "numpy", "spikingjelly")},
        details={"neurons": neurons(netlist), "own_processes": own, "package": PACKAGE_FILE},
    )
