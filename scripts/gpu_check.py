"""What a GPU computes, against this machine's CPU: `scripts/gpu_check` runs it.

1. Every family, weights and inputs on grids where float32 sums are exact (tests/exact.py): spikes of all
   neurons equal the CPU's, gradients agree to 1e-4, the integers of a Profile are equal.
2. Every family trains a step in float32, bfloat16, float16 with a scaler, with recomputed blocks: losses and
   gradients are finite.
3. The integer simulator on CuPy: spikes and counts equal NumPy's.
4. Step times of STAtten 2-256 with each of SpikingJelly's implementations, each in a process of its own, and
   of the same network with ReLUs; memory beside them.
5. torch.compile: a step of every family, the loss that of the step without.

Results: DIR/gpu-check.json and DIR/gpu-check.md.  `--device cpu` is a dry run: the same code, small networks.
What did not get its turn within `--limit` seconds is listed as skipped.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from exact import exact, exact_images  # noqa: E402

from snn_energy.models.neurons import reset  # noqa: E402
from snn_energy.models.recompute import recompute_blocks  # noqa: E402
from snn_energy.models.zoo import create_model  # noqa: E402

STATTEN = {"embed_dims": 48, "num_heads": 3, "depths": 2, "in_channels": 3, "num_classes": 5,
           "pooling_stat": "0011"}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "statten": ("statten", STATTEN),
    "statten, events": ("statten", {**STATTEN, "dvs_mode": True, "spike_mode": "plif", "TET": True}),
    "spike-driven transformer": ("spike-driven-transformer", STATTEN),
    "staa": ("staa-resnet20", {"width": 0.25}),
    "staa, vgg": ("staa-vgg13", {"width": 0.125, "adaptive": "layer"}),
    "decoupled": ("decoupled", {"width": 0.125, "num_heads": 2}),
    "spikformer": ("spikformer", {"embed_dims": 48, "num_heads": 3, "depths": 1}),
    "statten-spikformer": ("statten-spikformer", {"embed_dims": 48, "num_heads": 3, "depths": 1}),
    "qkformer": ("statten-qkformer", {"embed_dims": 48, "num_heads": (3, 2, 1), "depths": (1, 1, 1)}),
    "maxformer": ("statten-maxformer", {"embed_dims": 64, "depths": (1, 1, 1)}),
    "sew-resnet": ("sew-resnet", {"num_classes": 5}),
}
IMPLEMENTATIONS = ("cuda", "triton", "torch")
"""What SpikingJelly 2 has for its LIF on a GPU; the environment variable below picks one, at import."""
PICK = "SJ_LIF_CUDA_IMPLEMENTATION"
IMAGE = (3, 32, 48)
Row = dict[str, Any]


@dataclasses.dataclass
class Check:
    """One run of this program."""

    device: torch.device
    families: list[str]
    end: float
    rows: list[Row] = dataclasses.field(default_factory=list)

    def note(self, part: str, name: str, ok: bool | None, **found: Any) -> None:
        """A row of the result; `ok` None: not decided."""
        self.rows.append({"part": part, "name": name, "ok": ok, **found})
        word = {True: "ok", False: "FAILED", None: "skipped"}[ok]
        print(f"{word:8s}{part}: {name}  {'  '.join(f'{k} {v}' for k, v in found.items())}", flush=True)

    def run(self, part: str, name: str, work: Callable[[], tuple[bool, Row]]) -> None:
        """`work`, its failure a row like any other, unless time is up."""
        if time.monotonic() > self.end:
            self.note(part, name, None, reason="time is up")
            return
        try:
            ok, found = work()
        except Exception as error:
            ok, found = False, {"reason": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}
        self.note(part, name, ok, **found)


def build(family: str) -> nn.Module:
    """A small network of a family, weights from a fixed seed."""
    torch.manual_seed(0)
    name, fields = FAMILIES[family]
    return create_model(name, **fields)


def lively(model: nn.Module) -> nn.Module:
    """`exact(model)`, its synapses so strong that neurons fire."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                deviation = float(module.weight.std())
                module.weight.mul_(max(1.0, 0.15 / deviation) if deviation > 0 else 1.0)
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.mul_(4)
    return exact(model)


