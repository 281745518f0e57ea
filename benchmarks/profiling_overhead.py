"""What counting costs: a profiled forward pass over a plain one, beside the other counters.

    python benchmarks/profiling_overhead.py table    [--rounds 3]          all tools, all models, as Markdown
    python benchmarks/profiling_overhead.py overhead [--model NAME] [--tools …] [--rounds 15]
    python benchmarks/profiling_overhead.py memory   [--model NAME]
    python benchmarks/profiling_overhead.py scaling  [--rounds 3]
    python benchmarks/profiling_overhead.py against OTHER [--model NAME] [--rounds 15]

`overhead`: all tools take turns in one process over some batches each, plain passes before each; printed is
the least process CPU time of one batch, its ratio to the plain one, and the median of the ratios to the
plain passes just before (the figure to trust on a busy machine, and the one in the table).  `memory`: peak
resident memory of a fresh process that profiles, over one that only runs the model.  `scaling`: seconds of a
plain and a profiled batch as T, the tokens and the samples grow, and the profiled ones over what growth in
proportion to the smallest size would give.  `against`: this version and that of another checkout (the folder
OTHER) take turns, each in a process of its own: before and after a change in one run.  A tool that is not
installed, or fails on a model, is named with the reason that it gives.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from spikingjelly.activation_based import functional
from torch import nn

from snn_energy.models.zoo import create_model
from snn_energy.profiling import profile

Pass = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A registered model and its batch; `batches` make one timing: a profile's bookkeeping is done once."""

    model: str
    shape: tuple[int, ...]
    batches: int


MODELS = {
    "statten-2-256": Case("statten-cifar10-256", (8, 3, 32, 32), 4),
    "staa-resnet20": Case("staa-resnet20", (8, 3, 32, 32), 4),
    "statten-8-768": Case("statten-imagenet-768", (1, 3, 224, 224), 1),
}


def build(name: str, **fields: object) -> tuple[nn.Module, torch.Tensor]:
    """A model with calibrated norms, so that it fires as a trained one does, and a batch of images."""
    torch.manual_seed(0)
    model = create_model(MODELS[name].model, **fields)
    x = torch.randn(MODELS[name].shape)
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.detach().any():  # blocks that start as the identity
            nn.init.normal_(parameter, std=0.05)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.3)
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    functional.reset_net(model.eval())
    return model, x


# -- the tools: each makes a pass over some batches ----------------------------------------------------------


def ours(model: nn.Module, x: torch.Tensor, batches: int) -> Pass:
    return lambda: profile(model, [x] * batches)


def plain_passes(model: nn.Module, x: torch.Tensor, batches: int) -> Pass:
    def run() -> None:
        for _ in range(batches):
            model(x)
            functional.reset_net(model)

    return run


def spikingjelly(model: nn.Module, x: torch.Tensor, batches: int) -> Pass:
    from spikingjelly.activation_based import op_counter

    def run() -> object:
        with op_counter.DispatchCounterMode([op_counter.SynOpCounter(), op_counter.MACCounter()]):
            for _ in range(batches):
                model(x)

    return run


def simple_energy(model: nn.Module, x: torch.Tensor, batches: int) -> Pass:
    from spikingjelly.activation_based import op_counter

    def run() -> None:
        for _ in range(batches):
            op_counter.estimate_simple_energy(model, x)

    return run


def neurobench(model: nn.Module, x: torch.Tensor, batches: int) -> Pass:
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    samples = x.repeat(batches, *(1 for _ in x.shape[1:]))
    dataset = torch.utils.data.TensorDataset(samples, torch.zeros(len(samples), dtype=torch.long))
    loader = torch.utils.data.DataLoader(dataset, batch_size=len(x))

    def run() -> object:  # the hooks live as long as the benchmark, and keep every input
        benchmark = Benchmark(TorchModel(model), loader, [], [], [[], [SynapticOperations]])
        with contextlib.redirect_stdout(io.StringIO()):
            return benchmark.run(quiet=True)

    return run


