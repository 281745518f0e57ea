"""Training step of one LIF layer on a CPU: SpikingJelly's kernel over ours, alternating in one process.

    python benchmarks/lif_step.py [--repeats 30]

Prints, per shape, the median time of forward and backward of each, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from spikingjelly.activation_based import neuron, surrogate

from snn_energy.models.neurons import LIF, reset

SHAPES = ((4, 16, 64, 32, 32), (4, 32, 64, 8, 8), (4, 32, 64, 4, 4))


def step(node: torch.nn.Module, x: torch.Tensor) -> None:
    reset(node)
    x.grad = None
    node(x).sum().backward()


def timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    theirs = neuron.LIFNode(
        tau=2.0, detach_reset=True, surrogate_function=surrogate.Sigmoid(4.0), step_mode="m"
    )
    ours = LIF()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {repeats} alternating steps")
    for shape in SHAPES:
        x = torch.randn(shape, requires_grad=True)
        step(theirs, x), step(ours, x)
        pairs = [(timed(lambda: step(theirs, x)), timed(lambda: step(ours, x))) for _ in range(repeats)]  # noqa: B023
        a, b = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
        print(
            f"{'×'.join(map(str, shape)):16} SpikingJelly {a:8.2f} ms   ours {b:8.2f} ms   ratio {a / b:.2f}"
        )


if __name__ == "__main__":
    main()
