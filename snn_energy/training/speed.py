"""What makes a training step fast and small without changing what it computes."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from snn_energy.errors import ConfigError
from snn_energy.models.staa_neuron import STAALIF

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""glibc's mallopt(3)."""


def keep_freed_memory() -> bool:
    """Let the C library keep the memory of freed tensors for the next ones; whether it does.

    Large tensors otherwise come from the kernel anew in every step, page by page and zeroed: up to a tenth of
    a step on a CPU.  For the rest of the process; glibc only, elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc: Any = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, -1))
    except (OSError, AttributeError):
        return False


def channels_last(model: nn.Module) -> nn.Module:
    """`model` with the weights of its convolutions in channels-last order, which its maps then follow."""
    return model.to(memory_format=torch.channels_last)


@contextlib.contextmanager
def training_layout(model: nn.Module, device: torch.device, processes: int = 1) -> Iterator[None]:
    """While a network trains on a CPU: freed memory kept, weights channels last; then the usual order again.

    So a network is tested and saved as whoever loads it will run it.  Not for networks of attending neurons,
    which gain nothing, nor where several processes share gradients, whose buffers have one order.
    """
    if device.type != "cpu" or processes > 1 or any(isinstance(m, STAALIF) for m in model.modules()):
        yield
        return
    keep_freed_memory()
    channels_last(model)
    try:
        yield
    finally:
        model.to(memory_format=torch.contiguous_format)


def precision(amp: bool | str, device: torch.device) -> torch.dtype | None:
    """The type in which layers compute under a recipe's `amp`; None: float32.

    Raises `ConfigError` for float16 without a GPU: it has no hardware there, and no range for gradients.
    """
    if amp in (False, "off"):
        return None
    if amp == "fp16" and device.type != "cuda":
        raise ConfigError(f"amp = fp16: is for GPUs, the device is {device}; use bf16")
    half = amp == "fp16" or (amp is True and device.type == "cuda")
    return torch.float16 if half else torch.bfloat16
