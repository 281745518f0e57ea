"""Compile a written program and run it; what it prints becomes an `Activity`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from snn_energy.errors import DataError, MissingTool, VerificationError
from snn_energy.exporters.c.layout import numpy_type
from snn_energy.exporters.c.write import Program
from snn_energy.exporters.netlist.record import SPIKING, Array, Netlist, Readout
from snn_energy.exporters.netlist.simulate import Activity, Counts, as_maps, as_messages

COMPILER_VARIABLE = "CC"
STRICT = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
SPIKES = ("-DSPIKES", "-DNETWORK_TRACED")
SOURCES = ("main.c", "network.c", "weights.c")
BATCH = 64
OVERFLOWED = 3  # exit code of main.c
TIMEOUT = 3600


def compiler(name: str | None = None) -> str:
    """The C compiler: `name`, $CC, or the first of gcc, cc and clang that is installed."""
    wanted = [name] if name else [os.environ.get(COMPILER_VARIABLE), "gcc", "cc", "clang"]
    for candidate in wanted:
        if candidate and (found := shutil.which(candidate)):
            return found
    raise MissingTool(name or "a C compiler, gcc or clang", name or "gcc", "building C")


def compile_folder(folder: Path, out: Path, *, cc: str | None = None, flags: Sequence[str] = STRICT) -> Path:
    """The sources in `folder` with one call; `DataError` with the compiler's first complaint."""
    sources = [str(folder / name) for name in SOURCES]
    call([compiler(cc), *flags, *sources, "-o", str(out)], "the C compiler")
    return out


def can_build(flags: Sequence[str], place: Path) -> bool:
    """Whether this machine's compiler makes programs with these flags; tried in the folder `place`."""
    (place / "empty.c").write_text("int main(void) { return 0; }\n", encoding="utf-8")
    try:
        call([compiler(), *flags, str(place / "empty.c"), "-o", str(place / "empty")], "the C compiler")
    except DataError:
        return False
    return True


def call(command: Sequence[str], who: str, *, given: bytes | None = None, cwd: Path | None = None) -> bytes:
    """What a program prints; `DataError` with its first complaint where it fails."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=TIMEOUT, cwd=cwd, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{who} did not finish within {TIMEOUT} s") from error
    except OSError as error:
        raise DataError(f"{who} ({command[0]}) does not start: {error.strerror}") from error
    if done.returncode == OVERFLOWED:
        raise VerificationError(_first_line(done.stderr))
    if done.returncode:
        raise DataError(
            f"{who} ({command[0]}) failed with code {done.returncode}: {_first_line(done.stderr)}"
        )
    return done.stdout


def version(tool: str) -> str:
    """The first line of what a tool says of itself."""
    return call([tool, "--version"], tool).decode(errors="replace").splitlines()[0].strip()


def _first_line(text: bytes) -> str:
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    worst = [line for line in lines if "error" in line.lower() or "overflowed" in line]
    return (worst or lines or ["it said nothing"])[0].strip()


def run_program(binary: Path, program: Program, x: Array) -> Activity:
    """Run a program that was built with `SPIKES` and -DFRAMES (see `frames_of`) on messages `x`."""
    parts = [
        parsed(program, call([str(binary)], "the program", given=as_file(program, some)), len(some))
        for some in (x[start : start + BATCH] for start in range(0, len(x), BATCH))
    ]
    return joined(parts)


def joined(parts: Sequence[Activity]) -> Activity:
    """Runs of some samples each as one."""
    first = parts[0]
    outputs = {n: np.concatenate([part.outputs[n] for part in parts]) for n in first.outputs}
    logits = {n: np.concatenate([part.logits[n] for part in parts]) for n in first.logits}
    counts = {n: sum((part.counts[n] for part in parts[1:]), first.counts[n]) for n in first.counts}
    return Activity(outputs, logits, counts, sum(part.samples for part in parts))


def frames_of(program: Program, x: Array) -> int:
    """Frames of one sample in a file: 1 where `x` is held still, (N, C, H, W), else one for every step."""
    still = np.ndim(as_maps(program.input, program.netlist.time_steps, x)) == 4
    return 1 if still else program.netlist.time_steps


def as_file(program: Program, x: Array) -> bytes:
    """Messages as main.c reads them, checked."""
    as_messages(program.netlist, x)
    return np.ascontiguousarray(x).astype(numpy_type(program.input_type)).tobytes()


def parsed(program: Program, printed: bytes, samples: int) -> Activity:
    """Spikes and sums out of what main.c prints."""
    netlist, steps = program.netlist, program.netlist.time_steps
    outputs = {
        n: np.zeros((samples, steps, *node.shape), np.int8)
        for n, node in netlist.nodes.items()
        if isinstance(node, SPIKING)
    }
    flat = {n: a.reshape(samples, steps, -1) for n, a in outputs.items()}
    sums, classes = [], []
    for line in printed.decode(errors="replace").splitlines():
        if line.startswith("sums"):
            sums.append([int(word) for word in line.split()[1:]])
        elif line.startswith("measured"):
            continue
        elif " :" in line:
            head, _, fired = line.rpartition(" :")
            sample, step, name = head.split(" ", 2)
            flat[name][int(sample), int(step), np.array(fired.split(), np.int64)] = 1
        else:
            classes.append(int(line))
    readouts = netlist.named(Readout)
    if readouts and len(sums) != samples:
        raise DataError(f"the program answered {len(sums)} of {samples} samples")
    logits = logits_of(netlist, np.array(sums).reshape(samples, -1))
    counts = {name: Counts(spikes=int(array.sum())) for name, array in outputs.items()}
    found = Activity(outputs, logits, counts, samples)
    if len(readouts) == 1 and not np.array_equal(found.predictions(), classes):
        raise VerificationError("the program's classes are not those of its own sums")
    return found


def logits_of(netlist: Netlist, sums: Array) -> dict[str, Array]:
    """Logits (B, K) of every readout from the sums over the sample, (B, all readouts)."""
    logits, first = {}, 0
    for name in netlist.named(Readout):
        node = netlist.nodes[name]
        assert isinstance(node, Readout)
        size = int(np.prod(node.shape))
        summed = np.asarray(sums[:, first : first + size], np.int64)
        logits[name] = np.asarray(
            node.scale * summed / netlist.time_steps + np.asarray(node.bias).reshape(-1)
        )
        first += size
    return logits
