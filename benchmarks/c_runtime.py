"""The C program beside the NumPy simulator, onnxruntime and PyTorch eager: one sample at a time, one thread.

    OMP_NUM_THREADS=1 python benchmarks/c_runtime.py [--networks digits cifar] [--rounds 30]
        [--checkpoint RUN/best.pth]     (a trained network of the digits, in place of a random one)

`digits`: STAtten, 2 blocks of 96, 8×8; `cifar`: STAtten 2-256 of CIFAR-10, on random images.  Without a
checkpoint weights are random and norms fitted to the samples, so that neurons fire as in a trained network.
All take turns, sample after sample, so that whatever else the machine does hits them alike.  Printed are
medians and minima in ms of the processor, both as multiples of the C program's, and the most memory that a
process which does nothing else takes.  C is built as the exported Makefile does (-O2) and for this CPU;
its spikes are first compared with the simulator's.
"""

from __future__ import annotations

import argparse
import ctypes
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DIGITS = {
    "img_size_h": 8, "img_size_w": 8, "in_channels": 1, "num_classes": 10, "embed_dims": 96, "num_heads": 4,
    "mlp_ratios": 2, "depths": 2, "T": 4, "chunk_size": 2, "pooling_stat": "0011",
}  # fmt: skip
BUILDS = {"C -O2": ("-O2",), "C, this CPU": ("-O2", "-ftree-vectorize", "-march=native")}
SAMPLES = 16


def network(name: str, checkpoint: str | None) -> tuple[Any, np.ndarray]:
    """A network and samples for it."""
    import torch
    from onnx_latency import fitted

    from snn_energy import create_model, load
    from snn_energy.data.sources import load_data

    torch.manual_seed(0)
    if name == "cifar":
        x = np.random.default_rng(0).random((SAMPLES, 3, 32, 32), np.float32)
        return fitted(create_model("statten-cifar10-256"), torch.as_tensor(x)), x
    x = np.asarray(load_data("digits").test.batch(slice(SAMPLES))[0], np.float32)
    if checkpoint:
        return load(checkpoint).eval(), x
    return fitted(create_model("statten", **DIGITS), torch.as_tensor(x)), x


def c_function(folder: Path, flags: tuple[str, ...]) -> Any:
    """`network_infer` of the program in `folder`."""
    from snn_energy.exporters.c.build import call, compiler

    library = folder / f"{'_'.join(flags).replace('-', '')}.so"
    sources = [str(folder / name) for name in ("network.c", "weights.c")]
    call([compiler(), "-std=c11", *flags, "-shared", "-fPIC", *sources, "-o", str(library)], "the C compiler")
    found = ctypes.CDLL(str(library)).network_infer
    found.argtypes = (ctypes.c_void_p, ctypes.c_int32)
    return found


PREPARED = "import pickle, sys; x, netlist, messages = pickle.load(open('case.pkl', 'rb'));"
ALONE = {
    "NumPy simulator": "from snn_energy.exporters.netlist.simulate import simulate;"
    "simulate(netlist, messages[:1], probes=());",
    "onnxruntime": "import onnxruntime as o; s = o.SessionOptions(); s.intra_op_num_threads = 1;"
    "r = o.InferenceSession('model.onnx', s, providers=['CPUExecutionProvider']);"
    "r.run(None, {r.get_inputs()[0].name: x[:1]});",
    "PyTorch eager": "import torch; torch.set_num_threads(1); torch.set_grad_enabled(False);"
    "torch.load('model.pt', weights_only=False)(torch.as_tensor(x[:1]));",
}


def peak(command: list[str], folder: Path, given: bytes = b"") -> float:
    """Most memory (MB) of a program that has run a sample and waits for another."""
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
    assert program.stdin and program.stdout
    if given:
        program.stdin.write(given)
        program.stdin.flush()
        time.sleep(2)
    else:
        program.stdout.readline()
    status = Path(f"/proc/{program.pid}/status").read_text()
    program.stdin.close()
    program.wait()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(folder: Path, sample: bytes) -> dict[str, float]:
    """MB of a process that runs one sample, by runtime."""
    from snn_energy.exporters.c.build import compile_folder

    binary = compile_folder(folder, folder / "network", flags=("-std=c11", "-O2"))
    found = dict.fromkeys(BUILDS, peak([str(binary)], folder, sample))
    for who, code in ALONE.items():
        code = f"{PREPARED}{code}print(flush=True); sys.stdin.read()"
        found[who] = peak([sys.executable, "-c", code], folder)
    return found