def gradients(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of the sum of squared logits, in evaluation, on the CPU."""
    model.zero_grad()
    reset(model)
    model(x).square().sum().backward()
    reset(model)
    return {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}


def agreement(family: str, device: torch.device) -> tuple[bool, Row]:
    """Spikes, gradients and a Profile's integers, there and on the CPU."""
    from snn_energy.profiling import profile, record_spikes

    here = lively(build(family))
    there = copy.deepcopy(here).to(device)
    x = exact_images(2, *IMAGE)
    ours, theirs = record_spikes(here, x), record_spikes(there, x.to(device))
    fired = sum(int(s.sum()) for s in ours.values())
    differ = sum(int((s != theirs[name].cpu()).sum()) for name, s in ours.items())
    a, b = gradients(here, x), gradients(there, x.to(device))
    norms = {name: float(g.norm()) for name, g in a.items()}
    worst = max(float((b[name] - g).norm()) / norms[name] for name, g in a.items() if norms[name] > 0)
    rows, other = (profile(m, [x.to(d)]).rows for m, d in ((here, "cpu"), (there, device)))
    uneven = sum(integers(r) != integers(s) for r, s in zip(rows, other, strict=True))
    ok = differ == 0 and worst <= 1e-4 and uneven == 0 and fired > 0
    return ok, {"spikes": fired, "spikes that differ": differ, "gradients differ by": f"{worst:.1e}",
                "rows of the Profile that differ": f"{uneven} of {len(rows)}"}  # fmt: skip


def integers(row: Any) -> Row:
    """What was counted in a row of a Profile."""
    return {k: v for k, v in dataclasses.asdict(row).items() if isinstance(v, int | str)}


MODES = ("float32", "bfloat16", "float16", "recomputed")


def train_step(model: nn.Module, x: torch.Tensor, mode: str) -> float:
    """The loss of a step with AdamW; raises where a gradient is not finite."""
    types = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    device = x.device.type
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(device, enabled=mode == "float16" and device == "cuda")
    y = torch.arange(len(x), device=x.device) % 5
    with torch.autocast(device, dtype=types.get(mode, torch.bfloat16), enabled=mode in types):
        logits = model(x)
    logits = logits.float()
    loss = F.cross_entropy(logits.mean(0) if logits.dim() == 3 else logits, y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    if bad and mode != "float16":  # there the scaler's first factor may be too large, and it steps down
        raise ArithmeticError(f"gradients of {bad[:3]} are not finite")
    scaler.step(optimizer)
    scaler.update()
    reset(model)
    return float(loss.detach())


def trained(family: str, device: torch.device, mode: str) -> tuple[bool, Row]:
    """A step in a mode."""
    model = build(family).train().to(device)
    if mode == "recomputed":
        recompute_blocks(model)
    loss = train_step(model, exact_images(4, *IMAGE).to(device), mode)
    return bool(np.isfinite(loss)), {"loss": round(loss, 4)}


def compiled(family: str, device: torch.device) -> tuple[bool, Row]:
    """A step under torch.compile (on a CPU traced only), and the loss of the step without."""
    plain = build(family).train().to(device)
    model, x = copy.deepcopy(plain), exact_images(4, *IMAGE).to(device)
    start = time.monotonic()
    forward = torch.compile(model, backend="inductor" if device.type == "cuda" else "eager")
    torch.manual_seed(1)
    loss = train_step(forward, x, "float32")
    spent = time.monotonic() - start
    torch.manual_seed(1)
    expected = train_step(plain, x, "float32")
    near = abs(loss - expected) <= 0.05 * abs(expected)
    return near, {"loss": round(loss, 4), "without": round(expected, 4), "seconds": round(spent, 1)}


def simulated(device: torch.device) -> tuple[bool, Row]:
    """A netlist of a small STAtten, run where CuPy keeps arrays."""
    from snn_energy.exporters.chip.calibrate import lower_model
    from snn_energy.exporters.netlist.simulate import encode, simulate

    model = lively(build("statten"))
    x = exact_images(6, *IMAGE).numpy()
    netlist = lower_model(model, x).netlist
    messages = encode(netlist, x)
    cupy = importlib.import_module(f"array_api_compat.{'cupy' if device.type == 'cuda' else 'numpy'}")
    probes = tuple(netlist.nodes)
    start = time.perf_counter()
    ours = simulate(netlist, messages, probes=probes)
    middle = time.perf_counter()
    theirs = simulate(netlist, messages, xp=cupy, probes=probes)
    end = time.perf_counter()
    differ = [n for n, v in ours.outputs.items() if not np.array_equal(v, theirs.outputs[n])]
    uneven = [n for n, c in ours.counts.items() if c != theirs.counts[n]]
    spikes = sum(c.spikes for c in ours.counts.values())
    return not differ and not uneven and spikes > 0, {
        "nodes": len(probes), "spikes": spikes, "nodes that differ": len(set(differ + uneven)),
        "NumPy s": round(middle - start, 3), "CuPy s": round(end - middle, 3)}  # fmt: skip


def step_time(device: torch.device, kind: str, amp: bool) -> Row:
    """Milliseconds of a training step of STAtten 2-256 and its peak memory; small on a CPU."""
    small = device.type != "cuda"
    torch.manual_seed(0)
    model = create_model("statten-cifar10-256", **({"embed_dims": 32} if small else {})).train().to(device)
    if kind == "ReLU":
        for name, module in list(model.named_modules()):
            if hasattr(module, "v_threshold"):
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, nn.ReLU())
    x = torch.randn(2 if small else 64, 3, 32, 32, device=device)
    wait: Callable[[], Any] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times = []
    for _ in range(3 if small else 25):
        wait()
        start = time.perf_counter()
        train_step(model, x, "bfloat16" if amp else "float32")
        wait()
        times.append(1e3 * (time.perf_counter() - start))
    peak = torch.cuda.max_memory_allocated(device) >> 20 if device.type == "cuda" else "unknown"
    return {"ms": round(float(np.median(times[len(times) // 5 :])), 2), "peak MB": peak}


def timed_apart(device: torch.device, kind: str, amp: bool) -> tuple[bool, Row]:
    """`step_time` in a process of its own: SpikingJelly decides on its implementation once."""
    environment = {**os.environ, **({PICK: kind} if kind in IMPLEMENTATIONS else {})}
    command = [sys.executable, __file__, "--device", str(device), "--time", kind, *(["--amp"] if amp else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        return False, {"reason": (done.stderr.strip().splitlines() or ["no word"])[-1][:200]}
    return True, json.loads(done.stdout.splitlines()[-1])


def all_checks(check: Check) -> None:
    """The parts, in the order of what they are worth."""
    device = check.device
    for family in check.families:
        check.run("agrees with the CPU", family, lambda f=family: agreement(f, device))  # type: ignore[misc]
    for family, mode in ((f, m) for f in check.families for m in MODES):
        check.run(f"a step, {mode}", family, lambda f=family, m=mode: trained(f, device, m))  # type: ignore[misc]
    check.run("simulator", "CuPy" if device.type == "cuda" else "NumPy", lambda: simulated(device))
    for kind, amp in timings(device):
        name = f"{kind}{', bfloat16' if amp else ''}"
        check.run("step time", name, lambda k=kind, a=amp: timed_apart(device, k, a))  # type: ignore[misc]
    for family in check.families:
        check.run("a step, compiled", family, lambda f=family: compiled(f, device))  # type: ignore[misc]


def timings(device: torch.device) -> Iterator[tuple[str, bool]]:
    """What is timed: SpikingJelly's implementations and ReLUs, in float32 and bfloat16."""
    kinds = (*IMPLEMENTATIONS, "ReLU") if device.type == "cuda" else ("torch", "ReLU")
    for kind in kinds:
        yield kind, False
        yield kind, True


def environment(device: torch.device) -> Row:
    """Where it ran."""
    from importlib.metadata import version

    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "none: a dry run on the CPU"
    return {"GPU": gpu, "torch": torch.__version__, "CUDA": torch.version.cuda or "none",
            "spikingjelly": version("spikingjelly"), "date": time.strftime("%Y-%m-%d")}  # fmt: skip


def as_markdown(where: Row, rows: list[Row]) -> str:
    """The result as a table."""
    lines = [f"# GPU check: {where['GPU']}", "", *(f"- {k}: {v}" for k, v in where.items()), "",
             "| part | what | | found |", "| --- | --- | --- | --- |"]  # fmt: skip
    for row in rows:
        found = "; ".join(f"{k} {v}" for k, v in row.items() if k not in ("part", "name", "ok"))
        word = {True: "ok", False: "**failed**", None: "skipped"}[row["ok"]]
        lines.append(f"| {row['part']} | {row['name']} | {word} | {found.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """0: all agrees, 1: something does not, 2: there is no GPU here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"))
    parser.add_argument("--limit", type=float, default=460, help="seconds")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--time", help=argparse.SUPPRESS)
    parser.add_argument("--amp", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("gpu_check: no GPU that torch can use here; --device cpu is a dry run", file=sys.stderr)
        return 2
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if args.time:
        print(json.dumps(step_time(device, args.time, args.amp)))
        return 0
    check = Check(device, args.families, time.monotonic() + args.limit)
    all_checks(check)
    where = environment(device)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "gpu-check.json").write_text(json.dumps({"where": where, "rows": check.rows}, indent=1))
    (args.out / "gpu-check.md").write_text(as_markdown(where, check.rows))
    failed = sum(row["ok"] is False for row in check.rows)
    skipped = sum(row["ok"] is None for row in check.rows)
    print(f"{len(check.rows)} checks, {failed} failed, {skipped} skipped; {args.out / 'gpu-check.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
