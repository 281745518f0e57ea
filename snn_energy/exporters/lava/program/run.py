"""Run this package in Lava: python run.py --input samples.npz --out spikes.npz

Needs lava-nc 0.10, numpy, scipy and h5py; neither snn-energy nor torch.  The input holds `x`: integers as
the netlist's input takes them, (B, C, H, W) held for every step or (B, T, C, H, W).  The output holds every
probed population under its name, (B, T, C, H, W), and a readout's logits, (B, K), under `<name>:logits`.
Exit codes: 0 done, 2 bad input or a changed package, 3 a current left the range of its register.
"""

import os
import sys

FOLDER = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [place for place in sys.path if os.path.realpath(place) != FOLDER]  # until it is checked
sys.dont_write_bytecode = True

import argparse  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import pathlib  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402

LOGITS = ":logits"
UNLISTED = ("manifest.json", "verification.json")


class ChangedFile(Exception):
    """The package is not the one that was exported."""


def check_files(folder):
    """Compare the files of the package with manifest.json: none changed, missing or added; return it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    plain = {key: value for key, value in manifest.items() if key != "sha256"}
    if hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest() != manifest["sha256"]:
        raise ChangedFile("manifest.json was changed after export")
    listed = manifest["files"]
    if "run.py" not in listed:
        raise ChangedFile("manifest.json was changed after export: it does not list run.py")
    folders = {parent.as_posix() for name in listed for parent in pathlib.PurePosixPath(name).parents}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        usual = name in folders if path.is_dir() else name in listed or name in UNLISTED
        if path.is_symlink() or not usual:
            raise ChangedFile(f"{name} was added after export")
    for name, digest in listed.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ChangedFile(f"{name} was changed after export: its SHA-256 is not the manifest's")
    return manifest


try:
    MANIFEST = check_files(pathlib.Path(FOLDER))
except (ChangedFile, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(2)

sys.path.insert(0, FOLDER)
import shim  # noqa: E402

shim.install()
import network  # noqa: E402
import numpy as np  # noqa: E402
from lava.magma.core.run_conditions import RunSteps  # noqa: E402
from lava.magma.core.run_configs import Loihi2SimCfg  # noqa: E402


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, help="x.npz")
    parser.add_argument("--out", required=True, help="where to write the spikes (.npz)")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    try:
        if os.path.dirname(os.path.realpath(arguments.out)) == FOLDER:
            raise ValueError(f"--out {arguments.out}: name a place outside the package")
        netlist, arrays = network.read(pathlib.Path(FOLDER))
        x = messages(netlist, arguments.input)
    except (OSError, KeyError, ValueError) as error:
        sys.exit(fail(2, f"{type(error).__name__}: {error}"))
    started = time.time()
    recorded, watched = run(netlist, arrays, x, MANIFEST["watch"])
    for name, values in watched.items():
        if np.abs(values).max() >= network.CURRENT_LIMIT:
            sys.exit(fail(3, f"{name}: a current of {np.abs(values).max()} does not fit its register"))
    for row in netlist["nodes"]:
        if row["kind"] == "Readout" and row["name"] in recorded:
            sums = recorded[row["name"]].astype(np.int64).reshape(*x.shape[:2], -1).sum(axis=1)
            recorded[row["name"] + LOGITS] = row["scale"] * sums / x.shape[1] + arrays[row["name"]][
                "bias"
            ].reshape(-1)
    np.savez_compressed(arguments.out, **recorded)
    print(f"{len(x)} samples, {len(recorded)} records, {time.time() - started:.1f} s")


def fail(code, message):
    print(message, file=sys.stderr)
    return code


def messages(netlist, path):
    """Read and check the samples: (B, T, C, H, W) integers."""
    with np.load(path) as file:
        x = file["x"]
    (row,) = (r for r in netlist["nodes"] if r["kind"] == "Input")
    if x.dtype.kind not in "iub":
        raise ValueError(f"the input takes integers, not {x.dtype}")
    x = x.astype(np.int32)
    if x.ndim == 4:
        x = np.repeat(x[:, None], netlist["time_steps"], axis=1)
    if x.ndim != 5 or list(x.shape[1:]) != [netlist["time_steps"], *row["shape"]]:
        raise ValueError(f"the input takes samples of {row['shape']}, not {list(x.shape[1:])}")
    half = 1 << row["message_bits"] >> 1
    low, high = (-half, half - 1) if half else (0, 1)
    if x.size and (x.min() < low or x.max() > high):
        raise ValueError(f"messages go from {low} to {high}; the samples reach from {x.min()} to {x.max()}")
    return x


def run(netlist, arrays, x, watch):
    """-> ({probe: (B, T, C, H, W)}, {watched node: its currents}), samples streamed back to back."""
    samples, steps = x.shape[:2]
    depth = max(row["offset"] for row in netlist["nodes"])
    flushed = np.concatenate([x.reshape(-1, *x.shape[2:]), np.zeros((depth, *x.shape[2:]), x.dtype)])
    spiking = {row["name"] for row in netlist["nodes"] if row["kind"] in ("Population", "StaaLif")}
    with tempfile.TemporaryDirectory() as scratch:
        net = network.Network(netlist, arrays, np.moveaxis(flushed, 0, -1), netlist["probes"], watch, scratch)
        net.source.run(
            condition=RunSteps(num_steps=len(flushed)), run_cfg=Loihi2SimCfg(select_tag="fixed_pt")
        )
        net.source.stop()

        def cut(name, path, kind):
            offset = net.rows[name]["offset"]
            values = np.load(path)[offset : offset + samples * steps].transpose(0, 3, 2, 1)
            return values.reshape(samples, steps, *values.shape[1:]).astype(kind)

        recorded = {n: cut(n, path, np.int8 if n in spiking else np.int32) for n, path in net.sinks.items()}
        watched = {n: cut(n, path, np.int64) for n, path in net.watched.items()}
    return recorded, watched


if __name__ == "__main__":
    main()
