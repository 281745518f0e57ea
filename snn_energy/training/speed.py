"""What makes a training step fast and small without changing what it computes."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
from torch import nn

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


def usual_order(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict with every tensor in the usual order of memory, as files have it."""
    return {k: v.contiguous() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
