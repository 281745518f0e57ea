"""`--target c`: the netlist of a network as C source, held against the integer simulator spike for spike.

On this machine it is built as strictly as compilers allow, with sanitizers and with a second compiler; on
request it is built for microcontrollers and run under QEMU.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from snn_energy.errors import ConfigError, DataError, MissingTool
from snn_energy.exporters.c.build import (
    SANITIZED,
    SPIKES,
    STRICT,
    as_file,
    can_build,
    compile_folder,
    compiler,
    frames_of,
    run_program,
    version,
)
from snn_energy.exporters.c.plan import rates_of
from snn_energy.exporters.c.write import Program, constant_bytes, program, static_bytes
from snn_energy.exporters.chip import export as chip
from snn_energy.exporters.chip.reference import reference
from snn_energy.exporters.chip.stream import CHUNK
from snn_energy.exporters.kept_samples import KEPT, SAMPLES_FILE, read_arrays
from snn_energy.exporters.mcu.boards import board, run_board
from snn_energy.exporters.mcu.parts import BoardPart, BoardRun, BuildCheck, CPart, EngineChoice, fit
from snn_energy.exporters.netlist.files import load
from snn_energy.exporters.netlist.record import Array, Netlist
from snn_energy.exporters.netlist.simulate import Activity, simulate
from snn_energy.exporters.network import samples_first
from snn_energy.exporters.verification import VERIFICATION_FILE, Verification, read_verification
from snn_energy.files import atomic_write, write_text
from snn_energy.graph.graph import Graph

SAMPLES_BINARY = "samples.bin"
BOARD_SAMPLES = 4


def export_c(
    model: nn.Module,
    out: Path,
    x: Any,
    y: Any = None,
    *,
    bits: int = 8,
    mcu: str | Iterable[str] = (),
    mcu_samples: int = BOARD_SAMPLES,
    stock_processes: bool | None = None,
    calibration: Any = None,
    layout: str | None = None,
    output: int | str | None = None,
) -> Verification:
    """Write the C program into `out`, and verify it: simulator against de-quantized PyTorch, C against the
    simulator, both on all of `x`, and each board of `mcu` on the first `mcu_samples`.

    Samples and calibration are those of `chip.export.build`.  Raises `UnsupportedOp`; `ConfigError` for what
    32-bit indices cannot reach; `VerificationError` where a spike differs; `MissingTool` without the tools of
    a board.  Without a C compiler the source is written and the record says that it was not run.
    """
    boards = (mcu,) if isinstance(mcu, str) else tuple(mcu)
    for name in boards:
        board(name)
    if mcu_samples < 1:
        raise ConfigError(f"mcu_samples = {mcu_samples}: must be at least 1")
    options = {
        "bits": bits,
        "stock_processes": stock_processes,
        "calibration": calibration,
        "engine": "numpy",
    }
    built = chip.build(model, x, y, **options, layout=layout, output=output)
    messages = built.samples["x"]
    frames = 1 if messages.ndim == 4 else built.netlist.time_steps
    written = program(built.netlist, rates_of(built.netlist, built.activity), frames=frames)
    chip.write_netlist(built, out)
    write_folder(written, out, messages)
    verdict = built.verdict.with_parts(host_part(written, out, messages, built.activity))
    some = messages[:mcu_samples]
    pytorch = (
        _classes(built.lowering.dequantized, written, built.samples["real"], len(some)) if boards else ()
    )
    runs = []
    for name in boards:
        wanted = _first(built.activity, len(some))
        run, got = run_board(name, out, written, some, wanted, pytorch)
        held(written, some, wanted, got, name).require()
        runs.append(run)
    return dataclasses.replace(verdict.with_parts(board_part(written, tuple(runs))), target="c")


def _classes(graph: Graph, written: Program, x: Array, samples: int) -> tuple[int, ...]:
    """What the de-quantized network answers in PyTorch to the first samples, as the network takes them."""
    first = samples_first(x, graph)[:samples]
    return tuple(map(int, reference(graph, written.netlist, first).predictions()))


def _first(activity: Activity, samples: int) -> Activity:
    """What a run gave for its first samples; no counts."""
    outputs = {name: array[:samples] for name, array in activity.outputs.items()}
    logits = {name: array[:samples] for name, array in activity.logits.items()}
    return Activity(outputs, logits, {}, samples)


def write_folder(written: Program, out: Path, messages: Array) -> None:
    """The sources, a README with their sizes, and the samples that a board or a reader can run."""
    for name, text in written.files.items():
        write_text(out / name, text)
    with atomic_write(out / SAMPLES_BINARY) as temporary:
        temporary.write_bytes(as_file(written, messages[:KEPT]))


def host_part(written: Program, folder: Path, messages: Array, seen: Activity) -> CPart:
    """Every build of this machine on all samples; `seen`: the simulator's run, spikes of the first at least.

    Raises `VerificationError` at the first spike that differs.
    """
    note, builds = "", {}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            builds = _builds(written, folder, messages, Path(scratch))
        except MissingTool as error:
            note = f"the program was not run: {error}"
        checks = [BuildCheck(*label, 0, 0, 0) for label in builds]
        for start in range(0, len(messages) if builds else 0, CHUNK):
            some = messages[start : start + CHUNK]
            wanted = _first(seen, len(some)) if start == 0 else simulate(written.netlist, some)
            for i, binary in enumerate(builds.values()):
                got = run_program(binary, written, some)
                ran = held(written, some, wanted, got, checks[i].compiler).require()
                checks[i] = checks[i].more(len(some), sum(c.compared for c in ran.neurons), ran.mismatches)
    engines = tuple(
        EngineChoice(n, engine, round(written.rates.get(written.plan.source(n), 0.0), 6))
        for n, engine in written.plan.engines.items()
    )
    sizes = constant_bytes(written), static_bytes(written)
    return CPart(tuple(checks), *sizes, engines, event_share(written, seen), note)


def _builds(written: Program, folder: Path, messages: Array, place: Path) -> dict[tuple[str, str], Path]:
    """(compiler, flags) -> the program that it made of the folder."""
    made: dict[tuple[str, str], Path] = {}
    frames = f"-DFRAMES={frames_of(written, messages)}"
    for number, (cc, extra) in enumerate(_compilers(place)):
        flags = (*STRICT, *extra)
        binary = compile_folder(folder, place / f"network{number}", cc=cc, flags=(*flags, *SPIKES, frames))
        made[version(cc), " ".join(flags)] = binary
    return made


def _compilers(place: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Compilers to build with, and the flags that each adds: the usual one, with sanitizers if it has their
    libraries, and clang."""
    first = compiler()
    found: list[tuple[str, tuple[str, ...]]] = [(first, ())]
    if can_build(SANITIZED, place):
        found.append((first, SANITIZED))
    try:
        second = compiler("clang")
    except MissingTool:
        return found
    return found if second == first else [*found, (second, ())]


