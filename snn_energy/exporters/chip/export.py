"""`--target netlist`, and what every runtime of netlists begins with: lower a model, simulate it, compare it.

The same samples run in the de-quantized network (PyTorch, float64) and in the integer simulator; a runtime
then holds itself against the simulator.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from snn_energy.energy.costs import load_costs
from snn_energy.errors import ConfigError, DataError
from snn_energy.exporters.chip import staa
from snn_energy.exporters.chip.answer import page
from snn_energy.exporters.chip.calibrate import BATCH, CALIBRATION_SAMPLES, lower_network
from snn_energy.exporters.chip.chips import chip_names
from snn_energy.exporters.chip.energy import gate_products, netlist_energy
from snn_energy.exporters.chip.mapping import map_netlist
from snn_energy.exporters.chip.parts import ChipEnergyPart, MappingPart, NetlistPart
from snn_energy.exporters.chip.reference import accuracies, dequantized_model, fed
from snn_energy.exporters.chip.stream import compare_streamed
from snn_energy.exporters.kept_samples import SAMPLES_FILE, read_arrays, write_arrays
from snn_energy.exporters.lowering.lower import Lowering
from snn_energy.exporters.netlist.compare import NeuronDifference, compare_activities
from snn_energy.exporters.netlist.files import load, save
from snn_energy.exporters.netlist.listing import listing
from snn_energy.exporters.netlist.record import OWN_PROCESSES, Netlist, neurons
from snn_energy.exporters.netlist.simulate import Activity, encode
from snn_energy.exporters.network import samples_first, see, take
from snn_energy.exporters.verification import Part, Verification
from snn_energy.files import write_text
from snn_energy.graph.graph import Graph
from snn_energy.reading import read_json

LOWERING_FILE, GRAPH_FILE = "lowering.json", "dequantized.json"
MAPPING_PAGE = "mapping.html"
REFERENCE = "PyTorch float64, de-quantized weights"


@dataclass(frozen=True)
class Built:
    """A lowered model and its run in the simulator; `samples`: what a package keeps of its samples."""

    lowering: Lowering
    activity: Activity
    samples: Mapping[str, np.ndarray]
    verdict: Verification

    @property
    def netlist(self) -> Netlist:
        return self.lowering.netlist


def build(
    model: nn.Module,
    x: Any,
    y: Any = None,
    *,
    bits: int = 8,
    stock_processes: bool | None = None,
    calibration: Any = None,
    refuse: Callable[[Netlist], None] = lambda netlist: None,
    layout: str | None = None,
    output: int | str | None = None,
    engine: str = "auto",
) -> Built:
    """Lower `model`, run it in the simulator on all of `x` and hold it against the de-quantized network.

    `x` as the network takes it: (N, …), (N, T, …) or (T, N, …); `y` (N,); `layout` and `output`:
    see `exporters.network`.  `calibration`: the samples whose currents set the scales,
    best from the training data (default: the first of `x`); `refuse` may raise at the netlist before it is
    run; `engine` runs it, the same bits: `c.engine.simulator`.  Raises `UnsupportedOp` by node and operation.
    """
    taken, y = np.asarray(x, np.float32), None if y is None else np.asarray(y)
    seen = taken if calibration is None else np.asarray(calibration, np.float32)
    network = see(model, taken, layout=layout, output=output)
    x, seen = (
        samples_first(taken, network.graph),
        take(seen, slice(CALIBRATION_SAMPLES), network.graph.batch_axis),
    )
    lowering = lower_network(network, seen, bits=bits, stock_processes=stock_processes)
    netlist = lowering.netlist
    refuse(netlist)
    messages = encode(netlist, x)
    compared, wanted, activity = compare_streamed(netlist, lowering.dequantized, messages, x, engine)
    try:
        twin = dequantized_model(model, lowering)
    except ConfigError:  # weights or neurons that are no modules of their own
        twin = None
    accuracy, differ = accuracies(network, twin, lowering, x, y, activity)
    verdict = verification(
        netlist, compared, wanted, activity, accuracy=accuracy, predictions_differ=differ,
        truncated=not lowering.exact,
    )  # fmt: skip
    count = seen.shape[network.graph.batch_axis]
    shown = f"{count} samples, {'of those verified' if calibration is None else 'others'}"
    verdict = verdict.with_parts(netlist_part(netlist, lowering.notes, shown), chip_energy(netlist, activity))
    if gates := staa.report(lowering.dequantized, netlist, fed(lowering.dequantized, netlist, x[:BATCH])):
        verdict = verdict.with_parts(gates)
    samples = {"x": messages, "real": taken} | ({} if y is None else {"y": y})
    return Built(lowering, activity, samples, verdict)


def export_netlist(
    model: nn.Module,
    out: Path,
    x: Any,
    y: Any = None,
    *,
    bits: int = 8,
    stock_processes: bool | None = None,
    calibration: Any = None,
    layout: str | None = None,
    output: int | str | None = None,
    engine: str = "auto",
) -> Verification:
    """Write the netlist, its listing and its mappings into `out`, verified in the simulator: see `build`."""
    options = {"bits": bits, "stock_processes": stock_processes, "calibration": calibration, "engine": engine}
    built = build(model, x, y, **options, layout=layout, output=output)
    return write_netlist(built, out)


def write_netlist(built: Built, out: Path) -> Verification:
    """netlist.json and netlist.h5, samples.npz, and what `write_beside` writes; the verdict with the chips'
    answers."""
    save(built.netlist, out)
    write_arrays(out, built.samples)
    return write_beside(built, out)


def write_beside(built: Built, out: Path) -> Verification:
    """The listing, the de-quantized graph, accuracies and mappings of a netlist."""
    write_text(out / "netlist.txt", listing(built.netlist) + "\n")
    built.lowering.dequantized.save(out / GRAPH_FILE)
    record = {
        "accuracy": built.verdict.accuracy,
        "notes": built.lowering.notes,
        "truncated": built.verdict.truncated,
    }
    write_text(out / LOWERING_FILE, json.dumps(record, indent=1) + "\n")
    return built.verdict.with_parts(write_mappings(built.netlist, out))


def write_mappings(netlist: Netlist, out: Path) -> MappingPart:
    """mapping-CHIP.json in `out` for every shipped chip, and a page of all; returns what they answer."""
    reports = [map_netlist(netlist, chip) for chip in chip_names()]
    for report in reports:
        report.save(out / f"mapping-{report.chip.name}.json")
    write_text(out / MAPPING_PAGE, page(reports))
    return MappingPart(tuple(report.answer() for report in reports), MAPPING_PAGE)


def netlist_part(netlist: Netlist, notes: tuple[str, ...] = (), calibration: str = "") -> NetlistPart:
    """What a verification says of every netlist."""
    own = sorted({type(n).__name__ for n in netlist.nodes.values() if isinstance(n, OWN_PROCESSES)})
    return NetlistPart(neurons(netlist), tuple(own), notes, calibration)


def chip_energy(netlist: Netlist, activity: Activity) -> ChipEnergyPart:
    """What the simulated netlist would take per inference at Loihi's published figures, by population."""
    found = netlist_energy(netlist, activity, load_costs("loihi"))
    events, spikes = sum(found.synaptic_events.values()), sum(found.spikes.values())
    gates = gate_products(netlist)
    unpriced = (f"{gates:,} products in gates of STAA neurons",) if gates else ()
    by_population = dict(found.picojoules)
    return ChipEnergyPart(found.millijoules, found.label, events, spikes, by_population, unpriced)


