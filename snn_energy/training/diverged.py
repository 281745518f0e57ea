"""Where NaN or infinity came from."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

from snn_energy.models.neurons import reset


def nonfinite_weights(model: nn.Module) -> str:
    """The first parameter or buffer of `model` that is not finite, "" for none."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return ""


def first_nonfinite(model: nn.Module, x: torch.Tensor, precision: torch.dtype | None = None) -> str:
    """In words, what first is not finite when `model` computes `x` as in training; "" if all is.

    The running statistics of norms move: for a run that ends here.
    """
    if not bool(torch.isfinite(x).all()):
        return "the training samples are not finite"
    if name := nonfinite_weights(model):
        return f"{name} is not finite since the step before"
    found: list[str] = []

    def look(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not _finite(output):
                found.append(f"{path or 'the network'} ({type(module).__name__})")

        return hook

    with contextlib.ExitStack() as stack:
        for path, module in model.named_modules():
            handle = module.register_forward_hook(look(path))
            stack.callback(handle.remove)
        stack.callback(reset, model)
        with torch.no_grad(), torch.autocast(x.device.type, dtype=precision, enabled=precision is not None):
            reset(model)
            model(x)
    return f"{found[0]} is the first layer whose output is not finite" if found else ""


def _finite(output: Any) -> bool:
    if isinstance(output, torch.Tensor):
        return not output.is_floating_point() or bool(torch.isfinite(output).all())
    if isinstance(output, dict):
        return all(map(_finite, output.values()))
    return all(map(_finite, output)) if isinstance(output, list | tuple) else True