def as_written(folder: Path, netlist: Netlist) -> Program:
    """The program of an exported folder, written anew: nothing is built and run that we did not write.

    Raises `DataError` where a file is not what this release writes for the netlist.
    """
    recorded = read_verification(folder / VERIFICATION_FILE)["parts"].get("c", {}).get("engines", [])
    try:
        engines = {str(row["projection"]): str(row["engine"]) for row in recorded}
    except (TypeError, KeyError) as error:
        raise DataError(f"{folder / VERIFICATION_FILE}: damaged: it does not say which engines") from error
    kept = read_arrays(folder / SAMPLES_FILE).get("x")
    frames = 1 if kept is None or kept.ndim == 4 else netlist.time_steps
    written = program(netlist, frames=frames, engines=engines)
    for name, text in written.files.items():
        if name == "README.md":
            continue
        try:
            same = (folder / name).read_bytes() == text.encode()
        except OSError as error:
            raise DataError(f"cannot read {folder / name}: {error.strerror}") from error
        if not same:
            release = metadata.version("snn-energy")
            raise DataError(f"{folder / name} is not what snn-energy {release} writes for it: export again")
    return written


def _run(written: Program, folder: Path, messages: Array) -> Activity:
    """The program in `folder`, built by this machine's compiler."""
    flags = (*STRICT, *SPIKES, f"-DFRAMES={frames_of(written, messages)}")
    return run_program(compile_folder(folder, folder / "network", flags=flags), written, messages)


def held(
    written: Program, messages: Array, wanted: Activity, got: Activity, form: str, y: Any = None
) -> Verification:
    """The verdict on a run of the program, held against the integer simulator."""
    return chip.again(
        written.netlist, wanted, got, messages, y, target="c", form=form, held_against="integer simulator"
    )


def event_share(written: Program, activity: Activity) -> float:
    """Of all synaptic events, the share that event-driven projections and attention compute."""
    events = {n: c.synaptic_events for n, c in activity.counts.items() if c.synaptic_events}
    dense = sum(count for n, count in events.items() if written.plan.engines.get(n) == "dense")
    return 1.0 - dense / max(sum(events.values()), 1)


def board_part(written: Program, runs: tuple[BoardRun, ...]) -> BoardPart:
    """What the boards measured, and which parts hold the program; without a board, the network alone."""
    constants, static = constant_bytes(written), static_bytes(written)
    flash = {run.board: run.flash for run in runs}
    ram = {run.board: run.ram + run.stack for run in runs}
    note = "" if runs else "constants, state and buffers only: no board was asked for code and stack"
    return BoardPart(runs, fit(flash, ram, (constants, static)), note)


def verify_dir(
    folder: str | Path,
    x: Any = None,
    y: Any = None,
    *,
    runtime: str = "c",
    mcu_samples: int = BOARD_SAMPLES,
) -> Verification:
    """Verify an exported folder again.

    `runtime`: `c` holds the program, built as at the export, against the integer simulator; a board's name
    does so under QEMU; `simulator` holds the simulator against the de-quantized graph in PyTorch.
    """
    folder = Path(folder)
    if runtime == "simulator":
        return dataclasses.replace(chip.verify_dir(folder, x, y), target="c")
    if runtime != "c":
        board(runtime)
    netlist = load(folder)
    x, y = chip.own_samples(folder, x, y)
    messages = chip.messages_of(folder, netlist, x)
    if runtime != "c":
        messages, y = messages[:mcu_samples], None if y is None else y[:mcu_samples]
    wanted = simulate(netlist, messages)
    written = as_written(folder, netlist)
    part: BoardPart | None = None
    with tempfile.TemporaryDirectory() as scratch:
        write_folder(written, Path(scratch), messages)
        if runtime == "c":
            got = _run(written, Path(scratch), messages)
        else:
            pytorch = _classes(Graph.load(folder / chip.GRAPH_FILE), written, x, len(messages))
            run, got = run_board(runtime, Path(scratch), written, messages, wanted, pytorch)
            part = board_part(written, (run,))
    verdict = held(written, messages, wanted, got, runtime, y)
    return verdict.with_parts(part) if part else verdict
