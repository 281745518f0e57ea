"""The C program beside the NumPy simulator, onnxruntime and PyTorch eager: one sample at a time, one thread.

    OMP_NUM_THREADS=1 python benchmarks/c_runtime.py [--networks digits cifar] [--rounds 30]
        [--checkpoint digits=run/best.pth]

The four take turns, sample after sample, so that whatever else the machine does hits them alike; printed are
medians in ms, how many times the C program's each of the others takes, the share of synaptic events that
event-driven projections compute, and the most memory that a process of its own takes for each (MB).  Without a checkpoint
weights are random and norms fitted to the samples, so that neurons fire as in a trained network.  The C program's spikes are
compared with the simulator's first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from snn_energy.exporters.c.engine import Engine
from snn_energy.exporters.c.plan import rates_of
from snn_energy.exporters.chip.calibrate import lower_model
from snn_energy.exporters.netlist.simulate import Simulator, encode
from snn_energy.exporters.onnx.export import build
from snn_energy.graph.capture import capture
from snn_energy.models.neurons import reset
from snn_energy.models.zoo import create_model

DIGITS = {
    "img_size_h": 8, "img_size_w": 8, "in_channels": 1, "num_classes": 10, "embed_dims": 96, "num_heads": 4,
    "mlp_ratios": 2, "depths": 2, "T": 4, "chunk_size": 2, "pooling_stat": "0011",
}  # fmt: skip


def fitted(model: nn.Module, x: torch.Tensor) -> nn.Module:
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    with torch.no_grad():
        model.train()(x)
    reset(model)
    return model.eval()


def network(name: str, checkpoint: str | None) -> tuple[nn.Module, np.ndarray]:
    torch.manual_seed(0)
    if name == "digits":
        from snn_energy.data import load_data

        x = load_data("digits").test.batch(slice(0, 64))[0]
        model = create_model("statten", **DIGITS)
    else:
        x = np.random.default_rng(0).random((8, 3, 32, 32), np.float32)
        model = create_model("statten-cifar10-256")
    return fitted(model, torch.as_tensor(x)), np.asarray(x)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="+", default=["digits"])
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.networks:
        model, x = network(name, None)
        t = time.time()
        lowered = lower_model(model, x)
        netlist = lowered.netlist
        print("lowered", time.time() - t, flush=True)
        messages = encode(netlist, x)
        simulator = Simulator(netlist)
        activity = simulator.run(messages)
        rates = rates_of(netlist, activity)
        print({k: round(v, 3) for k, v in rates.items() if v and v < 1})
        t = time.time()
        engine = Engine(netlist, rates)
        print("built", time.time() - t, flush=True)
        got = engine.run(messages)
        for n, a in activity.outputs.items():
            assert np.array_equal(a, got.outputs[n]), n
        options = ort.SessionOptions(); options.intra_op_num_threads = 1; options.log_severity_level = 3
        graph = capture(model, torch.as_tensor(x[:2]))
        session = ort.InferenceSession(build(graph, "multi-step").SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = session.get_inputs()[0].name
        runs: dict[str, Callable[[int], Any]] = {
            "c": lambda i: engine.run(messages[i:i+1], probes=()),
            "numpy": lambda i: simulator.run(messages[i:i+1], probes=()),
            "ort": lambda i: session.run(None, {feed: x[i:i+1]}),
            "eager": lambda i: model(torch.as_tensor(x[i:i+1])),
        }
        times: dict[str, list[float]] = {n: [] for n in runs}
        with torch.no_grad():
            for r in range(args.rounds + 3):
                for n, run in runs.items():
                    t = time.perf_counter(); run(r % len(x)); times[n].append((time.perf_counter() - t) * 1e3)
        med = {n: float(np.median(v[3:])) for n, v in times.items()}
        t = time.perf_counter(); engine.run(messages, probes=()); batch = (time.perf_counter() - t) / len(x) * 1e3
        print(name, med, {n: m / med["c"] for n, m in med.items()}, "c in one call", batch)


if __name__ == "__main__":
    main()