def verify_dir(folder: str | Path, x: Any = None, y: Any = None, *, engine: str = "auto") -> Verification:
    """Run the netlist in `folder` in the simulator again, against the de-quantized graph in PyTorch.

    `x`: real samples (default: those in the folder).  Raises `DataError` for a netlist that was changed.
    """
    folder = Path(folder)
    netlist, graph = load(folder), Graph.load(folder / GRAPH_FILE)
    x, y = own_samples(folder, x, y)
    x = samples_first(x, graph)
    messages = encode(netlist, x)
    compared, wanted, activity = compare_streamed(netlist, graph, messages, x, engine)
    return again(netlist, wanted, activity, messages, y, truncated=is_truncated(folder), compared=compared)


def messages_of(folder: Path, netlist: Netlist, x: Any) -> np.ndarray:
    """Samples as the network of `folder` takes them, as messages of its netlist: (N, …) or (N, T, …)."""
    return encode(netlist, samples_first(np.asarray(x, np.float32), Graph.load(folder / GRAPH_FILE)))


def own_samples(folder: Path, x: Any = None, y: Any = None) -> tuple[np.ndarray, Any]:
    """`x` and `y`, or, without `x`, those that the export in `folder` keeps."""
    if x is not None:
        return np.asarray(x, np.float32), y
    arrays = read_arrays(folder / SAMPLES_FILE)
    if "real" not in arrays:
        raise DataError(f"{folder} has no samples of its own: name some with --data or --input")
    return np.asarray(arrays["real"], np.float32), arrays.get("y") if y is None else y


