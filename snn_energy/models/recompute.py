"""Activation checkpointing: a block keeps its input alone, and runs again when its gradient is wanted.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174), by `torch.utils.checkpoint`.
Two things of spiking networks need care when a block runs twice: its membranes start from rest both times,
and the running statistics of its norms move once.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from snn_energy.models.neurons import reset

BLOCKS = (
    "statten:SpikingPatchEmbedding",
    "statten:SpikingBlock",
    "backbones:ConvNeuron",
    "backbones:BasicBlock",
    "decoupled:SpikeAttention",
)
"""What a block is: "module:Class" below `snn_energy.models`; elsewhere, what a list `blocks` holds."""


def recompute_blocks(model: nn.Module) -> int:
    """Let every block of `model` run again in backward and keep its input alone; how many blocks there are.

    In training only; results and gradients are the same.  Blocks become instances of subclasses of their
    classes, so copies of the model do the same, and names in its state dict stay.
    """
    found = blocks_of(model)
    for block in found:
        block.__class__ = _recomputing(type(block))  # type: ignore[arg-type]
    return len(found)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of a network, none inside another."""
    names = {f"snn_energy.models.{name.replace(':', '.')}" for name in BLOCKS}
    found: list[nn.Module] = []
    inside: set[int] = set()
    for path, module in model.named_modules():
        if id(module) in inside:
            continue
        ours = any(f"{cls.__module__}.{cls.__qualname__}" in names for cls in type(module).__mro__)
        if ours or path.rpartition(".")[0].rpartition(".")[2] == "blocks":
            found.append(module)
            inside.update(id(m) for m in module.modules())
    return found


@functools.cache
def _recomputing(cls: Any) -> type[nn.Module]:
    """A subclass of a block's class that keeps its inputs alone."""

    def forward(self: nn.Module, *args: Any) -> Any:
        plain = functools.partial(cls.forward, self)

        def from_rest(*inputs: Any) -> Any:
            reset(self)
            return plain(*inputs)

        if not self.training:
            return plain(*args)
        contexts = functools.partial(_first_and_again, self)
        return checkpoint(from_rest, *args, use_reentrant=False, context_fn=contexts)

    return type(
        cls.__name__, (cls,), {"forward": forward, "__module__": cls.__module__, "__doc__": cls.__doc__}
    )


def _first_and_again(block: nn.Module) -> tuple[Any, Any]:
    """What surrounds the first run and the second."""
    return contextlib.nullcontext(), _norms_at_rest(block)


@contextlib.contextmanager
def _norms_at_rest(block: nn.Module) -> Iterator[None]:
    """Batch norms in training whose running statistics stay as they are."""
    norms: list[Any] = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(m, m.track_running_stats, m.running_mean, m.running_var, m.num_batches_tracked) for m in norms]
    try:
        for m, _, mean, var, count in before:
            if mean is not None:
                m.running_mean, m.running_var = mean.clone(), var.clone()
                m.num_batches_tracked = count.clone()
        yield
    finally:
        for m, _, mean, var, count in before:
            m.running_mean, m.running_var, m.num_batches_tracked = mean, var, count