def syops(model: nn.Module, x: torch.Tensor, batches: int) -> Pass:
    """syops 0.0.5 asks for three classes that SpikingJelly 2 no longer has: it is given their successors."""
    from spikingjelly.activation_based import neuron

    for name in ("IFNode", "LIFNode", "ParametricLIFNode"):
        vars(neuron).setdefault(f"MultiStep{name}", getattr(neuron, name))
    from syops import get_model_complexity_info

    def run() -> object:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return get_model_complexity_info(
                model,
                tuple(x.shape[1:]),
                [(x, torch.zeros(len(x)))] * batches,
                as_strings=False,
                print_per_layer_stat=False,
            )

    return run


def fvcore(model: nn.Module, x: torch.Tensor, batches: int) -> Pass:
    """Without its layer norm, which fails on a vector."""
    from fvcore.nn import FlopCountAnalysis

    def run() -> None:
        for _ in range(batches):
            analysis = FlopCountAnalysis(model, x).set_op_handle("aten::layer_norm", lambda *_: 0)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.total()

    return run


TOOLS: dict[str, Callable[[nn.Module, torch.Tensor, int], Pass]] = {
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


@dataclass(frozen=True)
class Cost:
    """Seconds per batch, their ratio to the plain pass, and the median ratio to the passes just before."""

    seconds: float
    least: float
    median: float


def measure(name: str, rounds: int, chosen: list[str]) -> tuple[float, dict[str, Cost | str]]:
    """Seconds of a plain batch, and every tool's cost, or the reason why it has none."""
    model, x = build(name)
    batches = MODELS[name].batches
    unwatched = plain_passes(model, x, batches)
    found: dict[str, Cost | str] = {}
    passes: dict[str, Pass] = {}
    for tool in chosen:
        try:
            candidate = TOOLS[tool](model, x, batches)
            candidate()
            passes[tool] = candidate
        except Exception as error:
            found[tool] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:110]
        functional.reset_net(model)
    plain: list[float] = []
    taken: dict[str, list[tuple[float, float]]] = {tool: [] for tool in passes}
    with torch.no_grad():
        unwatched()
        for _ in range(rounds):
            for tool, run in passes.items():
                before = timed(unwatched)
                plain.append(before)
                taken[tool].append((before, timed(run)))
                functional.reset_net(model)
    for tool, pairs in taken.items():
        least = min(t for _, t in pairs)
        median = statistics.median(t / before for before, t in pairs)
        found[tool] = Cost(least / batches, least / min(plain), median)
    return min(plain, default=0.0) / batches, {tool: found[tool] for tool in chosen}


def overhead(name: str, rounds: int, chosen: list[str]) -> None:
    """One line per tool: least time, ratio of least times, median ratio to the passes before."""
    plain, found = measure(name, rounds, chosen)
    batch, threads = MODELS[name].shape[0], torch.get_num_threads()
    print(f"{name}, batch {batch}, {threads} thread(s): plain pass {plain:.4f} s")
    for tool, cost in found.items():
        if isinstance(cost, str):
            print(f"{tool:28} not measured: {cost}")
        else:
            print(
                f"{tool:28} {cost.seconds:8.4f} s   ratio {cost.least:.3f}   median ratio {cost.median:.3f}"
            )


def table(rounds: int, chosen: list[str]) -> None:
    """Median ratios of all tools on all models as a Markdown table, the reasons of gaps below it."""
    results = {name: measure(name, rounds, chosen) for name in MODELS}
    print("| profiled / plain | " + " | ".join(f"{n}, batch {MODELS[n].shape[0]}" for n in results) + " |")
    print("| --- |" + " ---: |" * len(results))
    reasons = []
    for tool in chosen:
        cells = []
        for name, (_, found) in results.items():
            cost = found[tool]
            cells.append("–" if isinstance(cost, str) else f"{cost.median:.2f}")
            reasons += [f"- {tool} on {name}: {cost}"] if isinstance(cost, str) else []
        print(f"| {tool}{version(tool)} | " + " | ".join(cells) + " |")
    print("| plain pass, s | " + " | ".join(f"{plain:.2f}" for plain, _ in results.values()) + " |")
    print("\n".join(["", *reasons]) if reasons else "")