def is_truncated(folder: Path) -> bool:
    """Did the lowering in `folder` truncate membranes, so that spikes may differ from the real network's?"""
    found = read_json(folder / LOWERING_FILE, "record of a lowering").get("truncated")
    if not isinstance(found, bool):
        raise DataError(f"{folder / LOWERING_FILE}: damaged: it does not say 'truncated'; export again")
    return found


def again(
    netlist: Netlist,
    wanted: Activity,
    got: Activity,
    messages: np.ndarray,
    y: Any = None,
    *,
    target: str = "netlist",
    form: str = "simulator",
    held_against: str = REFERENCE,
    truncated: bool = False,
    parts: tuple[Part, ...] = (),
    compared: NeuronDifference | None = None,
) -> Verification:
    """The verdict on a second run of an exported netlist, its accuracy under the name of `form`.

    `compared`: what both runs have in common, where that is known."""
    predicted = got.predictions()
    accuracy = {}
    if y is not None:
        if len(y) != len(predicted):
            raise ConfigError(f"{len(y)} classes for {len(predicted)} samples")
        accuracy = {form: float((predicted == np.asarray(y)).mean())}
    return verification(
        netlist,
        compared or compare_activities(netlist, wanted, got, messages),
        wanted,
        got,
        accuracy=accuracy,
        predictions_differ=int((wanted.predictions() != predicted).sum()),
        target=target,
        form=form,
        held_against=held_against,
        truncated=truncated,
    ).with_parts(netlist_part(netlist), *parts)


def verification(
    netlist: Netlist,
    compared: NeuronDifference,
    wanted: Activity,
    got: Activity,
    *,
    accuracy: dict[str, float],
    predictions_differ: int,
    target: str = "netlist",
    form: str = "simulator",
    held_against: str = REFERENCE,
    truncated: bool = False,
) -> Verification:
    """Two runs of one netlist as a verdict; logits count in samples whose spikes are all equal."""
    worst = max(
        float(np.abs(wanted.logits[n] - got.logits[n])[compared.clean].max(initial=0)) for n in got.logits
    )
    return Verification(
        target=target,
        form=form,
        samples=got.samples,
        logits_difference=worst,
        predictions_differ=predictions_differ,
        neurons=compared.checks,
        differences=compared.differences,
        accuracy=accuracy,
        reference=held_against,
        truncated=truncated,
        versions={name: metadata.version(name) for name in ("snn-energy", "torch", "numpy", "spikingjelly")},
    )
