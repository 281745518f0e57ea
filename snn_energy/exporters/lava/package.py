"""The Lava target: a package that runs by itself in a plain Lava environment, and the runner that calls it.

Lava is archived (lava-nc 0.10.0 is the last release) and wants Python 3.10, so it never shares an
environment with us: the package brings its own reader (`program/`), and we call that environment's
Python as a program.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import metadata, resources
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from snn_energy.errors import ConfigError, DataError, MissingDependency, VerificationError
from snn_energy.exporters.kept_samples import SAMPLES_FILE, read_arrays, write_arrays
from snn_energy.exporters.lava.netx import netx_obstacle, write_netx
from snn_energy.exporters.netlist.files import content_digest, load, save, sha256
from snn_energy.exporters.netlist.listing import listing
from snn_energy.exporters.netlist.record import (
    CURRENT_LIMIT,
    OWN_PROCESSES,
    SPIKING,
    Array,
    Netlist,
    Readout,
)
from snn_energy.exporters.netlist.simulate import Activity, Counts, as_messages, largest_outputs
from snn_energy.exporters.verification import VERIFICATION_FILE
from snn_energy.files import write_text
from snn_energy.reading import read_json

OVERFLOWED = 3  # exit code of run.py
PYTHON_VARIABLE = "SNN_ENERGY_LAVA_PYTHON"
PROGRAM = {name: f"lava/program/{name}" for name in
           ("run.py", "network.py", "shim.py", "processes/process.py", "processes/models.py")}  # fmt: skip
PROGRAM["staa_lif.py"] = "netlist/staa_lif.py"  # name in the package -> where it lies here
NETX_FILE, PACKAGE_FILE = "model.net", "manifest.json"
ALWAYS = ("netlist.json", "netlist.h5", "README.md", *PROGRAM)  # no package is without these
UNLISTED = (PACKAGE_FILE, VERIFICATION_FILE)  # the one names the rest, the other is written last and names it


def write_package(
    netlist: Netlist, directory: str | Path, samples: Mapping[str, Array] | None = None
) -> Path:
    """Write `directory`: netlist, program, README, `model.net` where netx can hold it, hashes of all.

    `samples`: arrays for samples.npz; `x` must be messages that the input takes (see `simulate.encode`).
    What is written beside it later belongs to the package after another `seal`.
    A directory that holds something else than an earlier package is refused.
    """
    directory = Path(directory)
    if directory.exists() and any(directory.iterdir()) and not (directory / PACKAGE_FILE).exists():
        raise ConfigError(f"{directory} is not empty and no earlier export: name a new directory")
    save(netlist, directory)
    for name in PROGRAM:
        write_text(directory / name, program_text(name))
    obstacle = netx_obstacle(netlist)
    if obstacle is None:
        write_netx(netlist, directory / NETX_FILE)
    else:
        (directory / NETX_FILE).unlink(missing_ok=True)
    if samples is not None:
        as_messages(netlist, samples["x"])
        write_arrays(directory, samples)
    write_text(directory / "README.md", _readme(netlist, obstacle))
    seal(directory, netlist)
    return directory


def program_text(name: str) -> str:
    """A file of the program that every package carries, as this release has it."""
    source = resources.files("snn_energy.exporters").joinpath(*PROGRAM[name].split("/"))
    return source.read_text(encoding="utf-8")


def seal(directory: Path, netlist: Netlist) -> None:
    """Write the manifest: the hash of every file that is there, so that nothing can be changed or added."""
    files = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())
    content: dict[str, Any] = {
        "watch": watched(netlist),
        "netx": netx_obstacle(netlist) or NETX_FILE,
        "files": {name: sha256(directory / name) for name in files if name not in UNLISTED},
    }
    write_text(
        directory / PACKAGE_FILE, json.dumps(content | {"sha256": content_digest(content)}, indent=1) + "\n"
    )


def watched(netlist: Netlist) -> list[str]:
    """Neuron layers whose current could leave its register for some input: run.py checks them."""
    largest = largest_outputs(netlist, netlist.order())
    return [name for name, node in netlist.nodes.items() if isinstance(node, SPIKING)
            and sum(largest[e.source] for e in netlist.inputs_of(name)) >= CURRENT_LIMIT]  # fmt: skip


def read_package(directory: str | Path) -> tuple[Netlist, dict[str, Array]]:
    """Check a package as `check_package` does; return its netlist and its samples ({} if none)."""
    directory = Path(directory)
    check_package(directory)
    return load(directory), read_arrays(directory / SAMPLES_FILE)


def check_package(directory: Path) -> tuple[str, ...]:
    """The files of an exported package, all as they were exported, and no other file among them.

    Raises `DataError` for a manifest that is missing, changed or does not list what every package has, for a
    file that is missing, changed or was added, and for a program that is not this release's: nothing of a
    package is run that we did not write.
    """
    manifest = _manifest(directory)
    listed = manifest["files"]
    if unlisted := sorted(set(ALWAYS) - set(listed)):
        raise DataError(
            f"{directory / PACKAGE_FILE} was changed after export: it does not list {unlisted[0]}"
        )
    folders = {parent.as_posix() for name in listed for parent in PurePosixPath(name).parents}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        usual = name in folders if path.is_dir() else name in listed or name in UNLISTED
        if path.is_symlink() or not usual:
            raise DataError(f"{path} was added after export: remove it, or export again")
    for name, digest in listed.items():
        if sha256(directory / name) != digest:
            raise DataError(f"{directory / name} was changed after export: its SHA-256 is not the manifest's")
    for name in PROGRAM:
        if (directory / name).read_bytes() != program_text(name).encode():
            release = metadata.version("snn-energy")
            raise DataError(f"{directory / name} is not the program of snn-energy {release}: export again")
    return tuple(listed)


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / PACKAGE_FILE
    manifest = read_json(path, "exported package")
    files = manifest.get("files")
    if not isinstance(files, dict) or manifest.get("sha256") != content_digest(manifest):
        raise DataError(f"{path} was changed after export")
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(f"{path} was changed after export: it lists {name!r}, outside the package")
    return manifest


def lava_python(python: str | Path | None = None) -> Path:
    """The Python of a Lava environment: the argument, $SNN_ENERGY_LAVA_PYTHON, or ./.lava-env/bin/python."""
    candidates = [python, os.environ.get(PYTHON_VARIABLE), Path(".lava-env/bin/python")]
    for candidate in candidates:
        if candidate is None or candidate == "":
            continue
        path = Path(candidate)
        if path.exists():
            return path.absolute()
        if candidate in candidates[:2]:
            raise ConfigError(f"no Python at {path}, named as the Lava environment's")
    raise MissingDependency(
        f"a Lava environment (make lava-env, or --python PATH, or ${PYTHON_VARIABLE})", "lava", "running Lava"
    )


def run_lava(
    directory: str | Path, x: Array, *, python: str | Path | None = None, timeout: float = 3600
) -> Activity:
    """Run an exported package in the real Lava runtime on messages `x`, (B, C, H, W) or (B, T, C, H, W).

    What runs is a copy of the checked files, in a Python isolated from the environment and from its folder.
    Returns what `simulate` returns, with spikes as the only counts.  Raises VerificationError if a register
    overflowed, DataError if the package or the samples are refused or Lava itself failed.
    """
    directory, interpreter = Path(directory), lava_python(python)
    netlist, _ = read_package(directory)
    x = as_messages(netlist, x)
    with tempfile.TemporaryDirectory() as scratch:
        given, made, package = Path(scratch, "x.npz"), Path(scratch, "spikes.npz"), Path(scratch, "package")
        _copy(directory, package)
        np.savez_compressed(given, x=x)
        program = [str(interpreter), "-I", "-B", str(package / "run.py")]
        command = [*program, "--input", str(given), "--out", str(made)]
        code, log = _call(command, Path(scratch, "log"), timeout)
        if code == OVERFLOWED:
            raise VerificationError(f"Lava: {_last_line(log)}")
        if code or not made.exists():
            raise DataError(f"Lava failed with code {code}: {_last_line(log)}")
        with np.load(made) as file:
            recorded = dict(file)
    logits = {n: recorded.pop(f"{n}:logits") for n in netlist.named(Readout) if f"{n}:logits" in recorded}
    counts = {
        n: Counts(spikes=int(v.sum())) for n, v in recorded.items() if isinstance(netlist.nodes[n], SPIKING)
    }
    return Activity(recorded, logits, counts, len(x))


def _copy(directory: Path, copy: Path) -> None:
    """The files of a package in a folder of their own; it is the copy that is checked."""
    for name in (*check_package(directory), PACKAGE_FILE):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(directory / name, copy / name)
    check_package(copy)


def _call(command: list[str], log: Path, timeout: float) -> tuple[int, str]:
    """(exit code, output) of a program; after `timeout` seconds it and all its children are killed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with log.open("w") as file:  # a file: Lava's children would keep a pipe open after their parent's end
        program = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            code = program.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise DataError(f"Lava did not finish within {timeout:.0f} s; see --timeout") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
    return code, log.read_text(errors="replace")


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and "resource_tracker" not in line]
    return lines[-1].strip() if lines else "it said nothing"