def onnx_session(model: Any, x: np.ndarray, folder: Path) -> tuple[Any, str]:
    """The float network in onnxruntime, one thread, and the name of its input."""
    import onnxruntime as ort
    import torch

    from snn_energy.exporters.onnx.export import build
    from snn_energy.graph.capture import capture

    onnx = build(capture(model, torch.as_tensor(x[:2])), "multi-step").SerializeToString()
    (folder / "model.onnx").write_bytes(onnx)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    return session, session.get_inputs()[0].name


def bench(name: str, checkpoint: str | None, rounds: int, folder: Path) -> None:
    """Print the rows of one network."""
    import torch

    from snn_energy.exporters.c.build import as_file
    from snn_energy.exporters.c.engine import Engine
    from snn_energy.exporters.c.layout import numpy_type
    from snn_energy.exporters.c.plan import rates_of
    from snn_energy.exporters.c.write import program
    from snn_energy.exporters.chip.calibrate import lower_model
    from snn_energy.exporters.mcu.export import event_share
    from snn_energy.exporters.netlist.simulate import Simulator, encode

    model, x = network(name, checkpoint)
    netlist = lower_model(model, x).netlist
    messages, simulator = encode(netlist, x), Simulator(netlist)
    activity = simulator.run(messages)
    rates = rates_of(netlist, activity)
    made = program(netlist, rates)
    for file, text in made.files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    with Engine(netlist, rates) as engine:
        got = engine.run(messages)
    assert all(np.array_equal(got.outputs[n], spikes) for n, spikes in activity.outputs.items())
    session, feed = onnx_session(model, x, folder)
    torch.save(model, folder / "model.pt")
    (folder / "case.pkl").write_bytes(pickle.dumps((x, netlist, messages)))
    raw = np.frombuffer(as_file(made, messages), numpy_type(made.input_type)).reshape(messages.shape)
    functions = {who: c_function(folder, flags) for who, flags in BUILDS.items()}
    runs: dict[str, Callable[[int], Any]] = {
        **{who: lambda i, f=f: f(raw[i].ctypes.data, 1) for who, f in functions.items()},
        "NumPy simulator": lambda i: simulator.run(messages[i : i + 1], probes=()),
        "onnxruntime": lambda i: session.run(None, {feed: x[i : i + 1]}),
        "PyTorch eager": lambda i: model(torch.as_tensor(x[i : i + 1])),
    }
    times: dict[str, list[float]] = {who: [] for who in runs}
    with torch.no_grad():
        for turn in range(rounds + 3):
            for who, run in runs.items():
                start = time.thread_time()
                run(turn % len(x))
                times[who].append((time.thread_time() - start) * 1e3)
    found = {who: (float(np.median(t[3:])), min(t[3:])) for who, t in times.items()}
    first = found["C -O2"]
    used = memory(folder, as_file(made, messages[:1]))
    fired = np.mean([rates[n] for n in netlist.populations()])
    events = sum(count.synaptic_events for count in activity.counts.values()) / len(x)
    print(
        f"{name}: {event_share(made, activity):.1%} of {events:,.0f} synaptic events per sample are "
        f"event-driven; neurons fire in {fired:.1%} of the steps"
    )
    for who, (median, least) in found.items():
        multiples = f"{median / first[0]:.2f} ({least / first[1]:.2f})"
        print(f"| {name} | {who} | {median:.3f} ({least:.3f}) | {multiples} | {used[who]:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=("digits", "cifar"), default=["digits", "cifar"])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--checkpoint")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    print("| network | runtime | processor ms (minimum) | times C's | process, MB |\n|---|---|---|---|---|")
    for name in args.networks:
        with tempfile.TemporaryDirectory() as folder:
            bench(name, args.checkpoint if name == "digits" else None, args.rounds, Path(folder))


if __name__ == "__main__":
    main()
