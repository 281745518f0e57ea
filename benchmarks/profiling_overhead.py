"""What counting costs: a profiled forward pass over a plain one, beside the other counters.

    python benchmarks/profiling_overhead.py [overhead] [--model NAME] [--rounds 15] [--threads 1]
    python benchmarks/profiling_overhead.py memory   [--model NAME]
    python benchmarks/profiling_overhead.py scaling

`overhead`: all tools take turns in one process over some batches each, plain passes before each; printed is
the least process CPU time of one batch, its ratio to the plain one, and the median of the ratios to the
plain passes just before (the figure to trust on a busy machine).  `memory`: peak resident memory of a fresh
process that profiles, over one that only runs the model.  `scaling`: seconds of a plain and a profiled
batch as T, the tokens and the samples grow.  A tool that is not installed, or fails on a model, is named
with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import torch
from spikingjelly.activation_based import functional
from torch import nn

from snn_energy.models.zoo import create_model
from snn_energy.profiling import profile

Pass = Callable[[], object]
BATCHES = 4  # in one timing: a profile is made of batches, and its bookkeeping at both ends is done once
MODELS: dict[str, tuple[str, dict[str, object], tuple[int, ...]]] = {
    "statten-2-256": ("statten-cifar10-256", {}, (8, 3, 32, 32)),
    "statten-8-768": ("statten-imagenet-768", {}, (1, 3, 224, 224)),
    "staa-resnet20": ("staa-resnet20", {}, (8, 3, 32, 32)),
}


def build(name: str, **fields: object) -> tuple[nn.Module, torch.Tensor]:
    """A model with calibrated norms, so that it fires as a trained one does, and a batch of images."""
    registered, fixed, shape = MODELS[name]
    torch.manual_seed(0)
    model = create_model(registered, **{**fixed, **fields})
    x = torch.randn(shape)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.3)
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    functional.reset_net(model.eval())
    return model, x


# -- the tools: each makes one profiled forward pass ---------------------------------------------------------


def ours(model: nn.Module, x: torch.Tensor) -> Pass:
    return lambda: profile(model, [x] * BATCHES)


def spikingjelly(model: nn.Module, x: torch.Tensor) -> Pass:
    from spikingjelly.activation_based import op_counter

    def run() -> object:
        with op_counter.DispatchCounterMode([op_counter.SynOpCounter(), op_counter.MACCounter()]):
            for _ in range(BATCHES):
                model(x)

    return run


def plain_passes(model: nn.Module, x: torch.Tensor) -> Pass:
    def run() -> None:
        for _ in range(BATCHES):
            model(x)

    return run


def simple_energy(model: nn.Module, x: torch.Tensor) -> Pass:
    from spikingjelly.activation_based import op_counter

    def run() -> None:
        for _ in range(BATCHES):
            op_counter.estimate_simple_energy(model, x)

    return run


def neurobench(model: nn.Module, x: torch.Tensor) -> Pass:
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    wrapped = TorchModel(model)
    y = torch.zeros(len(x), dtype=torch.long)

    def run() -> object:
        benchmark = Benchmark(wrapped, [(x, y)] * BATCHES, [], [], [[], [SynapticOperations]])
        with contextlib.redirect_stdout(io.StringIO()):
            return benchmark.run(quiet=True)

    return run


def syops(model: nn.Module, x: torch.Tensor) -> Pass:
    from syops import get_model_complexity_info

    def run() -> object:
        return get_model_complexity_info(
            model,
            tuple(x.shape[1:]),
            [(x, torch.zeros(len(x)))] * BATCHES,
            as_strings=False,
            print_per_layer_stat=False,
        )

    return run


def fvcore(model: nn.Module, x: torch.Tensor) -> Pass:
    from fvcore.nn import FlopCountAnalysis

    def run() -> None:
        for _ in range(BATCHES):
            analysis = FlopCountAnalysis(model, x)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.total()

    return run


TOOLS: dict[str, Callable[[nn.Module, torch.Tensor], Pass]] = {
    "snn-energy": ours,
    "SpikingJelly SynOp+MAC": spikingjelly,
    "SpikingJelly simple energy": simple_energy,
    "NeuroBench": neurobench,
    "syops": syops,
    "fvcore (dense)": fvcore,
}


def timed(run: Pass) -> float:
    """Process CPU time of one pass, s."""
    start = time.process_time()
    run()
    return time.process_time() - start


def overhead(name: str, rounds: int, chosen: list[str]) -> None:
    """One line per tool: least time, ratio of least times, median ratio to the passes before."""
    model, x = build(name)
    passes: dict[str, Pass] = {}
    for tool in chosen:
        try:
            candidate = TOOLS[tool](model, x)
            candidate()
            passes[tool] = candidate
        except Exception as error:
            print(f"{tool:28} not measured: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
    plain: list[float] = []
    unwatched = plain_passes(model, x)
    taken: dict[str, list[tuple[float, float]]] = {tool: [] for tool in passes}
    with torch.no_grad():
        model(x)
        for _ in range(rounds):
            for tool, run in passes.items():
                before = timed(unwatched)
                plain.append(before)
                taken[tool].append((before, timed(run)))
    least = min(plain) / BATCHES
    print(f"{name}, batch {len(x)}, {torch.get_num_threads()} thread(s): plain pass {least:.4f} s")
    for tool, pairs in taken.items():
        least = min(t for _, t in pairs)
        ratio = statistics.median(t / before for before, t in pairs)
        print(
            f"{tool:28} {least / BATCHES:8.4f} s   ratio {least / min(plain):.3f}   median ratio {ratio:.3f}"
        )


def peak(name: str, profiled: bool) -> int:
    """Peak resident memory of this process after some passes, kB."""
    model, x = build(name)
    run = (ours if profiled else plain_passes)(model, x)
    with torch.no_grad():
        run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(name: str) -> None:
    """Peak memory of fresh processes, with and without profiling."""
    peaks = []
    for profiled in (0, 1):
        command = [sys.executable, __file__, "peak", "--model", name, "--profiled", str(profiled)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append(int(printed.split()[-1]))
    mb = [f"{value / 1024:.0f} MB" for value in peaks]
    print(f"{name}: plain {mb[0]}, profiled {mb[1]}, ratio {peaks[1] / peaks[0]:.3f}")


def scaling(rounds: int) -> None:
    """Seconds per pass as one size grows and the others stay."""
    print(f"{'':10} {'size':>5} {'plain':>9} {'profiled':>9} {'ratio':>6}")
    for what, sizes in (("T", (2, 4, 8, 16)), ("tokens", (16, 64, 256)), ("samples", (2, 4, 8, 16))):
        for size in sizes:
            model, x = build("statten-2-256", embed_dims=64, T=size if what == "T" else 4)
            if what == "tokens":
                side = 4 * int(size**0.5)
                x = torch.randn(2, 3, side, side)
            if what == "samples":
                x = torch.randn(size, 3, 32, 32)
            run = ours(model, x)
            with torch.no_grad():
                run()
                unwatched = plain_passes(model, x)
                pairs = [(timed(unwatched), timed(run)) for _ in range(rounds)]
            plain, profiled = (min(column) for column in zip(*pairs, strict=True))
            print(
                f"{what:10} {size:5} {plain / BATCHES:9.4f} {profiled / BATCHES:9.4f} {profiled / plain:6.3f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", default="overhead", choices=["overhead", "memory", "scaling", "peak"]
    )
    parser.add_argument("--model", default="statten-2-256", choices=list(MODELS))
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profiled", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    if given.what == "overhead":
        overhead(given.model, given.rounds, given.tools)
    elif given.what == "memory":
        memory(given.model)
    elif given.what == "scaling":
        scaling(given.rounds)
    else:
        print(peak(given.model, bool(given.profiled)))


if __name__ == "__main__":
    main()
