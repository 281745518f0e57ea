"""Latency of our ONNX file beside PyTorch eager and the plain `torch.onnx.export(dynamo=True)` file.

    python benchmarks/onnx_latency.py [--threads 2] [--rounds 30] [--models statten staa] [--batches 1 8]

The three run alternately in one process, so that whatever else the machine does hits them alike; printed are
the medians (and minima) in ms and our share of the other two.  Weights are random, norms fitted to random
images so that neurons fire as in a trained network; the logits of all three are compared first.
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

from snn_energy.exporters.onnx.export import build
from snn_energy.graph.capture import capture
from snn_energy.models.neurons import reset
from snn_energy.models.zoo import create_model

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "statten": ("statten-cifar10-256", {}),
    "staa": ("staa-resnet20", {}),
}


def fitted(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Norms that know their inputs, as after training."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    with torch.no_grad():
        model.train()(x)
    reset(model)
    return model.eval()


def session(source: bytes | str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def plain_export(model: nn.Module, x: torch.Tensor, folder: str) -> str:
    """What PyTorch's own exporter makes of the model."""
    path = str(Path(folder) / "plain.onnx")
    batch = torch.export.Dim("B", min=1, max=1024)
    program = torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    program.save(path)
    return path


def alternate(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of every run, the runs taking turns; the first three rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 3):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: np.array(values[3:]) for name, values in times.items()}


def bench(name: str, batches: list[int], threads: int, rounds: int, folder: str) -> None:
    """Print the rows of one model."""
    torch.manual_seed(0)
    registered, fields = MODELS[name]
    model = fitted(create_model(registered, **fields), torch.rand(16, 3, 32, 32))
    graph = capture(model, torch.rand(2, 3, 32, 32))
    ours_bytes = build(graph, "multi-step").SerializeToString()
    plain_path = plain_export(model, torch.rand(3, 3, 32, 32), folder)
    ours, plain = session(ours_bytes, threads), session(plain_path, threads)
    size = len(ours_bytes) / (graph.parameters() * 4)
    for batch in batches:
        x = torch.rand(batch, 3, 32, 32)
        feeds = [{s.get_inputs()[0].name: x.numpy()} for s in (ours, plain)]
        with torch.no_grad():
            logits = model(x).numpy()
            answers = [s.run(None, feed)[0] for s, feed in zip((ours, plain), feeds, strict=True)]
            worst = [float(np.abs(a - logits).max()) for a in answers]
            runs: dict[str, Callable[[], Any]] = {
                "eager": lambda x=x: model(x),
                "ours": lambda feed=feeds[0]: ours.run(None, feed),
                "plain": lambda feed=feeds[1]: plain.run(None, feed),
            }
            times = alternate(runs, rounds)
        cells = [f"{np.median(t):.1f} ({t.min():.1f})" for t in times.values()]
        shares = [
            f"{np.median(times['ours']) / np.median(times[o]):.2f} "
            f"({times['ours'].min() / times[o].min():.2f})"
            for o in ("eager", "plain")
        ]
        cells += [*shares, f"{size:.3f}", " / ".join(f"{w:.0e}" for w in worst)]
        print(f"| {registered} | {batch} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| model | batch | eager ms | ours ms | plain ms | ours/eager | ours/plain | size | worst |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            bench(name, args.batches, args.threads, args.rounds, folder)


if __name__ == "__main__":
    main()
