"""Kernels in C for training on a CPU: a LIF layer over all its steps, and batch norm's backward.

Each function takes and returns tensors, and says by None that it cannot serve them: no compiler here, another
type or device, memory with gaps.  Callers then do the same with PyTorch's operations.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

from snn_energy.models.native.build import library

Tensors = tuple[torch.Tensor, ...]
GRAIN = 1 << 16
"""Numbers of a step per thread below which another thread costs more than it brings."""

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def lif_forward(x: torch.Tensor, tau: float, threshold: float) -> Tensors | None:
    """Currents (T, ...) -> charged membranes, spikes (T, ...) and the last membrane (...), from rest."""
    kernels = _kernels(x)
    if kernels is None or not _in_steps(x, still=True):
        return None
    n = x[0].numel()
    last = torch.empty_like(x[0])
    charged, spikes = (_steps_like(x) for _ in range(2))
    numbers = ctypes.c_float(tau), ctypes.c_float(threshold)
    tensors = tuple(map(_pointer, (x, charged, spikes, last)))
    sizes = _longs(len(x), n, x.stride(0))
    _share(n, lambda a, b: kernels.lif_forward(*sizes, *_longs(a, b), *numbers, *tensors))
    return charged, spikes, last


def lif_backward(
    charged: torch.Tensor, grad_spikes: torch.Tensor, tau: float, threshold: float, alpha: float
) -> torch.Tensor | None:
    """Gradient of the currents (T, ...) from that of the spikes; surrogate: sigmoid(alpha · x)."""
    kernels = _kernels(charged, grad_spikes)
    if kernels is None or not _in_steps(charged):
        return None
    if grad_spikes.stride() != charged.stride():
        grad_spikes = torch.empty_like(charged).copy_(grad_spikes)
    n, grad = charged[0].numel(), torch.empty_like(charged)
    numbers = ctypes.c_float(tau), ctypes.c_float(threshold), ctypes.c_float(alpha)
    tensors = tuple(map(_pointer, (charged, grad_spikes, grad)))
    sizes = _longs(len(charged), n)
    _share(n, lambda a, b: kernels.lif_backward(*sizes, *_longs(a, b), *numbers, *tensors))
    return grad


def norm_backward(
    x: torch.Tensor, grad: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor, weight: torch.Tensor
) -> Tensors | None:
    """Batch norm in training, channels last: input and gradient of the output (N, C, H, W), batch mean and
    1/σ (C,), weight (C,) -> gradients of input, weight, bias."""
    kernels = _kernels(x, grad, mean, rstd, weight)
    last = torch.channels_last
    if kernels is None or x.dim() != 4 or not x.is_contiguous(memory_format=last):
        return None
    grad = grad.contiguous(memory_format=last)
    channels, rows = x.shape[1], x.numel() // x.shape[1]
    cuts = _cuts(rows, x.numel())
    sums = torch.zeros(len(cuts), 2, channels, dtype=torch.float64)
    read = tuple(map(_pointer, (x, grad, mean)))
    parts = zip(cuts, sums, strict=True)
    _run([partial(kernels.norm_sums, *_longs(channels, *cut), *read, _pointer(s)) for cut, s in parts])
    dbias, dscaled = sums.sum(0)
    factor = (weight * rstd).double()
    slope, offset = -factor * rstd.double().square() * dscaled / rows, -factor * dbias / rows
    dx = torch.empty_like(x)
    constants = [c.to(x.dtype) for c in (factor, slope, offset)]
    tensors = (*read, *map(_pointer, constants), _pointer(dx))
    _run([partial(kernels.norm_grad, *_longs(channels, *cut), *tensors) for cut in cuts])
    return dx, (dscaled * rstd).to(weight.dtype), dbias.to(weight.dtype)


def _kernels(*tensors: torch.Tensor) -> ctypes.CDLL | None:
    """The library, if it can read these: plain float32 tensors on a CPU, outside tracing."""
    if torch.compiler.is_compiling():
        return None
    for t in tensors:
        if type(t) not in (torch.Tensor, torch.nn.Parameter) or t.device.type != "cpu":
            return None
        if t.dtype is not torch.float32 or not t.numel():
            return None
    return library()


def serves(*tensors: torch.Tensor) -> bool:
    """Whether there are kernels for these tensors here."""
    return _kernels(*tensors) is not None


def _in_steps(x: torch.Tensor, still: bool = False) -> bool:
    """Whether each step of (T, ...) fills a stretch of memory, and the steps lie one behind the other.

    In whatever order a step's own axes lie.  With `still`, all steps may be the same memory.
    """
    expected = 1
    for stride, size in sorted(zip(x.stride()[1:], x.shape[1:], strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return len(x) == 1 or x.stride(0) == expected or (still and x.stride(0) == 0)


def _steps_like(x: torch.Tensor) -> torch.Tensor:
    """An empty (T, ...) whose steps lie one behind the other, each with the strides of `x[0]`."""
    return torch.empty_strided(x.shape, (x[0].numel(), *x.stride()[1:]), dtype=x.dtype)


def _pointer(x: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())


def _longs(*numbers: int) -> tuple[ctypes.c_long, ...]:
    return tuple(map(ctypes.c_long, numbers))


def _cuts(length: int, work: int) -> list[tuple[int, int]]:
    """[0, length) in as many equal parts as threads are worth it for `work` numbers."""
    parts = max(1, min(torch.get_num_threads(), work // GRAIN, length))
    edges = [length * i // parts for i in range(parts + 1)]
    return list(itertools.pairwise(edges))


def _share(length: int, call: Callable[[int, int], None]) -> None:
    """`call` for parts of [0, length), on PyTorch's number of threads."""
    _run([partial(call, *cut) for cut in _cuts(length, length)])


def _run(calls: list[Callable[[], None]]) -> None:
    """All of them, side by side: C lets go of Python's lock."""
    if len(calls) == 1:
        return calls[0]()
    key = os.getpid(), len(calls) - 1  # a forked process has no threads but its own
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(len(calls) - 1, "snn-energy")
    waiting = [_pools[key].submit(call) for call in calls[1:]]
    calls[0]()
    for future in waiting:
        future.result()
    return None