def version(tool: str) -> str:
    """The installed version of a tool, where it has one."""
    package = tool.split()[0].lower()
    try:
        return f" {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""


def peak(name: str, profiled: bool) -> int:
    """Peak resident memory of this process after some passes, kB."""
    model, x = build(name)
    run = (ours if profiled else plain_passes)(model, x, 4)
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


def serve(name: str) -> None:
    """For `against`: the seconds of some plain and some profiled batches, for each line that comes in."""
    model, x = build(name)
    batches = MODELS[name].batches
    unwatched, run = plain_passes(model, x, batches), ours(model, x, batches)
    with torch.no_grad():
        unwatched()
        run()
        for _ in sys.stdin:
            print(timed(unwatched), timed(run), flush=True)


def against(other: str, name: str, rounds: int) -> None:
    """This version and another one, in turns: the median ratio of a profiled pass to the plain one before."""
    here, there = Path(__file__).resolve().parents[1], Path(other).resolve()
    children = {}
    for label, tree in (("this", here), (str(there), there)):
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        command = [sys.executable, __file__, "serve", "--model", name]
        children[label] = subprocess.Popen(
            command, env=environment, cwd=tree, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    ratios: dict[str, list[float]] = {label: [] for label in children}
    for _ in range(rounds):
        for label, child in children.items():
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            plain, profiled = map(float, child.stdout.readline().split())
            ratios[label].append(profiled / plain)
    for label, child in children.items():
        child.communicate()
        low, middle = min(ratios[label]), statistics.median(ratios[label])
        print(f"{name}: {label}: median ratio {middle:.3f}, least {low:.3f}, {rounds} rounds")


SIZES = {"T": (2, 4, 8, 16), "tokens": (16, 64, 256), "samples": (2, 4, 8, 16)}


def scaling(rounds: int) -> None:
    """Seconds per pass as one size grows; `linear`: profiled over growth in proportion to the size."""
    print(f"{'':10} {'size':>5} {'plain':>9} {'profiled':>9} {'ratio':>6} {'linear':>7}")
    for what, sizes in SIZES.items():
        first = 0.0
        for size in sizes:
            model, x = build("statten-2-256", embed_dims=64, T=size if what == "T" else 4)
            if what == "tokens":
                side = 4 * int(size**0.5)
                x = torch.randn(2, 3, side, side)
            if what == "samples":
                x = torch.randn(size, 3, 32, 32)
            run, unwatched = ours(model, x, 4), plain_passes(model, x, 4)
            with torch.no_grad():
                run()
                pairs = [(timed(unwatched), timed(run)) for _ in range(rounds)]
            plain, profiled = (min(column) / 4 for column in zip(*pairs, strict=True))
            first = first or profiled / size
            ratios = f"{profiled / plain:6.3f} {profiled / size / first:7.3f}"
            print(f"{what:10} {size:5} {plain:9.4f} {profiled:9.4f} {ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what",
        nargs="?",
        default="overhead",
        choices=["table", "overhead", "memory", "scaling", "against", "peak", "serve"],
    )
    parser.add_argument("other", nargs="?", help="against: the folder of another checkout")
    parser.add_argument("--model", default="statten-2-256", choices=list(MODELS))
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profiled", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    rounds = given.rounds or (15 if given.what in ("overhead", "against") else 3)
    if given.what == "table":
        table(rounds, given.tools)
    elif given.what == "overhead":
        overhead(given.model, rounds, given.tools)
    elif given.what == "memory":
        memory(given.model)
    elif given.what == "scaling":
        scaling(rounds)
    elif given.what == "against":
        against(given.other or parser.error("against: which other checkout?"), given.model, rounds)
    elif given.what == "serve":
        serve(given.model)
    else:
        print(peak(given.model, bool(given.profiled)))


if __name__ == "__main__":
    main()
