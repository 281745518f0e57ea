"""A training step of our networks against the same networks of SpikingJelly's neurons and of ReLUs, on a CPU.

    python benchmarks/train_step.py [--quick] [--rounds 15] [--threads 1] [--batch 16] [--json FILE]

STAtten 2-256 (CIFAR-10, T 4) and STAA-ResNet-20 (T 4).  All networks do their step (forward, cross-entropy,
backward; no optimizer) alternately in one process.  Printed are, for each: the median time of a step, its
ratio ours / theirs as the median over rounds of the ratio within a round with the quartiles of those ratios,
and the peak memory of a step, measured in a process of its own.  Times are CPU times of the process
with one thread and wall times with more.

  ours                as `snn-energy train` runs it: channels last, kernels in C if a compiler is here
  ours, recomputing   with activation checkpointing
  ours, bf16          with layers in bfloat16 (recipes: amp=bf16)
  no compiler         ours without the kernels in C
  SpikingJelly        its LIFNode as it comes in place of every neuron, default memory order, T frames
  SpikingJelly eager  the same, its own reference in PyTorch operations that autograd differentiates
  ReLU                nn.ReLU in place of every neuron, default memory order, T frames
  ReLU, our layers    the same with all that is ours besides the neurons

STAA-ResNet-20's neurons exist in no other package: `ours` is the attending neuron, and `plain LIF` the same
network without gates, which is what SpikingJelly's network computes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from snn_energy.models import native, neurons
from snn_energy.models.recompute import recompute_blocks
from snn_energy.models.staa_neuron import STAALIF
from snn_energy.models.zoo import create_model
from snn_energy.training.speed import channels_last, keep_freed_memory

NO_GATES = {"gc": False, "sa": False, "pe": "off"}


class OwnSigmoid(surrogate.Sigmoid):
    """A surrogate that SpikingJelly has no kernel for, so that its reference runs."""


class OwnRect(surrogate.Rect):
    """The same for STAA's."""


def replaced(model: nn.Module, make: Callable[[Any], nn.Module]) -> nn.Module:
    """`model` with `make(neuron)` in place of every neuron of ours."""
    for name, module in list(model.named_modules()):
        if isinstance(module, neurons.LIF | STAALIF):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, make(module))
    return model


def spikingjelly(eager: bool) -> Callable[[Any], nn.Module]:
    """SpikingJelly's LIFNode with the settings of a neuron of ours."""

    def make(ours: Any) -> nn.Module:
        lif = isinstance(ours, neurons.LIF)
        kinds = (OwnSigmoid, OwnRect) if eager else (surrogate.Sigmoid, surrogate.Rect)
        spike = kinds[0](alpha=neurons.ALPHA) if lif else kinds[1]()
        fields = {"tau": 2.0, "v_threshold": ours.v_threshold if lif else ours.config.v_threshold}
        return neuron.LIFNode(**fields, detach_reset=True, surrogate_function=spike, step_mode="m")

    return make


def relu(ours: Any) -> nn.Module:
    """The neuron of an artificial network."""
    return nn.ReLU()


class Case:
    """One network and how it is run."""

    def __init__(
        self,
        model: nn.Module,
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        ours: bool = True,
        c: bool = True,
        amp: bool = False,
    ) -> None:
        self.model = channels_last(model.train()) if ours else model.train()
        steps = model.config.T
        self.x = x if ours else x.unsqueeze(1).repeat(1, steps, 1, 1, 1)
        self.y, self.c, self.amp = y, c, amp

    def step(self) -> None:
        """Forward, loss and backward."""
        library = native.library
        if not self.c:
            native.library = lambda: None  # type: ignore[assignment]
        try:
            self.model.zero_grad()
            neurons.reset(self.model)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.amp):
                logits = self.model(self.x)
            nn.functional.cross_entropy(logits.float(), self.y).backward()
        finally:
            native.library = library


def cases(network: str, batch: int, size: int) -> dict[str, Case]:
    """All networks of one comparison, `ours` first, with the same weights."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, size, size, generator=generator)
    y = torch.randint(10, (batch,), generator=generator)

    def build(make: Callable[[Any], nn.Module] | None = None, **fields: Any) -> nn.Module:
        torch.manual_seed(0)
        model = create_model(network, **fields)
        return model if make is None else replaced(model, make)

    gates = {} if network.startswith("statten") else NO_GATES
    recomputing = build()
    recompute_blocks(recomputing)
    found = {"ours": Case(build(), x, y), "ours, recomputing": Case(recomputing, x, y)}
    found["ours, bf16"] = Case(build(), x, y, amp=True)
    if gates:
        found["plain LIF"] = Case(build(**gates), x, y)
    found["no compiler"] = Case(build(), x, y, c=False)
    for name, eager in (("SpikingJelly", False), ("SpikingJelly eager", True)):
        found[name] = Case(build(spikingjelly(eager), **gates), x, y, ours=False)
    found["ReLU"] = Case(build(relu, **gates), x, y, ours=False)
    found["ReLU, our layers"] = Case(build(relu, **gates), x, y)
    return found


def measure(found: dict[str, Case], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each, in every round."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(rounds + 1):
        for name, case in found.items():
            start = clock()
            case.step()
            if turn:  # the first warms up
                times[name].append(clock() - start)
    return times


def peak(case: Case) -> float:
    """MB that two steps need at most beyond what stands before them, in a forked process of their own."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_peak, args=(case, send))
    child.start()
    child.join()
    return receive.recv() if receive.poll() else float("nan")


def _peak(case: Case, send: Any) -> None:
    def status(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(key))

    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = status("VmRSS")
        for _ in range(2):
            case.step()
        send.send(status("VmHWM") - before)
    except OSError:
        send.send(float("nan"))


def table(network: str, times: dict[str, list[float]], memory: dict[str, float]) -> list[dict[str, Any]]:
    """Print one comparison; its rows as plain values."""
    rows = []
    print(f"\n{network}\n{'':20s} {'step':>9s}   ours / it (quartiles)    peak memory   ours / it")
    for name, values in times.items():
        ratios = [a / b for a, b in zip(times["ours"], values, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        step = statistics.median(values)
        share = memory["ours"] / memory[name]
        print(f"{name:20s} {1e3 * step:6.0f} ms   {middle:.3f} ({low:.3f}–{high:.3f})     "
              f"{memory[name]:8.0f} MB   {share:.2f}")  # fmt: skip
        rows.append(
            {
                "network": network,
                "name": name,
                "step_s": step,
                "least_s": min(values),
                "ratio": middle,
                "ratio_low": low,
                "ratio_high": high,
                "peak_mb": memory[name],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds, batch 4: whether it runs at all")
    for name, default in (("rounds", 15), ("threads", 1), ("batch", 16), ("size", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--networks", nargs="+", default=["statten-cifar10-256", "staa-resnet20"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rounds, batch = (3, 4) if args.quick else (args.rounds, args.batch)
    torch.set_num_threads(args.threads)
    kept = keep_freed_memory()
    print(
        f"torch {torch.__version__}, {args.threads} thread(s), batch {batch}, {rounds} rounds; "
        f"kernels in C: {'yes' if native.library() else 'no'}; freed memory kept (by all): {kept}"
    )
    rows = []
    for network in args.networks:
        found = cases(network, batch, args.size)
        memory = {name: peak(case) for name, case in found.items()}
        rows += table(network, measure(found, rounds), memory)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
