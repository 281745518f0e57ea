"""What is fuzzed: each kind of file that a stranger may hand us, a right one of it, and what reads it."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import pickle
import shutil
import struct
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "exporters")]

from command import run  # noqa: E402
from netlists import everything  # noqa: E402

from snn_energy import data  # noqa: E402
from snn_energy.checkpoints import load, save_checkpoint  # noqa: E402
from snn_energy.energy.conventions import load_convention  # noqa: E402
from snn_energy.energy.costs import load_costs  # noqa: E402
from snn_energy.exporters.netlist import files as netlist_files  # noqa: E402
from snn_energy.exporters.verification import NeuronCheck, Verification, read_verification  # noqa: E402
from snn_energy.graph.capture import capture  # noqa: E402
from snn_energy.graph.graph import Graph  # noqa: E402
from snn_energy.models.official import read_yaml  # noqa: E402
from snn_energy.models.zoo import create_model  # noqa: E402
from snn_energy.profiling import profile  # noqa: E402
from snn_energy.profiling.profile import Profile  # noqa: E402
from snn_energy.training.recipe import load_recipe  # noqa: E402


@dataclass(frozen=True)
class Target:
    """`files` maps the name of a right file to its content; `read` is told the folder in which they lie.

    One file is changed at a time; `mend` may then put checksums of it right.
    """

    read: Callable[[Path], object]
    files: dict[str, bytes]
    mend: Callable[[Path], None] = field(default=lambda folder: None)


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model("statten", embed_dims=8, depths=1, num_heads=2, mlp_ratios=1, T=2, chunk_size=2,
                        in_channels=1, num_classes=3, pooling_stat="0000").eval()  # fmt: skip


def targets(folder: Path) -> dict[str, Target]:
    """All targets; right files are made in `folder` first."""
    torch.set_num_threads(1)
    model = small()
    x = torch.rand(2, 1, 8, 9, generator=torch.Generator().manual_seed(0))
    measured = profile(model, [(x, torch.tensor([0, 1]))])
    measured.save(folder / "profile.json")
    save_checkpoint(folder / "m.pth", model, name="statten", epoch=2, metrics={"top1": 0.5})
    save_checkpoint(folder / "m.safetensors", model, name="statten")
    fields = {"model": "sdt", "dim": 8, "layer": 1, "num_heads": 2, "mlp_ratio": 1, "time_steps": 2}
    fields |= {"chunk_size": 2, "in_channels": 1, "num_classes": 3, "pooling_stat": "0000"}
    arguments = argparse.Namespace(**fields)
    torch.save({"state_dict": model.state_dict(), "args": arguments}, folder / "official.pth.tar")
    torch.save(dict(model.state_dict()), folder / "old.pth", _use_new_zipfile_serialization=False)
    capture(model, x).save(folder / "graph.json")
    netlist_files.save(everything(np.random.default_rng(0)), folder / "netlist")
    np.savez_compressed(folder / "x.npz", x=x.numpy(), y=np.array([0, 1]))
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros((2, 3), np.float32))

    def held(*names: str) -> dict[str, bytes]:
        return {Path(name).name: (folder / name).read_bytes() for name in names}

    def text(name: str, content: object) -> dict[str, bytes]:
        return {name: yaml.safe_dump(content, sort_keys=False).encode()}

    def checkpoint(name: str, **told: object) -> Callable[[Path], object]:
        return lambda where: _quietly(lambda: load(where / name, T=2, **told))

    recipe = (ROOT / "snn_energy" / "recipes" / "digits-statten.yaml").read_bytes()
    images = np.arange(2 * 3 * 4, dtype=np.uint8)
    idx = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 4) + images.tobytes()
    batch = pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 9]}, 2)
    convention = {
        "name": "mine",
        "differs": "words",
        "source": "me",
        "base": "exact",
        "events_are": ["binary"],
    }
    costs = {"name": "mine", "ac": 0.9, "mac": 4.6, "source": "me"}
    return {
        "profile.json": Target(lambda w: _priced(w / "profile.json"), held("profile.json")),
        "checkpoint": Target(checkpoint("m.pth"), held("m.pth")),
        "official checkpoint": Target(checkpoint("official.pth.tar"), held("official.pth.tar")),
        "old checkpoint": Target(checkpoint("old.pth", chunk_size=2, pooling_stat="0000"), held("old.pth")),
        "safetensors": Target(checkpoint("m.safetensors"), held("m.safetensors")),
        "graph": Target(lambda w: Graph.load(w / "graph.json"), held("graph.json", "graph.npz")),
        "netlist": Target(netlist_files.load, held("netlist/netlist.json", "netlist/netlist.h5"), _mended),
        "samples": Target(lambda w: data.read_input(w / "x.npz"), held("x.npz")),
        "samples, stored": Target(lambda w: data.read_input(w / "x.npz"), {"x.npz": buffer.getvalue()}),
        "IDX": Target(lambda w: data.idx.read_idx(w / "i-idx3-ubyte"), {"i-idx3-ubyte": idx}),
        "IDX, gzipped": Target(
            lambda w: data.idx.read_idx(w / "i.gz"), {"i.gz": gzip.compress(idx, mtime=0)}
        ),
        "CIFAR": Target(lambda w: data.pickles.read_pickle(w / "b"), {"b": batch}),
        "recipe": Target(lambda w: load_recipe(str(w / "r.yaml")), {"r.yaml": recipe}),
        "convention": Target(lambda w: load_convention(w / "c.yaml"), text("c.yaml", convention)),
        "costs": Target(lambda w: load_costs(w / "c.yaml"), text("c.yaml", costs)),
        "official YAML": Target(lambda w: read_yaml(w / "o.yml"), text("o.yml", fields | {"lr": "3e-4"})),
        "verification": Target(
            lambda w: read_verification(w / "v.json"), {"v.json": _verification(folder / "v.json")}
        ),
        "command line": Target(_command, {"arguments": _COMMANDS.encode()}),
    }


_COMMANDS = "energy\nprofile.json\n--convention\nexact,sdt\n--costs\n45nm-fp32\n--format\njson"


def _command(where: Path) -> None:
    arguments = [
        a for a in (where / "arguments").read_text(encoding="utf-8", errors="replace").split("\n") if a
    ]
    done = run(*[a.replace("\x00", "") for a in arguments if a not in ("train", "demo", "-o", "--out")][:20])
    assert done.returncode in (0, 1, 2), done
    assert "Traceback" not in done.stderr, done.stderr


def _priced(path: Path) -> None:
    """A profile is read, and then priced as a report would."""
    found = Profile.load(path)
    for convention in ("exact", "sdt"):
        found.energy(convention=convention, costs="45nm-fp32")


def _quietly(read: Callable[[], object]) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read()


def _mended(folder: Path) -> None:
    """Put both digests of a netlist right, so that what is behind them is read."""
    path = folder / "netlist.json"
    try:
        content = json.loads(path.read_bytes())
        content["arrays_sha256"] = netlist_files.sha256(folder / "netlist.h5")
        content.pop("sha256", None)
        content["sha256"] = netlist_files.content_digest(content)
        path.write_text(json.dumps(content))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return  # it is no manifest any more


def _verification(path: Path) -> bytes:
    check = NeuronCheck("lif", compared=20, spikes=7, mismatches=0)
    Verification(target="onnx", form="multi-step", samples=2, logits_difference=0.0, predictions_differ=0,
                 neurons=(check,)).save(path)  # fmt: skip
    return path.read_bytes()


def laid_out(target: Target, folder: Path) -> None:
    """Right files of a target, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in target.files.items():
        (folder / name).write_bytes(content)
