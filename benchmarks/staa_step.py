"""A training step of STAA-ResNet-20 against the same network of plain LIF neurons.

    python benchmarks/staa_step.py [--batch 8] [--size 32] [--rounds 5] [--threads 1]

All networks do their step alternately in one process; printed is the least process CPU time of a step
(forward, cross-entropy, backward; no optimiser) over the rounds, and its ratio to the plain network's.
`step by step` is the neuron without its fused recurrence, `no neurons` puts the threshold alone in place of
every neuron: what convolutions and norms cost, the floor of all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from snn_energy.models import neurons, staa_fused
from snn_energy.models.staa import STAASNN, STAAConfig
from snn_energy.models.staa_neuron import STAALIF


class Threshold(nn.Module):
    """Spikes where the input reaches the threshold, no membrane."""

    def __init__(self) -> None:
        super().__init__()
        self.surrogate = surrogate.Rect()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.surrogate(x - 1)


def spikingjelly_lif() -> nn.Module:
    """SpikingJelly's LIF with STAA's surrogate."""
    return neuron.LIFNode(tau=2.0, surrogate_function=surrogate.Rect(), detach_reset=True, step_mode="m")


def with_neurons(model: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """`model` with every STAA neuron replaced."""
    for name, module in list(model.named_modules()):
        if isinstance(module, STAALIF):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, make())
    return model


def step(model: nn.Module, x: torch.Tensor, y: torch.Tensor, fused: bool) -> float:
    """Process CPU time of one step, s."""
    covers = staa_fused.covers
    if not fused:
        staa_fused.covers = lambda config: False
    model.zero_grad()
    neurons.reset(model)
    start = time.process_time()
    nn.functional.cross_entropy(model(x), y).backward()
    elapsed = time.process_time() - start
    staa_fused.covers = covers
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in (("batch", 8), ("size", 32), ("rounds", 5), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    plain = STAAConfig(gc=False, pe="off", sa=False)
    models = {
        "plain LIF": (STAASNN(plain), True),
        "plain LIF, SpikingJelly": (with_neurons(STAASNN(plain), spikingjelly_lif), True),
        "plain LIF, step by step": (STAASNN(plain), False),
        "STAA": (STAASNN(STAAConfig()), True),
        "STAA, step by step": (STAASNN(STAAConfig()), False),
        "no neurons": (with_neurons(STAASNN(plain), Threshold), True),
    }
    x = torch.randn(args.batch, 3, args.size, args.size)
    y = torch.randint(10, (args.batch,))
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(args.rounds + 1):
        for name, (model, fused) in models.items():
            times[name].append(step(model, x, y, fused))
    least = {name: min(values[1:]) for name, values in times.items()}
    for name, value in least.items():
        print(f"{name:26s} {1000 * value:8.1f} ms   {value / least['plain LIF']:.2f}×")


if __name__ == "__main__":
    main()