def _readme(netlist: Netlist, obstacle: str | None) -> str:
    own = sorted({type(n).__name__ for n in netlist.nodes.values() if isinstance(n, OWN_PROCESSES)})
    extra = (f"Own Processes, for which only CPU models exist: {', '.join(own)}." if own
             else "Every Process is a stock one of Lava.")  # fmt: skip
    chain = f"`{NETX_FILE}` holds the same network for lava.lib.dl.netx." if obstacle is None else (
        f"There is no netx file: {obstacle}."
    )  # fmt: skip
    return f"""# A spiking network for Lava

Exported by snn-energy.  It runs in a plain Lava environment:

    python3.10 -m venv lava && lava/bin/pip install lava-nc==0.10.0 numpy==1.26.4 'h5py>=3.7,<4'
    lava/bin/python PACKAGE/run.py --input PACKAGE/{SAMPLES_FILE} --out spikes.npz

in a folder beside this one: nothing may be added here, for run.py refuses what was not exported.
`{SAMPLES_FILE}` holds `x`, integers as the input takes them: clip(round(sample · scale)).  `spikes.npz` gets
each population's spikes under its name, (B, T, C, H, W), and logits, (B, K), under `<readout>:logits`.
{extra}
{chain}
`netlist.json` is the network, `netlist.h5` its weights, in PyTorch's (C, H, W) order; `{PACKAGE_FILE}` holds
the SHA-256 of every file, which run.py checks before it starts.

The first column is the step at which a sample's first step arrives:

```
{listing(netlist)}
```
"""
